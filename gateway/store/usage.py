"""What one client's papers take on the disk: older versions in the vault, what is in the spool, what was set aside. Reads folders, opens no paper."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gateway.store import locks
from gateway.store.format import HEADER_SIZE, FormatError, decode_header
from gateway.store.ids import check_client, is_paper_id


def stored_bytes(client: str, *, sealed: Path, quarantine: Path, spool: tuple[Path, ...], open_too: bool = True) -> int:
    """Bytes on the disk. `sealed` is the vault's folder, `spool` its two; `open_too`: count papers that somebody is writing at the moment."""
    check_client(client)
    below = sum(size for root in (sealed, quarantine) for size in _sizes(root / client))
    return below + sum(_in_spool(folder, client, open_too) for folder in spool)


def _sizes(folder: Path) -> Iterator[int]:
    for entry in _scan(folder):
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry.stat(follow_symlinks=False).st_size


def _in_spool(folder: Path, client: str, open_too: bool) -> int:
    return sum(_spool_file(entry.path, client, open_too) for entry in _scan(folder) if is_paper_id(entry.name))


def _spool_file(path: str, client: str, open_too: bool) -> int:
    """The size of a spool file of `client`; 0 for another's, or one that went away meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        if decode_header(os.pread(descriptor, HEADER_SIZE, 0)).client != client or (not open_too and locks.is_held(descriptor)):
            return 0
        return os.fstat(descriptor).st_size
    except (OSError, FormatError):
        return 0
    finally:
        os.close(descriptor)


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except (FileNotFoundError, NotADirectoryError):
        return
