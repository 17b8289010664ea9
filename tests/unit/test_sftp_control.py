"""A gateway process's own socket: the kernel says who asks, and each is answered what it may ask."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete

from config.folder import DataFolder
from config.grammar import built
from gateway import completing
from gateway.completing import named
from gateway.sftp.workers.control import EVERYTHING, Control, ask_all

LIST: dict[str, Any] = {"op": "list"}
KILL: dict[str, Any] = {"op": "kill", "id": "1", "by": "ops"}


@pytest.fixture(autouse=True)
def long_ears(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not answer in five seconds is left out: here the machine may be busy."""
    monkeypatch.setattr("gateway.sftp.workers.control.ANSWER_SECONDS", 120.0)


def asked(tmp_path: Path, users: Mapping[int, tuple[str, ...]] | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """What this process is answered to both questions, and whose connections ended."""
    killed: list[str] = []

    def kill(found: str, _by: str) -> bool:
        killed.append(found)
        return True

    async def converse() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        control = Control(DataFolder(tmp_path).gateway_socket(1), lambda: [{"id": "1", "person": "acme"}], kill, users)
        await control.start()
        try:
            return await asyncio.to_thread(ask_all, tmp_path / "run", LIST), await asyncio.to_thread(ask_all, tmp_path / "run", KILL)
        finally:
            control.close()

    (tmp_path / "run").mkdir()
    listed, ended = asyncio.run(converse())
    return listed, ended, killed


@pytest.mark.parametrize("users", [None, {os.geteuid(): EVERYTHING}])
def test_who_runs_it_may_look_and_end_connections(tmp_path: Path, users: Mapping[int, tuple[str, ...]] | None) -> None:
    assert asked(tmp_path, users) == ([{"logins": [{"id": "1", "person": "acme"}]}], [{"killed": True}], ["1"])


def test_the_page_may_look_alone(tmp_path: Path) -> None:
    assert asked(tmp_path, {os.geteuid(): ("list",)}) == ([{"logins": [{"id": "1", "person": "acme"}]}], [{"error": "not allowed"}], [])


def test_nobody_else_is_answered(tmp_path: Path) -> None:
    assert asked(tmp_path, {}) == ([], [], [])


def test_the_tab_key_offers_who_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one process that went away without a word, and one that answers nonsense."""
    monkeypatch.setattr(completing, "BUSY_SECONDS", 60.0)
    folder = DataFolder(tmp_path)

    def offered() -> list[tuple[Any, str | None]]:
        command = ["sessions", "kill", "--data", str(tmp_path)]
        found = BashComplete(built(named), {}, "nightsafe", "_NIGHTSAFE_COMPLETE").get_completions(command, "")
        return [(item.value, item.help) for item in found]

    async def converse() -> list[tuple[Any, str | None]]:
        one = {"id": "1f0c9a2b77d4", "person": "acme", "address": "192.0.2.7"}
        controls = [Control(folder.gateway_socket(number), lambda found=found: found, lambda *_: True) for number, found in ((1, [one]), (2, ["no"]))]
        for control in controls:
            await control.start()
        try:
            return await asyncio.to_thread(offered)
        finally:
            for control in controls:
                control.close()

    folder.run.mkdir()
    assert offered() == []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(folder.gateway_socket(3)))
    assert asyncio.run(converse()) == [("1f0c9a2b77d4", "acme from 192.0.2.7")]
