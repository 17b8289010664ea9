"""Where the master secret comes from: `$CREDENTIALS_DIRECTORY/master` (systemd), else what `keys.master_source` names: a file, a command, or a
file that AWS KMS opens.

The master is an age X25519 identity in age's own form, so that the `age` tool can use it. No file of it lies in the data folder: a backup or a
copy of the folder must not hold the key to itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from config.errors import SettingsError
from config.files import fsync_folder, make_folder, write_all
from config.folder import DataFolder
from config.loading import Installation
from gateway.age import Identity
from gateway.keys.identities import identity_file, parse_identity
from gateway.keys.pieces import open_plain, read_piece

__all__ = ["MasterSource", "identity_file", "load_master", "make_master", "master_source", "parse_identity"]

CREDENTIAL = "master"
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
MAX_BYTES = 64 * 1024
NEXT = ".next"  # what the file of a master that is to come has at the end of its name


class MasterSource(Protocol):
    """Where a master is kept. All raise SettingsError, or OutOfReach when a service does not answer."""

    def load(self) -> Identity:
        """The master."""
        ...

    def make(self) -> Identity:
        """The master; a new one where there is none."""
        ...

    def prepare(self) -> Identity:
        """The master that is to follow, kept beside the present one; made when it is not there yet."""
        ...

    def switch(self) -> None:
        """The prepared master takes the place of the present one, durably, at one moment."""
        ...


def load_master(installation: Installation, environment: Mapping[str, str] | None = None) -> Identity:
    """The master identity. Raises SettingsError when it is missing, inside the data folder, open to others, or not an age identity."""
    return master_source(installation, environment).load()


def make_master(path: Path, folder: DataFolder) -> Identity:
    """Make the master file, durably, or take the one that is there already. Raises SettingsError like `load_master`."""
    return KeptInFile(path, folder).make()


def master_source(installation: Installation, environment: Mapping[str, str] | None = None) -> MasterSource:
    """Where this installation's master is kept. Raises SettingsError when the settings do not go together."""
    credentials = (os.environ if environment is None else environment).get(CREDENTIALS_DIRECTORY)
    if credentials and (credential := Path(credentials) / CREDENTIAL).exists():
        return Credential(credential)
    settings = installation.settings.keys
    if settings.master_source == "command":
        from gateway.keys.command import MasterCommand

        return MasterCommand(settings.master_command, settings.master_command_seconds)
    if settings.master_source == "kms":
        from gateway.keys.kms import KmsKey

        key = KmsKey(settings.kms_key, settings.kms_region, settings.kms_endpoint)
        return KeptInFile(installation.path(settings.kms_file), installation.folder, key.seal, key.open, setting="keys.kms_file")
    return KeptInFile(installation.path(settings.master_file), installation.folder)


class Credential:
    """A file that the service manager shows to this process alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Identity:
        """See MasterSource."""
        try:
            data = read_piece(self._path, MAX_BYTES)
        except OSError as error:
            raise SettingsError(
                f"the credential {self._path} cannot be read: {error.strerror or error}", "look at LoadCredential in the unit"
            ) from error
        return parse_identity(data, str(self._path))

    make = load

    def prepare(self) -> Identity:
        """See MasterSource. It is not ours to change."""
        raise not_ours("the service manager")

    def switch(self) -> None:
        """Never: see `prepare`."""
        raise not_ours("the service manager")


def not_ours(whose: str) -> SettingsError:
    """What is said when a master is to be written where only somebody else can."""
    return SettingsError(f"the master comes from {whose}, which only you can give another one", "name a file for the new master: --new-master FILE")


def _as_it_is(data: bytes) -> bytes:
    return data


class KeptInFile:
    """A private file outside the data folder: the identity itself, or what `seal` makes of it and `open` opens again."""

    def __init__(
        self,
        path: Path,
        folder: DataFolder,
        seal: Callable[[bytes], bytes] = _as_it_is,
        open: Callable[[bytes], bytes] = _as_it_is,
        *,
        setting: str = "keys.master_file",
    ) -> None:
        self._path = path
        self._folder = folder
        self._seal = seal
        self._open = open
        self._setting = setting

    def load(self) -> Identity:
        """See MasterSource."""
        return self._load(self._path)

    def make(self) -> Identity:
        """See MasterSource."""
        return self._made(self._path)

    def prepare(self) -> Identity:
        """See MasterSource."""
        return self._made(self._path.with_name(self._path.name + NEXT))

    def switch(self) -> None:
        """See MasterSource."""
        os.rename(self._path.with_name(self._path.name + NEXT), self._path)
        fsync_folder(self._path.parent)

    def put(self, identity: Identity) -> None:
        """Keep this one, where there is none yet. Raises SettingsError when there is a file already."""
        check_place(self._path, self._folder, self._setting)
        if os.path.lexists(self._path):
            raise SettingsError(f"{self._path} is there already", "it was not touched; name another file")
        self._write(self._path, identity)

    def _load(self, path: Path) -> Identity:
        check_place(path, self._folder, self._setting)
        return parse_identity(self._open(_read_private(path, self._setting)), str(path))

    def _made(self, path: Path) -> Identity:
        check_place(path, self._folder, self._setting)
        if os.path.lexists(path):
            return self._load(path)
        identity = Identity.generate()
        self._write(path, identity)
        return identity

    def _write(self, path: Path, identity: Identity) -> None:
        data = self._seal(identity_file(identity).encode())
        try:
            make_folder(path.parent)
            _write(path, data)
        except OSError as error:
            raise SettingsError(f"the master file {path} cannot be written: {error.strerror}", f"name another place: {self._setting}") from error


def check_place(path: Path, folder: DataFolder, setting: str = "keys.master_file") -> None:
    """Raises SettingsError when `path` lies in the data folder, through symbolic links or not."""
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder.root)):
        raise SettingsError(
            f"the master file {path} lies inside the data folder", f"move it elsewhere and set {setting}: the folder must not hold its own key"
        )


def _read_private(path: Path, setting: str) -> bytes:
    try:
        descriptor = open_plain(path)
    except FileNotFoundError:
        raise SettingsError(f"the master file {path} is missing", f"put it back, or set {setting} to where it is") from None
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
