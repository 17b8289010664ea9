"""Opening the two repositories for writing, and making them: once, in an empty place, when the catalog never knew one.

A repository is never initialised because something failed. If the catalog remembers one and it does not open, that is an error, whatever the
bucket looks like: an empty bucket where a repository was is the worst of all.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from backup.processes import own_folder
from backup.repositories.access import RepositoryName
from backup.repositories.places import Place, place, recorded_name
from backup.restic import Limits, RepositoryMissing, Restic, ResticError, WrongPassword
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from backup.restic.version import check_version
from config.errors import CheckFailed, NightsafeError, SettingsError
from config.files import write_whole
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
    place: Place
    runner: Runner
    copy: str = ""

    @classmethod
    def create(cls, installation: Installation, secrets: RoleSecrets, cancel: threading.Event | None = None, copy: str = "") -> Writer:
        """For the first place, or a copy.

        Raises OutOfReach and SettingsError: restic missing or too old, the embedded server not running, credentials missing.
        """
        settings = installation.settings.backup
        limits = Limits(settings.timeout_seconds, settings.stall_seconds)
        runner = Runner(settings.restic, own_folder(installation.folder.cache, "restic-tmp"), limits, cancel)
        check_version(runner)
        return cls(installation, secrets, place(installation, "writer", secrets, copy), runner, copy)

    def restic(self, name: RepositoryName) -> Restic:
        """Repository `name`, unopened."""
        return self._with_password(name, self.secrets[PASSWORDS[name]])

    def kit(self, name: RepositoryName) -> Restic:
        """The same with the recovery kit's password."""
        return self._with_password(name, kit_password(self.installation, self.secrets))

    def _with_password(self, name: RepositoryName, password: bytes) -> Restic:
        where = Repository(self.place.url(name), own_folder(self.installation.folder.cache, "restic"))
        return Restic(self.runner, where, Secrets(password, self.place.environment(name)))


def prepared(writer: Writer, name: RepositoryName, catalog: Catalog, audit: AuditLog) -> Restic:
    """Repository `name`, proven to be ours, initialised if it never was, without locks of the dead.

    Raises RepositoryLost, PlaceTaken, ResticError, and what the bucket raises.
    """
    recorded = catalog.repository(recorded_name(name, writer.copy))
    restic = writer.restic(name)
    if recorded is None:
        _remember(writer, name, _make(writer, restic, name, catalog, audit))
    elif not _is_as_before(writer, name, recorded):
        _recognise(restic, recorded)
        _remember(writer, name, recorded)
    if writer.place.names(name, "locks/", limit=1):
        restic.unlock()  # of a process that died; a live one's stays
    return restic


def _is_as_before(writer: Writer, name: RepositoryName, recorded: Recorded) -> bool:
    """Whether the repository's config is, byte for byte, the one that restic last said to be ours. Asking restic takes half a second of key
    derivation, and what follows asks for the password anyway."""
    with contextlib.suppress(OSError):
        config = writer.place.config(name)
        return config is not None and _seen(writer, recorded).read_text("ascii") == f"{recorded.restic_id} {sha256(config).hexdigest()}\n"
    return False


def _remember(writer: Writer, name: RepositoryName, recorded: Recorded) -> None:
    config = writer.place.config(name)
    if config is not None:
        with contextlib.suppress(OSError):  # then restic is asked again
            write_whole(_seen(writer, recorded), f"{recorded.restic_id} {sha256(config).hexdigest()}\n".encode("ascii"))


def _seen(writer: Writer, recorded: Recorded) -> Path:
    return writer.installation.folder.cache / f"recognised-{recorded.name}"


def _recognise(restic: Restic, recorded: Recorded) -> None:
    hint = f"it was made on {recorded.created_at:%Y-%m-%d} at {recorded.url}; check s3.endpoint, bucket and prefix. No new one is made in its place"
    try:
        found = restic.config()
    except RepositoryMissing as error:
        lost = f"the bucket does not hold the repository '{recorded.name}' any more: emptied, or swapped for another"
        raise RepositoryLost(lost, hint) from error
    if found != recorded.restic_id:
        raise RepositoryLost(f"the bucket holds another repository in the place of '{recorded.name}'", hint)


def _make(writer: Writer, restic: Restic, name: RepositoryName, catalog: Catalog, audit: AuditLog) -> Recorded:
    kit = writer.kit(name)  # before anything is made: without its password nothing is begun
    names = writer.place.names(name)
    if is_broken_init(names):
        _clear(writer, name, names)
        names = []
    found = _adopt(restic, writer.place.shown(name)) if names else _init(writer, restic, name)
    _let_the_kit_in(restic, kit, writer.installation.settings.backup.host, fresh=not names)
    known, shown = recorded_name(name, writer.copy), writer.place.shown(name)
    recorded = catalog.add_repository(known, shown, found)
    audit.append(Event.REPOSITORY_CREATED, durable=True, repository=known, url=shown, restic_id=found, adopted=bool(names))
    return recorded


def _init(writer: Writer, restic: Restic, name: RepositoryName) -> str:
    try:
        return restic.init()
    except BaseException:
        with contextlib.suppress(NightsafeError):  # what it was about is on its way up; the next attempt looks again
            names = writer.place.names(name)
            if is_broken_init(names):
                _clear(writer, name, names)
        raise


def _adopt(restic: Restic, shown: str) -> str:
    """A repository that our password opens was made by us, in a run that died before the catalog knew."""
    try:
        return restic.config()
    except (WrongPassword, RepositoryMissing) as error:
        raise PlaceTaken(
            f"the folder {shown} is not empty, and what is there is not ours",
            "nothing was changed; name another place (s3.prefix, or the url of the copy), or empty that folder yourself",
        ) from error


def is_broken_init(names: Collection[str]) -> bool:
    """Whether the objects of a repository are the leftover of an init that died: key files, and nothing else (the config comes last)."""
    return bool(names) and all(re.fullmatch(r"keys/[0-9a-f]{64}", name) for name in names)


def _clear(writer: Writer, name: RepositoryName, names: list[str]) -> None:
    place(writer.installation, "pruner", writer.secrets, writer.copy).remove(name, names)


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


def full_snapshot_id(where: Place, name: RepositoryName, short: str) -> str:
    """The whole id of a snapshot that was just made, as the place shows it: which proves that it is there. Raises ResticError."""
    found = where.names(name, f"snapshots/{short}", limit=2)
    if len(found) != 1:
        raise ResticError(
            f"restic reported the snapshot {short}, but {where.shown(name)} does not show it", "run the backup again; nothing was lost here"
        )
    return found[0].removeprefix("snapshots/")
