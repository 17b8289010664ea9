"""The watch on withdrawn rights, against a real catalog; and what of a login has to stay as it was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.audit.log import AuditUnavailable
from gateway.catalog import Catalog, CatalogError, PublicKey
from gateway.catalog.factors import combinations
from gateway.sftp.authentication.accounts import Shown, find, still_holds
from gateway.sftp.authentication.logins import Logins
from gateway.sftp.authentication.revocation import Revocation


class Door:
    """Logins that are alive, and those that were ended."""

    def __init__(self, path: Path) -> None:
        self.catalog, self.other = Catalog.create(path), Catalog.open(path)
        self.alive: list[Any] = []
        self.ended: list[str] = []
        self.looks = 0
        for name in ("acme", "zeta"):
            self.other.add_client(name, recipient="age1x")
            self.other.add_person(name, client=name, keys=[PublicKey("ssh-ed25519 AAAA", "SHA256:x")])
        self.watch = Revocation(self.catalog, self._run, lambda: self.alive, lambda login, _: self.ended.append(login.asked))

    async def _run(self, work: Callable[[], set[str]]) -> set[str]:
        self.looks += 1
        return work()

    def let_in(self, name: str) -> None:
        self.alive.append(_Login(name, self.catalog.person(name)))

    def check(self) -> list[str]:
        asyncio.run(self.watch.check())
        return sorted(self.ended)


class _Login:
    """One that came by a key: it holds as long as its account is there."""

    def __init__(self, asked: str, person: Any) -> None:
        self.asked, self.until = asked, person.expires_at
        self.shown = SimpleNamespace(certificate=None)

    def still_holds(self, account: Any) -> bool:
        return account is not None


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "catalog.sqlite3")


def test_a_suspended_clients_logins_end_once_and_nobody_elses(door: Door) -> None:
    door.let_in("acme")
    door.let_in("zeta")
    assert door.check() == []
    door.other.edit_client("acme", active=False)
    assert door.check() == ["acme"]
    assert door.check() == ["acme"], "a login that was told to go is not told again"


def test_one_who_was_let_in_during_the_change_is_found(door: Door) -> None:
    door.let_in("zeta")
    door.check()
    door.other.edit_client("acme", active=False)
    assert door.check() == []
    door.let_in("acme")  # its look into the catalog was before the change, its login after the check
    assert door.check() == ["acme"]


def test_what_does_not_concern_logins_asks_for_nobody(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.let_in("acme")
    door.check()
    asked: list[str] = []
    monkeypatch.setattr("gateway.sftp.authentication.revocation.find", lambda _, name: asked.append(name))
    door.other.start_run("backup")
    assert door.check() == [] and asked == []
    door.other.edit_client("zeta", quota_bytes=5)
    assert door.check() == ["acme"] and asked == ["acme"], "the stand-in for find knows nobody"


def test_a_catalog_that_fails_does_not_hide_the_change(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.let_in("acme")
    door.check()
    door.other.edit_client("acme", active=False)
    with monkeypatch.context() as patched:

        def fail() -> bytes:
            raise CatalogError("locked")

        patched.setattr(door.catalog, "access_mark", fail)
        with pytest.raises(CatalogError):
            door.check()
    assert door.check() == ["acme"]


def test_settings_that_change_during_a_look_that_fails_are_not_forgotten(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.let_in("acme")
    door.check()
    with monkeypatch.context() as patched:

        def fail() -> bool:
            door.watch.look_again()
            raise CatalogError("locked")

        patched.setattr(door.watch._changes, "happened", fail)
        with pytest.raises(CatalogError):
            door.check()
    door.alive[0].still_holds = lambda _: False  # another factor is required from now on
    assert door.check() == ["acme"]


def test_one_who_has_expired_goes(door: Door) -> None:
    door.other.add_person("guest", client="acme", expires_at=datetime.now(UTC) + timedelta(milliseconds=50))
    door.let_in("guest")
    assert door.alive[0].until is not None
    until = datetime.now(UTC) + timedelta(seconds=10)
    while not door.check():
        assert datetime.now(UTC) < until
    assert door.ended == ["guest"]


def test_an_end_that_is_known_needs_no_catalog(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.let_in("acme")
    door.check()
    door.alive[0].until = datetime.now(UTC)

    async def fail(_: object) -> set[str]:
        raise CatalogError("unreadable")

    monkeypatch.setattr(door.watch, "_run", fail)
    with pytest.raises(CatalogError):
        door.check()
    assert door.ended == ["acme"]


def test_other_settings_are_a_reason_to_look_even_if_the_first_look_fails(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    door.let_in("acme")
    door.check()
    door.alive[0].still_holds = lambda _: False  # the role requires another factor now; nobody wrote into the catalog
    assert door.check() == []
    door.watch.look_again()
    with monkeypatch.context() as patched:

        async def fail(_: object) -> set[str]:
            raise CatalogError("locked")

        patched.setattr(door.watch, "_run", fail)
        with pytest.raises(CatalogError):
            door.check()
    assert door.check() == ["acme"]


def test_a_full_disk_keeps_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be recorded does not happen, but for the end of an access: the one, and those that are to end after it."""
    said: list[str] = []

    def revoked(**_: object) -> None:
        raise AuditUnavailable("the audit log cannot be written: No space left on device")

    host = SimpleNamespace(_stores=SimpleNamespace(recorder=SimpleNamespace(revoked=revoked)))
    connection = SimpleNamespace(disconnect=lambda _code, why: said.append(why), abort=lambda: None)
    login = SimpleNamespace(sessions=set(), connection=connection, person=SimpleNamespace(name="ann", client="acme"), address="", software="")

    async def work() -> None:
        Logins.revoke(cast(Any, host), cast(Any, login), "may not log in any more")

    asyncio.run(work())
    assert said == ["your access has ended"]


LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB1gGVVS3bGuT3bu+uIpKq8H8Q0FnNw7tQyTg7oGvRlG"
ELSEWHERE = ("203.0.113.0/24",)


@pytest.mark.parametrize(
    ("factors", "change", "stays"),
    [
        ("publickey", {"expires_at": datetime(2099, 1, 1, tzinfo=UTC)}, True),
        ("publickey", {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, False),
        ("publickey", {"allow_from": ("192.0.2.0/24", "203.0.113.0/24")}, True),
        ("publickey", {"allow_from": ELSEWHERE}, False),
        ("publickey", {"require": ("publickey+totp",)}, False),
        ("publickey+totp", {"require": ("publickey+totp",)}, True),
        ("publickey", {"totp": True}, False),
        ("publickey+totp", {"totp": True}, False),  # a new one
        ("publickey+totp", {"totp": False}, False),
        ("publickey", {"password_hash": "new"}, True),
        ("password", {"password_hash": "new"}, False),
        ("publickey", {"add_keys": [PublicKey(LINE, "SHA256:key", allow_from=("192.0.2.1",))]}, True),
        ("publickey", {"add_keys": [PublicKey(LINE, "SHA256:key", allow_from=ELSEWHERE)]}, False),
        ("publickey", {"add_keys": [PublicKey(LINE, "SHA256:key", expires_at=datetime(2020, 1, 1, tzinfo=UTC))]}, False),
        ("password", {"remove_keys": ["SHA256:key"]}, True),
        ("publickey", {"remove_keys": ["SHA256:key"]}, False),
        ("publickey", {"active": False}, False),
    ],
)
def test_a_change_ends_the_logins_that_it_forbids_and_no_others(tmp_path: Path, factors: str, change: dict[str, Any], stays: bool) -> None:
    with Catalog.create(tmp_path / "catalog.sqlite3") as catalog:
        catalog.add_client("acme", recipient="age1x")
        has_code = "totp" in factors
        before = catalog.add_person("ann", client="acme", keys=[PublicKey(LINE, "SHA256:key")], password_hash="old", totp=has_code)
        shown = Shown(frozenset(factors.split("+")), "SHA256:key", None, "old", before.totp_since)  # type: ignore[arg-type]
        after = catalog.edit_person("ann", **change)
        wanted = combinations(after.require, (), totp=after.totp)
        assert still_holds(find(catalog, "ann"), frozenset({"acme"}), shown, wanted, "192.0.2.1", datetime.now(UTC)) is stays
