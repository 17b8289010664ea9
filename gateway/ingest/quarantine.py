"""Papers that were refused: what lies in the quarantine, and the two ways out of it. Both are recorded first, and can be done again after a crash.

- Released: the sealed file goes into the vault, the verdict becomes `accepted`.
- Deleted: the file goes, the verdict stays `refused` and says so.

Ingest then writes the new receipt, as for every paper whose receipt is due. What could not be sealed (`ID.damaged`) can be deleted only.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config.errors import CheckFailed, UsageError
from config.files import copy_whole, fsync_folder, make_folder
from config.folder import DataFolder
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Paper
from gateway.catalog.rows import DELETED
from gateway.ingest.aside import SUFFIX, aside_path
from gateway.store import Vault
from gateway.store.ids import is_paper_id
from gateway.store.vault import SUFFIX as SEALED

PIECE_BYTES = 1024 * 1024
AT_ONCE = 500  # papers that are looked up together
RELEASED = "released"  # code of a verdict

Kind = Literal["sealed", "damaged", "gone"]


@dataclass(frozen=True)
class Quarantined:
    """A paper in the quarantine. `row` is None for one of a client that the catalog does not know. `size` in bytes on the disk."""

    paper: str
    client: str
    kind: Kind
    size: int
    row: Paper | None


class Quarantine:
    """The quarantine of a data folder. One person at a time works on it: the caller holds the lock of that name."""

    def __init__(self, folder: DataFolder, catalog: Catalog, audit: AuditLog | None) -> None:
        """`audit` is needed to change something."""
        self._root = folder.quarantine
        self._vault = Vault(folder.vault)
        self._sealed = Vault(folder.quarantine)
        self._catalog = catalog
        self._audit = audit

    def papers(self, client: str | None = None) -> Iterator[Quarantined]:
        """What lies there, by client and time of arrival."""
        found = [(name, paper, path) for name, paper, path in self._sealed.papers()]
        found += [(path.parent.name, path.stem, path) for path in self._root.glob(f"*/*{SUFFIX}")]
        found = sorted(one for one in found if client in (None, one[0]))
        for start in range(0, len(found), AT_ONCE):
            portion = found[start : start + AT_ONCE]
            rows = self._catalog.known(paper for _, paper, _ in portion)
            for name, paper, path in portion:
                with suppress(FileNotFoundError):
                    yield Quarantined(paper, name, _kind(path), path.stat().st_size, rows.get(paper))

    def paper(self, paper: str) -> Quarantined:
        """One refused paper. Raises UsageError when there is none of this id."""
        row = self._catalog.paper(paper)
        for path in self._places(paper, row):
            with suppress(FileNotFoundError):
                return Quarantined(paper, path.relative_to(self._root).parts[0], _kind(path), path.stat().st_size, row)
        if row is None or row.state != "refused":
            raise UsageError(f"the quarantine has no paper {paper[:40]}", "the ids are shown by: nightsafe quarantine list")
        return Quarantined(paper, row.client, "gone", 0, row)

    def _places(self, paper: str, row: Paper | None) -> Iterable[Path]:
        """Where its file may lie. Looked for by name: there may be a hundred thousand others."""
        if not is_paper_id(paper):
            return ()
        if row is None:
            return (path for name in (f"{paper[-2:]}/{paper}{SEALED}", f"{paper}{SUFFIX}") for path in self._root.glob(f"*/{name}"))
        return self._sealed.path(row.client, paper), aside_path(self._root, row.client, paper)

    def release(self, paper: str, *, person: str, reason: str) -> Paper:
        """Into the vault. Raises UsageError for what cannot be released, CheckFailed when the file is not the one that was catalogued."""
        row = self._catalog.paper(paper)
        if row is not None and (row.state, row.code) == ("accepted", RELEASED):
            self._finish(row)  # an earlier release was broken off behind its last step but one
            return row
        found = self.paper(paper)
        if found.kind == "gone":
            raise UsageError(f"the paper {paper} cannot be released: it was deleted", "ask the client to send it again")
        if found.kind != "sealed" or found.row is None:
            raise UsageError(f"the paper {paper} cannot be released: it could not be sealed", "ask the client to send it again")
        source = self._sealed.path(found.client, paper)
        _check(source, found.row)
        self._record(Event.QUARANTINE_RELEASED, found.row, person, reason)
        self._into_the_vault(source, found.row)
        said = f"The paper was released by a person. It had been refused: {found.row.reason}"
        released = self._catalog.change_verdict(paper, "accepted", said, RELEASED)
        self._finish(released)
        return released

    def delete(self, paper: str, *, person: str, reason: str) -> Quarantined:
        """For good, here; snapshots keep it until they are forgotten. Raises UsageError for what a legal hold covers."""
        found = self.paper(paper)
        if found.row is not None and (holds := self._catalog.holds_on(found.row)):
            raise UsageError(f"the paper {paper} is under legal hold {holds[0].id}: {holds[0].reason}", "it can be deleted once the hold is released")
        self._record(Event.QUARANTINE_DELETED, found.row, person, reason, client=found.client, paper=paper)
        if found.row is not None and found.row.code != DELETED:
            self._catalog.change_verdict(paper, "refused", f"{found.row.reason} It was deleted by a person.", DELETED)
        if found.kind == "sealed":
            self._sealed.remove(found.client, paper)
        elif found.kind == "damaged":
            path = aside_path(self._root, found.client, paper)
            path.unlink(missing_ok=True)
            fsync_folder(path.parent)
        return found

    def _record(self, event: Event, row: Paper | None, person: str, reason: str, **known: str) -> None:
        facts = {"client": row.client, "paper": row.id, "path": row.path, "sha256": row.sha256} if row else known
        if self._audit is None:
            raise TypeError("the quarantine was opened to look")
        self._audit.append(event, durable=True, person=person, reason=reason, **facts)

    def _finish(self, released: Paper) -> None:
        self._sealed.remove(released.client, released.id)

    def _into_the_vault(self, source: Path, row: Paper) -> None:
        """The same file under its name in the vault, durably."""
        target = self._vault.path(row.client, row.id)
        make_folder(target.parent)
        try:
            os.link(source, target)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copy_whole(source, target)
        fsync_folder(target.parent)


def _kind(path: Path) -> Kind:
    return "damaged" if path.suffix == SUFFIX else "sealed"


def _check(source: Path, row: Paper) -> None:
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    if digest.hexdigest() != row.sealed_sha256:
        raise CheckFailed(f"the file of the paper {row.id} is not the one that was catalogued", "nothing was changed; restore it from a backup")
