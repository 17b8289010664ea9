"""The drill must fail where it should: the self-test, and a drill that was broken on purpose."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backup.drill.judge import Case, Finding
from backup.drill.run import run_drill
from backup.drill.selftest import self_test
from config.errors import Exit
from config.loading import Installation


@pytest.mark.long
def test_it_passes_and_a_drill_that_finds_nothing_fails_it(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["drill", "run", "--self-test", "--json", "--data", str(installation.folder.root)]
    done = subprocess.run([sys.executable, "-m", "nightsafe", *words], capture_output=True)
    assert done.returncode == Exit.DONE, done.stderr.decode()
    assert json.loads(done.stdout) == {"passed": True, "planted": ["/inbox/damaged", "/inbox/forged", "/inbox/missing"], "wrong": ""}

    def blind(_case: Case) -> list[Finding]:
        return []

    monkeypatch.setattr("backup.drill.verify.judge", blind)
    assert "did not find what was planted: /inbox/damaged, /inbox/forged, /inbox/missing" in self_test(installation, tmp_path)
    drill = installation.settings.drill.model_copy(update={"self_test": True})
    run = run_drill(Installation(installation.folder, installation.settings.model_copy(update={"drill": drill})), "full")
    assert run.state == "inconclusive"
    assert "the self-test failed" in run.detail["cause"]
