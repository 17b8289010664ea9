"""SSH public keys of people: reading lines of OpenSSH's format, and the fingerprint that `ssh-keygen -l` shows (RFC 4253, section 6.6)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from config.errors import UsageError
from gateway.catalog.networks import parse_networks
from gateway.catalog.rows import PublicKey

SMALLEST_RSA = 3072
KINDS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
PARTS = {"ssh-ed25519": 2, "sk-ecdsa-sha2-nistp256@openssh.com": 4}  # strings in a key's wire form; the others have 3
HEEDED = ("from", "expiry-time")
IMPLIED = (  # what they forbid is never possible here
    "restrict", "no-pty", "no-port-forwarding", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc",
)  # fmt: skip
OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="([^"]*)")?')
LONGEST = 20_000  # characters; an RSA key of 16,384 bits needs 2,800
MOST = 100  # keys of one person


def parse_public_keys(text: str, name: str) -> list[PublicKey]:
    """The keys in a file as `authorized_keys` is, in its order: a line each, `#` begins a comment (sshd(8), "AUTHORIZED_KEYS FILE
    FORMAT"). Raises UsageError, which names the line where there are several; and where there is no key, or more than `MOST`."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) <= 1 or "PRIVATE KEY" in text:
        return [parse_public_key(lines[0][1] if len(lines) == 1 else text, name)]
    if len(lines) > MOST:
        raise UsageError(f"{name} holds {len(lines)} keys", f"give one person at most {MOST}")
    return [parse_public_key(line, f"{name}, line {number},") for number, line in lines]


def parse_public_key(text: str, name: str) -> PublicKey:
    """The key in `[OPTIONS] TYPE BASE64 [COMMENT]`; `name` stands in messages. Raises UsageError; a private key is refused by its name."""
    text = text[:LONGEST].strip()
    if "PRIVATE KEY" in text:
        raise UsageError(f"{name} is a private key", f"never hand it out; name the public half, probably {name}.pub")
    options, text = _cut_options(text.splitlines()[0] if text else "", name)
    fields = text.split(None, 2)
    line = " ".join(fields[:2])
    try:
        blob = base64.b64decode(fields[1], validate=True)
        size = rsa_bits(blob)
        if _strings(blob)[0] != fields[0].encode():
            raise ValueError("the name and the key do not fit")
        if not fields[0].startswith("sk-"):  # cryptography knows no security keys
            load_ssh_public_key(line.encode())
        shown = fingerprint(line)
    except (ValueError, IndexError, UnsupportedAlgorithm, binascii.Error) as error:
        raise UsageError(f"{name} does not hold an SSH public key", "make a key pair with: ssh-keygen -t ed25519") from error
    if size is not None and size < SMALLEST_RSA:
        raise UsageError(f"{name} is an RSA key of {size} bits; at least {SMALLEST_RSA} are needed", "better: ssh-keygen -t ed25519")
    return PublicKey(line, shown, fields[2] if len(fields) > 2 else "", *_meaning(options, name))


def rsa_bits(blob: bytes) -> int | None:
    """The bits of the modulus in a key's wire form; None for keys that are not RSA. Raises ValueError for what is no key that is taken."""
    parts = _strings(blob)
    kind = parts[0].decode("ascii")
    if kind not in KINDS or len(parts) != PARTS.get(kind, 3):
        raise ValueError("not a key that is taken")
    return int.from_bytes(parts[2], "big").bit_length() if kind == "ssh-rsa" else None


def _strings(blob: bytes) -> list[bytes]:
    """The strings that a wire form is made of; at least one. Raises ValueError."""
    found: list[bytes] = []
    at = 0
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        if end > len(blob) or at + 4 > len(blob):
            raise ValueError("cut short")
        found.append(blob[at + 4 : end])
        at = end
    if not found:
        raise ValueError("empty")
    return found


def _cut_options(line: str, name: str) -> tuple[dict[str, str], str]:
    """The options before the key of a line of authorized_keys, and the rest. Raises UsageError for one that would not be heeded."""
    if not line or line.split(None, 1)[0] in KINDS:
        return {}, line
    options: dict[str, str] = {}
    at = 0
    while match := OPTION.match(line, at):
        option, value = match[1].lower(), match[2]
        if option.startswith(("ssh-", "ecdsa-", "sk-")):
            raise UsageError(f"{name} is a key of the kind '{option[:40]}', which is not taken", "better: ssh-keygen -t ed25519")
        if option not in HEEDED and option not in IMPLIED and (option, value) != ("command", "internal-sftp"):
            raise UsageError(f"{name} has the option '{option[:40]}', which is not heeded here", f"take it out; heeded are {', '.join(HEEDED)}")
        options[option] = value or ""
        at = match.end()
        if line[at : at + 1] != ",":
            break
        at += 1
    return options, line[at:].strip()


def _meaning(options: dict[str, str], name: str) -> tuple[tuple[str, ...], datetime | None]:
    """The networks and the end of a key."""
    networks = parse_networks(options["from"]) if "from" in options else ()
    if "expiry-time" not in options:
        return networks, None
    try:
        return networks, parse_expiry(options["expiry-time"])
    except ValueError as error:
        raise UsageError(f"{name} has an expiry-time that is no time", "write it as in 20270131, 202701311800 or 20270131180000Z") from error


def parse_expiry(text: str) -> datetime:
    """OpenSSH's `YYYYMMDD[HHMM[SS]][Z]`; without Z it is this machine's time. Raises ValueError."""
    digits = text.removesuffix("Z")
    if not digits.isascii() or not digits.isdigit():
        raise ValueError("not digits")
    form = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits))
    if form is None:
        raise ValueError("a wrong number of digits")
    found = datetime.strptime(digits, form)
    return found.replace(tzinfo=UTC) if text.endswith("Z") else found.astimezone(UTC)


def fingerprint(line: str) -> str:
    """`SHA256:…` of a public key line. Raises ValueError when it is none."""
    blob = base64.b64decode(line.split()[1], validate=True)
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
