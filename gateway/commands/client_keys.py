"""Keys of clients on the command line: how custody is chosen and shown, and `nightsafe client rotate-key`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from config.cli import F, data_option, json_option
from config.console import emit, say
from config.errors import UsageError
from config.loading import Installation, open_installation
from config.roles import exclusive
from gateway.age import AgeError, Recipient
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.catalog.rows import Custody
from gateway.commands.operators import operator
from gateway.completing import named
from gateway.keys.client_keys import ClientKey
from gateway.keys.generations import Kind
from gateway.keys.keyring import Keyring

OPENED_BY: dict[Kind, str] = {
    "managed": "this installation and the recovery kit",
    "recovery": "the recovery kit alone",
    "external": "its holder alone",
}


class RecipientType(click.ParamType[Recipient]):
    """A public key of age: `age1…`."""

    name = "recipient"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Recipient:
        """The recipient. Raises click.BadParameter."""
        if isinstance(value, Recipient):
            return value
        try:
            return Recipient.parse(str(value).strip())
        except AgeError as error:
            self.fail(error.message, param, ctx)


recipient_option = click.option(
    "--recipient", type=RecipientType(), metavar="age1…", help="The client's own public key; its identity never comes here. For deposit-only."
)


@dataclass(frozen=True)
class NewKeys:
    """What was made for a new client: the key for its deposits, and others besides."""

    custody: Custody
    first: ClientKey
    others: Sequence[ClientKey] = ()


def custody_options(command: F) -> F:
    """`--custody` and `--recipient`, for a new client."""
    chosen = click.option(
        "--custody",
        type=click.Choice(["managed", "deposit-only"]),
        default="managed",
        show_default=True,
        help="managed: the firm reads the papers through keyd. deposit-only: nothing on this machine opens them.",
    )
    return chosen(recipient_option(command))


def make_client_keys(name: str, custody: Custody, recipient: Recipient | None, keyring: Keyring) -> NewKeys:
    """The keys of a new client. Raises UsageError when custody and `recipient` do not go together."""
    if custody == "managed":
        if recipient is not None:
            raise UsageError("--recipient is for clients whose papers the firm cannot read", "add: --custody deposit-only")
        return NewKeys(custody, keyring.add_client(name))
    keys = keyring.add_deposit_client(name, recipient)
    first = keyring.client_recipient(name)
    return NewKeys(custody, first, [key for key in keys if key != first])


def tell_keys(log: AuditLog, keys: Iterable[ClientKey]) -> None:
    """An audit line for each key that was made."""
    for key in keys:
        log.append(
            Event.KEY_CREATED,
            person=operator(),
            whose="client",
            client=key.client,
            generation=key.generation,
            kind=key.kind,
            recipient=str(key.recipient),
        )


def key_facts(keyring: Keyring, client: str) -> list[dict[str, Any]]:
    """A client's keys as JSON values, oldest first."""
    return [
        {"generation": key.generation, "recipient": str(key.recipient), "kind": key.kind, "opened_by": OPENED_BY[key.kind]}
        for key in keyring.client_keys(client)
    ]


@click.command("rotate-key")
@click.argument("name", shell_complete=named("client"))
@recipient_option
@click.option("--outbox", is_flag=True, help="Of a deposit-only client: the key of its outbox, instead of the one for its own papers.")
@data_option
@json_option
def rotate_key(name: str, recipient: Recipient | None, outbox: bool, data: Path | None, as_json: bool) -> None:
    """Make a new key for a client's new papers. Papers that are sealed already keep theirs, and stay readable.

    Example: nightsafe client rotate-key acme
    """
    installation = open_installation(data)
    with exclusive(installation.folder, "people", "somebody else changes a client", "try again in a moment"):
        made = _rotate(installation, name, recipient, outbox)
    if as_json:
        emit({"client": name, "made": [key.generation for key in made], "keys": key_facts(Keyring(installation.folder), name)}, as_json)
        return
    for key in made:
        say(f"Client {name}: new papers are sealed to key {key.generation}, {key.recipient}.")
    say("Save the new key: nightsafe backup run")


def _rotate(installation: Installation, name: str, recipient: Recipient | None, outbox: bool) -> list[ClientKey]:
    """Key first, then audit log, then catalog: a key that the catalog does not know is one of an interrupted run, and is taken over."""
    keyring = Keyring(installation.folder)
    with Catalog.open(installation.folder.catalog) as catalog, AuditLog(installation.folder.audit, "ops") as log:
        known = catalog.client(name)
        if known is None:
            raise unknown_client(name)
        if outbox and known.custody == "managed":
            raise UsageError(f"'{name}' has one key for all its papers", "leave --outbox away")
        recorded = {key.generation for key in known.keys}
        left = [key for key in keyring.client_keys(name) if key.generation not in recorded]
        if not any(key == keyring.client_recipient(name, outbox=outbox) for key in left):
            left.append(keyring.rotate_client(name, recipient=recipient, outbox=outbox))
        tell_keys(log, left)
        log.sync()
        for key in left:
            catalog.add_client_key(name, recipient=str(key.recipient), generation=key.generation)
    return left
