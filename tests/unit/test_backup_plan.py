"""What is carried, under which names and tags."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from backup import plan
from backup.restic import Fault


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)


def test_all_required_sources_and_the_optional_ones_that_exist(tmp_path: Path) -> None:
    make(tmp_path, *plan.PAPERS.required, "evidence")
    found = plan.sources(plan.PAPERS, tmp_path)
    assert set(found) == {*plan.PAPERS.required, "evidence"} - {plan.DUMP} | {"dump/catalog.sqlite3"}
    assert not any(name.startswith("/") or ".." in name for name in found)


@pytest.mark.parametrize("missing", plan.PAPERS.required)
def test_a_missing_source_is_an_error_and_named(missing: str, tmp_path: Path) -> None:
    make(tmp_path, *(name for name in plan.PAPERS.required if name != missing))
    with pytest.raises(plan.SourceMissing, match=missing):
        plan.sources(plan.PAPERS, tmp_path)


def test_the_stamp_tells_of_files_that_came_went_or_were_replaced(tmp_path: Path) -> None:
    make(tmp_path, *plan.KEYS.required, "keys/clients/acme")
    stamps = [plan.stamp(plan.KEYS, tmp_path)]
    key = tmp_path / "keys/clients/acme/1.age"
    for content in ("one", "two"):
        new = tmp_path / "new"
        new.write_text(content)
        new.rename(key)
        stamps.append(plan.stamp(plan.KEYS, tmp_path))
    assert plan.stamp(plan.KEYS, tmp_path) == stamps[-1]
    key.unlink()
    stamps.append(plan.stamp(plan.KEYS, tmp_path))
    make(tmp_path, "keys/clients/zeta")
    stamps.append(plan.stamp(plan.KEYS, tmp_path))
    assert len(set(stamps)) == len(stamps)


def test_neither_spool_nor_ingest_keys_nor_client_keys_go_with_the_papers() -> None:
    carried = {*plan.PAPERS.required, *plan.PAPERS.optional}
    assert not carried & {"spool", "ingest-keys", "keys", "keys/clients", "run", "cache", "catalog.sqlite3"}
    assert {"keys/clients", "keys/master.recipient", "keys/recovery.recipients"} == {*plan.KEYS.required, *plan.KEYS.optional}


def test_patterns_are_anchored_and_literal() -> None:
    patterns = plan.excludes(Path("/srv/data [1]"))
    assert all(pattern.startswith("/srv/data \\[1\\]/") for pattern in patterns)
    assert "/srv/data \\[1\\]/jails/*/.tmp" in patterns
    assert not any("jails/**" in pattern for pattern in patterns), "no client's name may match"


def test_tags_hold_the_run_and_the_head_of_the_audit_chain() -> None:
    assert plan.tags(7, "ff" * 32) == ["nightsafe", "run:7", "audit:" + "ff" * 32]


def test_a_name_that_vanished_is_no_fault_but_a_paper_is(tmp_path: Path) -> None:
    make(tmp_path, "jails/acme/inbox")
    there = tmp_path / "jails" / "acme" / "inbox" / "there"
    there.write_text("")
    excused = [
        Fault(str(there.with_name("gone")), "archival", "{}"),
        Fault("jails/acme/inbox/gone", "archival", "2"),
        Fault(str(there / "below"), "archival", "{}"),
        Fault(str(there), "archival", "2"),  # it is back by now
        Fault(str(there), "archival", "lstat there: no such file or directory"),
        Fault(str(tmp_path / "vault/acme/ab/x.age"), "scan", "13"),  # met again when it is read
    ]
    serious = [
        Fault(str(tmp_path / "vault/acme/ab/x.age"), "archival", "2"),
        Fault(str(there), "archival", "13"),
        Fault("jails/acme/inbox/there", "archival", "13"),
        Fault("vault/acme/ab/x.age", "archival", "2"),
        Fault(str(there.with_name("n" * 300)), "archival", "36"),  # a name that nobody can ask for may be there
        Fault("", "archival", "something"),
    ]
    assert [fault for fault in [*excused, *serious] if not plan.is_excused(fault, tmp_path)] == serious


def test_moments_are_utc() -> None:
    assert plan.iso(datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-01T01:00:00.000000Z"
    assert plan.iso(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"


def test_no_host_key_is_carried_in_clear() -> None:
    from config.folder import DataFolder

    folder = DataFolder(Path("/srv/data"))
    assert {str(folder.host_key), str(folder.nist_host_key)} <= set(plan.excludes(folder.root))
