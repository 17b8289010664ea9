"""One restic repository, with methods that take and return values. Every failure is a ResticError (or OutOfReach, SettingsError for the program)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backup.restic import arguments
from backup.restic import messages as m
from backup.restic.arguments import Repository
from backup.restic.errors import UnknownFailure, classify
from backup.restic.runner import NEW_PASSWORD_FILE, PASSWORD_FILE, Finished, Line, Runner, Secrets

_MAX_FAULTS = 1000
_PARTIAL = 3

OnStatus = Callable[[m.Status], None]


def _no_status(_status: m.Status) -> None:
    """Nobody watches."""


def _nothing(_fault: m.Fault) -> bool:
    return False


def _no_line(_line: bytes) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Restic:
    """A repository, the runner, and the secrets that open it."""

    runner: Runner
    repository: Repository
    secrets: Secrets = field(repr=False)

    def init(self) -> str:
        """Make the repository and return its id. Raises when anything is there already."""
        self._plain("initialising the repository", arguments.init())
        return self.config()

    def config(self) -> str:
        """The repository's id: proves that it is there and opens. Raises RepositoryMissing, WrongPassword, …"""
        output = self._document("opening the repository", arguments.cat_config())
        try:
            return m.parse_config(output)
        except ValueError as error:
            raise UnknownFailure("opening the repository: restic printed something that is no config", "") from error

    def backup(
        self,
        sources: Sequence[str],
        *,
        cwd: Path,
        host: str,
        tags: Sequence[str],
        excludes: Sequence[str] = (),
        limit_upload: int | None = None,
        excused: Callable[[m.Fault], bool] = _nothing,
        on_status: OnStatus = _no_status,
    ) -> m.BackupResult:
        """Save `sources` (relative to `cwd`, which must exist: restic passes over a missing one in silence), with `limit_upload` KiB a second.

        What is `excused` makes no backup partial: it is asked of each fault as it comes, since only so many are kept.
        """
        ears = _BackupEars(on_status, excused)
        words = arguments.backup(sources, host=host, tags=tags, excludes=excludes, limit_upload=limit_upload)
        finished = self._run("backing up", words, ears.hear, cwd, ears.complain)
        if ears.summary is None or finished.code not in (0, _PARTIAL):
            raise classify("backing up", finished.code, finished.stderr)
        partial = finished.code == _PARTIAL and bool(ears.faults or not ears.excused)  # without a reason it is partial too
        return m.BackupResult(ears.summary, partial, tuple(ears.faults) if partial else ())

    def snapshots(self, *, host: str | None = None, tags: Sequence[str] = ()) -> list[m.Snapshot]:
        """All snapshots, oldest first."""
        output = self._document("listing the snapshots", arguments.snapshots(host=host, tags=tags))
        try:
            return m.parse_snapshots(output)
        except ValueError as error:
            raise UnknownFailure("listing the snapshots: restic printed something that is no list of them", "") from error

    def restore(self, snapshot: str, target: Path, *, includes: Sequence[str] = (), on_status: OnStatus = _no_status) -> m.RestoreResult:
        """Restore below `target`. What could not be restored is in the result when restic came to its end, else an error is raised.

        0.14 ends with code 1 both when single files failed and when all did: with faults named, the result is returned for the caller to judge.
        """
        ears = _Ears(on_status)
        finished = self._run("restoring", arguments.restore(snapshot, target, includes=includes), ears.hear, None, ears.complain)
        if finished.code and not ears.faults:
            raise classify("restoring", finished.code, finished.stderr)
        return m.RestoreResult(tuple(ears.faults))

    def paths(self, snapshot: str) -> list[str]:
        """The path of every file of a snapshot; for small ones."""
        found: list[str] = []

        def hear(line: bytes) -> None:
            if (path := m.parse_file_node(line)) is not None:
                found.append(path)

        finished = self._run("listing a snapshot", arguments.ls(snapshot), hear)
        if finished.code:
            raise classify("listing a snapshot", finished.code, finished.stderr)
        return found

    def holds_blobs(self, ids: Collection[str]) -> set[str]:
        """Which of these blobs (SHA-256 of their content: a file below 512 KiB is one) are in the repository, referenced or not."""
        found: set[str] = set()

        def hear(line: bytes) -> None:
            words = line.split()
            if len(words) > 1 and (identity := words[1].decode("ascii", "replace")) in ids:
                found.add(identity)

        finished = self._run("listing the blobs", arguments.list_blobs(), hear)
        if finished.code:
            raise classify("listing the blobs", finished.code, finished.stderr)
        return found

    def forget_snapshots(self, snapshots: Sequence[str]) -> None:
        """Remove these snapshots."""
        if snapshots:
            self._plain("forgetting snapshots", arguments.forget_snapshots(snapshots))

    def prune(self) -> None:
        """Remove what no snapshot holds, as far as it pays."""
        self._plain("pruning the repository", arguments.prune())

    def prune_all(self) -> None:
        """Remove whatever no snapshot holds, to the last blob."""
        self._plain("pruning the repository", arguments.prune_all())

    def check(self, *, read_data: bool = False, subset: str | None = None, lock: bool = True) -> None:
        """Raises Damaged when something is wrong with the repository."""
        self._plain("checking the repository", arguments.check(read_data=read_data, subset=subset, lock=lock))

    def rebuild_index(self) -> None:
        """Make the index anew from the packs that are there."""
        self._plain("rebuilding the index", arguments.rebuild_index())

    def add_key(self, password: bytes, *, host: str, user: str) -> None:
        """Let `password` open the repository too."""
        secrets = Secrets(self.secrets.password, self.secrets.environment, password)
        words = arguments.key_add(NEW_PASSWORD_FILE, host=host, user=user)
        finished = self.runner.run(self._words(words), secrets, _no_line, doing="adding a key")
        if finished.code:
            raise classify("adding a key", finished.code, finished.stderr)

    def unlock(self) -> None:
        """Remove the locks of dead processes."""
        self._plain("removing stale locks", arguments.unlock())

    def locks(self) -> int:
        """How many locks there are."""
        return len(self._document("listing the locks", arguments.list_locks()).split())

    def _words(self, words: list[str]) -> list[str]:
        return [*arguments.common(self.repository, PASSWORD_FILE), *words]

    def _run(self, doing: str, words: list[str], on_line: Line, cwd: Path | None = None, on_complaint: Line | None = None) -> Finished:
        return self.runner.run(self._words(words), self.secrets, on_line, on_complaint=on_complaint, cwd=cwd, doing=doing)

    def _plain(self, doing: str, words: list[str]) -> None:
        finished = self._run(doing, words, _no_line)
        if finished.code:
            raise classify(doing, finished.code, finished.stderr)

    def _document(self, doing: str, words: list[str]) -> bytes:
        lines: list[bytes] = []
        finished = self._run(doing, words, lambda line: lines.append(line))
        if finished.code:
            raise classify(doing, finished.code, finished.stderr)
        return b"\n".join(lines)


class _Ears:
    """Listens to the messages of one call."""

    def __init__(self, on_status: OnStatus) -> None:
        self.faults: list[m.Fault] = []
        self._on_status = on_status
        self._last: m.Status | None = None

    def hear(self, line: bytes) -> bool:
        """True when the line shows progress."""
        message = m.parse_line(line)
        if isinstance(message, m.Status):
            moved, self._last = message != self._last, message
            self._on_status(message)
            return moved
        self.take(message)
        return True

    def complain(self, line: bytes) -> None:
        """A line of standard error: there restic tells of single files, as messages (backups; restores from 0.17 on) or as text."""
        message = m.parse_line(line)
        if isinstance(message, m.Text) and (fault := m.parse_fault_line(message.line)):
            message = fault
        self.take(message)

    def take(self, message: m.Message) -> None:
        """Whatever is no status."""
        if isinstance(message, m.Fault) and len(self.faults) < _MAX_FAULTS:
            self.faults.append(message)


class _BackupEars(_Ears):
    def __init__(self, on_status: OnStatus, excused: Callable[[m.Fault], bool]) -> None:
        super().__init__(on_status)
        self.summary: m.Summary | None = None
        self.excused = 0
        self._is_excused = excused

    def take(self, message: m.Message) -> None:
        if isinstance(message, m.Summary):
            self.summary = message
        if isinstance(message, m.Fault) and self._is_excused(message):
            self.excused += 1
            return
        super().take(message)
