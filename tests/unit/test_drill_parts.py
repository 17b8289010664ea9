"""Keys, history, scratch folders and the choice of the snapshot."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.commands.drill import _print as print_drill
from backup.drill.errors import ScratchFailed
from backup.drill.fetch import MANY, Fetch, Wanted, choose, portions
from backup.drill.history import Drilled, drilled_before, listed_by
from backup.drill.judge import GRACE, Cause
from backup.drill.keycheck import compare_keys, count_keys, read_keys
from backup.drill.sample import digest
from backup.drill.scratch import LOCK, check_room, scratch_folder
from backup.restic import Damaged, Fault, RestoreResult, Snapshot, TimedOut, UnknownFailure
from config.errors import OutOfReach
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from gateway.catalog import Catalog, Client, ClientKey, Run

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ONE, TWO = "a" * 64, "b" * 64


def snapshot(identity: str, hours: int) -> Snapshot:
    return Snapshot(identity, NOON + timedelta(hours=hours), "nightsafe", (), ())


def run(identity: str, number: int = 1, **detail: Any) -> Run:
    return Run(number, "backup", "passed", NOON, NOON, identity, identity, detail)


# which snapshot


def test_the_newest_recorded_snapshot_is_taken_by_its_short_id_too() -> None:
    there = [snapshot(ONE, 1), snapshot(TWO, 2)]
    assert choose(there, [(run(TWO), TWO), (run(ONE), ONE)])[0] == there[1]
    assert choose(there, [(run("a" * 8), "a" * 8)]) == (there[0], run("a" * 8), 0)


def test_snapshots_that_are_gone_are_counted_and_the_newest_that_is_left_is_taken() -> None:
    recorded = [(run("c" * 64), "c" * 64), (run("d" * 64), "d" * 64), (run(ONE), ONE)]
    assert choose([snapshot(ONE, 1)], recorded)[::2] == (snapshot(ONE, 1), 2)
    assert choose([], recorded) == (None, None, 3)
    assert choose([snapshot(ONE, 1), snapshot(TWO, 2)], []) == (snapshot(TWO, 2), None, 0)


# whose fault


class Source:
    """A repository that answers as it is told."""

    def __init__(self, outcome: Any, structure: Exception | None = None) -> None:
        self.outcome = outcome
        self.structure = structure

    def config(self) -> str:
        return ""

    def snapshots(self, *, host: str | None = None) -> list[Snapshot]:
        return []

    def restore(self, snapshot: str, target: Path, *, includes: Any = ()) -> RestoreResult:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return RestoreResult(tuple(Fault("x", "restore", text) for text in self.outcome))

    def check(self, *, lock: bool = True) -> None:
        if self.structure:
            raise self.structure


def blamed(source: Source, probe: Any = lambda: None) -> list[str]:
    causes: list[str] = []

    def name(cause: str) -> str:
        causes.append(cause)
        return cause

    Fetch(probe, name).restore(source, snapshot(ONE, 1), Path("/nowhere"))
    return causes


def away() -> None:
    raise OutOfReach("away")


def test_a_clean_restore_blames_nobody() -> None:
    assert blamed(Source([])) == []


def test_missing_packs_are_named_whether_restic_ends_with_faults_or_never() -> None:
    packs = Damaged("checking", "", "pack 1: does not exist\npack 2: does not exist\npack 3: x\npack 4: x\nFatal: repository contains errors")
    for outcome in (["StreamPack: The specified key does not exist."], TimedOut("nothing moved"), UnknownFailure("?")):
        (cause,) = blamed(Source(outcome, packs))
        assert cause == "the repository is damaged: pack 1: does not exist; pack 2: does not exist; pack 3: x and 1 more"


def test_flipped_bits_are_damage_though_the_structure_is_sound() -> None:
    (cause,) = blamed(Source(["StreamPack: ciphertext verification failed"]))
    assert "ciphertext verification failed" in cause


@pytest.mark.parametrize("outcome", [["ciphertext verification failed"], TimedOut("nothing moved")])
def test_a_bucket_that_went_away_gives_no_verdict(outcome: Any) -> None:
    with pytest.raises(OutOfReach):
        blamed(Source(outcome, Damaged("checking")), away)


def test_a_network_that_failed_and_a_full_disk_give_no_verdict() -> None:
    with pytest.raises(OutOfReach):
        blamed(Source(["dial tcp: connection refused"]))
    with pytest.raises(OutOfReach):
        blamed(Source(TimedOut("nothing moved")))
    with pytest.raises(ScratchFailed):
        blamed(Source(["ciphertext verification failed", "write /x: no space left on device"]))


def test_patterns_go_into_calls_whose_folders_are_their_own() -> None:
    assert portions([Wanted(["a", "b"], 1000), Wanted(["r"], 2000)], 4000) == [["a", "b", "r"]]
    for count in (100, 300, 5000, 100_000):
        files, receipts = ([f"/{kind}/{number:06}" for number in range(count)] for kind in ("vault", "jails"))
        calls = portions([Wanted(files, 1_000_000), Wanted(receipts, 10_000)], 4_000_000)
        assert [pattern for call in calls for pattern in call] == files + receipts
        assert all(len({pattern[:5] for pattern in call}) == 1 and len(call) <= MANY for call in calls)
    one_client = [Wanted(files[:300], 69_000), Wanted(receipts[:600], 118_000)]
    assert [len(call) for call in portions(one_client, 400_000)] == [300, 300, 300]
    twenty = [Wanted(files[:300], 6000), Wanted(receipts[:600], 8000)]
    assert [len(call) for call in portions(twenty, 400_000)] == [900], "to open it once more costs more than to compare more"
    assert len(portions([Wanted(files, 10), Wanted([], 0)], 10)) == 25


# keys


def client(name: str, recipient: str = "age1x", custody: Any = "managed", generations: int = 1) -> Client:
    return Client(name, custody, None, True, NOON, tuple(ClientKey(number, recipient, NOON) for number in range(1, generations + 1)))


def keys(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in {"master.recipient": b"m", "recovery.recipients": b"r", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_keys_that_are_the_same_are_good_and_new_ones_are_no_fault(tmp_path: Path) -> None:
    live = read_keys(keys(tmp_path / "live", {"clients/acme/1.age": b"1", "clients/new/1.age": b"n"}))
    restored = read_keys(keys(tmp_path / "restored", {"clients/acme/1.age": b"1"}))
    assert compare_keys(live, restored, [client("acme")], [client("acme"), client("new")]) == []
    assert count_keys(restored) == 1


def test_missing_lost_and_altered_keys_are_named(tmp_path: Path) -> None:
    live = read_keys(keys(tmp_path / "live", {"clients/acme/1.age": b"1", "clients/acme/2.age": b"2"}))
    restored = read_keys(keys(tmp_path / "restored", {"clients/acme/1.age": b"other", "clients/gone/1.age": b"g"}))
    (tmp_path / "restored" / "master.recipient").unlink()
    found = compare_keys(live, read_keys(tmp_path / "restored"), [client("acme", generations=2), client("gone")], [client("acme", generations=2)])
    assert [(finding.path, finding.cause) for finding in found] == [
        ("keys/clients/acme/1.age", Cause.KEY_DIFFERS),
        ("keys/clients/gone/1.age", Cause.NOT_IN_LIVE),
        ("keys/clients/acme/2.age", Cause.KEY_MISSING),
        ("keys/master.recipient", Cause.KEY_MISSING),
        ("keys/clients/gone/1.age", Cause.KEY_DIFFERS),
    ]
    assert restored


def test_keys_that_nothing_here_opens_are_compared_too(tmp_path: Path) -> None:
    there = read_keys(keys(tmp_path, {"clients/own/1.external": b"age1x", "clients/own/2.age": b"2", "clients/own/3.recovery.age": b"3"}))
    own = client("own", custody="deposit-only", generations=3)
    assert compare_keys(there, there, [own], [own]) == []
    assert count_keys(there) == 2
    without = {name: file for name, file in there.items() if not name.endswith((".external", ".recovery.age"))}
    assert [(f.path, f.cause) for f in compare_keys(there, without, [own], [own])] == [
        ("keys/clients/own/1.external", Cause.KEY_MISSING),
        ("keys/clients/own/3.recovery.age", Cause.KEY_MISSING),
    ]
    other = replace(own, keys=client("own", "age1y", generations=3).keys)
    assert [f.cause for f in compare_keys(there, there, [own], [other])] == [Cause.KEY_DIFFERS] * 3


def test_strange_things_in_the_keys_folder_are_read_without_harm(tmp_path: Path) -> None:
    keys(tmp_path, {"clients/acme/1.age": b"1"})
    (tmp_path / "clients" / "link").symlink_to("/etc/passwd")
    (tmp_path / "clients" / os.fsdecode(b"\xff")).write_bytes(b"")
    os.mkfifo(tmp_path / "clients" / "fifo")
    assert "clients/link" not in read_keys(tmp_path)


# history


def drill_run(number: int, evidence: Path | None = None, **detail: Any) -> Run:
    name = {"evidence": f"evidence/2026/{evidence.name}"} if evidence else {}
    return Run(number, "drill", "passed", NOON, NOON, ONE, ONE, {"kind": "sample", **name, **detail})


def write_draw(folder: Path, number: int, papers: list[str] | None, digested: list[str]) -> Path:
    path = folder / "2026" / f"{number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"draw": {"papers": papers, "digest": digest(digested)}}))
    return path


def test_what_was_drawn_is_read_from_evidence_and_the_list_beside_it(tmp_path: Path) -> None:
    short = write_draw(tmp_path, 1, ["p1"], ["p1"])
    long = write_draw(tmp_path, 2, None, ["p2", "p3"])
    long.with_suffix(".draw").write_text("p2\np3\n")
    altered = write_draw(tmp_path, 3, ["p9"], ["p1"])
    rubbish = write_draw(tmp_path, 4, None, [])
    rubbish.write_text("[")
    found = [listed_by(drill_run(n, path), tmp_path, "draw") for n, path in enumerate((short, long, altered, rubbish), 1)]
    assert found == [["p1"], ["p2", "p3"], [], []]
    assert listed_by(drill_run(5), tmp_path, "draw") == []
    assert listed_by(drill_run(6, tmp_path / "missing.json"), tmp_path, "draw") == []


def test_a_full_drill_covers_all_that_was_in_its_snapshot(tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    with Catalog.create(tmp_path / "c") as catalog:
        write_draw(tmp_path / "evidence", 9, ["p1"], ["p1"])
        for state, detail in (
            ("passed", {"kind": "sample", "evidence": "evidence/2026/9.json"}),
            ("passed", {"kind": "full", "catalog_at": NOON.isoformat()}),
            ("failed", {"kind": "full", "catalog_at": (NOON + timedelta(days=9)).isoformat()}),
        ):
            catalog.finish_run(catalog.start_run("drill"), state, detail=detail)  # type: ignore[arg-type]
        before = drilled_before(catalog, tmp_path / "evidence")
        assert before == Drilled(frozenset(), NOON - GRACE)  # what was drawn before the full drill is no longer needed, and not looked at
        catalog.finish_run(catalog.start_run("drill"), "passed", detail={"kind": "sample", "evidence": "evidence/2026/9.json"})
        assert drilled_before(catalog, tmp_path / "evidence") == Drilled(frozenset({"p1"}), NOON - GRACE)


def test_a_full_drill_covers_what_came_just_before_its_snapshot(tmp_path: Path) -> None:
    """It names them: by their times alone they might have come too late for the snapshot."""
    path = write_draw(tmp_path / "evidence", 1, None, [])
    path.write_text(json.dumps({"draw": None, "young": {"papers": None, "digest": digest(["p7", "p8"])}}))
    path.with_suffix(".draw").write_text("p7\np8\n")
    with Catalog.create(tmp_path / "c") as catalog:
        detail = {"kind": "full", "catalog_at": NOON.isoformat(), "evidence": "evidence/2026/1.json"}
        catalog.finish_run(catalog.start_run("drill"), "passed", detail=detail)
        assert drilled_before(catalog, tmp_path / "evidence") == Drilled(frozenset({"p7", "p8"}), NOON - GRACE)


def test_an_interrupted_drill_counted_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_drill(Run(68, "drill", "interrupted", NOON, NOON, None, None, {"kind": "sample", "cause": "KeyboardInterrupt"}), DataFolder(tmp_path))
    told = capsys.readouterr().out
    assert "interrupted: KeyboardInterrupt" in told and "None" not in told and "bad" not in told


# scratch


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    (tmp_path / "data").mkdir()
    return Installation(DataFolder(tmp_path / "data"), Settings())


def test_the_scratch_folder_goes_whatever_happens(installation: Installation, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(installation, "drill") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_bytes(b"x")
        (folder / "deep").chmod(0o500)
        raise ZeroDivisionError
    assert list((tmp_path / "scratch").iterdir()) == []


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(installation: Installation, tmp_path: Path) -> None:
    with scratch_folder(installation, "drill") as living:
        prefix = living.name.rpartition("-")[0]
        dead = living.with_name(prefix + "-dead")
        dead.mkdir()
        os.utime(dead, (0, 0))
        young = living.with_name(prefix + "-young")
        young.mkdir()
        other = living.with_name("drill-ffffffffffff-other")
        other.mkdir()
        with open(living / LOCK) as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with scratch_folder(installation, "drill"):
            assert living.exists()
            assert not dead.exists()
            assert other.exists()
            assert young.exists()


def test_room_is_looked_for_first(tmp_path: Path) -> None:
    check_room(tmp_path, 0)
    with pytest.raises(ScratchFailed):
        check_room(tmp_path, 2**60)
    with pytest.raises(ScratchFailed):
        check_room(tmp_path / "missing", 0)


def test_a_scratch_folder_that_cannot_be_made(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")
    with pytest.raises(ScratchFailed), scratch_folder(installation, "drill"):
        pass
