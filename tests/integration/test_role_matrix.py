"""The matrix role × place, tried for real: what each role's user can do, compared with `config.owners`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from backup.doctor import possessions
from config.acl import READ, WRITE, Acl, get_acl, set_acl
from config.files import FILE_MODE
from config.owners import PLACES, ROLES, Place
from config.rights import apply, faults
from gateway.catalog import Catalog
from tests.integration.role_users import NUMBERS, ROOT, Barracks, barracks

# Run as a role's user; answers [what, …] for each path: which of these went well.
PROBE = """
import json, os, socket, stat, sys
def works(deed):
    try:
        deed()
    except OSError:
        return False
    return True
def connect(path):
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(path)
def make(folder):
    path = folder + "/.probe"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)); os.unlink(path)
def rename(path):
    os.rename(path, path + ".x"); os.rename(path + ".x", path)
def deeds(path):
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        return {"list": lambda: os.listdir(path), "make": lambda: make(path), "remove": lambda: rename(path + "/canary")}
    if stat.S_ISSOCK(mode):
        return {"write": lambda: connect(path)}
    return {"read": lambda: open(path, "rb").close(), "write": lambda: open(path, "r+b").close()}
def tried(path):
    try:
        return sorted(what for what, deed in deeds(path).items() if works(deed))
    except OSError:
        return []
print(json.dumps({path: tried(path) for path in json.load(sys.stdin)}))
"""


@pytest.fixture(scope="module")
def camp() -> Iterator[Barracks]:
    """An installation with a file of root's in every folder, and the sockets."""
    with barracks() as made:
        folder = made.installation.folder
        for place in PLACES:
            if place.kind == "folder":
                (folder.root / place.path / "canary").touch(FILE_MODE)
        with contextlib.ExitStack() as stack:
            for path, connecting in ((folder.keyd_socket, ("gateway", "drill")), (folder.gateway_socket(1), ("web",))):
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(path))
                listener.listen(8)
                set_acl(path, Acl(READ | WRITE, {NUMBERS[role]: READ | WRITE for role in connecting}))
            yield made


def tried(camp: Barracks, role: str, paths: list[Path]) -> dict[str, Any]:
    command = camp.command(role, sys.executable, "-I", "-S", "-c", PROBE)
    done = subprocess.run(command, input=json.dumps([str(path) for path in paths]), capture_output=True, text=True, check=True, timeout=240)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def expected(place: Place, path: Path, role: str) -> list[str]:
    """What the table says that the role can do there."""
    reads, writes, adds = role in place.reads | place.writes, role in place.writes, role in place.adds
    if path.is_dir():
        listing = reads or adds or role in place.passes
        return [what for what, may in (("list", listing), ("make", writes or adds), ("remove", writes)) if may]
    return [what for what, may in (("read", reads and place.kind != "socket"), ("write", writes)) if may]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_can_do_what_the_table_says_and_nothing_more(camp: Barracks, role: str) -> None:
    root = camp.installation.folder.root
    wanted: dict[Path, list[str]] = {}
    for place in PLACES:
        for path in sorted(root.glob(place.path)) if "*" in place.path else [root / place.path]:
            wanted[path] = expected(place, path, role)
            if place.kind == "folder" and place.path != ".":
                canary = path / "canary"
                wanted[canary] = expected(Place(place.path, "file", place.reads, place.writes), canary, role)
    wanted |= {root / f"catalog.sqlite3{end}": wanted[root / "catalog.sqlite3"] for end in ("-wal", "-shm")}
    wanted[camp.home / "master.key"] = []
    wanted[root / "keys/host/ssh_host_ed25519_key"] = ["read"] if role == "gateway" else []
    wanted[camp.installation.path(camp.installation.settings.drill.scratch)] = ["list", "make"] if role == "drill" else []
    found = tried(camp, role, list(wanted))
    assert {path: found[str(path)] for path in wanted} == wanted


def test_what_a_role_makes_is_shared_as_the_folder_says(camp: Barracks) -> None:
    """ingest seals: the gateway reads it, drill does not; and what a role must keep for itself it does."""
    vault = camp.installation.folder.vault / "acme"
    script = f"import os; os.umask(0o077); os.mkdir('{vault}', 0o770); os.close(os.open('{vault}/paper', os.O_CREAT | os.O_WRONLY, 0o660))"
    subprocess.run(camp.command("ingest", sys.executable, "-I", "-S", "-c", script), check=True, timeout=240)
    found = {role: tried(camp, role, [vault / "paper"])[str(vault / "paper")] for role in ("ingest", "gateway", "backup", "drill")}
    assert found == {"ingest": ["read", "write"], "gateway": ["read"], "backup": ["read"], "drill": []}
    assert list(faults(camp.installation, NUMBERS)) == []


def test_a_command_of_root_leaves_the_catalog_open_to_the_roles(camp: Barracks) -> None:
    """The last one who leaves takes SQLite's log files along, and roles may make none: one that starts just then would find nothing to write to."""
    catalog = camp.installation.folder.catalog
    with Catalog.open(catalog) as opened:
        opened.clients()
        assert list(faults(camp.installation, NUMBERS)) == []
    logs = [catalog.with_name(catalog.name + end) for end in ("-wal", "-shm")]
    assert [path.exists() for path in logs] == [True, True]
    assert list(faults(camp.installation, NUMBERS)) == []
    for path in logs:
        path.unlink()
    with Catalog.open(catalog) as opened:
        opened.clients()
        assert list(faults(camp.installation, NUMBERS)) == []


@pytest.mark.parametrize("where", ["keys/secrets/canary", "audit/canary", "vault", "catalog.sqlite3", "run"])
def test_rights_that_are_too_wide_are_found_and_mended(camp: Barracks, where: str) -> None:
    path = camp.installation.folder.root / where
    os.chmod(path, stat.S_IMODE(path.stat().st_mode) | stat.S_IROTH)
    assert [fault for fault in faults(camp.installation, NUMBERS) if str(path) in fault]
    with patch.object(possessions, "role_users", lambda: NUMBERS):
        (finding,) = possessions.check_folder(camp.installation)
        assert (finding.severity, finding.mend) == ("bad", "nightsafe permissions apply")
        assert apply(camp.installation, NUMBERS, deep=True) == 1
        assert [one.severity for one in possessions.check_folder(camp.installation)] == ["good"]
    assert list(faults(camp.installation, NUMBERS)) == []


def test_one_user_too_many_is_found(camp: Barracks) -> None:
    path = camp.installation.folder.root / "ingest-keys"
    before = get_acl(path)
    assert before is not None
    set_acl(path, Acl(before.owner, {**before.users, NUMBERS["drill"]: READ}), before)
    assert any(str(path) in fault for fault in faults(camp.installation, NUMBERS))
    apply(camp.installation, NUMBERS, deep=False)
    assert list(faults(camp.installation, NUMBERS)) == []


def test_each_role_reads_its_own_secrets_alone(camp: Barracks) -> None:
    """As containers have it: root holds them in memory, each role's folder belongs to its user; nothing is left at the end."""
    shown = camp.secrets / "held"
    environment = camp.environment("root")
    command = camp.nightsafe("root", "credentials", str(shown), "--hold")
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as holding:
        try:
            deadline = time.monotonic() + 240
            while not (shown / "ready").exists():
                assert holding.poll() is None, holding.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            files = [path for path in shown.glob("*/*") if path.is_file()]
            assert {path.name for path in files if path.parent.name == "keyd"} == {"master"}
            for role in ROLES:
                found = tried(camp, role, files)
                assert {path for path in files if found[str(path)]} == {path for path in files if path.parent.name == role}
        finally:
            holding.terminate()
    assert holding.returncode == 0
    assert list(shown.iterdir()) == []
