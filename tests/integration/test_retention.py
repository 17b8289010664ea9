"""Papers expire by class: what is due, what keeps it, and its end, by the real command line on papers that ingest sealed."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backup.drill.ledger import Ledger
from backup.drill.verify import Tally, find_surplus, vault_path
from config.cli import run
from config.errors import Busy
from config.roles import exclusive
from config.settings import RetentionSettings
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Paper
from gateway.retention.expiry import expire
from gateway.store import Vault, new_paper_id
from nightsafe import cli
from tests.integration.ingest_world import World

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=400)
SETTINGS = "[retention]\ndays = { tax = 365, other = 1000 }\nkeep_versions = { tax = 1 }\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.folder.settings.write_text(SETTINGS)
    return made


def papers(world: World, *names: str, class_name: str = "tax", age: datetime = OLD) -> list[Paper]:
    """Sealed papers, as if they had come at `age`."""
    ids = [world.land(name, name.encode()) for name in names]
    world.ingest()
    with world.catalog._database.writing() as connection:
        for number, paper in enumerate(ids):
            early = f"{int(age.timestamp() * 1000) + number:012x}{new_paper_id()[12:]}"
            target = world.vault.path("acme", early)
            target.parent.mkdir(parents=True, exist_ok=True)
            world.vault.path("acme", paper).rename(target)
            values = {"id": early, "old": paper, "class": class_name, "at": int(age.timestamp() * 1e6)}
            connection.execute(text("UPDATE papers SET id = :id, class_name = :class, received_at = :at WHERE id = :old"), values)
            pointer = world.folder.jail("acme") / "inbox" / names[number]
            if pointer.exists():
                pointer.write_bytes(pointer.read_bytes().replace(paper.encode(), early.encode()))
            ids[number] = early
    return [row for paper in ids if (row := world.catalog.paper(paper))]


@pytest.fixture
def ask(world: World, capfd: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, ["retention", *words, "--data", str(world.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def test_what_is_due_expires_with_a_record_and_the_newest_version_stays(ask: Any, world: World) -> None:
    first, second = papers(world, "a.pdf", "a.pdf")
    (young,) = papers(world, "young.pdf", age=NOW - timedelta(days=10))
    (other,) = papers(world, "other.pdf", class_name="")
    found = ask("report")[1]["due"]
    assert [(one["paper"], one["fate"]) for one in found] == [(first.id, "expires"), (second.id, "stays")]
    later = (NOW + timedelta(days=700)).isoformat()
    assert {one["paper"] for one in ask("report", "--at", later)[1]["due"]} == {first.id, second.id, young.id, other.id}
    code, done = ask("run")
    assert (code, done["expired"], done["kept"]) == (0, [first.id], 1)
    assert [world.vault.exists("acme", paper.id) for paper in (first, second, young, other)] == [False, True, True, True]
    row = world.catalog.paper(first.id)
    assert row is not None and (row.state, row.code) == ("expired", "expired") and "365 days for class tax" in row.reason
    assert [(line["paper"], line["sha256"]) for line in world.events(Event.PAPER_EXPIRED)] == [(first.id, first.sha256)]
    assert ask("run")[1]["expired"] == [] and ask("report")[1]["expired_before"] == 1


def test_the_name_goes_with_its_paper(ask: Any, world: World) -> None:
    world.folder.settings.write_text("[retention]\ndays = { tax = 365 }\n")
    gone = papers(world, "a.pdf", "b.pdf")
    world.land("b.pdf", b"newer")
    assert len(ask("run")[1]["expired"]) == len(gone)
    assert [path.name for path in (world.folder.jail("acme") / "inbox").iterdir()] == ["b.pdf"]
    assert run(cli, ["files", "get", "acme", "/inbox/a.pdf", "--data", str(world.folder.root)]) == 2


def test_what_a_legal_hold_covers_stays_until_it_is_released(ask: Any, world: World) -> None:
    (paper, _) = papers(world, "a.pdf", "a.pdf")
    hold = world.catalog.set_hold("acme", reason="trial", ordered_by="court", path="/inbox")
    assert [(one["fate"], one["holds"]) for one in ask("report")[1]["due"]] == [("held", [hold.id])] * 2
    assert ask("run")[1] == {"expired": [], "sealed_bytes": 0, "kept": 2}
    assert world.catalog.expire([(paper.id, "x")]) == [], "a hold that was set a moment ago counts as well"
    world.catalog.release_hold(hold.id, reason="over", released_by="court")
    assert ask("run")[1]["expired"] == [paper.id]


def test_nothing_expires_while_a_backup_runs(ask: Any, world: World) -> None:
    papers(world, "a.pdf", "a.pdf")
    with exclusive(world.folder, "backup", "a backup runs"):
        assert ask("run")[0] == Busy.exit_code
    assert len(ask("run")[1]["expired"]) == 1


@pytest.mark.parametrize("step", ["append", "remove", "mark_expired"])
def test_an_expiry_that_was_broken_off_is_finished_by_the_next(ask: Any, world: World, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (paper, _) = papers(world, "a.pdf", "a.pdf")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, AuditLog(world.folder.audit, "ops") as log, pytest.raises(KeyboardInterrupt):
        patched.setattr({"append": AuditLog, "remove": Vault, "mark_expired": Catalog}[step], step, die)
        expire(world.folder, world.catalog, log, RetentionSettings(days={"tax": 365}, keep_versions={"tax": 1}), person="test")
    assert ask("run")[1]["expired"] == [paper.id]
    assert not world.vault.exists("acme", paper.id) and world.catalog.expiring() == []
    assert world.events(Event.PAPER_EXPIRED)


def test_a_drill_leaves_expired_papers_out(ask: Any, world: World) -> None:
    first, second = papers(world, "a.pdf", "a.pdf")
    ask("run")
    with closing(Ledger(world.folder.root / "ledger")) as ledger:
        for source in ("live", "dump"):
            ledger.add_catalog(source, world.catalog.path, source, lambda finding: pytest.fail(finding.text))  # type: ignore[arg-type]
        assert [entry.paper for entry in ledger.entries()] == [second.id]
        tally = Tally()
        find_surplus(iter([("acme", first.id, "x"), ("acme", second.id, vault_path("acme", second.id))]), ledger, tally)
        assert not tally.findings


def test_nothing_expires_by_default(ask: Any, world: World) -> None:
    world.folder.settings.write_text("")
    papers(world, "a.pdf")
    assert ask("report")[1]["due"] == [] and ask("run")[1]["expired"] == []


@pytest.mark.parametrize("line", ["days = { tax = 0 }", "keep_versions = { tax = -1 }", "days = { tax = 'x' }", "every_hours = -1"])
def test_wrong_settings_are_refused(ask: Any, world: World, line: str) -> None:
    world.folder.settings.write_text(f"[retention]\n{line}\n")
    assert ask("report")[0] == 2


def test_the_report_says_until_when_snapshots_hold_a_paper(ask: Any, world: World) -> None:
    papers(world, "a.pdf", "a.pdf")
    assert [one["in_snapshots_until"] for one in ask("report")[1]["due"]] == [None, None], "there is no backup"
    run_id = world.catalog.start_run("backup")
    world.catalog.finish_run(run_id, "passed", snapshot="ab" * 32)
    for one in ask("report")[1]["due"]:
        assert one["last_snapshot"] == "ab" * 32
        assert datetime.fromisoformat(one["in_snapshots_until"]) > NOW + timedelta(days=11 * 365), "it may be the newest of its year"
