"""The frozen values that go into and come out of the catalog. Times are aware UTC datetimes, sizes are bytes, hashes lowercase hex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gateway.catalog.limits import Limits

Custody = Literal["managed", "deposit-only"]
Role = Literal["client", "staff", "auditor"]
Verdict = Literal["accepted", "held", "refused", "expired"]
DELETED = "deleted"  # code of the verdict on a refused paper that a person deleted
DestructionState = Literal["begun", "pending", "done"]
ShreddingState = Literal["pending", "clean", "lost"]  # lost: given up, nobody can look into it
RunKind = Literal["backup", "copy", "check", "forget", "drill", "restore", "keys", "kit"]
RunState = Literal["running", "passed", "failed", "partial", "inconclusive", "interrupted"]


@dataclass(frozen=True)
class ClientKey:
    """One generation of a client's age key; `recipient` is the public half (`age1…`)."""

    generation: int
    recipient: str
    created_at: datetime


@dataclass(frozen=True)
class Client:
    """A client of the firm: one jail, one key per generation. `keys` is oldest first and never empty."""

    name: str
    custody: Custody
    quota_bytes: int | None
    active: bool
    created_at: datetime
    keys: tuple[ClientKey, ...]
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class PublicKey:
    """An SSH public key of a person: `line` as in authorized_keys without options, `fingerprint` as `SHA256:…`.

    `allow_from` are networks in which it may be used, those after `!` in which it may not; empty means everywhere.
    """

    line: str
    fingerprint: str
    comment: str = ""
    allow_from: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Person:
    """Somebody with a login of their own.

    `client` is set for the role `client`, `clients` for `staff`. `require` are combinations of factors such as `publickey+totp`, any of which
    suffices; empty means what the role's setting says. `allow_from` are networks; empty means everywhere.
    `totp_since` is when the second factor was given.
    """

    name: str
    role: Role
    client: str | None
    active: bool
    created_at: datetime
    expires_at: datetime | None
    keys: tuple[PublicKey, ...]
    clients: tuple[str, ...] = ()
    allow_from: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    password_hash: str | None = field(default=None, repr=False)
    totp: bool = False
    off_boarded_at: datetime | None = None
    totp_since: datetime | None = None

    def sees(self, client: str) -> bool:
        """Whether papers of `client` are this person's business. An auditor reads receipts, no papers."""
        return self.client == client if self.role == "client" else self.role == "staff" and client in self.clients


@dataclass(frozen=True)
class Certificate:
    """An SSH certificate that our CA issued to a person."""

    serial: int
    person: str
    key_id: str
    fingerprint: str
    source_address: tuple[str, ...]
    valid_after: datetime
    valid_before: datetime
    issued_at: datetime
    revoked: bool = False


@dataclass(frozen=True, kw_only=True)
class NewPaper:
    """A paper that ingest has dealt with. `path` is its virtual path when it landed; `generation` is the client's key that it is sealed to,
    `header_mac` and the sealed_* fields describe its age file: 0 and empty where nothing was sealed.

    `reason` is the verdict as a sentence for the client, `code` the same as a word for programs; both are empty when nothing is to be said.
    `class_name` is the class that the rules in the settings gave it; empty when none did.
    """

    id: str
    client: str
    path: str
    person: str
    state: Verdict
    reason: str
    size: int
    sha256: str
    received_at: datetime
    sealed_at: datetime
    modified_at: datetime | None
    generation: int = 0
    header_mac: str = ""
    sealed_sha256: str = ""
    sealed_size: int = 0
    session: str
    address: str
    class_name: str = ""
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Paper(NewPaper):
    """A catalogued paper: `version` counts from 1 for each client and path; `receipted` once its receipt lies in the jail."""

    version: int
    receipted: bool


@dataclass(frozen=True)
class Hold:
    """A legal hold on a client, on what has (or is below) a `path`, or on one `paper`. While it is active nothing it covers is destroyed."""

    id: int
    client: str
    path: str | None
    paper: str | None
    reason: str
    ordered_by: str
    set_at: datetime
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None

    @property
    def active(self) -> bool:
        """Whether it was not released yet."""
        return self.released_at is None

    def covers(self, paper: Paper) -> bool:
        """Whether it keeps this paper (every version under a held path is kept)."""
        if not self.active or paper.client != self.client:
            return False
        if self.paper is not None:
            return paper.id == self.paper
        return self.path is None or paper.path == self.path or paper.path.startswith(self.path.rstrip("/") + "/")

    @property
    def subject(self) -> str:
        """What it covers, for people."""
        return f"{self.client} {self.path}" if self.path else f"{self.client}, paper {self.paper}" if self.paper else f"{self.client}, everything"


@dataclass(frozen=True)
class Shredding:
    """A client's keys in one key repository: `clean`, or `pending` with the cause."""

    repository: str
    place: str
    state: ShreddingState
    cause: str
    tried_at: datetime


@dataclass(frozen=True, kw_only=True)
class Destruction:
    """A client whose keys were destroyed. `state`: begun (keys may still be here), pending (gone here, not everywhere), done (proven).

    `keys` says of each key file: generation, recipient, file name and SHA-256; `proof` what was tried last, {} before that.
    """

    client: str
    state: DestructionState
    ordered_by: str
    reason: str
    begun_at: datetime
    keys: tuple[Mapping[str, Any], ...]
    keys_removed_at: datetime | None
    proof: Mapping[str, Any]
    ended_at: datetime | None
    certificate: str
    repositories: tuple[Shredding, ...]


@dataclass(frozen=True)
class Repository:
    """A restic repository that was initialised by us; `restic_id` is the id in its config."""

    name: str
    url: str
    restic_id: str
    created_at: datetime


@dataclass(frozen=True)
class Run:
    """One backup, drill or restore. `detail` holds JSON values, by kind."""

    id: int
    kind: RunKind
    state: RunState
    started_at: datetime
    ended_at: datetime | None
    snapshot: str | None
    keys_snapshot: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)
