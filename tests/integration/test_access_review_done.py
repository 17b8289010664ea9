"""`nightsafe access-review`: recorded as an event and as signed evidence; the next one shows what changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from gateway.audit.read import read
from gateway.catalog import Catalog
from gateway.keys.keyring import Keyring
from nightsafe import cli
from tests.integration.conftest import make_installation


def test_done_and_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_installation(tmp_path).folder

    def ask(*words: str) -> Any:
        code = run(cli, ["access-review", *words, "--data", str(folder.root), "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    with Catalog.open(folder.catalog) as catalog:
        for name in ("acme", "beta"):
            catalog.add_client(name, recipient="age1x")
        catalog.add_person("zoe", role="staff", clients=["acme"])
    first = ask("--page", str(tmp_path / "page.html"))
    assert [entry["person"] for entry in first["entries"]] == ["zoe"] and first["last_review"] is None and first["differences"] is None
    assert "zoe" in (tmp_path / "page.html").read_text()
    assert run(cli, ["access-review", "done", "--data", str(folder.root)]) == 2, "by whom?"
    capsys.readouterr()
    assert ask("done", "--by", "Ms Keller", "--note", "fine")["review"] == 1
    assert ask()["differences"] == {"came": [], "went": [], "changed": []}
    with Catalog.open(folder.catalog) as catalog:
        catalog.edit_person("zoe", clients=["acme", "beta"])
    found = ask()
    assert found["last_review"]["by"] == "Ms Keller" and [one["client"] for one in found["differences"]["came"]] == ["beta"]
    assert ask("--client", "acme")["differences"]["came"] == []
    assert (ask("done", "--by", "Ms Keller")["review"], ask("done", "--by", "x")["changed"]) == (2, 0)
    events = list(read(folder.audit, event="access.reviewed"))
    assert [(line["review"], line["by"], line["changed"]) for line in events] == [(1, "Ms Keller", None), (2, "Ms Keller", 1), (3, "x", 0)]
    path = folder.evidence / "access-review" / "2.json"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == events[1]["sha256"]
    command = ["ssh-keygen", "-Y", "verify", "-f", Keyring(folder).allowed_signers, "-I", "audit", "-n", "audit@nightsafe", "-s", f"{path}.sig"]
    assert subprocess.run(command, input=path.read_bytes(), capture_output=True, check=False).returncode == 0
