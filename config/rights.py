"""Brings the rights of an installation in line with `config.owners`, and tells where they are not. Run by root."""

from __future__ import annotations

import os
import pwd
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from config.acl import PASS, READ, WRITE, Acl, get_acl, get_inherited, set_acl
from config.errors import SettingsError
from config.files import FOLDER_MODE, fsync_folder
from config.loading import Installation
from config.owners import PLACES, SCRATCH, USERS, Place

LOGS = ("-wal", "-shm")  # of an SQLite database
STICKY = stat.S_ISVTX


def role_users() -> dict[str, int]:
    """The user id of each role. Raises SettingsError when this machine lacks one."""
    try:
        return {role: pwd.getpwnam(name).pw_uid for role, name in USERS.items()}
    except KeyError as error:
        raise SettingsError(
            f"this machine has not the users of the roles: {error.args[0]}", "scripts/install makes them; or run as one user: nightsafe up"
        ) from None


@dataclass(frozen=True)
class Wanted:
    """What one file or folder should have. `inherited` is for folders alone."""

    path: Path
    acl: Acl
    inherited: Acl | None
    owner: int | None = None  # None: whoever made it
    sticky: bool = False

    def apply(self) -> None:
        """Make it so. Raises OSError, SettingsError."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if self.owner is not None and facts.st_uid != self.owner:
                os.fchown(descriptor, self.owner, self.owner)
            if stat.S_ISDIR(facts.st_mode):
                os.fchmod(descriptor, FOLDER_MODE | (STICKY if self.sticky else 0))
            set_acl(descriptor, self.acl, self.inherited)
        finally:
            os.close(descriptor)

    def faults(self) -> Iterator[str]:
        """What is not so, in words. Raises OSError."""
        facts = os.lstat(self.path)
        if stat.S_ISLNK(facts.st_mode):
            yield f"{self.path} is a symbolic link"
            return
        if self.owner is not None and facts.st_uid != self.owner:
            yield f"{self.path} belongs to the user {facts.st_uid} instead of {self.owner}"
        if get_acl(self.path) != self.acl:
            yield f"{self.path} does not give the rights that it should"
        if stat.S_ISDIR(facts.st_mode):
            if get_inherited(self.path) != self.inherited:
                yield f"{self.path} hands other rights down than it should"
            if bool(facts.st_mode & STICKY) != self.sticky:
                yield f"{self.path} {'lets roles remove what is not theirs' if self.sticky else 'is sticky'}"


def apply(installation: Installation, users: Mapping[str, int], *, deep: bool) -> int:
    """Make what is missing, and give every place its rights; `deep`: also all that lies in the folders. How many files and folders had others.

    Without `deep` it is quick, and what each role's unit does before it starts. Raises OSError, SettingsError.
    """
    _make_missing(installation, users)
    changed = 0
    for wanted in wanted_rights(installation, users, deep=deep):
        with suppress(FileNotFoundError):  # it went meanwhile
            if next(wanted.faults(), None) is not None:
                wanted.apply()
                changed += 1
    return changed


def faults(installation: Installation, users: Mapping[str, int]) -> Iterator[str]:
    """Every place, with all that lies in it, that has other rights than it should, in words."""
    for place in PLACES:
        if (place.kind in ("folder", "database") or place.beforehand) and not (installation.folder.root / place.path).exists():
            yield f"{installation.folder.root / place.path} is missing"
    for wanted in wanted_rights(installation, users, deep=True):
        with suppress(FileNotFoundError):
            yield from wanted.faults()


def wanted_rights(installation: Installation, users: Mapping[str, int], *, deep: bool) -> Iterator[Wanted]:
    """What each file and folder that is there should have; folders before what is in them."""
    root = installation.folder.root
    named = {path: place for place in PLACES for path in _matches(root, place)}
    for path, place in named.items():
        if place.kind == "socket":
            continue  # keyd makes it, and gives it its rights
        yield _wanted(path, place, users)
        if deep and place.kind == "folder" and place.path != ".":
            yield from _within(path, place, users, named)


def _wanted(path: Path, place: Place, users: Mapping[str, int]) -> Wanted:
    if place.kind != "folder":
        return Wanted(path, _file_acl(place, users), None, owner=0)
    entries = {**_rights(place.passes, users, READ | PASS), **_rights(place.reads, users, READ | PASS)}
    entries |= _rights(place.writes | place.adds, users, READ | WRITE | PASS)
    return Wanted(path, Acl(READ | WRITE | PASS, entries), _handed_down(place, users), owner=0, sticky=bool(place.adds))


def _handed_down(place: Place, users: Mapping[str, int]) -> Acl | None:
    """The default list of a folder, which is also what a folder in it has; None when nothing is handed down."""
    entries = {**_rights(place.reads, users, READ | PASS), **_rights(place.writes, users, READ | WRITE | PASS)}
    return Acl(READ | WRITE | PASS, entries) if entries else None


def _file_acl(place: Place, users: Mapping[str, int]) -> Acl:
    return Acl(READ | WRITE, {**_rights(place.reads, users, READ), **_rights(place.writes, users, READ | WRITE)})


def _within(folder: Path, place: Place, users: Mapping[str, int], named: Mapping[Path, Place]) -> Iterator[Wanted]:
    """All that lies below, but what is named in the table itself. Links, sockets and restic's own files are left alone."""
    inherited = _handed_down(place, users)
    if inherited is None:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if path in named:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield Wanted(path, inherited, inherited)
                yield from _within(path, place, users, named)
            elif entry.is_file(follow_symlinks=False):
                yield Wanted(path, _file_acl(place, users), None)


def _rights(roles: frozenset[str], users: Mapping[str, int], rights: int) -> dict[int, int]:
    return {users[role]: rights for role in roles}


def _matches(root: Path, place: Place) -> Iterator[Path]:
    if "*" in place.path:
        yield from sorted(root.glob(place.path))
        return
    ends = ("", *LOGS) if place.kind == "database" else ("",)
    for end in ends:
        if os.path.lexists(path := root / (place.path + end)):
            yield path


def _make_missing(installation: Installation, users: Mapping[str, int]) -> None:
    """Folders, and databases with their log files: the roles may make nothing beside them."""
    root = installation.folder.root
    for place in PLACES:
        if place.kind == "folder":
            (root / place.path).mkdir(FOLDER_MODE, exist_ok=True)
        elif place.kind == "database":
            _make_database(root / place.path)
        elif place.beforehand:
            _make_empty(root / place.path)
    scratch = installation.path(installation.settings.drill.scratch)
    scratch.mkdir(0o700, parents=True, exist_ok=True)
    if scratch.stat().st_uid != users[SCRATCH]:
        os.chown(scratch, users[SCRATCH], -1)
    fsync_folder(root)


def _make_database(path: Path) -> None:
    if not path.exists():
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    for end in LOGS:
        _make_empty(path.with_name(path.name + end))


def _make_empty(path: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def share_logs(database: Path) -> None:
    """Give the log files of a database its own rights, and make those that SQLite removed when the last one left: the roles may make none.

    To be called before root opens a database and after it closed it; nothing is done for others, or where one user is all there is.
    """
    if os.geteuid() != 0:
        return
    with suppress(FileNotFoundError):
        rights = get_acl(database)
        if rights is None or not rights.users:
            return
        for end in LOGS:
            log = database.with_name(database.name + end)
            _make_empty(log)
            if get_acl(log) != rights:
                set_acl(log, rights)
