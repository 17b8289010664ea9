"""Where `init` makes a data folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.errors import UsageError
from nightsafe import cli


def test_a_folder_of_another_user_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could put anything in the place of what is made there."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: data.stat().st_uid + 1)
    done = CliRunner().invoke(cli, ["init", "--data", str(data), "--recovery-kit", str(tmp_path / "kit")])
    assert isinstance(done.exception, UsageError) and "another user" in done.exception.message
    assert list(data.iterdir()) == [] and not (tmp_path / "kit").exists()
