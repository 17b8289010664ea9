"""A clock that was set is told from damage by what needs no clock: the run under way in the dump, and the order of the audit log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.drill.clock import set_later_aside, when_dumped, when_written
from backup.drill.findings import Findings
from backup.drill.judge import Record
from backup.drill.ledger import Ledger, Moments
from backup.drill.lineage import under_way
from backup.repositories.places import of_this_repository
from backup.repositories.trust import doubt, refusal
from backup.restic import Snapshot
from config.folder import DataFolder
from gateway.audit.checkpoint import sign_checkpoint
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog, Run

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD, LOST, LATE, NEW, FREED = (f"{number:032x}" for number in range(1, 6))
RECORD = Record("acme", "/inbox/a", 1, 1, "a" * 64, 1, "b" * 64, "c" * 64, 1, NOON, NOON, False)
SNAPSHOT = Snapshot("d" * 64, NOON, "nightsafe", ("nightsafe", "run:7"), ("/vault",))


class House:
    """A log that a backup at noon signed a checkpoint of, and what both catalogs say."""

    def __init__(self, folder: DataFolder) -> None:
        signer = SigningKey.generate("checkpoints")
        secrets = folder.keys / "secrets"
        secrets.mkdir(parents=True)
        (secrets / "checkpoint-signing.pub").write_text(signer.public)
        self.folder, self.findings, self.ledger = folder, Findings(), Ledger(folder.root / "ledger")
        self.log = AuditLog(folder.audit, "ingest")
        for paper in (OLD, LOST):
            self.accept(paper)
        self.head = sign_checkpoint(folder.audit, signer)
        sign_checkpoint(folder.audit, signer)  # of another backup since: what counts is that of the one that is drilled

    def accept(self, paper: str, event: Event = Event.PAPER_SEALED) -> None:
        self.log.append(event, paper=paper, client="acme")

    def compare(self, live: dict[str, datetime], head: str | None = None) -> list[str]:
        """The papers of which something is expected, after those that came later were set aside."""
        run = Run(7, "backup", "passed", NOON, NOON, None, None, {"audit_head": self.head if head is None else head})
        self.ledger.add_records("live", ((paper, replace(RECORD, sealed_at=at)) for paper, at in live.items()))
        self.ledger.add_records("dump", [(OLD, replace(RECORD, sealed_at=NOON - HOUR))])
        set_later_aside(self.findings, self.ledger, Moments(NOON, NOON), run, self.folder)
        return [entry.paper for entry in self.ledger.entries()]

    def close(self) -> None:
        self.ledger.close()
        self.log.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(DataFolder(tmp_path))
    yield made
    made.close()


def test_what_came_after_the_backup_is_set_aside_and_what_it_lost_is_not(house: House) -> None:
    for paper in (LATE, NEW):
        house.accept(paper)
    house.accept(FREED, Event.QUARANTINE_RELEASED)
    times = {OLD: NOON - HOUR, LOST: NOON - HOUR, LATE: NOON - HOUR, NEW: NOON + HOUR, FREED: NOON - 2 * HOUR}
    assert house.compare(times) == [OLD, LOST, NEW], "the lost one was accepted before, the new one is new by its time already"
    (said,) = house.findings.obstacles
    assert said.startswith("2 papers came after the newest backup and have times from before it, so the clock was set back in between: ")
    assert house.ledger.excused([LATE, LOST, FREED]) == {LATE, FREED}, "their files may have come in time nevertheless"
    assert house.findings.causes == []


@pytest.mark.parametrize("head", ["", "e" * 64])
def test_a_backup_whose_checkpoint_is_unknown_excuses_nothing(house: House, head: str) -> None:
    house.accept(LATE)
    assert house.compare({LATE: NOON - HOUR}, head) == [OLD, LATE]
    assert house.findings.obstacles == []


@pytest.mark.parametrize("what", ["checkpoints", "segment"])
def test_a_log_that_was_edited_excuses_nothing(house: House, what: str) -> None:
    """Such as by somebody who wants a lost paper to look as if it had come later."""
    house.accept(LOST)
    path = house.folder.audit / f"{'checkpoints' if what == 'checkpoints' else house.log.segment}.jsonl"
    path.write_bytes(
        path.read_bytes().replace(b'"seq":', b'"seq" :', 1) if what == "checkpoints" else path.read_bytes().replace(OLD.encode(), LATE.encode())
    )
    assert house.compare({LOST: NOON - HOUR}) == [OLD, LOST]
    assert house.findings.obstacles == []


def dump(folder: Path, at: datetime) -> Path:
    path = folder / "catalog.sqlite3"
    path.touch()
    os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def run(at: datetime) -> Run:
    return Run(7, "backup", "passed", NOON, NOON, None, None, {"catalog_at": at.isoformat()})


@pytest.mark.parametrize(
    ("written", "recorded", "of_run", "now", "expected"),
    [
        (NOON, NOON, True, NOON + HOUR, (NOON, 0, 0)),
        (NOON - HOUR, NOON, False, NOON + HOUR, (NOON, 1, 0)),  # another dump than recorded
        (NOON - HOUR, NOON, True, NOON + HOUR, (NOON, 0, 1)),  # the right one, and the clock was set while it was made
        (NOON + HOUR, NOON, True, NOON + 2 * HOUR, (NOON, 0, 0)),  # it took long
        (NOON + HOUR, NOON, False, NOON + 2 * HOUR, (NOON, 1, 0)),
        (NOON, NOON, True, NOON - HOUR, (NOON, 0, 1)),  # from the future
        (NOON, NOON, False, NOON - HOUR, (NOON, 0, 1)),
    ],
)
def test_when_a_dump_was_made(
    tmp_path: Path, written: datetime, recorded: datetime, of_run: bool, now: datetime, expected: tuple[datetime, int, int]
) -> None:
    findings = Findings()
    made = when_dumped(findings, when_written(dump(tmp_path, written)), SNAPSHOT, run(recorded), now, of_run=of_run)
    assert (made, len(findings.causes), len(findings.obstacles)) == expected


def test_the_newest_by_its_time_is_not_the_last_that_was_made(tmp_path: Path) -> None:
    """A backup with the clock ahead, then one with the clock put right: a restore must not take the older one for the newest."""
    ahead, right = replace(SNAPSHOT, id="a" * 64, time=NOON + HOUR), replace(SNAPSHOT, id="b" * 64)
    with Catalog.create(tmp_path / "catalog.sqlite3") as catalog:
        catalog.add_repository("papers", "s3:x", "c" * 64)
        for one in (ahead, right):
            catalog.finish_run(catalog.start_run("backup"), "passed", snapshot=one.id)
        there = [right, ahead]
        assert "snapshot aaaaaaaa has the newest time, 2026-05-04 13:00:00 UTC, and backup 2" in doubt(catalog, there, ahead, "", newest=True)
        assert doubt(catalog, there, right, "", newest=True) == ""
        assert doubt(catalog, there, ahead, "", newest=False) == "", "its time was asked for"
        assert refusal("why", catalog, there, "").hint.endswith("--at 2026-05-04T12:00:01Z")


def test_runs_of_a_repository_that_was_made_while_the_clock_was_ahead_are_its_own(tmp_path: Path) -> None:
    with Catalog.create(tmp_path / "catalog.sqlite3") as catalog:
        catalog.add_repository("papers", "s3:x", "c" * 64)
        run = catalog.finish_run(catalog.start_run("backup"), "passed", snapshot=SNAPSHOT.id)
        before = replace(run, ended_at=NOON - 100 * 365 * 24 * HOUR)
        assert of_this_repository(catalog, [before]) == [before]
        catalog.give_up_repository("papers")
        catalog.add_repository("papers", "s3:y", "d" * 64)
        assert of_this_repository(catalog, [run]) == [], "that repository is lost"


def test_a_dump_shows_which_run_it_was_made_by(tmp_path: Path) -> None:
    with Catalog.create(tmp_path / "catalog.sqlite3") as catalog:
        backup, drill = catalog.start_run("backup"), catalog.start_run("drill")
        assert under_way(backup, catalog) is not None
        assert under_way(drill, catalog) is None
        assert under_way(99, catalog) is None, "made before that run began"
        catalog.finish_run(backup, "passed")
        assert under_way(backup, catalog) is None, "made after it had ended"
