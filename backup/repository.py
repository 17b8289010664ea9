"""Opening the two repositories for writing, and making them: once, in an empty place, when the catalog never knew one.

A repository is never initialised because something failed. If the catalog remembers one and it does not open, that is an error, whatever the
bucket looks like: an empty bucket where a repository was is the worst of all.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from backup.access import RepositoryName, S3Access, access
from backup.bucket import list_names, remove_names
from backup.restic import Limits, RepositoryMissing, Restic, ResticError, WrongPassword
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from backup.restic.version import check_version
from config.errors import CheckFailed, NightsafeError, SettingsError
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog import Repository as Recorded
from gateway.keys.keyring import RESTIC_KEYS, RESTIC_KIT, RESTIC_PAPERS, Keyring
from gateway.keys.master import load_master
from gateway.keys.secrets import RoleSecrets

PASSWORDS: dict[RepositoryName, str] = {"papers": RESTIC_PAPERS, "keys": RESTIC_KEYS}
_KIT_USER = "recovery-kit"


class RepositoryLost(CheckFailed):
    """The bucket holds no repository, or another one, where ours was."""


class PlaceTaken(SettingsError):
    """The place for a new repository holds something that is not ours."""


@dataclass(frozen=True)
class Writer:
    """What opens repositories of one installation for writing. Made once a run."""

    installation: Installation
    secrets: RoleSecrets = field(repr=False)
    s3: S3Access
    runner: Runner

    @classmethod
    def create(cls, installation: Installation, secrets: RoleSecrets, cancel: threading.Event | None = None) -> Writer:
        """Raises OutOfReach and SettingsError: restic missing or too old, the embedded server not running, credentials missing."""
        settings = installation.settings.backup
        limits = Limits(settings.timeout_seconds, settings.stall_seconds)
        runner = Runner(settings.restic, installation.folder.cache / "restic-tmp", limits, cancel)
        check_version(runner)
        return cls(installation, secrets, access(installation, "writer", secrets), runner)

    def restic(self, name: RepositoryName) -> Restic:
        """Repository `name`, unopened."""
        return self._with_password(name, self.secrets[PASSWORDS[name]])

    def kit(self, name: RepositoryName) -> Restic:
        """The same with the recovery kit's password."""
        return self._with_password(name, kit_password(self.installation, self.secrets))

    def _with_password(self, name: RepositoryName, password: bytes) -> Restic:
        place = Repository(self.s3.url(name), self.installation.folder.cache / "restic")
        return Restic(self.runner, place, Secrets(password, self.s3.environment()))


def prepared(writer: Writer, name: RepositoryName, catalog: Catalog, audit: AuditLog) -> Restic:
    """Repository `name`, proven to be ours, initialised if it never was, without locks of the dead.

    Raises RepositoryLost, PlaceTaken, ResticError, and what the bucket raises.
    """
    recorded = catalog.repository(name)
    restic = writer.restic(name)
    if recorded is None:
        _make(writer, restic, name, catalog, audit)
    else:
        _recognise(restic, recorded)
    if list_names(writer.s3, writer.s3.folder(name) + "locks/", limit=1):
        restic.unlock()  # of a process that died; a live one's stays
    return restic


def _recognise(restic: Restic, recorded: Recorded) -> None:
    hint = f"it was made on {recorded.created_at:%Y-%m-%d} at {recorded.url}; check s3.endpoint, bucket and prefix. No new one is made in its place"
    try:
        found = restic.config()
    except RepositoryMissing as error:
        raise RepositoryLost(f"the bucket does not hold the repository '{recorded.name}' any more: emptied, or swapped for another", hint) from error
    if found != recorded.restic_id:
        raise RepositoryLost(f"the bucket holds another repository in the place of '{recorded.name}'", hint)


def _make(writer: Writer, restic: Restic, name: RepositoryName, catalog: Catalog, audit: AuditLog) -> None:
    place = writer.s3.folder(name)
    kit = writer.kit(name)  # before anything is made: without its password nothing is begun
    names = list_names(writer.s3, place)
    if is_broken_init(place, names):
        _clear(writer, names)
        names = []
    found = _adopt(restic, writer.s3, name) if names else _init(writer, restic, place)
    _let_the_kit_in(restic, kit, writer.installation.settings.backup.host, fresh=not names)
    catalog.add_repository(name, writer.s3.place(name), found)
    audit.append(Event.REPOSITORY_CREATED, durable=True, repository=name, url=writer.s3.place(name), restic_id=found, adopted=bool(names))


def _init(writer: Writer, restic: Restic, place: str) -> str:
    try:
        return restic.init()
    except BaseException:
        with contextlib.suppress(NightsafeError):  # what it was about is on its way up; the next attempt looks again
            names = list_names(writer.s3, place)
            if is_broken_init(place, names):
                _clear(writer, names)
        raise


def _adopt(restic: Restic, s3: S3Access, name: RepositoryName) -> str:
    """A repository that our password opens was made by us, in a run that died before the catalog knew."""
    try:
        return restic.config()
    except (WrongPassword, RepositoryMissing) as error:
        raise PlaceTaken(
            f"the folder {s3.folder(name)} of the bucket '{s3.bucket}' is not empty, and what is there is not ours",
            "nothing was changed; set another s3.prefix, or empty that folder yourself",
        ) from error


def is_broken_init(place: str, names: Iterable[str]) -> bool:
    """Whether the objects below `place` are the leftover of an init that died: key files, and nothing else (the config comes last)."""
    rest = [name.removeprefix(place) for name in names]
    return bool(rest) and all(re.fullmatch(r"keys/[0-9a-f]{64}", name) for name in rest)


def _clear(writer: Writer, names: list[str]) -> None:
    remove_names(access(writer.installation, "pruner", writer.secrets), names)


def _let_the_kit_in(restic: Restic, kit: Restic, host: str, fresh: bool) -> None:
    """The recovery kit's own key, so that no kit holds the password of daily use."""
    if not fresh:
        with contextlib.suppress(WrongPassword):
            kit.config()
            return
    restic.add_key(kit.secrets.password, host=host, user=_KIT_USER)


def kit_password(installation: Installation, secrets: RoleSecrets) -> bytes:
    """The kit's restic password: from the role's secrets, else opened with the master. Raises SettingsError."""
    if RESTIC_KIT in secrets:
        return secrets[RESTIC_KIT]
    return Keyring(installation.folder).open_secret(RESTIC_KIT, load_master(installation))


def full_snapshot_id(s3: S3Access, name: RepositoryName, short: str) -> str:
    """The whole id of a snapshot that was just made, read from the bucket: which proves that it is there. Raises ResticError."""
    folder = s3.folder(name) + "snapshots/"
    found = list_names(s3, folder + short, limit=2)
    if len(found) != 1:
        raise ResticError(f"restic reported the snapshot {short}, but the bucket does not show it", "run the backup again; nothing was lost here")
    return found[0].removeprefix(folder)
