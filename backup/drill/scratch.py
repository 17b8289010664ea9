"""The scratch folder of a drill or a restore: ciphertext for a while, then nothing.

It is removed at the end whatever happened; what a killed process left is removed by the next one of the same installation.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backup.drill.errors import FREE_SCRATCH, ScratchFailed
from config.files import make_folder
from config.loading import Installation

MARGIN_BYTES = 64 * 1024 * 1024  # for the cache, the catalogs and the working index of a small installation
LOCK = ".lock"
YOUNG_SECONDS = 10.0  # a folder this young may not have its lock yet


@contextmanager
def scratch_folder(installation: Installation, purpose: str) -> Iterator[Path]:
    """An empty folder (0700) under settings.drill.scratch, removed at the end. Raises ScratchFailed when it cannot be made."""
    base = installation.path(installation.settings.drill.scratch)
    prefix = f"{purpose}-{hashlib.sha256(os.fsencode(installation.folder.root)).hexdigest()[:12]}-"
    try:
        make_folder(base)
        _remove_leftovers(base, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ScratchFailed(
            f"the scratch folder {base} cannot be used: {error.strerror}", "set drill.scratch to a folder that can be written"
        ) from error
    try:
        yield folder
    finally:
        remove_tree(folder)
        os.close(lock)


def check_room(folder: Path, needed: int) -> None:
    """Raises ScratchFailed when the disk of `folder` has less than `needed` bytes, and some to work with, free."""
    try:
        facts = os.statvfs(folder)
    except OSError as error:
        raise ScratchFailed(f"the scratch folder cannot be used: {error.strerror}", FREE_SCRATCH) from error
    free = facts.f_bavail * facts.f_frsize
    if free < needed + MARGIN_BYTES:
        raise ScratchFailed(f"the disk of the scratch folder is too full: {free} bytes free, {needed + MARGIN_BYTES} needed", FREE_SCRATCH)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, folders without write permission included. Best effort: what stays is removed the next time."""

    def open_up(_function: Any, path: str, _error: Any) -> None:
        with suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            if not Path(path).is_symlink():
                os.chmod(path, 0o700)

    shutil.rmtree(folder, onerror=open_up)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(base: Path, prefix: str) -> None:
    """Folders of this installation whose process is gone: nobody holds their lock."""
    for folder in base.glob(prefix + "*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(folder)
            finally:
                os.close(lock)
