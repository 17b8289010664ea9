"""Attacks on logins, as far as no connection is needed for them. The table is docs/explanation/attacks.md."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.catalog.factors import Combination, combinations
from gateway.sftp.authentication import passwords
from gateway.sftp.authentication.accounts import Account
from gateway.sftp.authentication.login import Login
from gateway.sftp.authentication.passwords import WAITING, WAITING_FROM_ONE, PasswordChecks
from gateway.sftp.defender import bans
from gateway.sftp.defender.bans import BanStore, Rules

RULES = Rules(limit=10, window=600, first=60, longest=3600)


class Host:
    """Knows ann (a key), pat (a password) and tom (both, and a code). Counts what is asked."""

    notice = ""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def first_factors(self) -> Combination:
        return frozenset({"publickey", "password"})

    async def look_up(self, name: str) -> Account | None:
        self.asked.append("catalog")
        if name not in ("ann", "pat", "tom"):
            return None
        kept = "hash" if name != "ann" else None
        person = SimpleNamespace(name=name, role="client", password_hash=kept, allow_from=(), require=(), totp=name == "tom", keys=())
        return cast(Account, SimpleNamespace(person=person, clients=()))

    def wanted(self, person: Any) -> tuple[Combination, ...]:
        return combinations(person.require, ("publickey+password+totp",) if person.totp else (), totp=person.totp)

    async def check_password(self, kept: str | None, password: str, address: str) -> bool:
        self.asked.append("password")
        return kept is not None and password == "right"

    def login_failed(self, login: Login, attempts: int, reason: str) -> None:
        self.asked.append(f"{login.asked} failed: {attempts}")


def methods(login: Login) -> tuple[bool, bool, bool]:
    return login.public_key_auth_supported(), login.password_auth_supported(), login.kbdint_auth_supported()


@pytest.mark.parametrize("name", ["ann", "pat", "tom", "nobody", "../x", ""])
def test_every_name_is_offered_the_same_and_costs_the_same(name: str) -> None:
    async def work() -> None:
        host = Host()
        login = Login(cast(Any, host))
        await login.begin_auth(name)
        assert methods(login) == (True, True, False)
        began = asyncio.get_running_loop().time()
        assert not await login.validate_password(name, "wrong")
        assert asyncio.get_running_loop().time() - began >= 0.029
        assert (host.asked, methods(login)) == (["catalog", "password"], (True, True, False))

    asyncio.run(work())


def test_a_password_is_worth_nothing_where_none_is_asked_for() -> None:
    """The name changes while the hash is computed: what was shown for one is not taken for the other."""

    async def work() -> None:
        host = Host()
        login = Login(cast(Any, host))
        await login.begin_auth("pat")

        async def changing(kept: str | None, password: str, address: str) -> bool:
            await login.begin_auth("tom")
            return True

        host.check_password = changing  # type: ignore[method-assign]
        assert not await login.validate_password("pat", "right")
        assert login.shown.factors == frozenset()

    asyncio.run(work())


def test_an_attempt_that_the_client_cancels_counts_and_one_that_is_right_does_not() -> None:
    """A request cancels the one before it: who sends them close together would hear of no refusal, and keep the server hashing."""

    async def work() -> None:
        host = Host()
        login = Login(cast(Any, host))
        await login.begin_auth("pat")
        assert await login.validate_password("pat", "right")
        assert login.attempts == 0

        async def slow(kept: str | None, password: str, address: str) -> bool:
            await asyncio.sleep(60)
            return True

        host.check_password = slow  # type: ignore[method-assign]
        for _ in range(5):
            trying = asyncio.ensure_future(login.validate_password("pat", "wrong"))
            await asyncio.sleep(0)
            trying.cancel()
        assert login.attempts == 5

    asyncio.run(work())


def test_what_failed_is_told_once_of_each_name() -> None:
    """Whoever gets in under the last of several names has failed under the others all the same."""

    async def work() -> None:
        host = Host()
        login = Login(cast(Any, host))
        for name, times in (("pat", 2), ("ann", 0), ("nobody", 1), ("pat", 1)):
            await login.begin_auth(name)
            for _ in range(times):
                assert not await login.validate_password(name, "wrong")
        login.connection_lost(None)
        assert [told for told in host.asked if " " in told] == ["pat failed: 2", "nobody failed: 1", "pat failed: 1"]
        assert login.attempts == 4

    asyncio.run(work())


def test_a_flood_of_passwords_waits_in_a_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check takes 64 MiB and a core for a while: two at a time, few may wait, fewer from one address."""
    go, running, most = threading.Event(), [0], [0]

    def slow(kept: str | None, password: str) -> bool:
        running[0] += 1
        most[0] = max(most[0], running[0])
        go.wait(120)
        running[0] -= 1
        return True

    async def work() -> None:
        monkeypatch.setattr(passwords, "check_password", slow)
        checks = PasswordChecks()
        from_one = [asyncio.ensure_future(checks.check("kept", "x", f"2001:db8::{n:x}")) for n in range(100)]
        from_many = [asyncio.ensure_future(checks.check("kept", "x", f"198.51.100.{n}")) for n in range(100)]
        await asyncio.sleep(0.05)
        refused = [one for one in (*from_one, *from_many) if one.done()]
        assert len(refused) == 200 - WAITING
        assert not any(one.result() for one in refused)
        go.set()
        assert sum(await asyncio.gather(*from_one)) == WAITING_FROM_ONE
        assert sum(await asyncio.gather(*from_many)) == WAITING - WAITING_FROM_ONE
        assert most[0] <= passwords.AT_ONCE
        assert await checks.check("kept", "x", "2001:db8::1")  # the places are given back
        checks.close()

    asyncio.run(work())


def test_many_addresses_do_not_fill_the_table_of_bans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of addresses is bounded; those that were quiet longest are forgotten, and bans that run longest stay."""
    monkeypatch.setattr(bans, "MOST_MARKS", 100)
    store = BanStore(tmp_path / "d")
    try:
        for number in range(300):
            store.add({f"10.0.{number >> 8}.{number & 255}": 1}, RULES, 1000.0 + number / 10, "failed logins")
            store.ban(f"10.1.{number >> 8}.{number & 255}", 100.0 + number, RULES, 1000.0, "failed logins")
        store.prune(RULES, 1030.0)
        assert store._connection.execute("SELECT count(*), min(at) FROM marks").fetchone() == (100, 1020.0)
        held = store.bans(1030.0)
        assert len(held) == 100
        assert min(ban.until for ban in held.values()) == 1300.0
    finally:
        store.close()
