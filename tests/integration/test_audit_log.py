"""The audit log as it is written and read: chained, durable, safe from several threads, whole after a kill."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from gateway.audit import AuditLog, AuditUnavailable, Event
from gateway.audit import log as log_module
from gateway.audit.checkpoint import sign_checkpoint
from gateway.audit.lines import NO_LINE, line_hash
from gateway.audit.read import read
from gateway.audit.segments import segment_path
from gateway.audit.signatures import SigningKey
from gateway.audit.verify import verify

KEY = SigningKey.generate("checkpoints")
START = datetime(2024, 5, 6, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def lines_of(folder: Path, segment: str) -> list[bytes]:
    return segment_path(folder, segment).read_bytes().splitlines()


def test_the_form_of_a_segment(folder: Path) -> None:
    with AuditLog(folder, "gateway") as log:
        first = log.head
        second = log.append(Event.PAPER_READ, client="acme", person="alice", path="/inbox/a", size=5)
        assert log.head == second
    lines = lines_of(folder, log.segment)
    opened, event = map(json.loads, lines)
    assert {name: opened[name] for name in ("event", "role", "pid", "segment", "seq", "prev", "format")} == {
        "event": "segment.opened",
        "role": "gateway",
        "pid": os.getpid(),
        "segment": log.segment,
        "seq": 0,
        "prev": NO_LINE,
        "format": 1,
    }
    assert (event["seq"], event["prev"], event["event"], event["client"], event["size"]) == (1, first, "paper.read", "acme", 5)
    assert [line_hash(line) for line in lines] == [first, second]
    assert segment_path(folder, log.segment).stat().st_mode & 0o777 == 0o600


def test_the_logs_own_fields_cannot_be_forged(folder: Path) -> None:
    with AuditLog(folder, "gateway") as log, pytest.raises(ValueError, match="prev, seq"):
        log.append(Event.PAPER_READ, seq=1, prev="x")
    with pytest.raises(ValueError, match="role"):
        AuditLog(folder, "../gateway")


def test_threads_share_one_chain(folder: Path) -> None:
    with AuditLog(folder, "gateway", max_bytes=20_000) as log:

        def work(worker: int) -> None:
            for number in range(60):
                log.append(Event.PAPER_READ, durable=number % 10 == 0, worker=worker, number=number)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report = verify(folder, [])
    assert report.problems == []
    assert report.segments > 2
    assert report.lines == 360 + report.segments
    seen = [(record["worker"], record["number"]) for record in read(folder, event=Event.PAPER_READ)]
    assert len(set(seen)) == 360


def test_a_large_segment_is_followed_by_a_new_one(folder: Path) -> None:
    with AuditLog(folder, "gateway", max_bytes=1000) as log:
        segments = {log.segment}
        for number in range(20):
            log.append(Event.PAPER_READ, number=number)
            segments.add(log.segment)
    assert len(segments) > 3
    assert verify(folder, []).problems == []
    assert [record["number"] for record in read(folder, event="paper.read")] == list(range(20))


SCRIPT = """
import sys
from pathlib import Path
from gateway.audit import AuditLog, Event
log = AuditLog(Path(sys.argv[1]), "gateway")
number = 0
while True:
    digest = log.append(Event.PAPER_DEPOSITED, number=number)
    print(number, digest, flush=True)
    number += 1
"""


def test_a_killed_process_loses_no_line_that_it_was_told_of(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().split() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        told += [line.split() for line in process.stdout if line.endswith("\n")]
    report = verify(folder, [], anchors=[digest for _, digest in told])
    assert report.problems == []
    assert {record["number"] for record in read(folder, event=Event.PAPER_DEPOSITED)} >= {int(number) for number, _ in told}


def test_durable_is_fsync(folder: Path, tmp_path: Path) -> None:
    script = (
        SCRIPT.split("number = 0")[0] + 'log.append(Event.PAPER_READ)\nlog.append(Event.PAPER_DEPOSITED, durable=True)\nprint("told", flush=True)\n'
    )
    trace = tmp_path / "trace"
    command = ["strace", "-y", "-s", "400", "-o", str(trace), "-e", "trace=write,fsync", sys.executable, "-c", script, str(folder)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    calls = [line for line in trace.read_text().splitlines() if str(folder) in line or "told" in line]
    kinds = [next(word for word in ("segment.opened", "paper.read", "paper.deposited", "told", "fsync") if word in line) for line in calls]
    assert kinds[:3] == ["segment.opened", "fsync", "fsync"]
    assert kinds[-4:-1] == ["paper.read", "paper.deposited", "fsync"]
    assert kinds[-1] == "told" or kinds[-2:] == ["told", "fsync"]


@pytest.fixture
def small_files() -> Iterator[None]:
    """A file may have 2,000 bytes; beyond that a write is short, then fails, as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_what_does_not_fit_is_taken_back_and_said(folder: Path) -> None:
    with AuditLog(folder, "gateway") as log:
        written = 0
        with pytest.raises(AuditUnavailable, match="cannot be written"):
            for _ in range(50):
                log.append(Event.PAPER_READ, note="x" * 200)
                written += 1
        head = log.head
        assert 1 < written < 10
    report = verify(folder, [], anchors=[head])
    assert (report.problems, report.torn, report.lines) == ([], [], written + 1)


def test_a_segment_that_cannot_be_opened_leaves_no_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AuditLog(folder, "gateway", max_bytes=500) as log:
        while segment_path(folder, log.segment).stat().st_size < 500:
            log.append(Event.PAPER_READ)
        before = sorted(os.listdir(folder))

        def fail(_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(log_module, "fsync_folder", fail)
            with pytest.raises(AuditUnavailable):
                log.append(Event.PAPER_READ)
        assert sorted(os.listdir(folder)) == before
        log.append(Event.PAPER_READ, after="space came back")
        assert len(os.listdir(folder)) == len(before) + 1
    assert verify(folder, []).problems == []


def test_a_closed_log_takes_nothing(folder: Path) -> None:
    log = AuditLog(folder, "gateway", max_bytes=1)
    log.close()
    log.close()
    with pytest.raises(AuditUnavailable):
        log.append(Event.PAPER_READ)
    assert len(os.listdir(folder)) == 1


def test_reading_merges_by_time_and_filters(folder: Path) -> None:
    ticks = count()

    def clock() -> datetime:
        return START + timedelta(minutes=next(ticks))

    with AuditLog(folder, "gateway", clock=clock) as first:
        with AuditLog(folder, "ingest", clock=clock) as second:
            for number in range(6):
                (first, second)[number % 2].append(Event.PAPER_READ, client=("acme", "bolt")[number % 3 == 0], person="alice", number=number)
        first.append(Event.PAPER_SEALED, client="acme", number=6)
    numbers = [record["number"] for record in read(folder) if "number" in record]
    assert numbers == list(range(7))
    times = [record["time"] for record in read(folder)]
    assert times == sorted(times)
    assert [record["number"] for record in read(folder, client="acme")] == [1, 2, 4, 5, 6]
    assert [record["number"] for record in read(folder, client="acme", event=Event.PAPER_READ, limit=2)] == [4, 5]
    assert [record["number"] for record in read(folder, person="alice", limit=1)] == [5]
    moment = next(record["time"] for record in read(folder, event=Event.PAPER_SEALED))
    assert [record["number"] for record in read(folder, since=datetime.fromisoformat(moment))] == [6]
    assert list(read(folder / "none")) == []


def test_reading_holds_few_files_open(folder: Path) -> None:
    ticks = count()

    def clock() -> datetime:
        return START + timedelta(seconds=next(ticks))

    for number in range(40):
        with AuditLog(folder, "ops", clock=clock) as log:
            log.append(Event.FILES_SEARCHED, number=number)
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    seen = []
    for record in read(folder, event=Event.FILES_SEARCHED):
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
        seen.append(record["number"])
    assert seen == list(range(40))
    assert most <= 3


def test_reading_passes_over_damage(folder: Path) -> None:
    with AuditLog(folder, "gateway") as log:
        log.append(Event.PAPER_READ, number=1)
        log.append(Event.PAPER_READ, number=2)
    path = segment_path(folder, log.segment)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\xff garbage\n" + b'{"time":5}\n' + lines[2] + lines[1][:30])
    assert [record.get("number") for record in read(folder)] == [None, 2]


def test_checkpoints_name_only_what_has_grown(folder: Path) -> None:
    with AuditLog(folder, "gateway") as log, AuditLog(folder, "ingest") as other:
        log.append(Event.PAPER_READ)
        sign_checkpoint(folder, KEY)
        other.append(Event.PAPER_SEALED)
        newest = sign_checkpoint(folder, KEY)
        unchanged = sign_checkpoint(folder, KEY)
    first, second, third = (json.loads(line) for line in (folder / "checkpoints.jsonl").read_bytes().splitlines())
    assert set(first["heads"]) == {log.segment, other.segment}
    assert second["heads"] == {other.segment: [2, other.head]}
    assert third["heads"] == {}
    assert third["prev"] == newest != unchanged
    report = verify(folder, [KEY.public], anchors=[newest, unchanged, log.head])
    assert (report.problems, report.checkpoints) == ([], 3)
