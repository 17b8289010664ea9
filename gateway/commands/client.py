"""`nightsafe client add | list | show | edit | suspend | resume`; `rotate-key` is in `client_keys`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, facts, human_bytes, say, table
from config.errors import UsageError
from config.folder import DataFolder
from config.loading import Installation, open_installation
from config.roles import exclusive
from gateway.age import Recipient
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Client, Destruction, Person, PublicKey, check_name
from gateway.catalog.people import unknown_client
from gateway.catalog.rows import Custody
from gateway.commands.archive_password import archive_password
from gateway.commands.client_keys import NewKeys, custody_options, key_facts, make_client_keys, rotate_key, tell_keys
from gateway.commands.limits import limit_changes, limit_facts, limit_options, of_limit
from gateway.commands.logins import facts_added, person_facts, read_public_keys
from gateway.commands.operators import operator
from gateway.commands.times import moment
from gateway.commands.welcome import Language, not_ready, welcome_sheet
from gateway.completing import named
from gateway.jail.tree import Tree
from gateway.keys.keyring import Keyring

if TYPE_CHECKING:
    from gateway.sftp.limits.quota import Usage


@click.group(cls=Group)
def client() -> None:
    """The clients of the firm: each has a jail and a key of its own."""


client.add_command(rotate_key)
client.add_command(archive_password)


@client.command()
@click.argument("name")
@click.option(
    "--public-key",
    "public_keys",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="SSH public key, or several as in an authorized_keys; also adds a person of that name.",
)
@custody_options
@limit_options
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the welcome sheet.")
@data_option
@json_option
def add(
    name: str,
    public_keys: Sequence[Path],
    custody: Custody,
    recipient: Recipient | None,
    language: Language,
    data: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Add a client, its jail and its key; with --public-key also a person who may log in. Prints a welcome sheet, which
    `nightsafe person sheet` prints again by itself, for a file.

    With --custody deposit-only, papers are sealed to --recipient, whose identity only the client has; without one, to a new key that only the
    recovery kit opens. This cannot be changed later.

    Example: nightsafe client add acme --public-key acme.pub --quota 10GiB
    """
    check_name(name)
    installation = open_installation(data)
    keys = read_public_keys(public_keys)
    with exclusive(installation.folder, "people", "somebody else is adding a client", "try again in a moment"):
        added, person = _add(installation, name, keys, partial(make_client_keys, name, custody, recipient), limit_changes(options))
    if as_json:
        emit({"client": _client_facts(added, Keyring(installation.folder)), "person": person_facts(person) if person else None}, as_json)
    else:
        for line in _told(installation, added, person, language):
            say(line)


def _add(
    installation: Installation, name: str, keys: list[PublicKey], make_keys: Callable[[Keyring], NewKeys], limits: dict[str, Any]
) -> tuple[Client, Person | None]:
    """Key and jail first, the catalog last: an interrupted `add` leaves nothing that anybody can log in to, and can be run again."""
    folder = installation.folder
    with Catalog.open(folder.catalog) as catalog:
        if catalog.client(name):
            raise UsageError(
                f"there is a client '{name}' already",
                f"look at it with: nightsafe client show {name}; for another login: nightsafe person add NAME --client {name} --public-key FILE",
            )
        if keys and catalog.person(name):
            raise UsageError(f"there is a person '{name}' already", "choose another name for the client")
        made = make_keys(Keyring(folder))
        Tree.create(folder.jail(name))
        recipient, besides = str(made.first.recipient), {key.generation: str(key.recipient) for key in made.others}
        added = catalog.add_client(name, custody=made.custody, recipient=recipient, generation=made.first.generation, besides=besides)
        if limits:
            added = catalog.edit_client(name, **limits)
        person = catalog.add_person(name, role="client", client=name, keys=keys) if keys else None
    log = AuditLog(folder.audit, "ops")
    tell_keys(log, [made.first, *made.others])
    log.append(Event.CLIENT_ADDED, person=operator(), client=name, custody=added.custody, recipient=recipient)
    if person:
        log.append(Event.PERSON_ADDED, person=name, client=name, by=operator(), **facts_added(person))
    log.sync()
    log.close()
    return added, person


@client.command("list")
@data_option
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """All clients, with their papers.

    Example: nightsafe client list --json
    """
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        rows = [(client, *catalog.count_papers(client.name, "accepted")) for client in catalog.clients()]
        states = {client.name: state_word(client, catalog.destruction(client.name)) for client, _, _ in rows}
    if as_json:
        counted = ((client, {"state": states[client.name], "papers": papers, "bytes": size}) for client, papers, size in rows)
        emit([{**_client_facts(client, Keyring(folder)), **told} for client, told in counted], as_json)
        return
    table(
        "Clients",
        ("name", "custody", "papers", "bytes", "since", "state"),
        [(client.name, client.custody, papers, human_bytes(size), client.created_at.date(), states[client.name]) for client, papers, size in rows],
    )
    if not rows:
        say("no clients yet; add one with: nightsafe client add NAME --public-key FILE")


@client.command()
@click.argument("name", shell_complete=named("client"))
@data_option
@json_option
def show(name: str, data: Path | None, as_json: bool) -> None:
    """One client: keys, people, papers, what it may have and what it has of that.

    Example: nightsafe client show acme
    """
    from gateway.sftp.limits.quota import Usage
    from gateway.sftp.limits.rooms import usage

    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        found = catalog.client(name)
        if found is None:
            raise unknown_client(name)
        papers, size = catalog.count_papers(name, "accepted")
        people = [person for person in catalog.people() if person.client == name]
        destruction = catalog.destruction(name)
    state = state_word(found, destruction)
    if folder.jail(name).exists():
        with Tree(folder.jail(name)) as tree:
            taken = usage(folder, name, tree)
    else:  # destroyed: its names are gone
        taken = Usage(0, 0, 0)
    used = {"bytes": taken.size, "files": taken.names, "stored_bytes": taken.stored}
    told = {"state": state, "certificate": destruction.certificate if destruction else None, "papers": papers, "bytes": size, "used": used}
    result = {**_client_facts(found, Keyring(folder)), **told, "people": [person_facts(person) for person in people]}
    if as_json:
        emit(result, as_json)
        return
    facts(
        {
            "client": found.name,
            "state": state + (f", certificate {destruction.certificate}" if destruction else ""),
            "custody": found.custody,
            "since": moment(found.created_at),
            "papers": papers,
            "bytes": human_bytes(size),
            **_room_facts(found, taken),
        }
    )
    for key in result["keys"]:
        say(f"key {key['generation']}: {key['recipient']}, opened by {key['opened_by']}")
    for person in people:
        say(f"person {person.name}: {', '.join(key.fingerprint for key in person.keys) or 'no key'}")


@client.command()
@click.argument("name", shell_complete=named("client"))
@limit_options
@data_option
@json_option
def edit(name: str, data: Path | None, as_json: bool, **options: Any) -> None:
    """Change a client's limits. They bind within seconds, in sessions that are open, too.

    Example: nightsafe client edit acme --quota 10GiB
    """
    changes = limit_changes(options)
    if not changes:
        raise UsageError("nothing was to be changed", "give --quota SIZE, or --quota none")
    folder = open_installation(data).folder
    changed = _changed(folder, name, **changes)
    _record(folder, Event.CLIENT_EDITED, client=name, **changes)
    _tell(folder, changed, as_json, "was changed")


@client.command()
@click.argument("name", shell_complete=named("client"))
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the audit log.")
@data_option
@json_option
def suspend(name: str, reason: str, data: Path | None, as_json: bool) -> None:
    """Let nobody of this client in: new logins are refused, live ones end within a second, no key of its papers is handed out to its people.

    Papers that were acknowledged are sealed and backed up all the same. Undo it with `client resume`.

    Example: nightsafe client suspend acme --reason "unpaid since May"
    """
    folder = open_installation(data).folder
    changed = _changed(folder, name, active=False)
    _record(folder, Event.CLIENT_SUSPENDED, client=name, reason=reason)
    _tell(folder, changed, as_json, "is suspended: none of its people can log in")


@client.command()
@click.argument("name", shell_complete=named("client"))
@data_option
@json_option
def resume(name: str, data: Path | None, as_json: bool) -> None:
    """Let a suspended client's people in again.

    Example: nightsafe client resume acme
    """
    folder = open_installation(data).folder
    changed = _changed(folder, name, active=True)
    _record(folder, Event.CLIENT_RESUMED, client=name)
    _tell(folder, changed, as_json, "is active: its people can log in again")


def _changed(folder: DataFolder, name: str, **values: Any) -> Client:
    """One change in the catalog, where every role looks before it lets anybody in or hands out a key."""
    with Catalog.open(folder.catalog) as catalog:
        return catalog.edit_client(name, **values)


def _record(folder: DataFolder, event: Event, **fields: Any) -> None:
    with AuditLog(folder.audit, "ops") as log:
        log.append(event, durable=True, person=operator(), **fields)


def _tell(folder: DataFolder, changed: Client, as_json: bool, words: str) -> None:
    if as_json:
        emit(_client_facts(changed, Keyring(folder)), as_json)
    else:
        say(f"Client {changed.name} {words}.")


def _room_facts(client: Client, taken: Usage) -> dict[str, object]:
    limits = client.limits
    shown: dict[str, object] = {
        "profile": limits.profile,
        "names show": of_limit(taken.size, limits.bytes),
        "files and folders": of_limit(taken.names, limits.names, str),
        "stored": of_limit(taken.stored, limits.stored_bytes),
    }
    speeds = {"upload speed": limits.upload, "download speed": limits.download}
    shown |= {name: f"{human_bytes(speed)}/s" for name, speed in speeds.items() if speed is not None}
    counts = {"sessions at once": limits.sessions, "handles at once": limits.handles}
    return shown | {name: count for name, count in counts.items() if count is not None}


def _told(installation: Installation, client: Client, person: Person | None, language: Language) -> list[str]:
    lines = [f"Client {client.name} was added. Custody: {client.custody}.", ""]
    if person is None:
        return [*lines, f"Nobody can log in yet. Add somebody: nightsafe person add NAME --client {client.name} --public-key FILE"]
    return [*lines, *not_ready(installation, person.name), "What to send to the client:", "", *welcome_sheet(installation, person, language)]


def _client_facts(client: Client, keyring: Keyring) -> dict[str, Any]:
    return {
        "name": client.name,
        "custody": client.custody,
        "active": client.active,
        **limit_facts(client.limits),
        "created_at": client.created_at.isoformat(),
        "keys": key_facts(keyring, client.name),
    }


def state_word(client: Client, destruction: Destruction | None = None) -> str:
    """`active`, `suspended`, `destroyed`, or `being destroyed`."""
    if destruction is not None:
        return "destroyed" if destruction.state == "done" else "being destroyed"
    return "active" if client.active else "suspended"
