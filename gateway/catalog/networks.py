"""Lists of networks, as people, keys and certificates carry them. Pure.

One is written as in `10.0.0.0/8`, `2001:db8::/32` or `192.0.2.7`; a `!` before it takes it out again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from config.errors import UsageError

MOST = 100  # networks in one list
MAPPED_BITS = 96  # of ::ffff:0:0/96, IPv4 inside IPv6
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_networks(text: str) -> tuple[str, ...]:
    """The networks of a comma-separated list, in their usual form. Raises UsageError; host names and wildcards are none."""
    found = tuple(_network(item.strip()) for item in text.split(",") if item.strip())
    if len(found) > MOST:
        raise UsageError(f"there are {len(found)} networks in one list; {MOST} may be", "join neighbours into larger networks")
    return found


def _network(item: str) -> str:
    negated = item.startswith("!")
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    try:
        network = ipaddress.ip_network(item.removeprefix("!"), strict=False)
    except ValueError as error:
        raise UsageError(f"'{item[:60]}' is neither an address nor a network", "write it as in 192.0.2.7 or 198.51.100.0/24") from error
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= MAPPED_BITS and (inside := network.network_address.ipv4_mapped):
        network = ipaddress.IPv4Network((inside, network.prefixlen - MAPPED_BITS))  # addresses are told so, too: see `parse_address`
    return f"{'!' if negated else ''}{network}"


def parse_address(text: str) -> Address | None:
    """The address that a socket tells, IPv4 inside IPv6 as IPv4, without a zone; None when it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def allowed(networks: Sequence[str], address: str) -> bool:
    """Whether `address` is in one of `networks`, and in none after `!`. An empty list allows every address, a list of `!` alone all but those."""
    if not networks:
        return True
    peer = parse_address(address)
    if peer is None:
        return False
    if contains((network[1:] for network in networks if network.startswith("!")), peer):
        return False
    positive = [network for network in networks if not network.startswith("!")]
    return not positive or contains(positive, peer)


def contains(networks: Iterable[str], address: Address | None) -> bool:
    """Whether one of `networks` holds `address`; none holds None."""
    return address is not None and any(address in ipaddress.ip_network(network) for network in networks)
