"""The watch on withdrawn rights, against a real catalog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.catalog import Catalog, CatalogError, PublicKey
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


def test_one_who_has_expired_goes(door: Door) -> None:
    door.other.add_person("guest", client="acme", expires_at=datetime.now(UTC) + timedelta(milliseconds=50))
    door.let_in("guest")
    assert door.alive[0].until is not None
    until = datetime.now(UTC) + timedelta(seconds=10)
    while not door.check():
        assert datetime.now(UTC) < until
    assert door.ended == ["guest"]
