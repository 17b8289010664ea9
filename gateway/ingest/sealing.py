"""One pass over one paper: out of the spool, through SHA-256 and the checks, into the vault. Plaintext is in memory only, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from config.errors import SettingsError
from gateway.age import AgeError, Identity, NoMatchError, Recipient
from gateway.ingest.aside import claimed_client
from gateway.ingest.checks.inspection import Finding, Inspection
from gateway.ingest.checks.services import Slow
from gateway.ingest.clients import ClientBook
from gateway.ingest.names import path_now
from gateway.ingest.outcome import Postponed
from gateway.ingest.parts import Parts
from gateway.ingest.passing import Take, pass_over
from gateway.ingest.verdicts import DAMAGED, UNKNOWN_CLIENT, UNREADABLE, Verdict
from gateway.jail.refused import Refused
from gateway.keys.keyring import Keyring
from gateway.store import Arrival, LandedPaper, SealedPaper, SpoolDamaged, SpoolGone, StoreError, Vault

TEMPORARY_ENDINGS = (".filepart", ".part", ".partial", ".tmp")
LOST_NAME = "/inbox/(name lost)"  # of a damaged paper that no pointer names any more


@dataclass(frozen=True)
class Whole:
    """A paper that was passed over to its end. `sha256` (hex) and `size` are of the plaintext, `at` is when it was done."""

    arrival: Arrival
    size: int
    sha256: str
    finding: Finding
    at: datetime

    @property
    def paper(self) -> str:
        return self.arrival.paper

    @property
    def client(self) -> str:
        return self.arrival.client

    @property
    def path(self) -> str:
        """The name at landing."""
        return self.arrival.path


@dataclass(frozen=True)
class Sealed(Whole):
    """A paper that lies in the vault (in quarantine when it is refused), durably, and that the catalog does not know yet."""

    age: SealedPaper
    generation: int


@dataclass(frozen=True)
class Held(Whole):
    """A paper that a check holds back. It stays in the spool, and is read once more when that has an end."""


@dataclass(frozen=True)
class Unfit:
    """A spool file that cannot become a paper. `arrival` is None where its footer could not be read; `client` is then what the header claims.

    `cause` is for the log, not for the client.
    """

    paper: str
    client: str
    is_known_client: bool
    arrival: Arrival | None
    verdict: Verdict
    cause: str
    at: datetime

    @property
    def path(self) -> str:
        """The name at landing; a stand-in where that is lost."""
        return self.arrival.path if self.arrival else LOST_NAME


def seal_paper(parts: Parts, book: ClientBook, paper: str, *, durable: bool = True) -> Sealed | Held | Unfit:
    """Check a landed paper, and seal it to the key of its client that is for new ones. Done twice, the second sealing takes the place of the
    first. Without `durable` the disk of the vault is still to be synced.

    Raises SpoolGone when it has left the spool, Postponed, Slow when it or its checks belong into another lane, Stopping when the role ends,
    NightsafeError or OSError when a store cannot be used now.
    """
    arrival: Arrival | None = None
    try:
        with parts.spool.open_landed(paper, identities=parts.identities) as landed:
            arrival = landed.arrival
            if parts.must_wait(arrival):
                raise Postponed
            key = book.key(arrival.client, arrival.path)
            if key is None:
                return _unfit(parts, book, paper, arrival, UNKNOWN_CLIENT, "the catalog has no such client")
            if parts.way == "quick" and (landed.size > parts.quick_bytes or parts.is_slow(arrival)):
                raise Slow
            parts.check_room(landed.size)
            passed = _through(parts, landed, key.recipient, durable)
    except SpoolGone as error:
        if not (parts.landed / paper).exists():
            raise
        return _unfit(parts, book, paper, arrival, DAMAGED, error.message)  # a name is there, and nothing behind it
    except NoMatchError as error:
        check_identities(parts.keyring, parts.identities)
        return _unfit(parts, book, paper, arrival, UNREADABLE, error.message)
    except (SpoolDamaged, AgeError) as error:
        return _unfit(parts, book, paper, arrival, DAMAGED, error.message)
    if passed.age is None:
        return Held(arrival, landed.size, passed.sha256, passed.finding, parts.now())
    return Sealed(arrival, passed.age.size, passed.sha256, passed.finding, parts.now(), passed.age, key.generation)


def check_identities(keyring: Keyring, identities: Sequence[Identity]) -> None:
    """Raises SettingsError unless `identities` open what is put into the spool now: a key that was not given to us is no fault of the papers."""
    if str(keyring.ingest_recipient) not in {str(identity.recipient) for identity in identities}:
        raise SettingsError(
            "the ingest identity is not the one that the spool is sealed to", "restart the role 'ingest'; if that does not help, look at its secrets"
        )


def _unfit(parts: Parts, book: ClientBook, paper: str, arrival: Arrival | None, verdict: Verdict, cause: str) -> Unfit:
    client = arrival.client if arrival else claimed_client(parts.landed, paper)
    known = client is not None and book.is_known(client)
    return Unfit(paper, client or "", known, arrival, verdict, cause, parts.now())


def peek(parts: Parts, paper: str) -> Arrival | None:
    """The arrival of a landed paper; None when it cannot be opened (sealing it will say why)."""
    try:
        with parts.spool.open_landed(paper, identities=parts.identities) as landed:
            return landed.arrival
    except (AgeError, StoreError):
        return None


@dataclass(frozen=True)
class _Passed:
    """What one pass over a paper gave; `age` is None when the paper was not sealed, because it is held."""

    sha256: str
    age: SealedPaper | None
    finding: Finding


def _through(parts: Parts, landed: LandedPaper, recipient: Recipient, durable: bool) -> _Passed:
    """Once over the plaintext: SHA-256, checks, vault. Raises SpoolDamaged unless every byte was there, and Slow."""
    with closing(Inspection(parts.checks, landed.arrival, _path(parts, landed.arrival), landed, parts.way)) as inspection:
        if not inspection.is_held:
            return _sealed(parts, landed, recipient, inspection.take, inspection.finish, durable)
        sha256 = pass_over(landed, inspection.take, None, parts.between_pieces)
        finding = inspection.finish()
    if finding.verdict.state == "held":
        return _Passed(sha256, None, finding)
    landed.seek(0)
    return _sealed(parts, landed, recipient, _nothing, lambda: finding, durable)


def _sealed(parts: Parts, landed: LandedPaper, recipient: Recipient, take: Take, finish: Callable[[], Finding], durable: bool) -> _Passed:
    client, paper = landed.arrival.client, landed.arrival.paper
    with parts.vault.writer(client, paper, recipient) as writer:
        sha256 = pass_over(landed, take, writer.write, parts.between_pieces)
        finding = finish()
        quarantine = Vault(parts.quarantine)
        match finding.verdict.state:
            case "held":
                return _Passed(sha256, None, finding)
            case "refused":
                age = writer.commit(into=quarantine.path(client, paper))
                parts.vault.remove(client, paper)  # of an earlier life that accepted it, and did not come to record that
            case _:
                age = writer.commit(durable=durable)
                quarantine.remove(client, paper)
    return _Passed(sha256, age, finding)


def _nothing(_piece: memoryview) -> None:
    return


def _path(parts: Parts, arrival: Arrival) -> str:
    """The name that the rules are to look at."""
    if not parts.checks.ask_names and not arrival.path.lower().endswith(TEMPORARY_ENDINGS):
        return arrival.path
    try:
        with parts.tree(arrival.client) as tree:
            return path_now(tree, arrival.paper, arrival.path, search=parts.checks.ask_names)
    except Refused:
        return arrival.path
