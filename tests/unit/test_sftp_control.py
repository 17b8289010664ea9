"""A gateway process's own socket: the kernel says who asks, and each is answered what it may ask."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from config.folder import DataFolder
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
