"""The audit log on a disk that fails: Linux tells of it once, and drops what it could not write. What is told as durable is there all the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gateway.audit import AuditLog, AuditUnavailable, Event
from gateway.audit.checkpoint import sign_checkpoint
from gateway.audit.segments import segment_ids, segment_path
from gateway.audit.signatures import SigningKey
from gateway.audit.verify import verify

KEY = SigningKey.generate("checkpoints")


class Disk:
    """What would be left of the files in `folder` after a power cut. While it is `broken`, a write to it fails and is forgotten, as by Linux: it
    stays in memory as if it were written. Nor does it help to write over it: as with ext4, that place of the file is lost."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.broken = False
        self._folder = folder
        self._kept: dict[int, bytearray] = {}  # by inode
        self._dirty: dict[int, list[tuple[int, bytes]]] = {}
        self._lost: dict[int, int] = {}  # up to where
        self._write, self._fsync, self._ftruncate = os.write, os.fsync, os.ftruncate
        patch.setattr(os, "write", self.write)
        patch.setattr(os, "fsync", self.fsync)
        patch.setattr(os, "ftruncate", self.ftruncate)

    def write(self, descriptor: int, data: bytes) -> int:
        state = os.fstat(descriptor)
        if not state.st_size:  # a new file, maybe with the number of one that is gone
            for known in (self._kept, self._dirty, self._lost):
                known.pop(state.st_ino, None)
        done = self._write(descriptor, data)
        self._dirty.setdefault(state.st_ino, []).append((state.st_size, bytes(data[:done])))  # the log only appends
        return done

    def ftruncate(self, descriptor: int, length: int) -> None:
        inode = os.fstat(descriptor).st_ino
        self._lost[inode] = min(self._lost.get(inode, 0), length)
        self._ftruncate(descriptor, length)

    def fsync(self, descriptor: int) -> None:
        state = os.fstat(descriptor)
        dirty = self._dirty.pop(state.st_ino, [])
        if self.broken and dirty:
            self._lost[state.st_ino] = state.st_size
            raise OSError(errno.EIO, "Input/output error")
        kept = self._kept.setdefault(state.st_ino, bytearray())
        for place, data in dirty:
            kept.extend(bytes(max(0, place + len(data) - len(kept))))
            if place >= self._lost.get(state.st_ino, 0):
                kept[place : place + len(data)] = data
        self._fsync(descriptor)

    def cut_power(self) -> None:
        for path in self._folder.glob("*.jsonl"):
            path.write_bytes(self._kept.get(path.stat().st_ino, b""))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(folder, monkeypatch)


def test_a_sync_after_one_that_failed_tells_of_what_is_on_the_disk(folder: Path, disk: Disk) -> None:
    log = AuditLog(folder, "ingest")
    log.append(Event.PAPER_SEALED, durable=True, number=0)
    disk.broken = True
    told = [log.append(Event.PAPER_SEALED, number=1)]
    with pytest.raises(AuditUnavailable):
        log.sync()
    with pytest.raises(AuditUnavailable):
        log.append(Event.PAPER_SEALED, durable=True, number=2)
    disk.broken = False
    told.append(log.append(Event.PAPER_SEALED, durable=True, number=3))
    disk.cut_power()
    report = verify(folder, [], anchors=told)
    assert (report.problems, report.torn, report.lines) == ([], [], 5)
    assert sorted(os.listdir(folder)) == [f"{log.segment}.jsonl"]


def test_a_segment_whose_end_is_not_on_the_disk_is_not_followed(folder: Path, disk: Disk) -> None:
    log = AuditLog(folder, "gateway", max_bytes=1000)
    first = log.segment
    while segment_path(folder, first).stat().st_size < 1000:
        last = log.append(Event.PAPER_READ)
    disk.broken = True
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            log.append(Event.PAPER_READ)
    assert segment_ids(folder) == [first]
    disk.broken = False
    log.append(Event.PAPER_READ, durable=True)
    assert len(segment_ids(folder)) == 2
    disk.cut_power()
    assert verify(folder, [], anchors=[last]).problems == []


def test_a_disk_that_takes_no_changes_any_more_does_not_end_the_log_for_good(folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ext4 after an error, until it is mended: the new segment that could not be brought to the disk cannot be removed either."""
    log = AuditLog(folder, "gateway", max_bytes=1000)
    while segment_path(folder, log.segment).stat().st_size < 1000:
        last = log.append(Event.PAPER_READ)
    log.sync()
    disk.broken = True
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", read_only)
        for _ in range(2):
            with pytest.raises(AuditUnavailable):
                log.append(Event.PAPER_READ)
    log.sync()  # there is nothing that the disk has not
    disk.broken = False
    newest = log.append(Event.PAPER_READ, durable=True)
    log.close()
    log.sync()
    assert verify(folder, [], anchors=[last, newest]).problems == []


def read_only(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_closed_log_does_not_tell_that_lines_are_there_which_are_not(folder: Path, disk: Disk) -> None:
    log = AuditLog(folder, "ops")
    log.append(Event.FILES_SEARCHED)
    disk.broken = True
    with pytest.raises(AuditUnavailable):
        log.close()
    disk.broken = False
    with pytest.raises(AuditUnavailable, match="when it was closed"):
        log.sync()


def test_the_end_of_a_log_is_written_again_too(folder: Path, disk: Disk) -> None:
    log = AuditLog(folder, "ops")
    head = log.append(Event.FILES_SEARCHED)
    disk.broken = True
    with pytest.raises(AuditUnavailable):
        log.sync()
    disk.broken = False
    log.close()
    disk.cut_power()
    assert verify(folder, [], anchors=[head]).problems == []


def test_lines_that_the_kernel_gave_up_are_never_told_as_durable(folder: Path, disk: Disk) -> None:
    log = AuditLog(folder, "ingest")
    log.append(Event.PAPER_SEALED, number=1)
    disk.broken = True
    with pytest.raises(AuditUnavailable, match="Input/output error"):
        log.sync()
    disk.broken = False
    path = segment_path(folder, log.segment)
    there = path.stat().st_size
    with path.open("r+b") as file:  # its page was dropped, and read again from the disk
        file.seek(there - 20)
        file.write(bytes(20))
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="never came to the disk") as caught:
            log.append(Event.PAPER_SEALED, durable=True, number=2)
        assert "restart the role" in caught.value.hint
    with pytest.raises(AuditUnavailable):
        log.close()
    with AuditLog(folder, "ingest") as after:
        after.append(Event.PAPER_SEALED, durable=True, number=3)
    assert [problem.split(":")[0] for problem in verify(folder, []).problems] == [log.segment] * 2


def test_a_checkpoint_is_on_the_disk_with_all_that_are_before_it(folder: Path, disk: Disk) -> None:
    with AuditLog(folder, "scheduler") as log:
        log.append(Event.BACKUP_STARTED, durable=True)
        first = sign_checkpoint(folder, KEY)
        log.append(Event.BACKUP_STARTED, durable=True)
        disk.broken = True
        with pytest.raises(AuditUnavailable):
            sign_checkpoint(folder, KEY)
        disk.broken = False
        newest = sign_checkpoint(folder, KEY)
    disk.cut_power()
    report = verify(folder, [KEY.public], anchors=[first, newest])
    assert (report.problems, report.torn, report.checkpoints) == ([], [], 2)


def test_what_a_checkpoint_signs_of_other_roles_is_on_the_disk(folder: Path, disk: Disk) -> None:
    """They write many a line without waiting for it: signed and then lost in a power cut it would look cut off."""
    other = AuditLog(folder, "gateway")
    other.append(Event.PAPER_READ)
    with AuditLog(folder, "scheduler") as log:
        newest = sign_checkpoint(folder, KEY, log)
    disk.cut_power()
    report = verify(folder, [KEY.public], anchors=[newest])
    assert (report.problems, report.checkpoints) == ([], 1)
