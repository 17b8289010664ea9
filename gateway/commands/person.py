"""`nightsafe person add | list`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from config.cli import data_option, json_option
from config.console import emit, say, table
from config.loading import open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, check_name
from gateway.commands.client import person_facts, read_public_key


@click.group()
def person() -> None:
    """People: each has a login and keys of their own."""


@person.command()
@click.argument("name")
@click.option("--client", required=True, metavar="C", help="The client whose jail this person sees.")
@click.option("--public-key", "public_keys", type=click.Path(path_type=Path), multiple=True, required=True, metavar="FILE", help="SSH public key.")
@data_option
@json_option
def add(name: str, client: str, public_keys: Sequence[Path], data: Path | None, as_json: bool) -> None:
    """Add a person who may log in to a client's jail. Several people may share one.

    Example: nightsafe person add ann --client acme --public-key ann.pub
    """
    check_name(name)
    folder = open_installation(data).folder
    keys = [read_public_key(path) for path in public_keys]
    with Catalog.open(folder.catalog) as catalog:
        added = catalog.add_person(name, role="client", client=client, keys=keys)
    log = AuditLog(folder.audit, "ops")
    log.append(Event.PERSON_ADDED, durable=True, person=name, client=client, fingerprints=[key.fingerprint for key in keys])
    log.close()
    if as_json:
        emit(person_facts(added), as_json)
    else:
        say(f"{name} may log in to the jail of {client}.")


@person.command("list")
@data_option
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """All people, and whose jail they see."""
    with Catalog.open(open_installation(data).folder.catalog) as catalog:
        found = catalog.people()
    if as_json:
        emit([person_facts(one) for one in found], as_json)
        return
    table("People", ("name", "role", "client", "keys"), [(p.name, p.role, p.client, " ".join(key.fingerprint for key in p.keys)) for p in found])
    if not found:
        say("nobody can log in yet; add somebody with: nightsafe person add NAME --client C --public-key FILE")
