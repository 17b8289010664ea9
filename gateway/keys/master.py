"""Where the master secret comes from: `$CREDENTIALS_DIRECTORY/master` (systemd), else the file that the settings name.

The master is an age X25519 identity in age's own form (`AGE-SECRET-KEY-1…` on a line; lines that begin with # are comments), so that the
`age` tool can use it. It never lies in the data folder: a backup or a copy of the folder must not hold the key to itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from config.errors import SettingsError
from config.files import fsync_folder, make_folder, write_all
from config.folder import DataFolder
from config.loading import Installation
from gateway.age import AgeError, Identity
from gateway.keys.pieces import open_plain, read_piece

CREDENTIAL = "master"
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
MAX_BYTES = 64 * 1024


def load_master(installation: Installation, environment: Mapping[str, str] | None = None) -> Identity:
    """The master identity. Raises SettingsError when it is missing, inside the data folder, open to others, or not an age identity."""
    folder = (os.environ if environment is None else environment).get(CREDENTIALS_DIRECTORY)
    if folder and (credential := Path(folder) / CREDENTIAL).exists():
        return parse_identity(_read(credential), str(credential))
    path = installation.path(installation.settings.keys.master_file)
    check_place(path, installation.folder)
    return parse_identity(_read_private(path), str(path))


def make_master(path: Path, folder: DataFolder) -> Identity:
    """Make the master file, durably, or take the one that is there already. Raises SettingsError like `load_master`."""
    check_place(path, folder)
    if os.path.lexists(path):
        return parse_identity(_read_private(path), str(path))
    identity = Identity.generate()
    try:
        make_folder(path.parent)
        _write(path, identity_file(identity).encode())
    except OSError as error:
        raise SettingsError(f"the master file {path} cannot be written: {error.strerror}", "name another place: keys.master_file") from error
    return identity


def identity_file(identity: Identity) -> str:
    """An identity as the text of a file, as age-keygen writes it."""
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"# created: {made}\n# public key: {identity.recipient}\n{identity.encode()}\n"


def parse_identity(data: bytes, name: str) -> Identity:
    """The one identity in the text of an identity file. Raises SettingsError; `name` stands in the message, the text never does."""
    lines = [line.strip() for line in data.decode("ascii", errors="replace").splitlines()]
    secrets = [line for line in lines if line and not line.startswith("#")]
    try:
        if len(secrets) == 1:
            return Identity.parse(secrets[0])
    except AgeError:
        pass
    raise SettingsError(
        f"{name} does not hold one age identity", "it must have one line that begins with AGE-SECRET-KEY-1; restore it from where you keep it"
    )


def check_place(path: Path, folder: DataFolder) -> None:
    """Raises SettingsError when `path` lies in the data folder, through symbolic links or not."""
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder.root)):
        raise SettingsError(
            f"the master file {path} lies inside the data folder", "move it elsewhere and set keys.master_file: the folder must not hold its own key"
        )


def _read_private(path: Path) -> bytes:
    try:
        descriptor = open_plain(path)
    except FileNotFoundError:
        raise SettingsError(f"the master file {path} is missing", "put it back, or set keys.master_file to where it is") from None
    except OSError as error:
        raise SettingsError(
            f"the master file {path} cannot be opened: {error.strerror}", "it must be a plain file of this user, mode 0600"
        ) from error
    with open(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_uid != os.geteuid():
            raise SettingsError(f"the master file {path} belongs to another user", f"make it yours: chown {os.geteuid()} {path}")
        if facts.st_mode & 0o077:
            raise SettingsError(f"the master file {path} is open to other users (mode {facts.st_mode & 0o777:04o})", f"close it: chmod 600 {path}")
        return file.read(MAX_BYTES)


def _read(path: Path) -> bytes:
    try:
        return read_piece(path, MAX_BYTES)
    except OSError as error:
        raise SettingsError(f"the credential {path} cannot be read: {error.strerror or error}", "look at LoadCredential in the unit") from error


def _write(path: Path, data: bytes) -> None:
    """Whole and durable, under a fixed temporary name: what an interrupted run left behind is replaced by the next, not forgotten in the clear."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
    fsync_folder(path.parent)
