"""Incidents on the disk: `evidence/incidents/N/` with `opened.json`, later `closed.json`, and each bundle that was collected (`bundle-K/`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.errors import CheckFailed, OutOfReach, UsageError
from config.files import fsync_folder, make_folder, write_whole
from config.folder import DataFolder
from gateway.audit.bundle import encode

FORM = 1
MOST = 100_000  # incidents


@dataclass(frozen=True)
class Incident:
    """`opened` and `closed` are as in their files; `closed` is None while it is open."""

    number: int
    home: Path
    opened: Mapping[str, Any]
    closed: Mapping[str, Any] | None

    @property
    def subject(self) -> str:
        """Whom it is about, for people."""
        return f"person {self.opened['person']}" if self.opened.get("person") else f"client {self.opened['client']}"

    @property
    def bundles(self) -> list[Path]:
        """What was collected, oldest first."""
        return sorted(self.home.glob("bundle-*"), key=lambda path: int(path.name.removeprefix("bundle-")))


def open_incident(folder: DataFolder, values: Mapping[str, Any]) -> Incident:
    """A new incident under the next number. Raises OutOfReach."""
    root = _root(folder)
    try:
        make_folder(root)
        for number in range(max(_numbers(root), default=0) + 1, MOST):
            home = root / str(number)
            try:
                home.mkdir(0o700)
            except FileExistsError:
                continue
            fsync_folder(root)
            opened = {"nightsafe_incident": FORM, "incident": number, **values}
            write_whole(home / "opened.json", encode(opened))
            return Incident(number, home, opened, None)
    except OSError as error:
        raise OutOfReach(f"the incident could not be written: {error.strerror}", "make space on the disk of the data folder, then again") from error
    raise OutOfReach("there are too many incidents", f"move older ones out of {root}")


def close_incident(incident: Incident, values: Mapping[str, Any]) -> Incident:
    """Note that an incident is over. Raises UsageError when it was before."""
    if incident.closed is not None:
        raise UsageError(f"incident {incident.number} was closed at {incident.closed.get('at')}", "open a new one")
    write_whole(incident.home / "closed.json", encode(values))
    return Incident(incident.number, incident.home, incident.opened, values)


def incident(folder: DataFolder, number: int) -> Incident:
    """The incident of this number. Raises UsageError when there is none, CheckFailed when it cannot be read."""
    home = _root(folder) / str(number)
    if not (home / "opened.json").exists():
        raise UsageError(f"there is no incident {number}", "see them with: nightsafe incident list")
    closed = home / "closed.json"
    return Incident(number, home, _read(home / "opened.json"), _read(closed) if closed.exists() else None)


def incidents(folder: DataFolder) -> list[Incident]:
    """All, newest first."""
    root = _root(folder)
    return [incident(folder, number) for number in sorted(_numbers(root), reverse=True) if (root / str(number) / "opened.json").exists()]


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckFailed(f"{path} cannot be read", "restore it from a backup") from error
    if not isinstance(values, dict):
        raise CheckFailed(f"{path} is no incident", "restore it from a backup")
    return values


def _root(folder: DataFolder) -> Path:
    return folder.evidence / "incidents"


def _numbers(root: Path) -> list[int]:
    return [int(path.name) for path in root.glob("*") if path.name.isdecimal()]
