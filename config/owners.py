"""Who may read and write what: the users of the roles, and for each place of an installation the rights of each. Data only.

Root owns what `init` makes, whoever makes something owns it, and everybody else has exactly what stands here, by access control lists that
new files inherit (docs/adr/0020). Nobody's group has any rights. An installation of one user (`nightsafe up`) does without all of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Kind = Literal["folder", "file", "database", "socket"]

ROLES = ("gateway", "keyd", "ingest", "backup", "drill", "prune", "web")
USERS: Mapping[str, str] = MappingProxyType({role: f"nightsafe-{role}" for role in ROLES})

# What keyd answers, by the role that asks (`gateway.keys.protocol`); root and keyd's own user may ask for anything.
ASKERS: Mapping[str, tuple[str, ...]] = MappingProxyType({"gateway": ("paper", "code"), "drill": ("headers",)})

# The same for the gateway's own socket (`gateway.sftp.workers.control`): the page may look at who is logged in, and end nobody's connection.
VIEWERS: Mapping[str, tuple[str, ...]] = MappingProxyType({"web": ("list",)})


@dataclass(frozen=True)
class Place:
    """A path relative to the data folder (its last part may be a pattern), and the roles' rights there.

    A folder: `pass` to go through and list it, `add` to make things in it (and remove one's own), `own` to make, rename and remove anything.
    What is made in it inherits `reads` and `writes` for these roles. A file: `reads` and `writes` alone; a database's log files share them.
    """

    path: str
    kind: Kind
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    passes: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    beforehand: bool = False  # an empty file that root makes: it belongs to nobody who writes there, and whoever is first changes no rights
    note: str = field(default="", compare=False)


def _folder(path: str, *, reads: str = "", writes: str = "", passes: str = "", adds: str = "", note: str = "") -> Place:
    reading, writing, passing, adding = (frozenset(roles.split()) for roles in (reads, writes, passes, adds))
    return Place(path, "folder", reading, writing, passing, adding, note=note)


def _file(path: str, *, reads: str = "", writes: str = "", kind: Kind = "file", beforehand: bool = False, note: str = "") -> Place:
    return Place(path, kind, frozenset(reads.split()), frozenset(writes.split()), beforehand=beforehand, note=note)


_ALL = " ".join(ROLES)

PLACES: tuple[Place, ...] = (
    _folder(".", passes=_ALL, note="nothing new is made here but by ops"),
    _file("VERSION", reads=_ALL),
    _file("nightsafe.toml", reads=_ALL, note="holds no secret"),
    _folder("keys", reads="gateway keyd ingest backup drill web", note="public halves; what is secret lies below, sealed"),
    _folder("keys/clients", reads="keyd ingest backup drill", note="identities, sealed to master and recovery"),
    _folder("keys/secrets", reads="keyd backup drill", note="sealed to master and recovery"),
    _folder("keys/totp", reads="keyd backup", note="sealed to master and recovery"),
    _folder("keys/host", reads="gateway", passes="backup"),
    _file("keys/host/*.pub", reads="gateway backup"),
    _folder("ingest-keys", reads="gateway keyd ingest", passes="web", note="sealed to the master; the public half is for the gateway"),
    _file("ingest-keys/*.recipient", reads="gateway keyd ingest web", note="the public halves"),
    _folder("spool", passes="gateway keyd ingest web"),
    _folder("spool/partial", reads="keyd", writes="gateway ingest", note="sealed to ingest"),
    _folder("spool/landed", reads="keyd", writes="gateway ingest", passes="web", note="sealed to ingest; the page counts what waits"),
    _folder("jails", reads="backup", writes="gateway ingest", note="names, receipts"),
    _folder("vault", reads="gateway keyd backup", writes="ingest", note="sealed to the client"),
    _folder("quarantine", reads="gateway keyd backup", writes="ingest", note="sealed; the gateway counts what a client uses"),
    _file("catalog.sqlite3", reads="gateway keyd web", writes="ingest backup drill prune", kind="database"),
    _file("defender.sqlite3", reads="web", writes="gateway", kind="database"),
    _file("notify.sqlite3", writes="backup", kind="database"),
    _file("watch.sqlite3", writes="backup", kind="database"),
    _folder("audit", reads="backup ingest", adds=_ALL, note="each its own segments; ingest tells clients of accesses"),
    _file("audit/checkpoints.jsonl", reads="ingest", writes="backup", beforehand=True, note="signed by whoever backs up: the role, or ops"),
    _folder("evidence", reads="gateway backup web", writes="drill", note="the gateway shows it to auditors, the page to ops"),
    _folder("dump", writes="backup", note="the catalog's copy for the next backup"),
    _folder("run", reads=_ALL, adds=_ALL, note="states, locks and sockets of running roles"),
    _file("run/keyd.sock", writes="gateway drill", kind="socket", note="keyd asks the kernel besides who it is, and answers each its own questions"),
    _file("run/gateway-*.sock", writes="web", kind="socket", note="the gateway asks the kernel besides who it is, and only lists who is logged in"),
    _folder("cache", adds="backup prune", note="restic's, each its own"),
)

SCRATCH = "drill"  # the role that owns `drill.scratch`: ciphertext that came back, for as long as a drill or a check runs
