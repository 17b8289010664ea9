"""clamd by its socket: INSTREAM, piece by piece, so that no paper is ever whole in memory or anywhere on a disk of ours.

What clamd does not look at it calls clean, unless it is told otherwise (`AlertExceedsMax`, off by default). So it is asked, by a small archive
that goes beyond its depth, and by an encrypted one, whether it would tell; one that would not is not relied on.

A clamd that was started anew may have other settings. Where it listens on a socket of its own, each connection tells of it.
"""

from __future__ import annotations

import io
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from config.checks import ScanSettings
from config.words import counted
from gateway.ingest.checks.clamd_config import config_faults
from gateway.ingest.checks.scanner import Outcome, Readiness, ScanResult, finds_probe

PIECE_BYTES = 128 * 1024
REPLY_BYTES = 4096
PROBE_SECONDS = 10.0
LENGTH = struct.Struct(">I")
TOO_DEEP = 40  # archives within archives; clamd's MaxRecursion is 17 unless it was raised
LIMITS_ALERT = "Heuristics.Limits.Exceeded"
LOCKED_ALERT = "Heuristics.Encrypted"
LOCKED_FLAG = 1  # of an entry in a zip
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid

Peer = tuple[int, ...]  # which clamd answers, of those that were started one after the other; empty where that cannot be told


class Clamd:
    """A clamd at `settings.address`."""

    def __init__(self, settings: ScanSettings, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._now = now
        self._asked: Peer = ()

    def begin(self) -> ClamdSession:
        """Connect and begin a stream."""
        return ClamdSession(self._settings.address, self._settings.seconds, self._asked)

    def probe(self) -> Readiness:
        """Version and age, the test file, an archive beyond its depth, its own settings. Never raises."""
        try:
            version, peer = self._ask(b"zVERSIONCOMMANDS\0")
        except OSError as error:
            return Readiness(False, f"clamd does not answer at {self._settings.address} ({error.strerror or 'no answer'})")
        engine, _, commands = version.partition("|")
        engine, settings = engine.strip(), self._settings
        if commands and "INSTREAM" not in commands.split():
            return Readiness(False, "clamd does not take streams (INSTREAM)", engine=engine)
        faults, notes = config_faults(settings.clamd_config, settings.largest_bytes, elsewhere=is_elsewhere(settings.address))
        fault = age_fault(engine, self._settings.signatures_hours, self._now()) or self._blind() or (faults[0] if faults else "")
        if not fault:
            self._asked = peer  # whose first answer that was: one that took its place meanwhile is still to be asked
        return Readiness(not fault, fault, tuple(notes), engine)

    def _blind(self) -> str:
        found = finds_probe(self, time.monotonic, PROBE_SECONDS)
        if found.outcome != "found":
            return f"clamd does not find the test virus ({found.detail or found.outcome}): has it loaded its signatures?"
        if self._scanned(_too_deep()).outcome != "too-large":
            return "clamd keeps silent about what it does not look at: set 'AlertExceedsMax yes' in clamd.conf"
        if self._scanned(_locked()).outcome != "locked":
            return "clamd keeps silent about what it cannot open: set 'AlertEncrypted yes' in clamd.conf"
        return ""

    def _scanned(self, data: bytes) -> ScanResult:
        session = self.begin()
        try:
            session.send(data)
            return session.finish(time.monotonic() + PROBE_SECONDS)
        finally:
            session.close()

    def _ask(self, command: bytes) -> tuple[str, Peer]:
        with _connect(self._settings.address, PROBE_SECONDS) as line:
            line.sendall(command)
            return _reply(line, time.monotonic() + PROBE_SECONDS), _peer(line, self._settings.address)


class ClamdSession:
    """One INSTREAM."""

    def __init__(self, address: str, seconds: float, asked: Peer) -> None:
        self.is_with_asked = True
        self._seconds = seconds
        self._trouble = ""
        self._line: socket.socket | None = None
        try:
            self._line = _connect(address, min(seconds, PROBE_SECONDS))
            self.is_with_asked = _peer(self._line, address) == asked
            self._line.settimeout(seconds)
            self._line.sendall(b"zINSTREAM\0")
        except OSError as error:
            self._trouble = f"no connection to clamd ({error.strerror or 'no answer'})"

    def send(self, data: bytes | memoryview) -> None:
        """Each piece may take the time of the settings."""
        if self._trouble or self._line is None:
            return
        view = memoryview(data)
        try:
            for start in range(0, len(view), PIECE_BYTES):
                piece = view[start : start + PIECE_BYTES]
                self._line.sendall(LENGTH.pack(len(piece)))
                self._line.sendall(piece)
        except TimeoutError:
            self._trouble = "clamd did not take the next piece in time"
        except OSError:
            self._trouble = "clamd closed the connection"  # it may have said why: `finish` reads it

    def finish(self, until: float) -> ScanResult:
        """Slow when clamd has not answered by then."""
        if self._line is None:
            return ScanResult("unavailable", self._trouble)
        try:
            if not self._trouble:
                self._line.sendall(LENGTH.pack(0))
            return verdict_of(_reply(self._line, until if not self._trouble else min(until, time.monotonic() + 1.0)))
        except TimeoutError:
            return ScanResult("slow", self._trouble or "clamd did not answer in time")
        except OSError:
            with suppress(OSError):
                return verdict_of(_reply(self._line, time.monotonic() + 1.0))
            return ScanResult("unavailable", self._trouble or "clamd closed the connection")

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None


def verdict_of(reply: str) -> ScanResult:
    """What a reply to INSTREAM means. Pure."""
    said = reply.strip().rstrip("\0").removeprefix("stream:").strip()
    if said.endswith(" FOUND"):
        name = said.removesuffix(" FOUND")
        outcome: Outcome = "too-large" if name.startswith(LIMITS_ALERT) else "locked" if name.startswith(LOCKED_ALERT) else "found"
        return ScanResult(outcome, name[:200])
    if said == "OK":
        return ScanResult("clean")
    if "size limit exceeded" in said:
        return ScanResult("too-large", "longer than clamd's StreamMaxLength")
    return ScanResult("unavailable", f"clamd said: {said[:200] or 'nothing'}")


def age_fault(engine: str, hours: float, now: datetime) -> str:
    """Why the signatures are too old, by what VERSION says (`ClamAV 1.4.6/27500/Fri Nov 20 08:26:03 2026`); empty when they are not. Pure."""
    if not hours:
        return ""
    date = engine.rpartition("/")[2]
    try:
        made = datetime.strptime(date, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    except ValueError:
        return "clamd does not tell how old its signatures are: does freshclam run? (scan.signatures_hours = 0 does not ask)"
    age = (now - made).total_seconds() / 3600
    return f"clamd's signatures are {counted(round(age), 'hour')} old; the limit is {hours:.0f}: does freshclam run?" if age > hours else ""


def _too_deep() -> bytes:
    data = b"x"
    for _ in range(TOO_DEEP):
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as archive:
            archive.writestr(zipfile.ZipInfo("x"), data)
        data = held.getvalue()
    return data


def _locked() -> bytes:
    """A zip whose only entry says that it is encrypted."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x"), b"x" * 32)
    data = bytearray(held.getvalue())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of the flags, in the entry and in the directory
        data[data.index(magic) + place] |= LOCKED_FLAG
    return bytes(data)


def is_elsewhere(address: str) -> bool:
    """Whether that is another machine, or another container."""
    host, colon, port = address.rpartition(":")
    return bool(colon) and port.isdigit() and "/" not in address and host.strip("[]") not in ("localhost", "::1") and not host.startswith("127.")


def _connect(address: str, seconds: float) -> socket.socket:
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in address:
        return socket.create_connection((host.strip("[]"), int(port)), seconds)
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(seconds)
        line.connect(str(Path(address)))
    except BaseException:
        line.close()
        raise
    return line


def _peer(line: socket.socket, address: str) -> Peer:
    """Who listens at the other end: the process, and the socket, which each start makes anew; always systemd, where that listens for clamd.
    Raises OSError."""
    if line.family != socket.AF_UNIX:
        return ()
    process, _, _ = CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    there = Path(address).stat()
    return process, there.st_dev, there.st_ino, there.st_ctime_ns


def _reply(line: socket.socket, until: float) -> str:
    said = b""
    while not said.endswith(b"\0") and len(said) < REPLY_BYTES:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        line.settimeout(left)
        part = line.recv(REPLY_BYTES)
        if not part:
            break
        said += part
    if not said:
        raise ConnectionError("no answer")
    return said.rstrip(b"\0").decode("utf-8", "replace")
