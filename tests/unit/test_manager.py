"""What is said to a service manager, where there is one; and that nothing of it reaches the processes that we start."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.folder import DataFolder
from config.manager import beat_seconds, say_no_more, tell, tell_reloading, without_manager
from config.roles import running_role

NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


@pytest.fixture(params=["{tmp}/notify", "@nightsafe-test-{pid}"], ids=["a path", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    address = request.param.format(tmp=tmp_path, pid=os.getpid())
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(address.replace("@", "\0"))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listening


def test_a_role_says_that_it_serves_is_alive_and_ends(manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with running_role(DataFolder(tmp_path), "web") as role:
        role.announce(port=1)
        assert manager.recv(100) == b"READY=1"
        assert not role.wait(0.15)
        assert manager.recv(100) == b"WATCHDOG=1"
        role.stop.set()
        assert role.wait()
        heard = [manager.recv(100)]
        while heard[-1] == b"WATCHDOG=1":
            heard.append(manager.recv(100))
        assert heard[-1] == b"STOPPING=1"
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_a_reload_bears_its_time(manager: socket.socket) -> None:
    before = time.monotonic()
    tell_reloading()
    what, _, when = manager.recv(100).decode().partition("\nMONOTONIC_USEC=")
    assert what == "RELOADING=1"
    assert before - 1e-6 <= int(when) / 1e6 <= time.monotonic()


@pytest.mark.parametrize("address", [None, "", "nobody", "/nowhere/at/all", "@nobody-at-all"])
def test_without_a_manager_nothing_is_said_and_nothing_fails(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    tell("READY=1")


@pytest.mark.parametrize(
    ("wanted", "whose", "seconds"),
    [(None, None, None), ("4000000", None, 2.0), ("4000000", "us", 2.0), ("4000000", "1", None), ("0", None, None), ("often", None, None)],
)
def test_it_is_heard_from_twice_within_the_watchdogs_time(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, whose: str | None, seconds: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", wanted), ("WATCHDOG_PID", str(os.getpid()) if whose == "us" else whose)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert beat_seconds() == seconds


def test_one_process_speaks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "1")
    assert set(NAMES) & set(without_manager(os.environ)) == set()
    assert "PATH" in without_manager(os.environ)
    say_no_more()
    assert set(NAMES) & set(os.environ) == set()
