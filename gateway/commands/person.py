"""`nightsafe person add | list | show | sheet | edit | suspend | resume | off-board`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from config.cli import Group, Moment, data_option, json_option
from config.console import emit, facts, say, table
from config.errors import UsageError
from config.loading import open_installation
from gateway.audit.events import Event
from gateway.catalog import Catalog, Person, check_name
from gateway.catalog.rows import Role
from gateway.commands.client import state_word
from gateway.commands.logins import (
    Enrolment,
    check_can_log_in,
    enrol,
    facts_added,
    person_facts,
    read_networks,
    read_password,
    read_public_keys,
    read_required,
    realm,
    record,
    state_of,
)
from gateway.commands.times import moment
from gateway.commands.traces import Traces, traces_of
from gateway.commands.welcome import Language, not_ready, welcome_sheet
from gateway.completing import named
from gateway.keys.keyring import Keyring

KEY_OPTION = click.option(
    "--public-key",
    "public_keys",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="SSH public key, or several as in an authorized_keys; from= and expiry-time= hold. Several times: all of them.",
)
SHOWN = 40  # lines of one list that off-boarding prints; --json has them all


@click.group(cls=Group)
def person() -> None:
    """People: each has a login of their own."""


@person.command()
@click.argument("name")
@click.option("--client", metavar="C", shell_complete=named("client"), help="The client whose jail this person sees.")
@click.option(
    "--staff", metavar="C1,C2", shell_complete=named("clients"), help="One of the firm: reads the inbox of these clients, and writes their outbox."
)
@click.option("--auditor", is_flag=True, help="Reads receipts and evidence, nothing else.")
@KEY_OPTION
@click.option("--password-stdin", is_flag=True, help="Take a password from standard input.")
@click.option("--totp", is_flag=True, help="A second factor: codes of an authenticator app. Its seed is printed once.")
@click.option("--expires", type=Moment(), metavar="TIME", help="The login ends then.")
@click.option("--from", "networks", multiple=True, metavar="CIDR,…", help="Networks from which the person may log in; ! before one takes it out.")
@click.option("--require", multiple=True, metavar="FACTORS", help="What has to be shown, as in publickey+totp; several times: any of them.")
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the welcome sheet.")
@data_option
@json_option
def add(name: str, client: str | None, staff: str | None, auditor: bool, language: Language, data: Path | None, as_json: bool, **given: Any) -> None:
    """Add a person who may log in. Several people may share a client's jail. Prints a welcome sheet, which `nightsafe person sheet`
    prints again by itself, for a file.

    Example: nightsafe person add ann --client acme --public-key ann.pub --from 198.51.100.0/24
    """
    check_name(name)
    role, clients = _role(client, staff, auditor)
    installation = open_installation(data)
    keys = read_public_keys(given["public_keys"])
    require, networks = read_required(given["require"]), read_networks(given["networks"])
    check_can_log_in(installation.settings.gateway, role, require=require, password=given["password_stdin"], totp=given["totp"])
    password = read_password() if given["password_stdin"] else None
    with Catalog.open(installation.folder.catalog) as catalog:
        if catalog.person(name):
            raise UsageError(f"there is a person '{name}' already", "choose another login name")
        seed = enrol(installation.folder, name) if given["totp"] else None
        added = catalog.add_person(
            name,
            role=role,
            client=client,
            clients=clients,
            keys=keys,
            expires_at=given["expires"],
            allow_from=networks,
            require=require,
            password_hash=password,
            totp=seed is not None,
        )
    record(installation.folder, Event.PERSON_ADDED, added, **facts_added(added))
    _tell(added, seed, as_json, f"{name} may log in, and sees: {realm(added)}.")
    if as_json:
        return
    if not added.keys and added.password_hash is None:
        say(f"{name} has no key yet. Add one: nightsafe person edit {name} --public-key FILE")
        say(f"Or give a certificate: nightsafe ca sign {name} --public-key FILE")
    for line in not_ready(installation, name):
        say(line)
    say("What to send:")
    for line in ["", *welcome_sheet(installation, added, language)]:
        say(line)


@person.command("list")
@click.option("--client", metavar="C", shell_complete=named("client"), help="Only those who have to do with this client.")
@data_option
@json_option
def list_(client: str | None, data: Path | None, as_json: bool) -> None:
    """All people, and whose papers they see.

    Example: nightsafe person list --client acme
    """
    with Catalog.open(open_installation(data).folder.catalog) as catalog:
        found = [one for one in catalog.people() if client is None or one.sees(client)]
        clients = _client_states(catalog)
    if as_json:
        emit([person_facts(one) for one in found], as_json)
        return
    now = datetime.now(UTC)
    rows = [(one.name, one.role, realm(one), _state(one, now, clients), " ".join(key.fingerprint for key in one.keys)) for one in found]
    table("People", ("name", "role", "sees", "state", "keys"), rows)
    if not found:
        say("nobody can log in yet; add somebody with: nightsafe person add NAME --client C --public-key FILE")


@person.command()
@click.argument("name", shell_complete=named("person"))
@data_option
@json_option
def show(name: str, data: Path | None, as_json: bool) -> None:
    """One person: role, factors, keys, certificates.

    Example: nightsafe person show zoe
    """
    with Catalog.open(open_installation(data).folder.catalog) as catalog:
        found = catalog.existing_person(name)
        certificates = catalog.certificates(name)
        clients = _client_states(catalog)
    if as_json:
        issued = [{"serial": one.serial, "key_id": one.key_id, "valid_before": one.valid_before, "revoked": one.revoked} for one in certificates]
        emit({**person_facts(found), "certificates": issued}, as_json)
        return
    _show(found, _state(found, datetime.now(UTC), clients))
    for one in certificates:
        say(f"certificate {one.serial}: {one.key_id}, until {moment(one.valid_before)}{', revoked' if one.revoked else ''}")


@person.command()
@click.argument("name", shell_complete=named("person"))
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the welcome sheet.")
@data_option
def sheet(name: str, language: Language, data: Path | None) -> None:
    """The welcome sheet once more, and nothing else: for a file, or after a change of the server's name, the port or a key.

    Example: nightsafe person sheet zoe > welcome-zoe.txt
    """
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        found = catalog.existing_person(name)
    if found.off_boarded_at is not None:
        raise UsageError(f"'{name}' was off-boarded", "add a person of another name")
    for line in not_ready(installation, name):
        click.echo(line, err=True)
    for line in welcome_sheet(installation, found, language):
        say(line)


@person.command()
@click.argument("name", shell_complete=named("person"))
@KEY_OPTION
@click.option("--remove-key", "remove_keys", multiple=True, metavar="FINGERPRINT", help="Take this key away.")
@click.option("--staff", metavar="C1,C2", shell_complete=named("clients"), help="The clients of somebody of the staff, instead of those so far.")
@click.option("--password-stdin", is_flag=True, help="Take a new password from standard input.")
@click.option("--no-password", is_flag=True, help="Take the password away.")
@click.option("--totp/--no-totp", default=None, help="Give a new second factor, or take it away.")
@click.option("--expires", metavar="TIME", help="The login ends then; 'never' lifts the limit.")
@click.option("--from", "networks", multiple=True, metavar="CIDR,…", help="Networks; 'any' lifts the limit.")
@click.option("--require", multiple=True, metavar="FACTORS", help="Combinations of factors; 'default' for what the role's setting says.")
@data_option
@json_option
def edit(name: str, data: Path | None, as_json: bool, **given: Any) -> None:
    """Change how a person logs in. Live connections that the change forbids end within a second.

    Example: nightsafe person edit ann --require publickey+totp --totp
    """
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        before = catalog.existing_person(name)
        _check_edited(before, given)
        values = _values(given)
        password = values.get("password_hash", before.password_hash) is not None
        totp = before.totp if given["totp"] is None else given["totp"]
        check_can_log_in(installation.settings.gateway, before.role, require=values.get("require", before.require), password=password, totp=totp)
        keys = read_public_keys(given["public_keys"])
        seed = None
        if given["password_stdin"]:
            values["password_hash"] = read_password()
        if given["totp"]:
            seed = enrol(installation.folder, name)
        clients = _names(given["staff"]) if given["staff"] is not None else None
        if not values and not keys and not given["remove_keys"] and clients is None and given["totp"] is None:
            raise UsageError("nothing was to be changed", f"see: nightsafe person edit --help, nightsafe person show {name}")
        if given["totp"] is not None:
            values["totp"] = given["totp"]
        changed = catalog.edit_person(name, add_keys=keys, remove_keys=given["remove_keys"], clients=clients, **values)
    if given["totp"] is False:
        Keyring(installation.folder).remove_totp(name)
    record(installation.folder, Event.PERSON_EDITED, changed, changed=_differences(before, changed, new_seed=seed is not None))
    _tell(changed, seed, as_json, f"{name} was changed.")


@person.command()
@click.argument("name", shell_complete=named("person"))
@data_option
@json_option
def suspend(name: str, data: Path | None, as_json: bool) -> None:
    """Let this person in no more, until `person resume`. Live connections end within a second.

    Example: nightsafe person suspend zoe
    """
    _switch(name, data, as_json, active=False)


@person.command()
@click.argument("name", shell_complete=named("person"))
@data_option
@json_option
def resume(name: str, data: Path | None, as_json: bool) -> None:
    """Let a suspended person in again.

    Example: nightsafe person resume zoe
    """
    _switch(name, data, as_json, active=True)


@person.command("off-board")
@click.argument("name", shell_complete=named("person"))
@data_option
@json_option
def off_board(name: str, data: Path | None, as_json: bool) -> None:
    """Take a login away for good, and tell what the person had access to and touched, from the audit log.

    Keys, password, second factor and certificates go; live connections end within a second. The name stays taken. It can be run again.

    Example: nightsafe person off-board zoe
    """
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        before = catalog.off_board(name)
    Keyring(folder).remove_totp(name)
    if before.off_boarded_at is None:
        fingerprints = [key.fingerprint for key in before.keys]
        record(folder, Event.PERSON_OFF_BOARDED, before, clients=list(before.clients), fingerprints=fingerprints)
    traces = traces_of(folder, before)
    if as_json:
        emit({"person": person_facts(before), **traces.as_json()}, as_json)
        return
    say(f"{name} can no longer log in.")
    _show(before, "off-boarded")  # with the keys that there were
    _show_traces(traces)


def _role(client: str | None, staff: str | None, auditor: bool) -> tuple[Role, tuple[str, ...]]:
    if (client is not None) + (staff is not None) + auditor != 1:
        raise UsageError("a person has one role", "give one of --client C, --staff C1,C2, --auditor")
    if staff is not None:
        return "staff", _names(staff)
    return ("auditor" if auditor else "client"), ()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        check_name(name)
    return names


def _check_edited(before: Person, given: dict[str, Any]) -> None:
    if before.off_boarded_at is not None:
        raise UsageError(f"'{before.name}' was off-boarded", "add a person of another name")
    if given["staff"] is not None and before.role != "staff":
        raise UsageError(f"'{before.name}' is no member of the staff", f"their role is {before.role}; a role is not changed")
    if given["password_stdin"] and given["no_password"]:
        raise UsageError("a password cannot be given and taken away at once", "give one of --password-stdin and --no-password")


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """The columns that are to be changed, but for the password and the second factor that are given anew."""
    values: dict[str, Any] = {}
    if given["expires"] is not None:
        values["expires_at"] = None if given["expires"] == "never" else Moment().convert(given["expires"], None, None)
    if given["networks"]:
        values["allow_from"] = read_networks(given["networks"])
    if given["require"]:
        values["require"] = read_required(given["require"])
    if given["no_password"]:
        values["password_hash"] = None
    if given["password_stdin"]:
        values["password_hash"] = ""  # it is read last, when all else is right
    return values


def _differences(before: Person, after: Person, *, new_seed: bool) -> dict[str, Any]:
    """What changed, for the audit log; of secrets, only that they did."""
    old, new = facts_added(before), facts_added(after)
    found: dict[str, Any] = {name: [old[name], new[name]] for name in new if old[name] != new[name]}
    new_password = after.password_hash is not None and before.password_hash != after.password_hash
    renewed = [name for name, is_new in (("password", new_password), ("totp", new_seed)) if is_new]
    return found | ({"renewed": renewed} if renewed else {})


def _switch(name: str, data: Path | None, as_json: bool, *, active: bool) -> None:
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        if active and catalog.existing_person(name).off_boarded_at is not None:
            raise UsageError(f"'{name}' was off-boarded", "nothing is left to log in with; add a person of another name")
        changed = catalog.edit_person(name, active=active)
    record(folder, Event.PERSON_RESUMED if active else Event.PERSON_SUSPENDED, changed)
    if as_json:
        emit(person_facts(changed), as_json)
    else:
        say(f"{name} {'may log in again' if active else 'is suspended: live connections end within a second'}.")


def _tell(person: Person, seed: Enrolment | None, as_json: bool, line: str) -> None:
    if as_json:
        shown = {"totp": {"seed": seed.seed, "address": seed.address}} if seed else {}
        emit({**person_facts(person), **shown}, as_json)
        return
    say(line)
    if seed is not None:
        say("Second factor, shown once. Give it by another way than the sheet:")
        say(f"  seed     {seed.seed}")
        say(f"  address  {seed.address}")


def _show(person: Person, state: str) -> None:
    factors = [*(["key"] if person.keys else []), *(["password"] if person.password_hash else []), *(["second factor"] if person.totp else [])]
    facts(
        {
            "person": person.name,
            "role": person.role,
            "sees": realm(person),
            "state": state,
            "has": ", ".join(factors) or "nothing to log in with",
            "requires": " or ".join(person.require) or "whatever the settings require of this role",
            "from": ", ".join(person.allow_from) or "anywhere",
            "until": moment(person.expires_at) or "no end",
        }
    )
    for key in person.keys:
        bounds = [*(["from " + ",".join(key.allow_from)] if key.allow_from else []), *([f"until {moment(key.expires_at)}"] if key.expires_at else [])]
        say(f"key {key.fingerprint} {key.comment}{' (' + '; '.join(bounds) + ')' if bounds else ''}".rstrip())


def _client_states(catalog: Catalog) -> dict[str, str]:
    return {client.name: state_word(client, catalog.destruction(client.name)) for client in catalog.clients()}


def _state(person: Person, now: datetime, clients: Mapping[str, str]) -> str:
    """One word, or what keeps the person out although nothing was done to the login itself. `clients` are the states of all clients."""
    state, of_client = state_of(person, now), clients.get(person.client or "", "active")
    return state if state != "active" or of_client == "active" else f"client {of_client}"


def _show_traces(traces: Traces) -> None:
    say()
    say(f"Sessions: {traces.sessions}, the first {traces.first or 'never'}, the last {traces.last or 'never'}")
    say(f"Addresses: {', '.join(traces.addresses) or 'none'}")
    for title, lines in (("Papers put", traces.put), ("Papers read", traces.read), ("Names changed", traces.changed)):
        say(f"{title}: {len(lines)}")
        _show_some(lines)


def _show_some(lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        say(f"  {line}")
    if len(lines) > SHOWN:
        say(f"  and {len(lines) - SHOWN} more: --json shows them all")
