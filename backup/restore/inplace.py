"""Papers of one client, back into the data folder: sealed files, catalog rows, names. No key is needed, nothing is decrypted.

In this order, so that a stop at any moment leaves nothing half-made, and a second run goes on where the first one stopped:

1. a sealed file that is missing or damaged is put back, once its hash is that of the catalog;
2. a row that the live catalog lacks is recorded; one that contradicts the backup's is reported and left alone;
3. a name that is missing, or stands for an older paper, stands for the paper of the snapshot again. A name that stands for something newer is
   left unless `may_replace` agrees; the newer paper stays a version of that name in any case;
4. receipts that are missing, when everything was asked for.

What the live catalog knows as destroyed stays so.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from backup.restore.errand import Errand, RestoreReport, errand
from backup.restore.papers import check_was_there
from backup.restore.returned import Dump, Name, open_regular
from config.console import Progress, Silent
from config.errors import UsageError
from config.loading import Installation
from config.roles import exclusive
from gateway.catalog import Catalog, NewPaper, Paper
from gateway.jail.paths import VirtualPath
from gateway.jail.pointers import Pointer
from gateway.jail.refused import Refused
from gateway.jail.tree import Tree
from gateway.keys.secrets import RoleSecrets
from gateway.store.vault import Vault

BATCH = 256
MAX_RECEIPT_BYTES = 64 * 1024
NEW_FIELDS = tuple(field.name for field in fields(NewPaper))
MayReplace = Callable[[str], bool]  # the path of a name that stands for something newer


def restore_in_place(
    installation: Installation,
    client: str,
    paths: Sequence[str],
    at: datetime | None,
    may_replace: MayReplace = lambda _path: False,
    progress: Progress | None = None,
    *,
    secrets: RoleSecrets | None = None,
    copy: str = "",
) -> RestoreReport:
    """Bring names and versions of `client` back into its jail and the vault, as they were in the newest snapshot at or before `at`.

    In the report `restored` counts names that stand as they stood then, those that never changed included. Raises Busy (another restore in
    place), UsageError, CheckFailed, OutOfReach.
    """
    with (
        exclusive(installation.folder, "restore", "a restore in place runs already", "wait for it to end"),
        errand(installation, client, paths, at, secrets, check=_check_known, copy=copy, in_place=True) as one,
        Tree.create(installation.folder.jail(client)) as tree,
    ):
        _InPlace(one, tree, Vault(installation.folder.vault), may_replace, progress or Silent()).restore()
    return one.report


class _InPlace:
    def __init__(self, one: Errand, tree: Tree, vault: Vault, may_replace: MayReplace, progress: Progress) -> None:
        self._one = one
        self._live = one.live
        self._returned = one.returned
        self._wish = one.wish
        self._report = one.report
        self._tree = tree
        self._vault = vault
        self._may_replace = may_replace
        self._progress = progress
        self._lost: set[str] = set()  # papers that could not be brought back

    def restore(self) -> None:
        """All four steps."""
        returned, everything = self._returned, not self._wish.paths
        self._progress.update(0, 1, "fetching names")
        returned.fetch_names(*(["receipts"] if everything else []))
        with self._one.dump() as dump:
            check_was_there(dump, self._wish.client)
            for path in returned.unmatched():
                self._report.miss(f"{path}: there was no such name at that time")
            self._progress.update(0, 1, "comparing papers")
            absent = {paper.id for paper in self._wanted(dump) if not self._is_whole(paper)}
            self._progress.update(0, 1, "fetching papers")
            returned.fetch_papers(absent)
            wanted = self._wanted(dump)
            while batch := list(itertools.islice(wanted, BATCH)):
                self._bring_back(batch, absent)
            total = sum(1 for _ in returned.names())
            for done, name in enumerate(returned.names(), 1):
                self._name(name, dump)
                self._progress.update(done, total, "names")
        if everything:
            self._receipts()

    # papers

    def _wanted(self, dump: Dump) -> Iterator[Paper]:
        """The papers of the wish: those of its names with all their versions, or all of the client."""
        if not self._wish.paths:
            yield from dump.papers(self._wish.client)
            return
        seen: set[str] = set()
        for name in self._returned.names():
            pointed = dump.paper(name)
            if pointed is None or pointed.client != self._wish.client:
                continue
            for paper in dump.versions(self._wish.client, pointed.path):
                if paper.id not in seen:
                    seen.add(paper.id)
                    yield paper

    def _bring_back(self, papers: Sequence[Paper], absent: set[str]) -> None:
        unknown: list[Paper] = []
        for paper in papers:
            live = self._live.paper(paper.id)
            if live is not None and live.state != paper.state:
                self._lose(paper, f"it is {live.state} now")
            elif live is not None and (live.client, live.sealed_sha256, live.sha256) != (paper.client, paper.sealed_sha256, paper.sha256):
                self._lose(paper, "the live catalog and the one in the backup contradict each other; nothing was changed")
            elif paper.id in absent and not self._put_back(paper):
                self._lose(paper, "its sealed file did not come back from the backup, or is damaged")
            elif live is None:
                unknown.append(paper)
        self._live.record([NewPaper(**{name: getattr(paper, name) for name in NEW_FIELDS}) for paper in unknown])

    def _put_back(self, paper: Paper) -> bool:
        try:
            with open(open_regular(self._returned.sealed(paper.id)), "rb") as file:
                return self._vault.put_back(paper.client, paper.id, file, paper.sealed_sha256)
        except FileNotFoundError:
            return False

    def _is_whole(self, paper: Paper) -> bool:
        """Whether the vault has the paper's file, byte for byte."""
        with suppress(OSError), open(open_regular(self._vault.path(paper.client, paper.id)), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == paper.sealed_sha256
        return False

    def _lose(self, paper: Paper, why: str) -> None:
        self._lost.add(paper.id)
        self._report.miss(f"{paper.path} (version {paper.version}): {why}")

    # names

    def _name(self, name: Name, dump: Dump) -> None:
        paper = dump.paper(name)
        if name.state != "whole" or paper is None:
            self._report.miss(f"{name.path}: it was not sealed yet when the snapshot was taken", unsealed=True)
            return
        if paper.id in self._lost:
            return  # told already
        if paper.client != self._wish.client or paper.state != "accepted":
            self._report.miss(f"{name.path}: it was not accepted ({paper.state})")
            return
        try:
            path = VirtualPath(name.parts)
            if self._stands(path, paper) or (self._may_stand(path, paper) and self._put(path, paper, name.mtime)):
                self._report.restored += 1
                self._report.restored_bytes += paper.size
        except Refused as error:
            self._report.miss(f"{name.path}: {error}")

    def _stands(self, path: VirtualPath, paper: Paper) -> bool:
        pointer = self._pointer(path)
        return pointer is not None and pointer.paper == paper.id

    def _may_stand(self, path: VirtualPath, paper: Paper) -> bool:
        pointer = self._pointer(path)
        if pointer is None:
            return True
        live = self._live.paper(pointer.paper)
        older = live is not None and live.received_at < paper.received_at
        if older or self._may_replace(str(path)):
            return True
        self._report.miss(f"{path}: something newer has this name; it was left (--overwrite replaces the name, the newer paper stays a version)")
        return False

    def _put(self, path: VirtualPath, paper: Paper, mtime: float) -> bool:
        for depth in range(2, len(path.parts)):
            try:
                self._tree.make_folder(VirtualPath(path.parts[:depth]))
            except Refused as error:
                if error.code != "exists":
                    raise
        self._tree.put(path, Pointer(paper.id, paper.size, "whole"), mtime=max(0.0, mtime), durable=True)
        return True

    def _pointer(self, path: VirtualPath) -> Pointer | None:
        """What the name stands for now; None when there is no such name, or its pointer is damaged."""
        try:
            return self._tree.stat(path).pointer
        except Refused as error:
            if error.code != "no_such_file":
                raise
            return None

    # receipts

    def _receipts(self) -> None:
        """Those that the jail lacks: plain files, as they were. One that is there is never touched."""
        root = self._returned.jail / "receipts"
        for folder, folders, names in os.walk(root):
            folders.sort()
            self._receipts_of(Path(folder).relative_to(root).parts, names, Path(folder))

    def _receipts_of(self, parts: tuple[str, ...], names: Iterable[str], folder: Path) -> None:
        missing = []
        for name in names:
            try:
                path = VirtualPath(("receipts", *parts, name))
                if self._is_there(path):
                    continue
                with open(open_regular(folder / name), "rb") as file:
                    missing.append((path, file.read(MAX_RECEIPT_BYTES)))
            except (OSError, Refused):
                self._report.miss(f"a receipt in /{'/'.join(('receipts', *parts))}: it cannot be brought back")
        if missing:
            self._tree.write_plains(missing)

    def _is_there(self, path: VirtualPath) -> bool:
        try:
            self._tree.stat(path)
        except Refused as error:
            if error.code != "no_such_file":
                raise
            return False
        return True


def _check_known(live: Catalog, client: str) -> None:
    if live.client(client) is None:
        raise UsageError(f"there is no client '{client}'", "see: nightsafe client list")
