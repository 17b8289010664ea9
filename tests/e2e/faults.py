"""What can be done to a house while it works: roles killed, the scanner gone, the disk full, the catalog locked, the clock set wrong."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.e2e.disks import mounted_image
from tests.e2e.house import House
from tests.integration.scanner_parts import RealClamd, clamd


@dataclass
class Faults:
    """The faults of one house, each over when it returns, but for the clock, which stays as it was set. `disk` is where its data folder lies."""

    house: House
    scanner: RealClamd
    disk: Path
    clock: Path

    def stop_scanner(self, seconds: float) -> None:
        """clamd is killed, and started again."""
        self.scanner.stop()
        time.sleep(seconds)
        self.scanner.start()

    def fill_disk(self, seconds: float) -> None:
        """Not one block is free, but for what others give back meanwhile."""
        filler = self.disk / "filler"
        with filler.open("wb") as file:
            state, taken = os.statvfs(self.disk), 0
            part = state.f_bavail * state.f_frsize
            while part >= state.f_frsize:  # uploads take their share meanwhile
                try:
                    os.posix_fallocate(file.fileno(), taken, part)
                    taken += part
                except OSError:
                    part //= 2
        time.sleep(seconds)
        filler.unlink()

    def lock_catalog(self, seconds: float) -> None:
        """Another process writes into the catalog for long."""
        with closing(sqlite3.connect(self.house.data / "catalog.sqlite3", timeout=120, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")

    def set_clock(self, wrong: timedelta = timedelta(0)) -> None:
        """The clock of every process of the house is wrong by so much."""
        self.clock.write_text(f"{wrong.total_seconds():+.0f}")

    @property
    def clock_is_right(self) -> bool:
        """Whether it is not wrong."""
        return int(self.clock.read_text()) == 0


@contextmanager
def fault_prone_house(home: Path, megabytes: int) -> Iterator[Faults]:
    """A house that is not made yet, on a disk of its own of that size, with clamd, and with a clock that can be set (clock.c). The caller makes and
    starts it; it is stopped at the end."""
    clock = home / "clock"
    clock.write_text("+0")
    library, source = home / "clock.so", Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    with clamd() as scanner, mounted_image(home / "image", home / "disk", megabytes=megabytes) as disk:
        house = House(home, disk / "data")
        scan = scanner.settings
        house.environment |= {
            "NIGHTSAFE_SET_SCAN__SCANNER": "clamd",
            "NIGHTSAFE_SET_SCAN__ADDRESS": scan.address,
            "NIGHTSAFE_SET_SCAN__CLAMD_CONFIG": str(scan.clamd_config),
            "NIGHTSAFE_SET_SCAN__SIGNATURES_HOURS": "0",
            "LD_PRELOAD": str(library),
            "NIGHTSAFE_TEST_CLOCK": str(clock),
        }
        try:
            yield Faults(house, scanner, disk, clock)
        finally:
            house.stop()
