"""Codes of second factors as keyd judges them, and the work that a password costs whoever it is for."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyotp
import pytest

from gateway.audit.events import Event
from gateway.keys.codes import GUESSES, Codes
from gateway.keys.errors import KeyLimited, KeyRefused
from gateway.keys.passwords import check_password, hash_password
from gateway.keys.totp import matching_step, new_seed

SEED = new_seed()
NOW = 1_700_000_000.0


class World:
    """keyd's parts around `Codes`, with clocks of our own."""

    def __init__(self, run: Path) -> None:
        self.wall = self.clock = NOW
        self.events: list[tuple[Event, str]] = []
        person = SimpleNamespace(active=True, totp=True, expires_at=None)
        self.people: dict[str, Any] = {"ann": person, "bob": person, "sid": SimpleNamespace(active=False, totp=True, expires_at=None)}
        self._keyring = SimpleNamespace(folder=SimpleNamespace(totp_used=run / "used.json"), open_totp=lambda *_: SEED)

    def codes(self) -> Codes:
        catalog = SimpleNamespace(person=self.people.get)
        audit = SimpleNamespace(append=lambda event, person: self.events.append((event, person)))
        parts = cast(Any, (self._keyring, None, catalog, audit))
        return Codes(*parts, clock=lambda: self.clock, wall=lambda: self.wall)


def code(at: float) -> str:
    return pyotp.TOTP(SEED.decode()).at(int(at))


WRONG = next(f"{n:06d}" for n in range(10) if all(f"{n:06d}" != code(NOW + shift) for shift in (-60, -30, 0, 30, 60)))


def test_a_code_counts_within_its_time_and_once_even_over_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path)
    codes = world.codes()
    codes.check("ann", code(NOW))
    for again in (codes, world.codes()):
        for used in (code(NOW), code(NOW - 30)):  # neither it nor an older one
            with pytest.raises(KeyRefused):
                again.check("ann", used)
    codes.check("bob", f" {code(NOW - 30)[:3]} {code(NOW - 30)[3:]} ")  # as apps show it; a clock may be behind
    with pytest.raises(KeyRefused):
        codes.check("bob", code(NOW + 61))
    world.wall += 30
    codes.check("ann", code(NOW + 30))
    assert world.events == [(Event.CODE_ACCEPTED, name) for name in ("ann", "bob", "ann")]


@pytest.mark.parametrize("name", ["sid", "nobody"])
def test_whoever_may_not_log_in_has_no_code(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyRefused):
        World(tmp_path).codes().check(name, code(NOW))


def test_guessing_is_slow_and_locks_nobody_else(tmp_path: Path) -> None:
    world = World(tmp_path)
    codes = world.codes()
    for _ in range(GUESSES):
        with pytest.raises(KeyRefused):
            codes.check("ann", WRONG)
    with pytest.raises(KeyLimited):
        codes.check("ann", code(NOW))
    codes.check("bob", code(NOW))
    world.clock += 60
    codes.check("ann", code(NOW))


@pytest.mark.parametrize("text", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "1" * 64])
def test_what_is_no_code(text: str) -> None:
    assert matching_step(SEED, text, NOW) is None


def test_a_password_costs_the_same_for_nobody() -> None:
    kept = hash_password("correct horse battery")
    assert check_password(kept, "correct horse battery")

    def work(of: str | None) -> float:
        began = time.thread_time()
        assert not check_password(of, "wrong horse battery")
        return time.thread_time() - began

    known, nobody = (min(work(of) for _ in range(3)) for of in (kept, None))
    assert 0.5 < nobody / known < 2
    assert not check_password(None, "nobodysaltxxxx")
