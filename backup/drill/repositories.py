"""Opens the repositories as a stranger would see them: reading credential, an empty cache of one's own, temporary files in the scratch folder."""

from __future__ import annotations

import threading
from pathlib import Path

from backup.repositories.access import RepositoryName
from backup.repositories.places import place
from backup.restic import Limits, Restic
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from backup.restic.version import check_version
from config.loading import Installation
from gateway.keys.keyring import RESTIC_KEYS, RESTIC_PAPERS
from gateway.keys.secrets import RoleSecrets

PASSWORDS: dict[RepositoryName, str] = {"papers": RESTIC_PAPERS, "keys": RESTIC_KEYS}


def open_for_reading(
    installation: Installation,
    name: RepositoryName,
    secrets: RoleSecrets,
    scratch: Path,
    cancel: threading.Event | None = None,
    copy: str = "",
) -> Restic:
    """Repository `name`, in the first place or a copy, with nothing but what a restore on another machine would have.

    Raises OutOfReach, SettingsError.
    """
    reader = place(installation, "reader", secrets, copy)
    runner = drill_runner(installation, scratch, cancel)
    return Restic(runner, Repository(reader.url(name), scratch / "cache"), Secrets(secrets[PASSWORDS[name]], reader.environment(name)))


def drill_runner(installation: Installation, scratch: Path, cancel: threading.Event | None = None) -> Runner:
    """Starts restic, with its temporary files in the scratch folder."""
    settings = installation.settings.backup
    return Runner(settings.restic, scratch / "temporary", Limits(settings.timeout_seconds, settings.stall_seconds), cancel)


def probe(installation: Installation, secrets: RoleSecrets, copy: str = "") -> None:
    """Whether the place answers its reader, told in seconds: restic would try for many minutes. Raises what `Place.check` raises."""
    place(installation, "reader", secrets, copy).check()


def restic_version(installation: Installation, scratch: Path) -> str:
    """The version of restic that drills use. Raises OutOfReach, SettingsError."""
    return ".".join(str(number) for number in check_version(Runner(installation.settings.backup.restic, scratch / "temporary")))
