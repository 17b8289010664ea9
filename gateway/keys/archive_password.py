"""The password that was agreed with a client for its encrypted archives: keys/clients/CLIENT/archive-password.age.

Sealed to ingest, which must open it for each such archive, and to master and recovery as every secret is. It lies among the client's keys, and
is destroyed with them. `resealing` seals it anew with the others, and for a new key of ingest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from config.errors import UsageError
from config.files import fsync_folder, make_folder, write_whole
from gateway.age import AgeError, Identity, open_bytes, seal_bytes
from gateway.catalog.names import check_name
from gateway.keys.errors import KeyDamaged
from gateway.keys.keyring import Keyring
from gateway.keys.pieces import read_piece

FILE = "archive-password.age"
MOST_BYTES = 1024


def set_archive_password(keyring: Keyring, client: str, password: str) -> None:
    """Keep it, in the place of an older one. Raises UsageError for one that cannot be, Busy."""
    data = password.encode()
    if not data or len(data) > MOST_BYTES or any(ord(letter) < 32 for letter in password):
        raise UsageError(f"a password has 1 to {MOST_BYTES} bytes, and no control characters", "type it in one line")
    path = _path(keyring, client)
    with keyring.changing():  # what it is sealed to may be changed at this moment
        make_folder(path.parent)
        write_whole(path, seal_bytes(data, [keyring.ingest_recipient, *keyring.sealed_to]))


def remove_archive_password(keyring: Keyring, client: str) -> bool:
    """Forget it, durably; whether there was one."""
    path = _path(keyring, client)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    fsync_folder(path.parent)
    return True


def archive_password(keyring: Keyring, client: str, identities: Sequence[Identity]) -> str | None:
    """The password, opened with ingest's identities; None when none was agreed. Raises KeyDamaged."""
    path = _path(keyring, client)
    try:
        return open_bytes(read_piece(path), list(identities)).decode()
    except FileNotFoundError:
        return None
    except (OSError, AgeError, UnicodeDecodeError) as error:
        raise KeyDamaged(f"the archive password of {client} does not open", f"set it again: nightsafe client archive-password {client}") from error


def _path(keyring: Keyring, client: str) -> Path:
    check_name(client)
    return keyring.folder.client_keys(client) / FILE
