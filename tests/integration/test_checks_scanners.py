"""The port of scanners, and the two that implement it: a real clamd, and a program."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.checks import ScanSettings
from gateway.ingest.checking import scanner_of
from gateway.ingest.checks.clamd import Clamd
from gateway.ingest.checks.command import CommandScanner
from gateway.ingest.checks.scanner import PROBE, Readiness, Scanner, ScanResult
from gateway.ingest.checks.scans import PaperScan
from gateway.ingest.checks.services import Checks
from gateway.ingest.checks.standby import Standby
from gateway.ingest.checks.view import View
from tests.integration.scanner_parts import ALERTS, RealClamd, clamd, command_settings


@pytest.fixture(scope="module")
def real() -> Iterator[RealClamd]:
    with clamd() as made:
        yield made


@pytest.fixture(params=["clamd", "command"])
def settings(request: pytest.FixtureRequest, real: RealClamd) -> ScanSettings:
    return real.settings if request.param == "clamd" else command_settings()


@pytest.fixture
def scanner(settings: ScanSettings) -> Scanner:
    found = scanner_of(settings)
    assert found is not None
    return found


def scan(scanner: Scanner, *pieces: bytes, seconds: float = 240) -> ScanResult:
    with closing(scanner.begin()) as session:
        for piece in pieces:
            session.send(memoryview(piece))
        return session.finish(time.monotonic() + seconds)


# what every scanner does


def test_it_is_ready(scanner: Scanner) -> None:
    found = scanner.probe()
    assert found.ready and not found.fault


def test_it_tells_a_virus_from_a_letter(scanner: Scanner) -> None:
    assert scan(scanner, b"a letter", b" of two pieces").outcome == "clean"
    assert scan(scanner, b"").outcome == "clean"
    assert scan(scanner, PROBE).outcome == "found"
    assert "icar" in scan(scanner, PROBE[:30], PROBE[30:]).detail


def test_large_pieces_pass(scanner: Scanner) -> None:
    assert scan(scanner, bytes(1024 * 1024), bytes(1024 * 1024)).outcome == "clean"


def test_a_session_that_is_given_up_leaves_the_scanner_well(scanner: Scanner) -> None:
    for _ in range(3):
        with closing(scanner.begin()) as session:
            session.send(b"the beginning of something")
    assert scan(scanner, PROBE).outcome == "found"


# clamd


def test_longer_than_its_limit_is_too_large_and_never_clean(real: RealClamd) -> None:
    assert scan(Clamd(real.settings), *[bytes(1024 * 1024)] * 6).outcome == "too-large"


def test_a_clamd_that_is_not_there(tmp_path: Path) -> None:
    absent = Clamd(ScanSettings(scanner="clamd", address=str(tmp_path / "none")))
    assert not absent.probe().ready
    assert scan(absent, b"x").outcome == "unavailable"


def test_one_that_keeps_silent_about_its_limits_is_not_relied_on() -> None:
    with clamd(lines="") as silent:
        found = Clamd(silent.settings).probe()
    assert not found.ready and "AlertExceedsMax" in found.fault


def test_one_that_writes_papers_to_a_disk_is_not_relied_on(real: RealClamd, tmp_path: Path) -> None:
    config = tmp_path / "clamd.conf"
    config.write_text(real.config.read_text().replace("TemporaryDirectory ", "#") + f"TemporaryDirectory {tmp_path}\n")
    found = Clamd(real.settings.model_copy(update={"clamd_config": config})).probe()
    assert not found.ready and "temporary folder" in found.fault


def test_signatures_without_a_date_are_out_of_date(real: RealClamd) -> None:
    found = Clamd(real.settings.model_copy(update={"signatures_hours": 24.0})).probe()
    assert not found.ready and "old" in found.fault


def test_a_clamd_that_hangs_is_slow(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "s"))
        deaf.listen()
        hanging = Clamd(ScanSettings(scanner="clamd", address=str(tmp_path / "s"), seconds=0.2))
        assert scan(hanging, b"x", seconds=0.2).outcome == "slow"
        assert scan(hanging, bytes(8 * 1024 * 1024), seconds=0.2).outcome in ("slow", "unavailable")


def test_one_that_was_started_anew_is_looked_at_before_its_next_verdict_counts() -> None:
    with clamd() as restarted:
        standby = Standby(Clamd(restarted.settings))
        standby.start()
        checks = Checks(scan=restarted.settings, standby=standby)

        def said() -> str | None:
            scan = PaperScan(checks, "a paper", View(SimpleNamespace(size=12)), "quick")  # type: ignore[arg-type]
            scan.take(memoryview(b"a plain text"))
            found = scan.finish(time.monotonic() + 240)
            return found.code if found else None

        try:
            assert said() is None
            restarted.stop()
            restarted.start()
            assert said() is None
            restarted.stop()
            restarted.config.write_text(restarted.config.read_text().replace(ALERTS, ""))
            restarted.start()
            assert said() == "unscanned"
            assert "AlertExceedsMax" in standby.readiness().fault
        finally:
            standby.stop()


# a program


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("import sys; sys.exit(3)", "unavailable"),
        ("import time; time.sleep(60)", "slow"),
        ("import os; os.kill(os.getpid(), 9)", "unavailable"),
        ("print('x' * 10_000_000)", "clean"),
        ("import sys; sys.stdin.close(); sys.exit(1)", "found"),
    ],
)
def test_what_programs_do(program: str, outcome: str) -> None:
    scanner = CommandScanner(command_settings(program))
    assert scan(scanner, b"x", seconds=0.5 if outcome == "slow" else 30).outcome == outcome


def test_a_program_that_finds_everything_or_nothing_is_not_relied_on() -> None:
    for program in ("import sys; sys.exit(1)", "import sys; sys.stdin.buffer.read()"):
        assert not CommandScanner(command_settings(program)).probe().ready


def test_a_program_that_is_not_there() -> None:
    scanner = CommandScanner(ScanSettings(scanner="command", command=("/nonexistent/scan",)))
    assert not scanner.probe().ready
    assert scan(scanner, b"x").outcome == "unavailable"


# standby


def test_standby_tells_when_it_is_lost_and_when_it_is_back() -> None:
    class Switched:
        ready = True

        def probe(self) -> Readiness:
            return Readiness(self.ready, "" if self.ready else "off")

    switched, told, changed = Switched(), [], threading.Event()

    def tell(readiness: Readiness) -> None:
        told.append(readiness.ready)
        changed.set()

    standby = Standby(switched, tell, longest_seconds=0.05)  # type: ignore[arg-type]
    standby.start()
    try:
        assert standby.readiness().ready
        switched.ready = False
        assert not standby.ask().ready
        changed.clear()
        switched.ready = True
        assert changed.wait(240)
        assert told == [True, False, True] and standby.readiness().ready
    finally:
        standby.stop()


def test_a_scanner_that_cannot_even_be_asked_is_asked_again() -> None:
    class Odd:
        asked = 0

        def probe(self) -> Readiness:
            self.asked += 1
            if self.asked == 1:
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a mount that nobody can read")
            return Readiness(True)

    standby = Standby(Odd(), longest_seconds=0.05)  # type: ignore[arg-type]
    standby.start()
    try:
        until = time.monotonic() + 60
        while not standby.readiness().ready:
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        standby.stop()
