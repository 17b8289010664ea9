"""The end of papers whose time has passed: out of the vault, with a record. Each step can be done again after a crash.

1. In the catalog the paper becomes `expired`, unless a legal hold covers it at that moment.
2. The audit log says so, durably.
3. Names that stand for it go from the jail, and the sealed file goes from the vault.
4. The catalog remembers that it is done.

No backup runs meanwhile: one that has dumped the catalog before would carry a catalog that names files which it no longer finds. Snapshots keep
the file until they are forgotten.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from config.folder import DataFolder
from config.roles import exclusive
from config.settings import RetentionSettings
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Paper
from gateway.jail.refused import Refused
from gateway.jail.tree import Tree
from gateway.retention.due import Due, due_papers
from gateway.store import Vault

BATCH = 100


@dataclass
class Expired:
    """What an expiry did. `kept` papers are due and stay."""

    papers: list[str] = field(default_factory=list)
    sealed_bytes: int = 0
    kept: int = 0


def due_now(catalog: Catalog, settings: RetentionSettings, now: datetime, client: str | None = None) -> Iterator[Due]:
    """What is due at `now`, oldest first; what is kept nevertheless is among it."""
    papers = catalog.papers(client=client, state="accepted")
    return due_papers(papers, settings, catalog.holds(client), catalog.versions, now)


def expire(
    folder: DataFolder,
    catalog: Catalog,
    audit: AuditLog,
    settings: RetentionSettings,
    *,
    person: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    stopping: Callable[[], bool] = lambda: False,
) -> Expired:
    """End every paper that is due and that nothing keeps. Raises Busy while a backup runs, and whatever a store raises; what is done stays done."""
    done = Expired()
    with exclusive(folder, "backup", "a backup runs", "papers expire when it has ended; try again then"):
        _finish(folder, catalog, audit, catalog.expiring(), person, done)
        moment = now()
        due = due_now(catalog, settings, moment)
        while not stopping() and (batch := list(islice(due, BATCH))):
            leaving = [one for one in batch if one.expires]
            marked = catalog.expire([(one.paper.id, f"It was kept for {one.why}, and expired on {moment:%Y-%m-%d}.") for one in leaving])
            done.kept += len(batch) - len(marked)
            _finish(folder, catalog, audit, marked, person, done)
    return done


def _finish(folder: DataFolder, catalog: Catalog, audit: AuditLog, papers: Sequence[Paper], person: str, done: Expired) -> None:
    if not papers:
        return
    for paper in papers:
        audit.append(
            Event.PAPER_EXPIRED,
            person=person,
            client=paper.client,
            paper=paper.id,
            path=paper.path,
            version=paper.version,
            sha256=paper.sha256,
            class_name=paper.class_name,
            received_at=paper.received_at,
            reason=paper.reason,
        )
    audit.sync()
    by_client: dict[str, set[str]] = defaultdict(set)
    for paper in papers:
        by_client[paper.client].add(paper.id)
    for client, gone in by_client.items():
        _remove_names(folder, client, gone)
    vault = Vault(folder.vault)
    for paper in papers:
        vault.remove(paper.client, paper.id)
        done.papers.append(paper.id)
        done.sealed_bytes += paper.sealed_size
    catalog.mark_expired([paper.id for paper in papers])


def _remove_names(folder: DataFolder, client: str, gone: set[str]) -> None:
    """The names that stand for them. A jail that is not there has none."""
    try:
        with Tree(folder.jail(client)) as tree:
            for path, pointer, _ in list(tree.pointers()):
                if pointer.paper in gone:
                    tree.remove(path)
    except Refused:
        if folder.jail(client).exists():
            raise
