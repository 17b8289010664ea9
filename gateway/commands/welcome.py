"""The welcome sheet: what is sent to a new person as it is. No secret stands in it.

The sheet of a language is a text of its own, `welcome.LANGUAGE.txt` (Jinja), and reads there as it will be sent; here are the facts for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from config.loading import Installation
from config.roles import role_state
from gateway.catalog import Catalog, Person
from gateway.catalog.factors import FACTORS, Combination, combinations
from gateway.commands.logins import role_combinations
from gateway.keys.hostkeys import host_keys
from gateway.keys.keyring import Keyring

Language = Literal["en", "zh"]
RECEIPTS = {"client": "/receipts", "staff": "/CLIENT/receipts", "auditor": "/clients/CLIENT/receipts"}


def not_ready(installation: Installation, name: str) -> list[str]:
    """What whoever sends the sheet should do before, line by line."""
    if installation.settings.gateway.public_host:
        return []
    return [
        "The sheet does not name your server yet: set public_host in the section [gateway] of nightsafe.toml,",
        f"then print it again: nightsafe person sheet {name}",
    ]


def welcome_sheet(installation: Installation, person: Person, language: Language = "en") -> list[str]:
    """The sheet for `person`, line by line."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # a quarter of a second, for this alone

    environment = Environment(  # noqa: S701 - plain text
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["named"] = _named
    return environment.get_template(f"welcome.{language}.txt").render(_facts(installation, person)).splitlines()


def _facts(installation: Installation, person: Person) -> dict[str, Any]:
    """What the texts speak of. `deposit_only` are those of the person's clients whose papers nothing here opens, `own_key` says that the
    client holds the only key."""
    gateway, keyring = installation.settings.gateway, Keyring(installation.folder)
    wanted = combinations(person.require, role_combinations(gateway, person.role), totp=person.totp)
    with Catalog.open(installation.folder.catalog) as catalog:
        clients = catalog.clients()
        deposit_only = [one.name for one in clients if one.custody == "deposit-only" and person.sees(one.name)]
    profile = next((one.limits.profile for one in clients if one.name == person.client), "exchange") if person.role == "client" else ""
    return {
        "profile": profile,
        "may_put": person.role == "client" and profile != "read-only",
        "host": gateway.public_host,
        "port": gateway.public_port or (role_state(installation.folder, "gateway") or {}).get("port", gateway.port),
        "login": person.name,
        "role": person.role,
        "host_keys": host_keys(keyring),
        "keys": person.keys,
        "ways": [one for one in wanted if _has(person, one)],
        "deposit_only": deposit_only,
        "own_key": any(keyring.client_recipient(name).kind == "external" for name in deposit_only),
        "signer": keyring.allowed_signers.read_text(encoding="ascii").splitlines()[0],
        "receipts": RECEIPTS[person.role],
    }


def _named(ways: Iterable[Combination], names: Mapping[str, str]) -> list[str]:
    """Combinations of factors in a language's own `names`."""
    return [" + ".join(names[factor] for factor in FACTORS if factor in way) for way in ways]


def _has(person: Person, combination: Combination) -> bool:
    """Whether the person can show all of it. Somebody without a key and a password is to get a certificate, which is shown as a key."""
    key = "publickey" not in combination or bool(person.keys) or person.password_hash is None
    return key and ("password" not in combination or person.password_hash is not None) and ("totp" not in combination or person.totp)
