"""Limits of a client on the command line: set, shown, lifted, and what is no limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.catalog import Catalog
from gateway.catalog.limits import Limits
from gateway.commands.client import client
from gateway.commands.limits import of_limit
from gateway.jail import Pointer, Tree, path_of
from tests.integration.conftest import make_installation


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_installation(tmp_path, "[gateway]\nport = 0\n")
    return tmp_path


def ask(home: Path, *words: str) -> Any:
    done = CliRunner().invoke(client, [*words, "--data", str(home / "data"), "--json"])
    return json.loads(done.output) if done.exit_code == 0 else done


def test_limits_are_set_shown_and_lifted(home: Path) -> None:
    added = ask(home, "add", "acme", "--quota", "1MiB", "--quota-files", "3", "--quota-stored", "5 MiB")["client"]
    assert (added["quota_bytes"], added["quota_files"], added["quota_stored_bytes"]) == (2**20, 3, 5 * 2**20)
    with Tree(home / "data" / "jails" / "acme") as tree:
        tree.make_folder(path_of("/inbox/d"))
        tree.put(path_of("/inbox/d/a"), Pointer("ab" * 16, 1000, "whole"), mtime=None, durable=False)
    (home / "data" / "vault" / "acme" / "ab").mkdir(parents=True)
    (home / "data" / "vault" / "acme" / "ab" / f"{'ab' * 16}.age").write_bytes(b"x" * 1200)
    assert ask(home, "show", "acme")["used"] == {"bytes": 1000, "files": 2, "stored_bytes": 1200}
    edited = ask(home, "edit", "acme", "--quota", "none", "--quota-files", "0")
    assert (edited["quota_bytes"], edited["quota_files"], edited["quota_stored_bytes"]) == (None, 0, 5 * 2**20)
    with Catalog.open(home / "data" / "catalog.sqlite3") as catalog:
        known = catalog.client("acme")
        assert known is not None and known.limits == Limits(names=0, stored_bytes=5 * 2**20)


@pytest.mark.parametrize("words", [("--quota-files", "-1"), ("--quota-files", "many"), ("--quota-stored", "1 parsec"), ("--quota-files", "²")])
def test_what_is_no_limit_is_said(home: Path, words: tuple[str, ...]) -> None:
    assert ask(home, "add", "acme", *words).exit_code == 2


def test_what_is_used_of_a_limit() -> None:
    assert [of_limit(512, None), of_limit(512, 1024), of_limit(0, 0), of_limit(2, 3, str)] == [
        "512 B",
        "512 B of 1.0 KiB (50 %)",
        "0 B of 0 B",
        "2 of 3 (67 %)",
    ]
