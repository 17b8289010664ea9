"""The algorithm policies of a real gateway, judged by the real ssh-audit, and tried with the clients that each warning is there for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.doctor.door import check_algorithms
from config.loading import open_installation
from gateway.keys.hostkeys import make_nist_host_key
from gateway.keys.keyring import Keyring
from gateway.sftp.transport.algorithms import algorithms
from tests.integration.sftp_rig import CLIENT, Server, running_server

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "algorithms.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # ssh-audit calls itself OpenSSH, to which the fast road would show GCM alone: it is to see all
    with running_server(tmp_path_factory.mktemp("algorithms"), 'algorithms = "modern"\nfast_path = false\n') as running:
        make_nist_host_key(Keyring(running.folder))
        yield running


def set_policy(server: Server, policy: str) -> None:
    """By the settings file and SIGHUP."""
    text = re.sub(r'algorithms = "\w+"', f'algorithms = "{policy}"', server.folder.settings.read_text())
    server.folder.settings.write_text(text)
    before = server.log().count("gateway.reloaded")
    os.kill(server.pid(), signal.SIGHUP)
    deadline = time.monotonic() + 240
    while server.log().count("gateway.reloaded") == before:
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.05)


def audit(server: Server) -> dict[str, Any]:
    """What ssh-audit finds: kind → level → the names of algorithms."""
    command = [str(Path(sys.executable).parent / "ssh-audit"), "-j", "--skip-rate-test", "-p", str(server.port), "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def noted(found: dict[str, Any], level: str) -> set[str]:
    return {entry["algorithm"] for kind in ("kex", "key", "enc", "mac") for entry in found[kind] if entry.get("notes", {}).get(level)}


def test_modern_has_no_failure_and_no_warning_that_the_page_does_not_explain(server: Server) -> None:
    set_policy(server, "modern")
    found = audit(server)
    assert noted(found, "fail") == set()
    table = PAGE.read_text().partition("## The warnings")[2].partition("\n## ")[0]
    explained = set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))
    assert noted(found, "warn") == explained
    assert {entry["algorithm"] for entry in found["enc"]} == set(algorithms("modern").encryption)


def test_modern_serves_libssh2(server: Server) -> None:
    """curl of Debian 12: no GCM, no encrypt-then-MAC."""
    set_policy(server, "modern")
    paper = server.home / "by-curl.txt"
    paper.write_bytes(b"x" * 100_000)
    keys = ["--key", str(server.key), "--pubkey", f"{server.key}.pub", "-k"]
    target = f"sftp://{CLIENT}@127.0.0.1:{server.port}/inbox/by-curl.txt"
    subprocess.run(["curl", "-sS", *keys, "-T", str(paper), target], check=True, timeout=240)
    fetched = subprocess.run(["curl", "-sS", *keys, target], check=True, timeout=240, capture_output=True).stdout
    assert fetched == paper.read_bytes()


def test_strict_has_neither(server: Server) -> None:
    set_policy(server, "strict")
    found = audit(server)
    assert noted(found, "fail") == set()
    assert noted(found, "warn") == set()
    (finding,) = check_algorithms(open_installation(server.folder.root))
    assert (finding.severity, finding.text) == ("good", "ssh-audit has nothing to say")


def test_nist_has_nist_curves_and_aes_alone(server: Server) -> None:
    set_policy(server, "nist")
    found = audit(server)
    names = {kind: {entry["algorithm"] for entry in found[kind]} for kind in ("kex", "key", "enc", "mac")}
    exchanges = {name for name in names["kex"] if not name.startswith(("kex-strict", "ext-info"))}
    assert exchanges
    assert all("nistp" in name for name in exchanges)
    assert names["key"] == {"ecdsa-sha2-nistp256"}
    assert all(name.startswith("aes") for name in names["enc"])
    assert all(name.startswith("hmac-sha2-") for name in names["mac"])
    key = server.home / "nist"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key)], check=True)
    from gateway.catalog import Catalog
    from gateway.catalog.sshkeys import parse_public_key

    with Catalog.open(server.folder.catalog) as catalog:
        catalog.edit_person(CLIENT, add_keys=[parse_public_key(Path(f"{key}.pub").read_text(), "nist.pub")])
    assert sftp(server, key) == 0
    assert sftp(server, server.key) != 0  # Ed25519 is no NIST curve


def sftp(server: Server, key: Path) -> int:
    command = ["sftp", *server.options(key), "-P", str(server.port), "-b", "-", f"{CLIENT}@127.0.0.1"]
    return subprocess.run(command, input=b"ls /\n", capture_output=True, timeout=240, check=False).returncode
