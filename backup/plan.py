"""What a backup carries, and under which names. Pure but for the look whether the sources are there.

Two repositories in one bucket, so that whoever can read papers' ciphertext does not thereby hold the sealed keys: `papers` and `keys`. Paths
are relative to the data folder, which is the working directory: a restored tree looks like a data folder wherever it came from.

Order and consistency: the catalog is dumped before anything is read, and content is in the vault before its row is in the catalog. So every
paper of the dump is in the snapshot; papers that arrive meanwhile may be in it without a row. The keys are saved beside the papers, and again
after them when `stamp` tells that they changed meanwhile: so every paper in one snapshot has its client's key in the other. Names (jails) are
read while clients rename and delete, so an entry that vanished while it was read is no fault.

Never carried: spool and ingest keys (papers on the way in are the client's until the receipt), run, cache, and the master.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backup.repositories.access import RepositoryName
from backup.restic.arguments import literal
from backup.restic.messages import Fault
from config.errors import CheckFailed
from config.files import TEMPORARY_PREFIX

DUMP = "dump"
HOST_KEYS = ("ssh_host_ed25519_key", "ssh_host_ecdsa_key")
_VOLATILE = ("jails",)


class SourceMissing(CheckFailed):
    """Something that every data folder has is not there."""


@dataclass(frozen=True)
class Plan:
    """The sources of one repository, relative to the data folder. `optional` ones need not exist."""

    repository: RepositoryName
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


PAPERS = Plan(
    "papers",
    ("VERSION", "audit", DUMP, "jails", "keys/allowed_signers", "keys/host", "keys/secrets", "nightsafe.toml", "quarantine", "vault"),
    ("evidence", "keys/totp"),
)
KEYS = Plan("keys", ("keys/master.recipient", "keys/recovery.recipients"), ("keys/clients",))


def dump_file(copy: str = "") -> str:
    """The dump's name in DATA/dump: each place has one of its own, because a backup to another may begin while restic still reads this one."""
    return f"catalog@{copy}.sqlite3" if copy else "catalog.sqlite3"


def found_dump(folder: Path) -> Path | None:
    """The dump in a restored `dump` folder, which has one; under which name, tells the place that it was made for. None when none came."""
    return next((path for path in sorted(folder.glob("*.sqlite3")) if path.is_file() and not path.is_symlink()), None)


def sources(plan: Plan, root: Path, copy: str = "") -> list[str]:
    """The plan's sources that exist, for a place. Raises SourceMissing: restic would pass over a missing one in silence."""
    missing = [source for source in plan.required if not os.path.lexists(root / source)]
    if missing:
        raise SourceMissing(
            f"the data folder lacks {', '.join(missing)}; nothing was backed up", f"look at {root}: was a disk not mounted, or something deleted?"
        )
    required = [f"{DUMP}/{dump_file(copy)}" if source == DUMP else source for source in plan.required]
    return sorted([*required, *(source for source in plan.optional if os.path.lexists(root / source))])


def stamp(plan: Plan, root: Path) -> frozenset[tuple[object, ...]]:
    """What lies in the plan's sources now: another one when a file came, went, or was replaced (which all of them are as a whole)."""
    return frozenset(_facts(root, name) for source in sources(plan, root) for name in _below(root, source))


def _below(root: Path, source: str) -> Iterator[str]:
    """The source and all that is in it, relative to the root."""
    yield source
    for folder, folders, files in os.walk(root / source):
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in (*folders, *files))


def _facts(root: Path, name: str) -> tuple[object, ...]:
    try:
        found = os.lstat(root / name)
    except OSError:  # gone between the look and this one
        return (name,)
    return name, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def excludes(root: Path) -> list[str]:
    """Patterns of half-written files, and of the secrets that lie in clear (the host keys, whose sealed copies are carried).

    They match on absolute paths, so that no client's file name can match.
    """
    base = literal(str(root))
    ours = [f"{base}/{folder}/**/{TEMPORARY_PREFIX}*" for folder in ("vault", "quarantine", "keys", "evidence", "audit")]
    return [f"{base}/jails/*/.tmp", *(f"{base}/keys/host/{name}" for name in HOST_KEYS), *ours]


def tags(run: int, audit_head: str) -> list[str]:
    """A snapshot's tags: the run, and the head of the audit chain, which is thereby anchored outside this machine."""
    return ["nightsafe", f"run:{run}", f"audit:{audit_head}"]


def is_excused(fault: Fault, root: Path) -> bool:
    """Whether a fault makes no backup partial: a name that was deleted while the jails were read, and what restic meets when it only counts ahead,
    which it meets again when it reads."""
    path = os.path.join(root, fault.item)  # restic 0.14 names a file by its path below the working directory when it was gone between stat and open
    volatile = any(path.startswith(f"{root / folder}/") for folder in _VOLATILE)
    return fault.during == "scan" or (volatile and (_was_gone(fault) or _is_gone(path)))


def _was_gone(fault: Fault) -> bool:
    """By what restic says: its name may be back by now."""
    return fault.message == str(errno.ENOENT) or "no such file or directory" in fault.message


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False  # it may be there, and cannot be read: that is a fault
    return False


def iso(moment: datetime) -> str:
    """RFC 3339 with microseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
