"""All checks, one after the other. One that fails, or may not look, says so and does not keep the others from being made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from backup.doctor import door, duties, machine, people, places, possessions
from backup.doctor.finding import SEVERITIES, Finding
from backup.status.line import Line
from backup.status.overview import overview
from config.errors import NightsafeError
from config.loading import Installation

Check = Callable[[Installation], Iterable[Finding]]

# Why a line of the status matters, for those that are not plain by themselves.
_WHY = {
    "roles": "what does not run does not work: no uploads, no seals, no backups",
    "backlog": "papers are safe in the spool, but in no backup until they are sealed",
    "refused": "clients wait for an answer, and quarantine grows",
    "held": "held papers are in no backup until they are sealed",
    "virus scan": "a virus that a client sends reaches the desk of whoever opens the paper",
    "newest backup": "what came since then would be lost with this machine",
    "proven backup": "a backup that nobody has restored is a hope",
    "last drill": "a failed drill means that papers could not be restored",
    "destruction": "a client whose data should be gone may still be readable",
    "recovery kit": "the day it is needed is too late to find that a page is wrong",
    "keys": "the longer a key is in use, the more one theft opens",
    "copy": "the place that should survive the loss of the first is behind it",
    "check": "a pack that went bad in the bucket is found by reading it, or on the day it is needed",
    "forget": "snapshots pile up until somebody has looked",
    "disk": "uploads are refused before catalog and audit log could fail to write",
}


def examine(installation: Installation, now: datetime | None = None) -> list[Finding]:
    """All findings, the worst first. Takes seconds: the bucket is asked, and ssh-audit talks to the gateway. Changes nothing."""
    now = now or datetime.now(UTC)
    checks: list[tuple[str, Check]] = [
        ("status", lambda installation: _from_status(overview(installation, now))),
        ("owners and modes", possessions.check_folder),
        ("master", possessions.check_master),
        ("credentials", possessions.check_private_files),
        ("swap", lambda _: machine.check_swap()),
        ("core dumps", machine.check_core_dumps),
        ("clock", lambda _: machine.check_clock()),
        ("restic", machine.check_restic),
        ("algorithms", door.check_algorithms),
        ("door", door.check_settings),
        ("people", lambda installation: people.check_people(installation, now)),
        ("access review", lambda installation: duties.check_review(installation, now)),
        ("incidents", duties.check_contacts),
        ("bucket", places.check_bucket),
        ("copies", places.check_copies),
        ("notices", places.check_notices),
    ]
    found = [finding for subject, check in checks for finding in _guarded(subject, check, installation)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _guarded(subject: str, check: Check, installation: Installation) -> Iterator[Finding]:
    try:
        yield from check(installation)
    except NightsafeError as error:
        yield Finding("warning", subject, f"could not be looked at: {error.message}", "what nobody can look at may be wrong", error.hint)
    except PermissionError as error:
        yield Finding(
            "warning", subject, f"could not be looked at: {error.filename} may not be read by this user", "what nobody can look at may be wrong",
            "run it as root: sudo nightsafe doctor",
        )  # fmt: skip


def _from_status(lines: Iterable[Line]) -> Iterator[Finding]:
    """Freshness of backups and drills, the scanner, the kit, the roles and the disk are judged by the status already."""
    for line in lines:
        if line.colour == "green":
            yield Finding("good", line.name, line.text)
        elif line.colour == "yellow" and not line.todo:
            yield Finding("note", line.name, line.text)
        elif line.name != "offsite":  # which `places` judges
            subject = line.name.split(" ")[0] if line.name.startswith(("copy ", "check ", "forget ")) else line.name
            yield Finding("bad" if line.colour == "red" else "warning", line.name, line.text, _WHY.get(subject, ""), line.todo)
