"""Mending a repository after a check or a drill found damage: out with the bad packs, then save again what is still here.

    check all data → remove the packs that are not what their name says → rebuild the index, without them and those that are gone
    → back up → check all data once more

restic never mends by itself: a pack that is there counts as good, so nothing in it is ever uploaded again. What only the removed packs held, and
what is not on this machine any more, is lost in this place; another copy may have it. So nothing is removed before a person says so.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backup.processes import own_folder
from backup.repositories.access import RepositoryName
from backup.repositories.locks import still_repositories
from backup.repositories.places import Place, place, recorded_name
from backup.repositories.repository import PASSWORDS
from backup.restic import Damaged, Limits, Restic
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from config.console import Progress
from config.loading import Installation
from gateway.audit.events import Event
from gateway.keys.secrets import RoleSecrets, role_secrets

PACK = re.compile(r"\bpack (?:ID does not match, want |file )?([0-9a-f]{8,64})\b", re.IGNORECASE)
PASSES = 20  # one pass names as many packs as the kept end of restic's output does
NAMES: tuple[RepositoryName, ...] = ("papers", "keys")


@dataclass
class Repair:
    """What was found, by repository: packs that are not what they should be, packs that are not there, and what restic says. `removed`: they went."""

    packs: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)  # as far as restic tells their names
    faults: dict[str, str] = field(default_factory=dict)
    removed: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not self.faults

    def values(self) -> Mapping[str, object]:
        """As JSON values."""
        return {"clean": self.is_clean, "packs": self.packs, "missing": self.missing, "faults": self.faults, "removed": self.removed}


def repair(
    installation: Installation,
    progress: Progress,
    *,
    remove: bool,
    person: str,
    secrets: RoleSecrets | None = None,
    cancel: threading.Event | None = None,
    copy: str = "",
) -> Repair:
    """Look at every byte of both repositories; with `remove`, take out the bad packs and rebuild the index. A backup has to follow.

    Uses the pruner's credential. Raises Busy, UsageError without a backup, and the error of whatever failed.
    """
    found = Repair(removed=remove)
    with still_repositories(installation, copy, "ops", "wait for it to end; nothing was changed") as (_, audit):
        secrets = secrets if secrets is not None else role_secrets(installation, "scheduler")
        there = place(installation, "pruner", secrets, copy)
        there.check()
        settings = installation.settings.backup
        limits = Limits(settings.timeout_seconds, settings.stall_seconds)
        runner = Runner(settings.restic, own_folder(installation.folder.cache, "restic-tmp"), limits, cancel)
        for number, name in enumerate(NAMES):
            progress.update(number, len(NAMES), f"reading all of {name}")
            restic = Restic(runner, Repository(there.url(name)), Secrets(secrets[PASSWORDS[name]], there.environment(name)))
            _mend(restic, there, name, found)
            if remove and name in found.faults:
                facts = {"repository": recorded_name(name, copy), "packs": len(found.packs.get(name, ()))}
                audit.append(Event.REPOSITORY_REPAIRED, durable=True, person=person, **facts)
        progress.update(len(NAMES), len(NAMES))
    return found


def _mend(restic: Restic, there: Place, name: RepositoryName, found: Repair) -> None:
    idle = 0
    for _ in range(PASSES):
        fault = _fault(restic)
        if fault is None:
            return
        found.faults.setdefault(name, fault.message)
        known = found.packs.setdefault(name, [])
        blamed, absent = _packs(fault.detail, there, name)
        new = [pack for pack in blamed if pack not in known]
        known += new
        found.missing.setdefault(name, []).extend(pack for pack in absent if not _is_known(pack, known + found.missing[name]))
        if not found.removed:
            return
        there.remove(name, [f"data/{pack[:2]}/{pack}" for pack in new])
        restic.rebuild_index()
        idle = 0 if new else idle + 1
        if idle > 1:
            return  # what is left is no pack: the backup, and the check after it, tell whether it mattered


def _fault(restic: Restic) -> Damaged | None:
    try:
        restic.check(read_data=True)
    except Damaged as error:
        return error
    return None


def _packs(detail: str, there: Place, name: RepositoryName) -> tuple[list[str], list[str]]:
    """The packs that restic's output blames: the full names of those that are there (older restics shorten them), and those that are not."""
    full: list[str] = []
    absent: list[str] = []
    for start in dict.fromkeys(PACK.findall(detail)):
        named = [pack.rpartition("/")[2] for pack in there.names(name, f"data/{start[:2]}/{start}", limit=2)]
        full += named
        absent += [] if named else [start]
    return list(dict.fromkeys(full)), absent


def _is_known(start: str, packs: Sequence[str]) -> bool:
    return any(pack.startswith(start) or start.startswith(pack) for pack in packs)
