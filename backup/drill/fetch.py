"""Fetches from a repository, and tells what is the backup's fault from what is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backup.drill.errors import FREE_SCRATCH, ScratchFailed
from backup.drill.lineage import same_snapshot
from backup.restic import Damaged, DiskFull, Fault, RestoreResult, Snapshot, UnknownFailure, Unreachable
from backup.restic.errors import classify
from config.errors import OutOfReach
from gateway.catalog import Run

NAMED_PACKS = 3  # in one line for people
AT_ONCE = 2  # processes: each loads the repository's index into memory
MANY = 4000  # patterns in one call: arguments have a limit
OPENING, LOADING = 4_500_000, 30  # what opening a repository costs, and each entry of its index: in comparisons of an entry with a pattern


class RestoreSource(Protocol):
    """The part of a restic repository that a rehearsal needs."""

    def config(self) -> str:
        """The repository's id."""

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, oldest first."""

    def restore(self, snapshot: str, target: Path, *, includes: Sequence[str] = ()) -> RestoreResult:
        """Restore below `target`; what failed file by file is in the result."""

    def check(self, *, lock: bool = True) -> None:
        """Check the repository's structure. Raises Damaged."""


@dataclass(frozen=True)
class Wanted:
    """Patterns, sorted by folder, and how many entries the folders have that they lead into."""

    patterns: Sequence[str]
    entries: int


class Fetch:
    """Restores. `probe` asks the bucket whether it answers (OutOfReach when not); `name` takes a cause and gives it back."""

    def __init__(self, probe: Callable[[], None], name: Callable[[str], str]) -> None:
        self._probe = probe
        self._name = name

    def restore(self, source: RestoreSource, snapshot: Snapshot, target: Path, includes: Sequence[str] = ()) -> None:
        """Restore; what did not come is left to the comparison, which names papers. Raises OutOfReach when that is not the backup's fault."""
        try:
            faults = source.restore(snapshot.id, target, includes=includes).faults
        except Unreachable:  # restic tries for missing objects as it does for a bucket that is away
            self._probe()
            if self._structure(source) is None:
                raise
            faults = ()
        except (Damaged, UnknownFailure) as error:
            faults = (Fault("", "restore", error.message),)
        if faults:
            self._blame(faults, source)

    def restore_some(self, source: RestoreSource, snapshot: Snapshot, target: Path, kinds: Sequence[Wanted], files: int) -> None:
        """Restore what these patterns match, as `restore` does, from a repository of about so many `files`.

        restic compares every entry of every folder that a pattern may lead into with every pattern. So many patterns of one call cost far more
        than the same in several, each of which looks into folders of its own; two run at a time.
        """
        if not any(kind.patterns for kind in kinds):
            return
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="restore") as pool:
            for done in [pool.submit(self.restore, source, snapshot, target, some) for some in portions(kinds, files)]:
                done.result()

    def _blame(self, faults: Sequence[Fault], source: RestoreSource) -> None:
        errors = [classify("restoring", 1, fault.message) for fault in faults]
        if any(isinstance(error, DiskFull) for error in errors):
            raise ScratchFailed("the disk of the scratch folder is full", FREE_SCRATCH)
        self._probe()  # raises when the bucket went away meanwhile: then nothing is known about the files
        if self._structure(source) is None:
            if any(isinstance(error, Unreachable) for error in errors):
                raise OutOfReach("the S3 service failed during the restore", "drill again; when it goes on, look at the S3 service")
            first = faults[0].message.splitlines()[0][:300] if faults[0].message else "restic does not say why"
            self._name(f"the repository is damaged: files or folders could not be restored ({first})")

    def _structure(self, source: RestoreSource) -> str | None:
        """What restic finds wrong with the repository's structure, which is a cause then; None when that is sound (contents are not read)."""
        try:
            source.check(lock=False)
        except (Damaged, UnknownFailure) as error:
            lines = [line.strip() for line in error.detail.splitlines() if line.strip() and not line.startswith("Fatal")]
            more = f" and {len(lines) - NAMED_PACKS} more" if len(lines) > NAMED_PACKS else ""
            return self._name(f"the repository is damaged: {'; '.join(line[:200] for line in lines[:NAMED_PACKS]) or error.message}{more}")
        return None


def portions(kinds: Sequence[Wanted], files: int) -> list[list[str]]:
    """The patterns of each call: all in one where comparing is cheap, else each kind by itself, in as many calls as cost the least together.

    Each call opens a repository with an index of about so many `files`.
    """
    count, entries = sum(len(kind.patterns) for kind in kinds), sum(kind.entries for kind in kinds)
    one = OPENING + LOADING * files
    if count * entries <= one and count <= MANY:
        return [[pattern for kind in kinds for pattern in kind.patterns]]
    found = []
    for kind in kinds:
        calls = max(1, round(math.sqrt(len(kind.patterns) * kind.entries / one)), math.ceil(len(kind.patterns) / MANY))
        size = math.ceil(len(kind.patterns) / calls) or 1
        found += [list(kind.patterns[start : start + size]) for start in range(0, len(kind.patterns), size)]
    return found


def choose(there: Sequence[Snapshot], recorded: Sequence[tuple[Run, str]]) -> tuple[Snapshot | None, Run | None, int]:
    """The snapshot to restore, the run that recorded it, and how many newer recorded ones are gone. `recorded` is newest first."""
    gone = 0
    for run, recorded_id in recorded:
        match = next((snapshot for snapshot in there if same_snapshot(snapshot, recorded_id)), None)
        if match is not None:
            return match, run, gone
        gone += 1
    return (there[-1] if there else None), None, gone
