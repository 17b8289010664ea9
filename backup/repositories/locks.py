"""Which work at the places of backups may go on beside which: kernel locks, which die with their process.

Each kind of work has a lock for all places, and one for each place. Work at one place shares the former and has the latter to itself, so a slow
place keeps nothing from the others; what needs all of them still (`quiet`) takes the former alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from backup.repositories.places import recorded_name, save_words
from config.errors import UsageError
from config.folder import DataFolder
from config.loading import Installation
from config.roles import exclusive, together
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog

BACKUP, CHECK, DRILL = "backup", "check", "drill"
KINDS = (BACKUP, DRILL, CHECK)  # in this order wherever several are taken


@contextmanager
def at_place(folder: DataFolder, kind: str, copy: str, message: str, hint: str) -> Iterator[None]:
    """The only work of its kind at this place. Raises Busy."""
    with together(folder, kind, message, hint), exclusive(folder, f"{kind}-{recorded_name('papers', copy)}", message, hint):
        yield


@contextmanager
def still_place(folder: DataFolder, copy: str, hint: str) -> Iterator[None]:
    """No work of any kind at this place: the last looks at packs without a lock, and would take those that go for lost. Raises Busy."""
    with ExitStack() as stack:
        for kind in KINDS:
            stack.enter_context(at_place(folder, kind, copy, f"a {kind} runs", hint))
        yield


@contextmanager
def quiet(folder: DataFolder, hint: str) -> Iterator[None]:
    """No work of any kind at any place. Raises Busy."""
    with ExitStack() as stack:
        for kind in KINDS:
            stack.enter_context(exclusive(folder, kind, f"a {kind} runs", hint))
        yield


@contextmanager
def still_repositories(installation: Installation, copy: str, role: str, hint: str) -> Iterator[tuple[Catalog, AuditLog]]:
    """Catalog and audit log for what changes the repositories of a place, while nobody else is at them. Raises Busy, UsageError without a backup."""
    folder = installation.folder
    with still_place(folder, copy, hint), Catalog.open(folder.catalog) as catalog, AuditLog(folder.audit, role) as audit:
        check_made(catalog, copy)
        yield catalog, audit


def check_made(catalog: Catalog, copy: str) -> None:
    """Raises UsageError when there never was a backup to this place."""
    if catalog.repository(recorded_name("papers", copy)) is None:
        raise UsageError("there is no backup yet", f"make one with: {save_words(copy)}")
