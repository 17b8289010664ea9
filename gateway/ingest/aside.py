"""Where a spool file goes that cannot become a paper: DATA/quarantine/CLIENT/ID.damaged, as it is, which is ciphertext."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from config.errors import UsageError
from config.files import TEMPORARY_PREFIX, carry, fsync_folder, make_folder
from gateway.catalog.names import check_name
from gateway.keys.pieces import open_plain
from gateway.store.format import HEADER_SIZE, FormatError, decode_header

SUFFIX = ".damaged"
QUIET_SECONDS = 24 * 3600.0  # a copy writes all the time, or waits for its fsync: never for that long
NOBODY = "_unknown"  # where the client cannot be told; no client can have this name


def aside_path(quarantine: Path, client: str, paper: str) -> Path:
    """Where `move_aside` puts it. A `client` that is no name of a client (a forged header may say anything) counts as nobody."""
    try:
        check_name(client)
    except UsageError:
        client = NOBODY
    return quarantine / client / f"{paper}{SUFFIX}"


def claimed_client(landed: Path, paper: str) -> str | None:
    """The client that the header of a landed spool file names; it is not proven. None when the header cannot be read. Raises OSError."""
    try:
        with open(open_plain(landed / paper), "rb") as file:
            return decode_header(file.read(HEADER_SIZE)).client or None
    except (FormatError, FileNotFoundError):
        return None


def move_aside(landed: Path, quarantine: Path, client: str, paper: str) -> None:
    """Move a landed spool file out of the way, durably. Done already: nothing happens. Raises OSError."""
    target = aside_path(quarantine, client, paper)
    make_folder(target.parent)
    try:
        carry(landed / paper, target)
    except FileNotFoundError:
        return
    fsync_folder(landed)


def sweep_aside(quarantine: Path) -> int:
    """Remove what killed lives left half-copied onto the disk of the quarantine; how many there were. Nobody locks such a file: its age must do.
    Raises OSError."""
    removed, quiet = 0, time.time() - QUIET_SECONDS
    for pattern in (f"*/{TEMPORARY_PREFIX}*", f"*/*/{TEMPORARY_PREFIX}*"):
        for path in quarantine.glob(pattern):
            try:
                state = path.lstat()
            except FileNotFoundError:
                continue  # its copy is done
            if stat.S_ISREG(state.st_mode) and state.st_mtime < quiet:
                path.unlink(missing_ok=True)
                removed += 1
    return removed
