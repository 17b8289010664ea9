"""What a snapshot gives back of one client: names out of its jail, the catalog of that time, sealed files. All in a scratch folder, all ciphertext.

Nothing here trusts what came back: links are not followed, pointers are parsed strictly, and a dump that cannot be read is an error of its own.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backup.drill.errors import FREE_SCRATCH, ScratchFailed
from backup.drill.lineage import is_of_its_run
from backup.drill.scratch import remove_tree
from backup.drill.verify import vault_path
from backup.plan import found_dump
from backup.restic import DiskFull, Restic, Snapshot
from backup.restic.arguments import literal
from backup.restic.errors import classify
from config.errors import CheckFailed, NightsafeError, UsageError
from gateway.catalog import Catalog, Client, Paper

PATTERNS = 2000  # in one call of restic: arguments have a limit
MAX_POINTER_BYTES = 512
POINTER = re.compile(rb'\{"nightsafe":1,"paper":"([0-9a-f]{32})","size":(?:0|[1-9][0-9]{0,18}),"state":"(partial|whole)"\}\n')
FOLDERS = ("inbox", "outbox")  # what below a jail holds pointers; receipts are plain files, and the catalog has what they say


@dataclass(frozen=True)
class Name:
    """A name in the jail: its parts from the root of the jail, what it points to, and its time."""

    parts: tuple[str, ...]
    paper: str
    state: str
    mtime: float

    @property
    def path(self) -> str:
        """For people."""
        return os.fsencode("/" + "/".join(self.parts)).decode(errors="backslashreplace")


@dataclass(frozen=True)
class Wish:
    """Whose papers are wanted, and which: none named means all. `run` is the restore's number."""

    client: str
    paths: tuple[tuple[str, ...], ...]
    run: int

    def covers(self, parts: tuple[str, ...]) -> bool:
        """Whether a name was asked for: itself, a folder above it, or everything."""
        return not self.paths or any(parts[: len(path)] == path for path in self.paths)


class Returned:
    """What came back of a wish from one snapshot, below `root`, which restic fills piece by piece."""

    def __init__(self, source: Restic, snapshot: Snapshot, root: Path, wish: Wish) -> None:
        self._source = source
        self._snapshot = snapshot
        self._root = root
        self._wish = wish
        self.jail = root / "jails" / wish.client

    def of(self, wish: Wish) -> Returned:
        """The same for another wish. What was fetched so far stays."""
        return Returned(self._source, self._snapshot, self._root, wish)

    def fetch_names(self, *more: str) -> None:
        """The catalog and the client's names; `more` are other folders of its jail."""
        self._fetch(["/dump", *(f"/jails/{literal(self._wish.client)}/{top}" for top in (*FOLDERS, *more))])

    def fetch_all_names(self) -> None:
        """The catalog and the names of all clients."""
        self._fetch(["/dump", *(f"/jails/*/{top}" for top in FOLDERS)])

    def fetch_papers(self, papers: Iterable[str]) -> None:
        """Sealed files: those named when they are few, else the client's whole vault."""
        patterns = {f"/vault/{literal(vault_path(self._wish.client, paper))}" for paper in itertools.islice(papers, PATTERNS + 1)}
        if patterns:
            self._fetch([f"/vault/{literal(self._wish.client)}"] if len(patterns) > PATTERNS else sorted(patterns))

    def drop_papers(self) -> None:
        """Make room: the sealed files that came go."""
        remove_tree(self._root / "vault" / self._wish.client)

    def names(self) -> Iterator[Name]:
        """The names that were asked for; the same ones in the same order each time."""
        for top in FOLDERS:
            yield from (name for name in names_below(self.jail / top, (top,)) if self._wish.covers(name.parts))

    def unmatched(self) -> list[str]:
        """The wanted paths that there was no name for."""
        return ["/" + "/".join(path) for path in self._wish.paths if not os.path.lexists(self.jail.joinpath(*path))]

    def sealed(self, paper: str) -> Path:
        """Where the sealed file of a paper is, if it came."""
        return self._root / "vault" / vault_path(self._wish.client, paper)

    @contextmanager
    def dump(self) -> Iterator[Dump]:
        """The catalog as it was at the time of the snapshot. Raises CheckFailed."""
        with opened_dump(self._root / "dump") as catalog:
            yield Dump(catalog)

    def is_of_its_run(self, dump: Dump) -> bool:
        """Whether the dump is the one that the snapshot's run made; see `backup.drill.lineage`."""
        return dump.is_of(self._snapshot)

    def _fetch(self, includes: Sequence[str]) -> None:
        """What cannot be restored is missed name by name, unless it is our disk that refuses."""
        faults = self._source.restore(self._snapshot.id, self._root, includes=includes).faults
        if any(isinstance(classify("restoring", 1, fault.message), DiskFull) for fault in faults):
            raise ScratchFailed("the disk of the scratch folder is full", FREE_SCRATCH)


class Dump:
    """A catalog out of a backup: every question may find that it is damaged (CheckFailed)."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def client(self, name: str) -> Client | None:
        """The client, or None."""
        with _answering():
            return self._catalog.client(name)

    def is_of(self, snapshot: Snapshot) -> bool:
        """Whether the run that made the snapshot made this dump."""
        with _answering():
            return is_of_its_run(snapshot, self._catalog)

    def clients(self) -> list[Client]:
        """All clients, by name."""
        with _answering():
            return self._catalog.clients()

    def paper(self, name: Name) -> Paper | None:
        """The paper behind a name."""
        if name.state == "damaged":
            return None
        with _answering():
            return self._catalog.paper(name.paper)

    def papers(self, client: str) -> Iterator[Paper]:
        """All papers of a client that were accepted, by time of arrival."""
        with _answering():
            yield from self._catalog.papers(client=client, state="accepted")

    def versions(self, client: str, path: str) -> list[Paper]:
        """Every accepted version of a path, oldest first."""
        with _answering():
            return [paper for paper in self._catalog.versions(client, path) if paper.state == "accepted"]


@contextmanager
def opened_dump(folder: Path) -> Iterator[Catalog]:
    """The one catalog below a restored `dump` folder. One that an older program wrote is migrated: the scratch copy is ours. Raises CheckFailed."""
    file = found_dump(folder)
    if file is None:
        raise CheckFailed("the catalog did not come back from the snapshot", "try an older one: --at TIME; and see: nightsafe drill run --full")
    with _answering():
        catalog = Catalog.adopt(file)
    with catalog:
        yield catalog


def pick_snapshot(there: Sequence[Snapshot], at: datetime | None, begun: str | None = None) -> Snapshot:
    """The newest snapshot, or the newest at or before `at`; the one that a restore was begun with. Raises UsageError."""
    if begun is not None:
        if same := [snapshot for snapshot in there if snapshot.id == begun]:
            return same[0]
        raise UsageError(f"the snapshot {begun[:8]}, with which this restore was begun, is gone", "restore into a new folder")
    fitting = [snapshot for snapshot in there if at is None or snapshot.was_there(at)]
    if not fitting:
        oldest = f"the oldest is of {there[0].time:%Y-%m-%d %H:%M:%S} UTC" if there else "there is none at all"
        raise UsageError("there is no snapshot of that time" if there else "there is no snapshot", f"{oldest}; see: nightsafe backup snapshots")
    return fitting[-1]


def wanted_parts(path: str) -> tuple[str, ...]:
    """The parts of a virtual path from the command line. Raises UsageError."""
    parts = tuple(part for part in path.split("/") if part)
    if ".." in parts or "." in parts or "\0" in path or (parts and parts[0] not in FOLDERS):
        raise UsageError(f"'{path}' is no path of a paper", "name files or folders below /inbox or /outbox")
    return parts


def parse_pointer(raw: bytes) -> tuple[str, str] | None:
    """The paper's id and the state ('partial' or 'whole') that a pointer holds; None when it is none. The form is that of `gateway.jail.pointers`,
    written down there and in the kit's script: a restore must read it without the gateway."""
    found = POINTER.fullmatch(raw)
    return (found[1].decode("ascii"), found[2].decode("ascii")) if found else None


def open_regular(path: Path) -> int:
    """A descriptor of a regular file of the scratch folder, links not followed. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(f"{path.name} is no file")
    return descriptor


def names_below(folder: Path, parts: tuple[str, ...]) -> Iterator[Name]:
    """Every pointer below a restored folder of a jail, depth first; `parts` are those of the folder."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from names_below(Path(entry.path), (*parts, entry.name))
        elif entry.is_file(follow_symlinks=False):
            yield _name(Path(entry.path), (*parts, entry.name))


def _name(path: Path, parts: tuple[str, ...]) -> Name:
    """A name with its pointer; the state 'damaged' for one that holds none."""
    with open(open_regular(path), "rb") as file:
        pointer = parse_pointer(file.read(MAX_POINTER_BYTES + 1))
        mtime = os.fstat(file.fileno()).st_mtime
    return Name(parts, pointer[0], pointer[1], mtime) if pointer else Name(parts, "", "damaged", mtime)


@contextmanager
def _answering() -> Iterator[None]:
    """What a damaged dump makes of any question."""
    try:
        yield
    except CheckFailed:
        raise
    except (NightsafeError, ValueError, TypeError, OverflowError) as error:
        why = error.message if isinstance(error, NightsafeError) else str(error)
        raise CheckFailed(
            f"the catalog in the snapshot cannot be read: {why}", "try an older one: --at TIME; and see: nightsafe drill run --full"
        ) from error
