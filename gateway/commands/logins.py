"""What the commands about people share: reading what is given for a login, checking that it can work, and telling it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from config.errors import UsageError
from config.folder import DataFolder
from config.settings import GatewaySettings
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Person, PublicKey
from gateway.catalog.factors import FACTORS, combinations, parse_combination
from gateway.catalog.networks import parse_networks
from gateway.catalog.rows import Role
from gateway.catalog.sshkeys import LONGEST, MOST, parse_public_keys
from gateway.commands.operators import operator
from gateway.keys.keyring import Keyring
from gateway.keys.passwords import LONGEST as LONGEST_PASSWORD
from gateway.keys.passwords import hash_password
from gateway.keys.totp import enrolment, new_seed


@dataclass(frozen=True)
class Enrolment:
    """The second factor of somebody, as it is shown once: the seed for typing and the address for an app. Secret."""

    seed: str
    address: str


def read_public_key(path: Path) -> PublicKey:
    """The one SSH public key in a file. Raises UsageError."""
    keys = read_public_keys([path])
    if len(keys) > 1:
        raise UsageError(f"{path} holds {len(keys)} keys", "name a file with one")
    return keys[0]


def read_public_keys(paths: Sequence[Path]) -> list[PublicKey]:
    """All SSH public keys of some files, each of which may hold several, as an authorized_keys does; each key once. Raises UsageError."""
    return list({key.fingerprint: key for path in paths for key in parse_public_keys(_read_text(path), str(path))}.values())


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST * MOST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the public key {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}", "name the file that ends in .pub"
        ) from error
    if len(text) > LONGEST * MOST:
        raise UsageError(f"{path} is too large for public keys", "name the file that ends in .pub, or an authorized_keys")
    return text


def read_password() -> str:
    """The hash of the password on standard input: one line. Raises UsageError."""
    line = sys.stdin.readline(LONGEST_PASSWORD + 3).rstrip("\r\n")
    return hash_password(line)


def read_networks(texts: Sequence[str]) -> tuple[str, ...]:
    """What `--from` said; `any` lifts a limit. Raises UsageError."""
    return () if list(texts) == ["any"] else parse_networks(",".join(texts))


def read_required(texts: Sequence[str]) -> tuple[str, ...]:
    """What `--require` said; `default` means the role's setting. Raises UsageError."""
    return () if list(texts) == ["default"] else tuple(dict.fromkeys(parse_combination(text) for text in texts))


def role_combinations(settings: GatewaySettings, role: Role) -> tuple[str, ...]:
    """What the settings require of a role; empty: nothing special."""
    return tuple({"client": settings.require_client, "staff": settings.require_staff, "auditor": settings.require_auditor}[role])


def check_can_log_in(settings: GatewaySettings, role: Role, *, require: Sequence[str], password: bool, totp: bool) -> None:
    """Raise UsageError when no combination could ever be shown. A key is always possible: a certificate is one."""
    has = {"publickey"} | ({"password"} if password else set()) | ({"totp"} if totp else set())
    wanted = combinations(require, role_combinations(settings, role), totp=totp)
    if any(combination <= has for combination in wanted):
        return
    shown = " or ".join("+".join(factor for factor in FACTORS if factor in combination) for combination in wanted)
    options = {"password": "--password-stdin", "totp": "--totp"}
    missing = sorted({options[factor] for combination in wanted for factor in combination - has if factor in options})
    raise UsageError(f"this login needs {shown}", f"give {' and '.join(missing)}, or another --require")


def enrol(folder: DataFolder, person: str) -> Enrolment:
    """A new second factor for `person`, kept sealed."""
    seed = new_seed()
    Keyring(folder).seal_totp(person, seed)
    return Enrolment(seed.decode("ascii"), enrolment(seed, person))


def record(folder: DataFolder, event: Event, person: Person, **fields: Any) -> None:
    """An audit event about a person, durable. `by` is who did it."""
    with AuditLog(folder.audit, "ops") as log:
        log.append(event, durable=True, person=person.name, client=person.client, by=operator(), **fields)


def facts_added(person: Person) -> dict[str, Any]:
    """What the audit log keeps of a new login."""
    return {
        "person_role": person.role,
        "clients": list(person.clients),
        "fingerprints": [key.fingerprint for key in person.keys],
        "factors": [
            name for name, has in (("publickey", bool(person.keys)), ("password", person.password_hash is not None), ("totp", person.totp)) if has
        ],
        "require": list(person.require),
        "allow_from": list(person.allow_from),
        "expires_at": _moment(person.expires_at),
    }


def person_facts(person: Person) -> dict[str, Any]:
    """A person as JSON values, without secrets."""
    keys = [
        {"fingerprint": key.fingerprint, "comment": key.comment, "from": list(key.allow_from), "expires_at": _moment(key.expires_at)}
        for key in person.keys
    ]
    return {
        "name": person.name,
        "role": person.role,
        "client": person.client,
        "clients": list(person.clients),
        "active": person.active,
        "expires_at": _moment(person.expires_at),
        "from": list(person.allow_from),
        "require": list(person.require),
        "has_password": person.password_hash is not None,
        "has_totp": person.totp,
        "keys": keys,
        "created_at": _moment(person.created_at),
        "off_boarded_at": _moment(person.off_boarded_at),
    }


def state_of(person: Person, now: datetime) -> str:
    """One word for a table."""
    if person.off_boarded_at is not None:
        return "off-boarded"
    if not person.active:
        return "suspended"
    return "expired" if person.expires_at is not None and person.expires_at <= now else "active"


def realm(person: Person) -> str:
    """Whose papers somebody has to do with."""
    return {"client": person.client or "", "staff": ", ".join(person.clients) or "nobody", "auditor": "all receipts, evidence"}[person.role]


def _moment(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None
