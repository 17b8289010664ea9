"""Removes every copy of a client's identities from the keyring of this machine.

What a disk may still hold under no name (freed blocks, the old state of a copy-on-write file system) is sealed to master and recovery; the files
are written over first, which reaches the old blocks on most disks and promises nothing on the others.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

from config.errors import OutOfReach, SettingsError
from config.files import fsync_folder
from config.folder import DataFolder
from config.roles import exclusive
from gateway.catalog.names import check_name
from gateway.keys.pieces import read_piece
from gateway.store.format import HEADER_SIZE, FormatError, decode_header


def client_key_files(folder: DataFolder, client: str) -> list[dict[str, Any]]:
    """What the keyring holds of a client: name, generation (None for an unknown file), recipient where there is one,
    whether it holds a secret, SHA-256. Raises UsageError."""
    check_name(client)
    found = []
    for path in _files(folder.client_keys(client)):
        generation = re.match(r"([1-9][0-9]{0,8})\.", path.name)
        found.append(
            {
                "file": path.name,
                "generation": int(generation[1]) if generation else None,
                "recipient": _recipient(path.with_name(f"{generation[1]}.recipient")) if generation else None,
                "secret": path.suffix == ".age",
                "sha256": hashlib.sha256(read_piece(path)).hexdigest(),
            }
        )
    return found


def remove_client_keys(folder: DataFolder, client: str) -> int:
    """Remove all of them, durably; how many files there were. Done already: nothing happens. Raises Busy, OutOfReach."""
    check_name(client)
    with exclusive(folder, "keyring", f"another process makes keys in {folder.root}", "try again in a moment"):
        home = folder.client_keys(client)
        if not os.path.lexists(home):
            return 0
        if home.is_symlink():
            raise SettingsError(f"{home} is a symbolic link", "remove it by hand, and what it leads to")
        files = _files(home)
        try:
            for path in files:
                _wipe(path)
                path.unlink()
            fsync_folder(home)
            for inner in sorted((path for path in home.rglob("*") if path.is_dir()), reverse=True):
                inner.rmdir()
            home.rmdir()
            fsync_folder(home.parent)
        except OSError as error:
            raise OutOfReach(f"a key cannot be removed: {error.filename}: {error.strerror}", "mend the disk or the rights, then try again") from error
    return len(files)


def remove_unsealed(folder: DataFolder, client: str) -> int:
    """Remove what the client sent and nobody sealed yet (or could): it is sealed to ingest, not to the client. How many papers there were."""
    papers = [path for spool in (folder.spool_partial, folder.spool_landed) for path in _plain_files(spool) if _client_of(path) == client]
    papers += [path for path in _plain_files(folder.quarantine / client) if path.suffix == ".damaged"]
    for path in papers:
        path.unlink(missing_ok=True)
        fsync_folder(path.parent)
    return len(papers)


def remove_sealed(folder: DataFolder, client: str) -> None:
    """Remove names, receipts and sealed files of a client whose papers nothing opens any more. Raises OutOfReach."""
    check_name(client)
    for home in (folder.jail(client), folder.vault / client, folder.quarantine / client):
        try:
            if os.path.lexists(home):
                shutil.rmtree(home)
                fsync_folder(home.parent)
        except OSError as error:
            raise OutOfReach(f"{error.filename or home} cannot be removed: {error.strerror}", "mend the disk or the rights, then again") from error


def _client_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return decode_header(file.read(HEADER_SIZE)).client
    except (FormatError, OSError):
        return None


def _plain_files(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _files(home: Path) -> list[Path]:
    return sorted(path for path in home.rglob("*") if not path.is_dir() or path.is_symlink())


def _recipient(path: Path) -> str | None:
    try:
        return read_piece(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _wipe(path: Path) -> None:
    """Write over a plain file, in place."""
    if path.is_symlink() or not path.is_file():
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.write(descriptor, os.urandom(os.fstat(descriptor).st_size))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
