"""Files of the firm into a client's folders: through the spool, as an upload goes, so that ingest seals, catalogues and receipts them alike.

Nothing is copied in the clear: a file is read once, block by block, straight into the sealed spool. It needs no secret, and no running role.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.errors import OutOfReach, UsageError
from config.folder import DataFolder
from config.words import counted
from gateway.jail import Pointer, Refused, Tree, VirtualPath
from gateway.jail.paths import INBOX, OUTBOX
from gateway.store import Arrival, Spool
from gateway.store.ids import new_paper_id

LOCK = "depositing"  # held together by those who put files in, and alone by one who replaces the key that papers in the spool are sealed to
PIECE = 1 << 20
SOFTWARE = "nightsafe files put"


@dataclass(frozen=True)
class Deposit:
    """A file that is on its way: acknowledged, as an upload is."""

    source: Path
    path: str
    paper: str
    size: int


def destinations(tree: Tree, files: Sequence[Path], to: VirtualPath) -> list[tuple[Path, VirtualPath]]:
    """Each file with its name in the jail: `to` is a folder, or, for a single file, may be its new name. Raises UsageError, Refused."""
    if to.folder not in (INBOX, OUTBOX):
        raise UsageError(f"{to} is no place for papers", "name a folder below /outbox or /inbox")
    single = len(files) == 1 and len(to.parts) > 1 and not _is_folder(tree, to) and bool(Path(to.name).suffix)
    chosen = [(file, to if single else to.child(_name(file))) for file in files]
    taken = {str(path) for _, path in chosen}
    if len(taken) < len(chosen):
        raise UsageError("two of the files have the same name", "put them into different folders, with --to")
    for _, path in chosen:
        if _is_folder(tree, path):
            raise UsageError(f"{path} is a folder", "give the file another name")
    return chosen


def check_readable(file: Path) -> None:
    """Raises UsageError unless it is a plain file that can be read."""
    os.close(_open(file)[0])


def deposit(folder: DataFolder, spool: Spool, tree: Tree, client: str, person: str, session: str, source: Path, path: VirtualPath) -> Deposit:
    """Seal one file into the spool and hand it to ingest; durable when this returns. An existing name gets a new version.

    Raises UsageError (the file), Refused (the name), StoreError (the disk); nothing is left behind then.
    """
    descriptor, state = _open(source)
    with os.fdopen(descriptor, "rb", buffering=0) as reader:
        _check_room(folder, state.st_size)
        make_way(tree, path.parent)
        paper = new_paper_id()
        file = spool.create(paper, client)
        try:
            size = 0
            while piece := reader.read(PIECE):
                file.write(size, piece)
                size += len(piece)
            now, modified = datetime.now(UTC), datetime.fromtimestamp(state.st_mtime, UTC)
            file.finish(Arrival(paper, client, person, str(path), now, modified, session, "local", SOFTWARE))
            tree.put(path, Pointer(paper, size, "whole"), mtime=max(0.0, state.st_mtime), durable=True)
        except BaseException as error:
            with suppress(Exception):
                file.discard()
            file.close()
            if isinstance(error, OSError):
                raise UsageError(f"{source} cannot be read: {error.strerror}", "nothing was put") from error
            raise
        try:
            spool.land(paper)
        finally:
            file.close()
    return Deposit(source, str(path), paper, size)


def make_way(tree: Tree, path: VirtualPath) -> None:
    """Make the folders of `path` that are missing."""
    for depth in range(2, len(path.parts) + 1):
        try:
            tree.make_folder(VirtualPath(path.parts[:depth]))
        except Refused as error:
            if error.code != "exists" or not _is_folder(tree, VirtualPath(path.parts[:depth])):
                raise UsageError(f"the folder {path} cannot be made: {error.text}", "choose another place with --to") from error


def _check_room(folder: DataFolder, size: int) -> None:
    space = os.statvfs(folder.spool_partial)
    if size * 2 > space.f_bavail * space.f_frsize:  # once in the spool, once in the vault
        raise OutOfReach(f"the disk of the data folder has no room for {counted(size, 'byte')}", "make space, then put it again")


def _open(path: Path) -> tuple[int, os.stat_result]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name a plain file that you may read") from error
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is no plain file", "put files; folders file by file")
    return descriptor, state


def _name(file: Path) -> str:
    name = file.name
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the name of {os.fsencode(file)!r} is no UTF-8", "rename it first, or name it with --to /outbox/NAME.ext") from None
    if not name:
        raise UsageError(f"{file} has no name", "name a plain file")
    return name


def _is_folder(tree: Tree, path: VirtualPath) -> bool:
    try:
        return tree.stat(path).kind == "folder"
    except Refused:
        return False
