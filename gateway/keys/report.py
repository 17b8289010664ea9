"""What keys there are: whose, of which algorithm, how old, and how many papers under each. Reads public halves and times, opens nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.age import Recipient
from gateway.keys.generations import generations, recipient_of
from gateway.keys.keyring import HOST_KEY, SIGNERS, Keyring

AGE = "X25519, age v1"
SSH = "Ed25519, SSH"
PASSWORD = "random, 240 bits or more"  # noqa: S105 - says what kind of secret it is
_SIGNING = {HOST_KEY, *(name for name, _, _ in SIGNERS)}


@dataclass(frozen=True)
class KeyFacts:
    """One key. `key` is whose it is: master, recovery, ingest, client, or the name of a role's secret; `papers` is for clients' keys."""

    key: str
    algorithm: str
    made_at: datetime
    client: str = ""
    generation: int = 0
    kind: str = ""
    public: str = ""
    papers: int | None = None


def installation_keys(keyring: Keyring) -> Iterator[dict[str, Any]]:
    """The fields of a `key.created` event for each key that `init` made."""
    for one in _own(keyring):
        facts = {"whose": one.key, "generation": one.generation or None, "kind": one.kind or None, "recipient": one.public or None}
        yield {name: value for name, value in facts.items() if value is not None}


def key_report(keyring: Keyring, clients: Iterable[str], papers: Mapping[tuple[str, int], int]) -> list[KeyFacts]:
    """Every key of the installation. `papers` counts, for (client, generation), what is sealed to it."""
    return [*_own(keyring), *(facts for client in clients for facts in _of_client(keyring, client, papers))]


def renewed_keys(keyring: Keyring) -> Iterator[KeyFacts]:
    """The installation's own keys that open papers and are replaced in time: the master, and ingest's."""
    for recipient in keyring.master_recipients:
        yield KeyFacts("master", AGE, _made_at(keyring.master_file), public=str(recipient))
    folder = keyring.folder.ingest_keys
    for generation in generations(folder):
        yield _age_key("ingest", folder / f"{generation.number}.recipient", recipient_of(folder, generation), generation.number)


def client_keys(keyring: Keyring, client: str) -> Iterator[KeyFacts]:
    """Each generation of a client's key, without a count of papers. Raises PermissionError for users who may not look into keys/clients."""
    return _of_client(keyring, client, {})


def _own(keyring: Keyring) -> Iterator[KeyFacts]:
    yield from renewed_keys(keyring)
    for recipient in keyring.recovery_recipients:
        yield KeyFacts("recovery", AGE, _made_at(keyring.recovery_file), public=str(recipient))
    for path in sorted((keyring.folder.keys / "secrets").glob("*.age")):
        yield KeyFacts(path.stem, SSH if path.stem in _SIGNING else PASSWORD, _made_at(path))


def _of_client(keyring: Keyring, client: str, papers: Mapping[tuple[str, int], int]) -> Iterator[KeyFacts]:
    for key in keyring.client_keys(client):
        made = _made_at(keyring.folder.client_keys(client) / f"{key.generation}.recipient")
        count = papers.get((client, key.generation), 0)
        yield KeyFacts("client", AGE, made, client, key.generation, key.kind, str(key.recipient), count)


def _age_key(key: str, path: Path, recipient: Recipient, generation: int) -> KeyFacts:
    return KeyFacts(key, AGE, _made_at(path), generation=generation, public=str(recipient))


def _made_at(path: Path) -> datetime:
    """The time of a file that is written once; sealing it anew keeps it."""
    return datetime.fromtimestamp(os.stat(path).st_mtime, UTC)
