"""The virus scan of one paper, and of what was inside of its encrypted archive entries."""

from __future__ import annotations

import time

from gateway.ingest.checks.scanner import ScanResult, Session
from gateway.ingest.checks.services import Checks, Slow, Way
from gateway.ingest.checks.view import View, plain
from gateway.ingest.verdicts import ACCEPTED, CHECK_FAILED, Verdict, verdict, worst

PIECE_BYTES = 1024 * 1024


class PaperScan:
    """The scan of the paper itself, fed as it is decrypted. `known` is a verdict that needs no scan. Used by one thread."""

    def __init__(self, checks: Checks, paper: str, view: View, way: Way) -> None:
        self._checks = checks
        self._paper = paper
        self._view = view
        self._way = way
        self.known, self._session = _begin(checks, view.size)

    def take(self, piece: memoryview) -> None:
        """The next piece."""
        if self._session is not None:
            self._session.send(piece)

    def finish(self, quick_until: float) -> Verdict | None:
        """None when it is clean. On the quick way an answer is waited for until `quick_until` (monotonic seconds): raises Slow."""
        if self._session is None:
            return self.known
        until = time.monotonic() + self._checks.scan.seconds
        result = self._session.finish(min(until, quick_until) if self._way == "quick" else until)
        self.close()
        return self._broken(again=self._way == "thorough") if is_broken(result) else judge(self._checks, result)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _broken(self, *, again: bool) -> Verdict | None:
        """No answer. Was it the scanner, or is it this paper that it cannot bear?"""
        if self._checks.blame.add(self._paper):
            return CHECK_FAILED
        assert self._checks.standby is not None  # noqa: S101 - there was a session
        if not self._checks.standby.ask().ready:
            return verdict("unscanned", self._checks.scan.unavailable)
        if self._way == "quick":
            raise Slow
        return self._once_more() if again else CHECK_FAILED

    def _once_more(self) -> Verdict | None:
        """The scanner is well: from the beginning of the paper again."""
        self.known, self._session = _begin(self._checks, self._view.size)
        if self._session is None:
            return self.known
        for offset in range(0, self._view.size, PIECE_BYTES):
            self._session.send(self._view.read_at(offset, PIECE_BYTES))
        result = self._session.finish(time.monotonic() + self._checks.scan.seconds)
        self.close()
        return self._broken(again=False) if is_broken(result) else judge(self._checks, result)


class EntryScans:
    """Scans what a worker has unlocked: to the scanner the paper itself is noise. `found` is the worst of all entries, `any` tells of some."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._session: Session | None = None
        self.found: Verdict | None = None
        self.any = False

    def begin(self, size: int) -> None:
        """An entry of about `size` bytes follows."""
        self.any = True
        self.close()
        known, self._session = _begin(self._checks, size)
        self._add(known)

    def piece(self, data: bytes) -> None:
        """A piece of it."""
        if self._session is not None:
            self._session.send(data)

    def end(self) -> None:
        """It is over."""
        if self._session is not None:
            result = self._session.finish(time.monotonic() + self._checks.scan.seconds)
            self.close()
            self._add(verdict("unscanned", self._checks.scan.unavailable) if is_broken(result) else judge(self._checks, result))

    def close(self) -> None:
        """Leave nothing behind."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _add(self, found: Verdict | None) -> None:
        if found is not None:
            self.found = worst([found] if self.found is None else [self.found, found])


def is_broken(result: ScanResult) -> bool:
    """Whether this is no verdict."""
    return result.outcome in ("slow", "unavailable")


def judge(checks: Checks, result: ScanResult) -> Verdict | None:
    """What an answer means for the paper; None when it is clean. Pure."""
    if result.outcome == "clean":
        return None
    if result.outcome == "found":
        return verdict("virus", "refuse", plain(result.detail))
    if result.outcome == "locked":
        return verdict("archive-locked", checks.archives.locked, "it is encrypted, and was not scanned")
    return verdict("too-large-to-scan", checks.scan.too_large)


def _begin(checks: Checks, size: int) -> tuple[Verdict | None, Session | None]:
    """A session, or the verdict that is known without one."""
    if checks.standby is None:
        return ACCEPTED, None
    if size > checks.scan.largest_bytes:
        return verdict("too-large-to-scan", checks.scan.too_large), None
    session = checks.standby.begin()
    return (verdict("unscanned", checks.scan.unavailable) if session is None else None), session
