"""Each role under a user of its own does its work, and nothing more."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import paramiko
import pytest

from config.owners import ROLES
from config.rights import faults
from config.roles import role_state
from gateway.catalog import Catalog
from tests.integration.conftest import S3Server
from tests.integration.role_users import NUMBERS, barracks


@pytest.mark.long
def test_a_paper_travels_through_roles_of_seven_users(s3: S3Server) -> None:
    """Deposited, sealed, receipted, read again, backed up, drilled, checked, pruned: by processes without any capability."""
    with tempfile.TemporaryDirectory() as place:
        settings = s3.settings(Path(place), "six-users") + '[gateway]\nhost = "127.0.0.1"\nport = 0\nsettle_seconds = 0.0\nreserve_bytes = 0\n'
        token = "t" * 64
        settings += '[web]\nport = 0\ntoken_file = "../web.token"\n'
        with barracks(settings) as camp:
            shutil.copy(Path(place) / "s3.toml", camp.home / "s3.toml")
            (camp.home / "web.token").write_text(token)
            (camp.home / "web.token").chmod(0o600)
            key = camp.home / "id"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            assert (done := camp.run("root", "client", "add", "acme", "--public-key", f"{key}.pub")).returncode == 0, done.stderr
            camp.give_credentials()
            for role in ("gateway", "keyd", "ingest", "web"):  # the gateway first: it needs nobody to start
                camp.start(role, role)
            state = role_state(camp.installation.folder, "gateway")
            assert state is not None
            transport = paramiko.Transport(("127.0.0.1", state["port"]))
            transport.connect(username="acme", pkey=paramiko.Ed25519Key.from_private_key_file(str(key)))
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None
            with client.open("/inbox/ledger.csv", "wb") as file:
                file.write(b"debit;credit\n" * 1000)
            with Catalog.open(camp.installation.folder.catalog) as catalog:
                camp.until(lambda: catalog.count_papers("acme", "accepted")[0] == 1 and not catalog.unreceipted(), "ingest")
            with client.open("/inbox/ledger.csv", "rb") as file:
                assert file.read() == b"debit;credit\n" * 1000  # the vault's ciphertext, and a key from keyd
            port = role_state(camp.installation.folder, "web")["port"]  # type: ignore[index]
            for page in ("", "clients", "backups", "quarantine", "sessions"):
                asking = urllib.request.Request(f"http://127.0.0.1:{port}/{page}", headers={"Authorization": f"Bearer {token}"})
                with urllib.request.urlopen(asking, timeout=240) as answer:
                    assert "could not" not in (text := answer.read().decode())
            assert "acme" in text
            client.mkdir("/inbox/2026")
            client.rename("/inbox/ledger.csv", "/inbox/2026/ledger.csv")
            transport.close()
            done = camp.run("root", "backup", "run", "--json")  # the first one is made by hand: it must not shut the role out of anything
            assert done.returncode == 0, done.stderr
            for role, words in {
                "backup": ("backup", "run"),
                "drill": ("drill", "run", "--full"),
                "prune": ("backup", "forget"),
            }.items():
                done = camp.run(role, *words, "--json")
                assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
            done = camp.run("drill", "backup", "check", "--json")
            assert done.returncode == 0, done.stderr
            for role in ("backup", "drill", "prune"):
                camp.start(role, "scheduler", "--only", role)
            done = camp.run("root", "audit", "verify", "--json")
            assert done.returncode == 0, done.stdout + done.stderr
            assert list(faults(camp.installation, NUMBERS)) == []
            complaints = [line for role in ROLES for line in camp.log(role).splitlines() if json.loads(line).get("level") in ("warning", "error")]
            assert complaints == []
