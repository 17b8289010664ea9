"""`nightsafe client add | list | show`."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from config.cli import Size, data_option, json_option
from config.console import emit, facts, human_bytes, say, table
from config.errors import UsageError
from config.loading import Installation, open_installation
from config.roles import exclusive, role_state
from gateway.age import AgeError, Recipient
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.sshkeys import fingerprint
from gateway.catalog import Catalog, Client, Person, PublicKey, check_name
from gateway.catalog.people import unknown_client
from gateway.jail.tree import Tree
from gateway.keys.keyring import Keyring

SMALLEST_RSA = 3072


@click.group()
def client() -> None:
    """The clients of the firm: each has a jail and a key of its own."""


@client.command()
@click.argument("name")
@click.option(
    "--public-key",
    "public_keys",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="SSH public key; also adds a person of that name.",
)
@click.option("--custody", type=click.Choice(["managed", "deposit-only"]), default="managed", show_default=True, help="Who can open the papers.")
@click.option("--recipient", metavar="age1…", help="The client's own age recipient (deposit-only): nothing here will open their papers.")
@click.option("--quota", type=Size(), metavar="SIZE", help="Most bytes of living papers, for example 10GiB.")
@data_option
@json_option
def add(name: str, public_keys: Sequence[Path], custody: str, recipient: str | None, quota: int | None, data: Path | None, as_json: bool) -> None:
    """Add a client, its jail and its key; with --public-key also a person who may log in. Prints a welcome sheet.

    Example: nightsafe client add acme --public-key acme.pub --quota 10GiB
    """
    check_name(name)
    installation = open_installation(data)
    keys = [read_public_key(path) for path in public_keys]
    given = _recipient(custody, recipient)
    with exclusive(installation.folder, "people", "somebody else is adding a client", "try again in a moment"):
        added, person = _add(installation, name, keys, custody, given, quota)
    if as_json:
        emit({"client": _client_facts(added), "person": _person_facts(person) if person else None}, as_json)
    else:
        say(_welcome(installation, added, person))


def _add(
    installation: Installation, name: str, keys: list[PublicKey], custody: str, recipient: Recipient | None, quota: int | None
) -> tuple[Client, Person | None]:
    """Key and jail first, the catalog last: an interrupted `add` leaves nothing that anybody can log in to, and can be run again."""
    folder = installation.folder
    with Catalog.open(folder.catalog) as catalog:
        if catalog.client(name):
            raise UsageError(f"there is a client '{name}' already", f"look at it with: nightsafe client show {name}")
        if keys and catalog.person(name):
            raise UsageError(f"there is a person '{name}' already", "choose another name for the client")
        key = Keyring(folder).add_client(name, custody=custody, recipient=recipient)
        Tree.create(folder.jail(name))
        added = catalog.add_client(
            name,
            custody="managed" if custody == "managed" else "deposit-only",
            recipient=str(key.recipient),
            generation=key.generation,
            quota_bytes=quota,
        )
        person = catalog.add_person(name, role="client", client=name, keys=keys) if keys else None
    log = AuditLog(folder.audit, "ops")
    log.append(Event.CLIENT_ADDED, client=name, custody=custody, recipient=str(key.recipient), quota_bytes=quota)
    if person:
        log.append(Event.PERSON_ADDED, person=name, client=name, fingerprints=[key.fingerprint for key in keys])
    log.sync()
    log.close()
    return added, person


@client.command("list")
@data_option
@json_option
def list_(data: Path | None, as_json: bool) -> None:
    """All clients, with their papers."""
    with Catalog.open(open_installation(data).folder.catalog) as catalog:
        rows = [(client, *catalog.count_papers(client.name, "accepted")) for client in catalog.clients()]
    if as_json:
        emit([{**_client_facts(client), "papers": papers, "bytes": size} for client, papers, size in rows], as_json)
        return
    table(
        "Clients",
        ("name", "custody", "papers", "bytes", "since"),
        [(client.name, client.custody, papers, human_bytes(size), client.created_at.date()) for client, papers, size in rows],
    )
    if not rows:
        say("no clients yet; add one with: nightsafe client add NAME --public-key FILE")


@client.command()
@click.argument("name")
@data_option
@json_option
def show(name: str, data: Path | None, as_json: bool) -> None:
    """One client: keys, people, papers."""
    with Catalog.open(open_installation(data).folder.catalog) as catalog:
        found = catalog.client(name)
        if found is None:
            raise unknown_client(name)
        papers, size = catalog.count_papers(name, "accepted")
        people = [person for person in catalog.people() if person.client == name]
    result = {**_client_facts(found), "papers": papers, "bytes": size, "people": [_person_facts(person) for person in people]}
    if as_json:
        emit(result, as_json)
        return
    facts({"client": found.name, "custody": found.custody, "since": found.created_at.isoformat(), "papers": papers, "bytes": human_bytes(size)})
    for key in found.keys:
        say(f"key {key.generation}: {key.recipient}")
    for person in people:
        say(f"person {person.name}: {', '.join(key.fingerprint for key in person.keys) or 'no key'}")


def read_public_key(path: Path) -> PublicKey:
    """An SSH public key from a file: one line, `TYPE BASE64 [COMMENT]`. Raises UsageError; a private key is refused by name."""
    try:
        text = path.read_text(encoding="utf-8")[:20_000].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the public key {path} cannot be read: {error}", "name the file that ends in .pub") from error
    if "PRIVATE KEY" in text:
        raise UsageError(f"{path} is a private key", f"never hand it out; name the public half, probably {path}.pub")
    fields = text.split(None, 2)
    try:
        loaded = load_ssh_public_key(" ".join(fields[:2]).encode())
        blob = base64.b64decode(fields[1], validate=True)
    except (ValueError, IndexError, UnsupportedAlgorithm, binascii.Error) as error:
        raise UsageError(f"{path} does not hold an SSH public key", "make a key pair with: ssh-keygen -t ed25519") from error
    if isinstance(loaded, RSAPublicKey) and loaded.key_size < SMALLEST_RSA:
        raise UsageError(f"{path} is an RSA key of {loaded.key_size} bits; at least {SMALLEST_RSA} are needed", "better: ssh-keygen -t ed25519")
    fingerprint = "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return PublicKey(" ".join(fields[:2]), fingerprint, fields[2].splitlines()[0] if len(fields) > 2 else "")


def _recipient(custody: str, text: str | None) -> Recipient | None:
    if text is None:
        return None
    if custody != "deposit-only":
        raise UsageError("--recipient goes with --custody deposit-only", "a managed client's key is made here")
    try:
        return Recipient.parse(text)
    except AgeError as error:
        raise UsageError(f"--recipient is not an age recipient: {error.message}", "it begins with age1; age-keygen prints it") from error


def _welcome(installation: Installation, client: Client, person: Person | None) -> str:
    gateway = installation.settings.gateway
    state = role_state(installation.folder, "gateway") or {"port": gateway.port}
    lines = [f"Client {client.name} was added. Custody: {client.custody}.", ""]
    if person is None:
        return "\n".join([*lines, "Nobody can log in yet: add the client with --public-key, or a person for it."])
    login = f"sftp -P {state['port']} {person.name}@YOUR-HOST"
    return "\n".join(
        [
            *lines,
            "What to send to the client:",
            f"  log in             {login}",
            f"  host key           {_host_key(installation)}",
            f"  your key           {person.keys[0].fingerprint}",
            "  folders            /inbox (put papers here), /outbox (papers for you), /receipts (a signed receipt for each paper)",
            "  first try          put letter.pdf inbox/",
            "",
            "To check receipts, save this line as allowed_signers:",
            f"  {_receipts_signer(installation)}",
            "  ssh-keygen -Y verify -f allowed_signers -I receipts -n receipt@nightsafe -s RECEIPT.json.sig < RECEIPT.json",
        ]
    )


def _host_key(installation: Installation) -> str:
    public = installation.folder.host_key.with_name(installation.folder.host_key.name + ".pub")
    return fingerprint(public.read_text(encoding="ascii"))


def _receipts_signer(installation: Installation) -> str:
    return Keyring(installation.folder).allowed_signers.read_text(encoding="ascii").splitlines()[0]


def _client_facts(client: Client) -> dict[str, Any]:
    return {
        "name": client.name,
        "custody": client.custody,
        "quota_bytes": client.quota_bytes,
        "active": client.active,
        "created_at": client.created_at.isoformat(),
        "keys": [{"generation": key.generation, "recipient": key.recipient} for key in client.keys],
    }


def _person_facts(person: Person) -> dict[str, Any]:
    keys = [{"fingerprint": key.fingerprint, "comment": key.comment} for key in person.keys]
    return {"name": person.name, "role": person.role, "client": person.client, "active": person.active, "keys": keys}
