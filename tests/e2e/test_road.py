"""The whole road, there and back: every size and every name through SFTP, `files get`, the drill, `restore` and the kit's script.

The biggest paper has 64 MiB, and 1 GiB with --full.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.folder import DataFolder
from gateway.age import bech32, parse_identities
from gateway.keys.keyring import Keyring
from tests.e2e.house import CLIENT, House, running_house
from tests.e2e.peeking import core_limit, family, in_memory, in_open_files, on_show
from tests.e2e.trees import GIB, MIB, hashes, make_tree

# All that the kit's script may need beside restic and age.
POSIX_TOOLS = (
    *("restic", "age"),
    *("sh", "find", "sed", "mkdir", "cat", "rm", "mv", "cp", "wc", "tr", "dirname", "basename", "mktemp", "head"),
    *("tail", "cut", "grep", "touch", "date", "sort", "test", "expr", "rmdir", "ls", "chmod"),
)

pytestmark = pytest.mark.timeout(900)


class Road:
    """A house whose papers have been deposited, sealed and backed up."""

    def __init__(self, house: House, there: dict[str, str], run: dict[str, Any]) -> None:
        self.house = house
        self.there = there
        self.run = run


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Road]:
    home = tmp_path_factory.mktemp("road")
    papers = home / "papers"
    there = make_tree(papers, big=GIB if pytestconfig.getoption("--full") else 64 * MIB)
    with running_house(home) as house:
        house.sftp(f'put -r "{papers}" inbox/')
        house.await_papers(len(there))
        yield Road(house, there, house.json("backup", "run"))


def test_the_backup_counts_every_paper(road: Road) -> None:
    assert road.run["state"] == "passed"
    assert road.run["detail"]["papers"] == len(road.there)
    assert road.run["snapshot"]
    assert road.run["keys_snapshot"]


def test_back_through_sftp(road: Road, tmp_path: Path) -> None:
    road.house.sftp(f'get -r inbox/papers "{tmp_path}"')
    assert hashes(tmp_path / "papers") == road.there
    with road.house.paramiko() as client:
        for name in road.there:
            assert client.stat(f"/inbox/papers/{name}").st_size == (road.house.home / "papers" / name).stat().st_size


def test_back_through_files_get(road: Road, tmp_path: Path) -> None:
    listed = {row["path"]: row for row in road.house.json("files", "list", CLIENT)}
    assert {f"/inbox/papers/{name}" for name in road.there} == set(listed)
    for number, (name, sha256) in enumerate(road.there.items()):
        row = listed[f"/inbox/papers/{name}"]
        assert (row["sha256"], row["state"]) == (sha256, "accepted")
        if number % 3 == 0 or "big" in name:
            out = tmp_path / str(number)
            got = road.house.json("files", "get", CLIENT, f"/inbox/papers/{name}", "--out", str(out))
            assert got["sha256"] == sha256
            assert hashes(tmp_path)[str(number)] == sha256
            out.unlink()


def test_every_paper_has_one_receipt_that_ssh_keygen_accepts(road: Road, tmp_path: Path) -> None:
    road.house.sftp(f'get -r receipts "{tmp_path}"')
    receipts = list((tmp_path / "receipts").rglob("*.json"))
    told = {}
    for receipt in receipts:
        said = json.loads(receipt.read_text())
        told[said["path"].removeprefix("/inbox/papers/")] = said["sha256"]
        command = ["ssh-keygen", "-Y", "verify", "-f", str(road.house.data / "keys" / "allowed_signers"), "-I", "receipts", "-n", "receipt@nightsafe"]
        with receipt.open("rb") as message:
            subprocess.run([*command, "-s", f"{receipt}.sig"], stdin=message, check=True, capture_output=True)
    assert told == road.there
    assert len(receipts) == len(road.there)


def test_the_full_drill_passes(road: Road) -> None:
    drill = road.house.json("drill", "run", "--full")
    assert drill["state"] == "passed"
    assert drill["detail"]["drawn"] == drill["detail"]["of"] == len(road.there)
    assert (drill["detail"]["bad"], drill["detail"]["missing"], drill["detail"]["surplus"]) == ([], [], [])
    evidence = Path(drill["detail"]["evidence"])
    command = ["ssh-keygen", "-Y", "verify", "-f", str(road.house.data / "keys" / "allowed_signers"), "-I", "evidence", "-n", "evidence@nightsafe"]
    with evidence.open("rb") as message:
        subprocess.run([*command, "-s", f"{evidence}.sig"], stdin=message, check=True, capture_output=True)
    assert evidence.with_suffix(".html").exists()
    assert not any((road.house.home / "scratch").iterdir())
    assert drill["run"] in [run["run"] for run in road.house.json("drill", "list")]
    assert road.house.json("drill", "show", str(drill["run"])) == drill


def test_a_sampled_drill_passes(road: Road) -> None:
    drill = road.house.json("drill", "run", "--sample", "4")
    assert (drill["state"], drill["detail"]["drawn"]) == ("passed", 4)


def test_restore_gives_every_paper_back(road: Road, tmp_path: Path) -> None:
    road.house.json("restore", CLIENT, "--to", str(tmp_path / "back"))
    assert hashes(tmp_path / "back" / "inbox" / "papers") == road.there


def test_restore_of_one_folder(road: Road, tmp_path: Path) -> None:
    road.house.json("restore", CLIENT, "/inbox/papers/名 [names] 'x'", "--to", str(tmp_path / "back"))
    found = hashes(tmp_path / "back" / "inbox" / "papers")
    assert found == {name: sha256 for name, sha256 in road.there.items() if not name.startswith("sizes")}


def test_the_kit_alone_gives_every_paper_back_without_python(road: Road, tmp_path: Path) -> None:
    part_b = tmp_path / "kit-b.txt"
    part_b.write_bytes(road.house.run("kit", "show").stdout)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in POSIX_TOOLS:
        if found := shutil.which(tool):
            (tools / tool).symlink_to(found)
    assert shutil.which("python3", path=str(tools)) is None
    steps = f"""
        set -eu
        sed -n '/^# values$/,/^# end of values$/p' {part_b} > {tmp_path}/values.sh
        sed -n '/^#!\\/bin\\/sh$/,/^# end of restore.sh$/p' {part_b} > {tmp_path}/restore.sh
        . {tmp_path}/values.sh
        sh {tmp_path}/restore.sh {road.house.kit} {tmp_path}/target
    """
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run([str(tools / "sh"), "-c", steps], env=environment, capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    assert hashes(tmp_path / "target" / CLIENT / "inbox" / "papers") == road.there


def test_the_audit_log_holds(road: Road) -> None:
    assert road.house.json("audit", "verify")["problems"] == []
    sealed = road.house.json("audit", "show", "--event", "paper.sealed", "--limit", "1000")
    assert len(sealed) == len(road.there)


def test_an_overwritten_paper_keeps_its_older_version(road: Road, tmp_path: Path) -> None:
    (tmp_path / "v1").write_bytes(b"first")
    (tmp_path / "v2").write_bytes(b"second, longer")
    before = road.house.json("client", "show", CLIENT)["papers"]
    road.house.sftp(f"put {tmp_path}/v1 inbox/contract.txt")
    road.house.await_papers(before + 1)
    road.house.sftp(f"put {tmp_path}/v2 inbox/contract.txt")
    road.house.await_papers(before + 2)
    versions = road.house.json("files", "versions", CLIENT, "/inbox/contract.txt")
    assert [version["version"] for version in versions] == [1, 2]
    assert road.house.run("files", "get", CLIENT, "/inbox/contract.txt").stdout == b"second, longer"
    assert road.house.run("files", "get", CLIENT, "/inbox/contract.txt", "--version", "1").stdout == b"first"
    road.house.sftp("rm inbox/contract.txt")
    assert road.house.run("files", "get", CLIENT, "/inbox/contract.txt", "--version", "2").stdout == b"second, longer"


def identities_of(house: House) -> dict[str, list[bytes]]:
    """Every age identity of the house as it would lie in a memory or a file: as text, and as raw bytes."""
    folder = DataFolder(house.data)
    master = parse_identities((house.home / "master.key").read_text())[0]
    keyring = Keyring(folder)
    found = {"master": [master], "recovery": parse_identities(house.kit.read_text())}
    found |= {"client": keyring.client_identities(CLIENT, master), "ingest": keyring.ingest_identities(master)}
    return {name: [form for one in each for form in (one.encode().encode(), bech32.decode(one.encode())[1])] for name, each in found.items()}


def test_the_process_that_faces_the_internet_holds_no_identity(road: Road, tmp_path: Path) -> None:
    """Its memory and its open files, while it has just uploaded, sealed and read papers. The search finds the same things in keyd."""
    house = road.house
    known = identities_of(house)
    everything = [form for forms in known.values() for form in forms]
    sealed = next(name for name in road.there if (house.home / "papers" / name).stat().st_size)
    with house.paramiko() as client:
        with client.open("/inbox/searched.bin", "wb") as file:
            file.write(b"x" * 300_000)
        with client.open("/inbox/searched.bin", "rb") as reader, client.open(f"/inbox/papers/{sealed}", "rb") as stored:
            assert reader.read(10) == b"x" * 10 and stored.read(1)
            gateway, keyd = house.pid("gateway"), house.pid("keyd")
            assert gateway and keyd
            for pid in family(gateway):
                assert in_memory(pid, everything) == set()
                held, names = in_open_files(pid, everything)
                assert held == set()
                assert not [name for name in names if "/keys/" in name or "/ingest-keys/" in name or "master" in name], names
    assert set(known["master"]) & in_memory(keyd, known["master"]), "the search finds what is there"
    assert set(known["client"]) & in_memory(keyd, known["client"])
    with (tmp_path / "planted").open("wb+") as planted:
        planted.write(known["master"][0])
        planted.flush()
        assert in_open_files(os.getpid(), everything)[0] == {known["master"][0]}


def test_no_secret_is_on_show(road: Road) -> None:
    """Arguments, environments, logs, the audit log; and no process may leave a core."""
    house = road.house
    folder, secrets = DataFolder(house.data), [form for forms in identities_of(house).values() for form in forms]
    master = parse_identities((house.home / "master.key").read_text())[0]
    for path in sorted((folder.keys / "secrets").glob("*.age")):
        data = Keyring(folder).open_secret(path.stem, master)
        secrets += [value.encode() for value in json.loads(data).values()] if path.stem.startswith("s3-") else [data.strip()]
    assert len(secrets) > 12
    pids = family(house.up_pid)
    assert len(pids) >= 5
    for pid in pids:
        shown = on_show(pid)
        assert b"nightsafe" in shown or b"weed" in shown
        assert not [secret for secret in secrets if secret in shown]
        if b"weed" not in shown:
            assert core_limit(pid).split()[4:6] == ["0", "0"]
    for path in (house.log, *folder.audit.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            assert not [secret for secret in secrets if secret in data], path


def test_status_says_that_embedded_is_not_offsite_and_that_nothing_is_scanned(road: Road) -> None:
    lines = {line["name"]: line for line in road.house.json("status")["lines"]}
    assert lines["offsite"]["colour"] != "green"
    assert "not offsite" in lines["offsite"]["text"]
    assert "off" in lines["virus scan"]["text"]
