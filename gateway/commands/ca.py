"""`nightsafe ca show | sign | list | revoke`: certificates with which people log in instead of keys of their own."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import UsageError
from config.files import write_whole
from config.loading import Installation, open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.sshkeys import SigningKey
from gateway.catalog import Catalog, Certificate
from gateway.catalog.access import RevocationKind
from gateway.catalog.networks import parse_networks
from gateway.catalog.sshkeys import fingerprint
from gateway.commands.logins import read_public_key
from gateway.commands.operators import operator
from gateway.commands.times import moment
from gateway.completing import named
from gateway.keys.certificates import Certified, sign_certificate
from gateway.keys.keyring import USER_CA, Keyring
from gateway.keys.master import load_master

KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@:+-]{0,99}", re.ASCII)
DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdw])", re.ASCII)
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
CLOCKS_APART = timedelta(minutes=5)  # a certificate begins so much earlier: the client's clock may be behind
LONGEST = timedelta(days=366)


class Duration(click.ParamType[timedelta]):
    """A length of time: 30m, 8h, 7d, 2w."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """A timedelta. Raises click.BadParameter."""
        if isinstance(value, timedelta):
            return value
        match = DURATION.fullmatch(str(value))
        found = int(match[1]) * UNITS[match[2]] if match else timedelta()
        if not timedelta() < found <= LONGEST:
            self.fail(f"'{value}' is not a time that a certificate may last; write it as in 8h or 7d, a year at the most", param, ctx)
        return found


@click.group(cls=Group)
def ca() -> None:
    """The CA of this installation: signs certificates for logins."""


def made_ca(installation: Installation) -> str:
    """The public line of the CA, which is made, and recorded, when it is first wanted."""
    keyring = Keyring(installation.folder)
    known = keyring.has_secret(USER_CA)
    line = keyring.make_user_ca()
    if not known:
        with AuditLog(installation.folder.audit, "ops") as log:
            log.append(Event.KEY_CREATED, durable=True, person=operator(), whose="user-ca", recipient=line)
    return line


@ca.command()
@data_option
@json_option
def show(data: Path | None, as_json: bool) -> None:
    """The CA's public key; it is made when it is first wanted.

    Example: nightsafe ca show
    """
    line = made_ca(open_installation(data))
    if as_json:
        emit({"public_key": line, "fingerprint": fingerprint(line)}, as_json)
        return
    say(line)
    say(fingerprint(line))


@ca.command()
@click.argument("person", shell_complete=named("person"))
@click.option("--public-key", "public_key", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The key to certify.")
@click.option("--valid", type=Duration(), default="8h", show_default=True, metavar="TIME", help="How long, as in 30m, 8h, 7d.")
@click.option("--from", "networks", default="", metavar="CIDR,…", help="Networks from which it may be used.")
@click.option("--key-id", default="", metavar="TEXT", help="A name for the logs; by default the person's and the date.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Write it to F, instead of the terminal.")
@data_option
@json_option
def sign(person: str, public_key: Path, valid: timedelta, networks: str, key_id: str, out: Path | None, data: Path | None, as_json: bool) -> None:
    """A certificate with which PERSON may log in for a while. Needs the master secret.

    Example: nightsafe ca sign ann --public-key ann.pub --valid 8h --out ann-cert.pub
    """
    installation = open_installation(data)
    key = read_public_key(public_key)
    source = parse_networks(networks)
    if any(network.startswith("!") for network in source):
        raise UsageError("a certificate lists networks that are allowed, none that are not", "take out what begins with !")
    now = datetime.now(UTC).replace(microsecond=0)
    key_id = key_id or f"{person} {now:%Y-%m-%d}"
    if not KEY_ID.fullmatch(key_id):
        raise UsageError("that cannot be the id of a certificate", "use up to 100 letters, digits, spaces and . _ @ : + -")
    made_ca(installation)
    keyring = Keyring(installation.folder)
    signer = SigningKey.parse(keyring.open_secret(USER_CA, load_master(installation)))
    with Catalog.open(installation.folder.catalog) as catalog:
        if catalog.existing_person(person).off_boarded_at is not None:
            raise UsageError(f"'{person}' was off-boarded", "nobody logs in under this name again")
        issued = catalog.issue_certificate(
            person, key_id=key_id, fingerprint=key.fingerprint, source_address=source, valid_after=now - CLOCKS_APART, valid_before=now + valid
        )
    certified = Certified(issued.serial, key_id, (person,), issued.valid_after, issued.valid_before, source)
    line = sign_certificate(key.line, certified, signer)
    with AuditLog(installation.folder.audit, "ops") as log:
        log.append(Event.CERTIFICATE_ISSUED, durable=True, person=person, by=operator(), **_facts(issued))
    if out is not None:
        write_whole(out.absolute(), f"{line}\n".encode())
    if as_json:
        emit({**_facts(issued), "certificate": line}, as_json)
    elif out is None:
        sys.stdout.write(f"{line}\n")
    else:
        say(f"Certificate {issued.serial} for {person} until {moment(issued.valid_before)} is in {out}.")


@ca.command("list")
@click.option("--person", metavar="NAME", shell_complete=named("person"), help="Only this person's.")
@data_option
@json_option
def list_(person: str | None, data: Path | None, as_json: bool) -> None:
    """The certificates that were signed.

    Example: nightsafe ca list --person ann
    """
    with Catalog.open(open_installation(data).folder.catalog) as catalog:
        found = catalog.certificates(person)
    if as_json:
        emit([{**_facts(one), "person": one.person, "revoked": one.revoked} for one in found], as_json)
        return
    now = datetime.now(UTC)
    rows = [(one.serial, one.person, one.key_id, one.fingerprint, moment(one.valid_before), _state(one, now)) for one in found]
    table("Certificates", ("serial", "person", "id", "key", "until", "state"), rows)
    if not found:
        say("no certificates were signed; see: nightsafe ca sign --help")


@ca.command()
@click.option("--serial", type=click.IntRange(0, 2**63 - 1), metavar="N", shell_complete=named("certificate"), help="The certificate of this number.")
@click.option("--key-id", metavar="TEXT", shell_complete=named("key-id"), help="All certificates of this id.")
@click.option("--public-key", "public_key", type=click.Path(path_type=Path), metavar="FILE", help="All certificates of this key.")
@data_option
@json_option
def revoke(serial: int | None, key_id: str | None, public_key: Path | None, data: Path | None, as_json: bool) -> None:
    """Let a certificate in no more. Live connections that it opened end within a second.

    Example: nightsafe ca revoke --serial 7
    """
    kind, value = _revoked(serial, key_id, public_key)
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        fresh = catalog.revoke_certificate(kind, value)
    if fresh:
        with AuditLog(folder.audit, "ops") as log:
            log.append(Event.CERTIFICATE_REVOKED, durable=True, kind=kind, value=value, by=operator())
    if as_json:
        emit({"kind": kind, "value": value, "fresh": fresh}, as_json)
    else:
        say(f"{kind} {value} {'is revoked' if fresh else 'was revoked already'}.")


def _revoked(serial: int | None, key_id: str | None, public_key: Path | None) -> tuple[RevocationKind, str]:
    if (serial is not None) + (key_id is not None) + (public_key is not None) != 1:
        raise UsageError("name what is to be revoked", "give one of --serial N, --key-id TEXT, --public-key FILE")
    if serial is not None:
        return "serial", str(serial)
    return ("key-id", key_id) if key_id is not None else ("key", read_public_key(public_key or Path()).fingerprint)


def _facts(one: Certificate) -> dict[str, Any]:
    return {
        "serial": one.serial,
        "key_id": one.key_id,
        "fingerprint": one.fingerprint,
        "valid_after": one.valid_after.isoformat(),
        "valid_before": one.valid_before.isoformat(),
        "source_address": list(one.source_address),
    }


def _state(one: Certificate, now: datetime) -> str:
    return "revoked" if one.revoked else "expired" if one.valid_before <= now else "valid"
