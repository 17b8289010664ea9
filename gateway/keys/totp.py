"""Codes of a second factor (TOTP, RFC 6238: six digits, 30 seconds, SHA-1, as every authenticator app has it). A code counts once.

The seeds lie in `keys/totp/PERSON.age`, sealed to master and recovery: keyd alone opens them. The process that faces the internet learns
yes or no, so it can betray no seed.
"""

from __future__ import annotations

import hmac
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pyotp

from config.files import write_whole

STEP_SECONDS = 30
DRIFT = 1  # steps that a clock may be off, both ways
ISSUER = "Nightsafe"
CODE = re.compile(r"[0-9]{6}", re.ASCII)


def new_seed() -> bytes:
    """A seed of 160 bits, in base32 as apps take it."""
    return pyotp.random_base32(32).encode("ascii")


def enrolment(seed: bytes, person: str) -> str:
    """The `otpauth://` address that an app reads; secret."""
    return pyotp.TOTP(seed.decode("ascii")).provisioning_uri(name=person, issuer_name=ISSUER)


def matching_step(seed: bytes, code: str, now: float) -> int | None:
    """The time step whose code this is, within DRIFT of `now` (seconds since the epoch); None when it is none of them. Pure."""
    digits = "".join(code.split())
    current = int(now) // STEP_SECONDS
    totp = pyotp.TOTP(seed.decode("ascii"))
    found = None
    for step in range(current - DRIFT, current + DRIFT + 1):  # all of them, whatever fits: the time tells nothing
        if hmac.compare_digest(totp.generate_otp(step).encode(), digits.encode("utf-8", "replace")):
            found = step
    return found if CODE.fullmatch(digits) else None


class UsedCodes:
    """The last step that each person used, kept over a restart in a file that holds no more than the last two minutes. Thread-safe."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._last = self._read()

    def use(self, person: str, step: int) -> bool:
        """Whether the code of `step` is new; from now on neither it nor an older one is. Durable before it returns. Raises OSError."""
        with self._lock:
            if step <= self._last.get(person, -1):
                return False
            oldest = int(self._clock()) // STEP_SECONDS - 2 * DRIFT
            last = {name: used for name, used in self._last.items() if used >= oldest} | {person: step}
            write_whole(self._path, json.dumps(last).encode())
            self._last = last
            return True

    def _read(self) -> dict[str, int]:
        try:
            kept = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(name): step for name, step in kept.items() if isinstance(step, int)} if isinstance(kept, dict) else {}
