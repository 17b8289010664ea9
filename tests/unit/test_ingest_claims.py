"""Claims are kernel locks: exclusive between two holders, in one process or in two, and gone when the holder is."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from gateway.ingest.claims import Claims

FIRST, SECOND = "0190a1b2c3d4" + "f" * 20, "0190a1b2c3d4" + "0" * 20


def test_one_paper_is_in_one_hand(tmp_path: Path) -> None:
    with Claims(tmp_path / "run" / "claims") as one, Claims(tmp_path / "run" / "claims") as other:
        assert one.claim([FIRST]) == [FIRST]
        assert other.claim([FIRST, SECOND]) == [SECOND]
        one.release([FIRST])
        assert other.claim([FIRST]) == [FIRST]


def test_closing_releases(tmp_path: Path) -> None:
    with Claims(tmp_path / "claims") as other:
        with Claims(tmp_path / "claims") as one:
            one.claim([FIRST, SECOND])
        assert other.claim([FIRST, SECOND]) == [FIRST, SECOND]


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        Claims(tmp_path / "claims").claim([FIRST])
        os.write(tell, b"x")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    with Claims(tmp_path / "claims") as other:
        assert other.claim([FIRST, SECOND]) == [SECOND]
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert other.claim([FIRST]) == [FIRST]
    os.close(ready)
    os.close(tell)
