"""restic's messages as values: those of 0.14 as it printed them, those of newer versions from its documentation."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.restic.messages import (
    Failure,
    Fault,
    Restored,
    Snapshot,
    Status,
    Summary,
    Text,
    Unknown,
    parse_config,
    parse_fault_line,
    parse_line,
    parse_snapshots,
    parse_time,
    parse_version,
)

SUMMARY_014 = (
    b'{"message_type":"summary","files_new":1,"files_changed":0,"files_unmodified":0,"dirs_new":1,"dirs_changed":0,"dirs_unmodified":0,'
    b'"data_blobs":1,"tree_blobs":2,"data_added":747,"total_files_processed":1,"total_bytes_processed":49,"total_duration":0.21,"snapshot_id":"6798efb9"}'
)


def test_a_summary_keeps_the_short_id_of_014() -> None:
    assert parse_line(SUMMARY_014) == Summary("6798efb9", 1, 49, 747, 1, 0)


def test_a_summary_keeps_the_long_id_of_newer_versions() -> None:
    message = parse_line(SUMMARY_014.replace(b"6798efb9", b"ab" * 32))
    assert isinstance(message, Summary)
    assert message.snapshot == "ab" * 32


def test_status_lines_come_without_what_is_zero() -> None:
    assert parse_line(b'{"message_type":"status","percent_done":0,"total_files":1,"total_bytes":49}') == Status(0, 1, 0, 49)
    restoring = b'{"message_type":"status","seconds_elapsed":1,"total_files":4,"files_restored":2,"total_bytes":9,"bytes_restored":5}'
    assert parse_line(restoring) == Status(2, 4, 5, 9)


def test_faults_of_both_shapes() -> None:
    old = b'{"message_type":"error","error":{"Op":"lstat","Path":"/x","Err":2},"during":"archival","item":"/x"}'
    new = b'{"message_type":"error","error":{"message":"no such file"},"during":"archival","item":"/x"}'
    assert parse_line(old) == Fault("/x", "archival", "2")
    assert parse_line(new) == Fault("/x", "archival", "no such file")
    assert parse_line(b'{"message_type":"error","message":"error: of no file\\n"}') == Fault("", "", "error: of no file\n")


def test_newer_kinds() -> None:
    assert parse_line(b'{"message_type":"exit_error","code":11,"message":"locked"}') == Failure(11, "locked")
    assert parse_line(b'{"message_type":"summary","total_files":3,"files_restored":3,"total_bytes":7}') == Restored(3, 7)
    assert parse_line(b'{"message_type":"verbose_status","action":"new","item":"/x"}') == Unknown("verbose_status")
    assert parse_line(b'{"message_type":"a kind of the year 2040"}') == Unknown("a kind of the year 2040")


def test_text_between_messages() -> None:
    assert parse_line(b"/nonexist does not exist, skipping\n") == Text("/nonexist does not exist, skipping")
    assert parse_line(b"{ not json") == Text("{ not json")


@pytest.mark.parametrize("broken", [b'{"message_type":"summary","snapshot_id":"--force"}', b'{"message_type":"status","total_files":"many"}', b"{}"])
def test_a_message_that_lacks_what_its_kind_has_is_unknown(broken: bytes) -> None:
    assert isinstance(parse_line(broken), Unknown)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: b'{"message_type":"error","item":' + text.encode("utf-8", "replace") + b"}"))
def test_no_line_raises(line: bytes) -> None:
    parse_line(line)


def test_snapshots_are_sorted_and_complete() -> None:
    output = (
        b"some text before\n"
        b'[{"time":"2026-11-21T18:22:35.129344599+01:00","paths":["/d/vault"],"hostname":"nightsafe","tags":["run:1","audit:ff"],"id":"'
        + b"a" * 64
        + b'","short_id":"aaaaaaaa"},{"time":"2026-11-21T17:00:00Z","paths":[],"hostname":"n","id":"'
        + b"b" * 64
        + b'"}]'
    )
    older, newer = parse_snapshots(output)
    assert (older.id, newer.id, newer.short) == ("b" * 64, "a" * 64, "aaaaaaaa")
    assert newer.time == datetime(2026, 11, 21, 17, 22, 35, 129344, tzinfo=UTC)
    assert (newer.tag("audit"), newer.tag("run"), newer.tag("none")) == ("ff", "1", None)


def test_no_snapshots_is_null_in_014() -> None:
    assert parse_snapshots(b"null\n") == []


@pytest.mark.parametrize("output", [b"", b"[1]", b'[{"id":"zz","time":"2026-11-21T17:00:00Z"}]', b'[{"id":"' + b"a" * 64 + b'"}]', b"[{"])
def test_something_else_than_snapshots_is_a_value_error(output: bytes) -> None:
    with pytest.raises(ValueError):
        parse_snapshots(output)


def test_times_have_up_to_nine_decimals() -> None:
    assert parse_time("2026-11-21T18:22:34.5Z") == datetime(2026, 11, 21, 18, 22, 34, 500000, tzinfo=UTC)
    with pytest.raises(ValueError):
        parse_time("yesterday")


def test_config_and_version() -> None:
    assert parse_config(b'{"version":2,"id":"' + b"c" * 64 + b'","chunker_polynomial":"3"}') == "c" * 64
    with pytest.raises(ValueError):
        parse_config(b'{"version":2}')
    assert parse_version(b"restic 0.14.0 compiled with go1.19.8 on linux/amd64") == (0, 14, 0)
    assert parse_version(b"restic 0.16.4-dev (compiled manually)") == (0, 16, 4)
    with pytest.raises(ValueError):
        parse_version(b"rclone v1.75")


def test_fault_lines_of_a_restore() -> None:
    assert parse_fault_line("ignoring error for /vault/a: b: ciphertext verification failed") == Fault(
        "/vault/a: b", "restore", "ciphertext verification failed"
    )
    assert parse_fault_line("Fatal: There were 2 errors") is None


def test_a_snapshot_is_found_by_the_second_that_is_shown() -> None:
    made = Snapshot("a" * 64, datetime(2026, 1, 31, 8, 0, 7, 999_999, UTC), "nightsafe", (), ())
    assert made.was_there(datetime(2026, 1, 31, 8, 0, 7, tzinfo=UTC))
    assert made.was_there(datetime(2026, 2, 1, tzinfo=UTC))
    assert not made.was_there(datetime(2026, 1, 31, 8, 0, 6, tzinfo=UTC))
    assert not made.was_there(datetime(2026, 1, 31, 8, 0, 7, 999_998, UTC))
