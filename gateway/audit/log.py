"""Writing the audit log: one segment a process, each line chained to the one before.

A line is written with one system call before `append` returns, so the death of the process loses none; `durable` adds fsync, so that a
power cut loses none either.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from config.errors import OutOfReach
from config.files import FILE_MODE, fsync_folder, make_folder
from gateway.audit.again import write_again
from gateway.audit.events import Event
from gateway.audit.lines import NO_LINE, OWN_FIELDS, encode_line, line_hash, stamp
from gateway.audit.segments import new_segment_id, segment_path

FORMAT = 1
MAX_SEGMENT_BYTES = 64 * 1024 * 1024
LOST_HINT = "mend the disk, then restart the role, which begins a segment of its own; see what is missing with: nightsafe audit verify"


class AuditUnavailable(OutOfReach):
    """The event could not be recorded (no space, no permission); what it was about must not be done either."""


class AuditLog:
    """The log of one process, in a segment of its own under `folder`. Safe to use from several threads.

    A segment that exceeds `max_bytes` is followed by a new one, which names it and its last line.
    """

    def __init__(
        self,
        folder: Path,
        role: str,
        *,
        max_bytes: int = MAX_SEGMENT_BYTES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._role = role
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()  # the chain
        self._sync_lock = threading.Lock()  # the descriptor, while it is synced without holding up the chain; taken after _lock
        self._descriptor = -1
        self._confirmed = 0  # bytes of the segment that an fsync has brought to the disk
        self._doubtful = False  # an fsync failed: no later one tells anything of the lines from before, unless they are written again
        self._closed = False
        self._segment, self._head, self._seq, self._size = "", NO_LINE, 0, 0
        try:
            make_folder(folder)
        except OSError as error:
            raise _unavailable(error) from error
        self._open_segment({})

    @property
    def head(self) -> str:
        """The hash of the last line."""
        with self._lock:
            return self._head

    @property
    def segment(self) -> str:
        """The id of the segment that is written now."""
        return self._segment

    def append(self, event: Event, *, durable: bool = False, **fields: Any) -> str:
        """Record `event` and return the hash of its line. Raises AuditUnavailable; then nothing was recorded, or the disk did not confirm it.

        Fields are JSON values (datetimes and others become text); long ones are cut. `seq`, `time`, `role`, `event`, `prev` are the log's own.
        """
        if taken := OWN_FIELDS & fields.keys():
            raise ValueError(f"the log's own fields cannot be given: {', '.join(sorted(taken))}")
        with self._lock:
            if self._closed:
                raise AuditUnavailable("the audit log is closed")
            if self._size >= self._max_bytes:
                self._follow()
            written = self._write(event, fields)
        if durable:
            self.sync()
        return written

    def sync(self) -> None:
        """Return once the disk has all lines. Raises AuditUnavailable."""
        with self._sync_lock:
            if not self._doubtful:
                self._confirm()
                return
        with self._lock, self._sync_lock:
            self._confirm_again()

    def close(self) -> None:
        """Sync and end the segment; idempotent."""
        with self._lock, self._sync_lock:
            self._closed = True
            try:
                if self._descriptor >= 0:
                    self._confirm_again()
            finally:
                self._end_segment()

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open_segment(self, before: dict[str, Any]) -> None:
        """Start a segment; its first line is durable, and so is its name. Where that fails, no trace of it is left, if the disk allows."""
        segment = new_segment_id(self._role, self._clock())
        path = segment_path(self._folder, segment)
        old = self._segment, self._head, self._seq, self._size
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, FILE_MODE)
        except OSError as error:
            raise _unavailable(error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # how a reader tells a line under way from a torn one
            self._segment, self._head, self._seq, self._size = segment, NO_LINE, 0, 0
            self._confirmed, self._doubtful = 0, False
            self._write(Event.SEGMENT_OPENED, {"format": FORMAT, "pid": os.getpid(), "segment": segment, **before})
            self._confirm()
            fsync_folder(self._folder)
        except BaseException as error:
            os.close(self._descriptor)
            self._descriptor = -1
            with suppress(OSError):  # a disk that failed may take no changes any more
                path.unlink(missing_ok=True)
            self._segment, self._head, self._seq, self._size = old
            self._confirmed, self._doubtful = self._size, False  # a segment is followed once it is confirmed as a whole
            if isinstance(error, OSError):
                raise _unavailable(error) from error
            raise

    def _follow(self) -> None:
        """End this segment, once the disk has all of it, and start the next."""
        before = {"after": self._segment, "after_head": self._head}
        with self._sync_lock:
            if self._descriptor >= 0:
                self._confirm_again()
                self._end_segment()
            self._open_segment(before)

    def _end_segment(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _confirm(self) -> None:
        """fsync, under the lock of syncing."""
        if self._descriptor < 0:  # a segment is ended when it is on the disk; or because all ends
            if self._doubtful:
                raise AuditUnavailable("the last lines of the audit log had not come to the disk when it was closed", LOST_HINT)
            return
        size = self._size  # others may go on to write
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            self._doubtful = True
            raise _unavailable(error) from error
        self._confirmed = size

    def _confirm_again(self) -> None:
        """The same under both locks, for lines that are in doubt, too."""
        if self._doubtful and self._descriptor >= 0:
            try:
                self._write_again()
            except OSError as error:
                raise _unavailable(error) from error
        self._confirm()
        self._doubtful = False

    def _write_again(self) -> None:
        anew = write_again(segment_path(self._folder, self._segment), self._confirmed, self._size, self._head)
        if anew is None:
            raise AuditUnavailable("the last lines of the audit log never came to the disk, and are lost", LOST_HINT)
        old, self._descriptor = self._descriptor, anew
        with suppress(OSError):
            os.close(old)
        fsync_folder(self._folder)

    def _write(self, event: Event, fields: dict[str, Any]) -> str:
        """Chain one line on, under the lock."""
        own = {"seq": self._seq, "time": stamp(self._clock()), "role": self._role, "event": event.value, "prev": self._head}
        line = encode_line(own, fields)
        try:
            self._put(line + b"\n")
        except OSError as error:
            raise _unavailable(error) from error
        self._head = line_hash(line)
        self._seq += 1
        self._size += len(line) + 1
        return self._head

    def _put(self, data: bytes) -> None:
        """All of `data`, or nothing: what a full disk let through is taken back."""
        try:
            done = os.write(self._descriptor, data)
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError:
            if self._descriptor >= 0:
                os.ftruncate(self._descriptor, self._size)
            raise


def _unavailable(error: OSError) -> AuditUnavailable:
    return AuditUnavailable(
        f"the audit log cannot be written: {error.strerror or error}", "free space on the disk of the data folder, or mend its permissions"
    )
