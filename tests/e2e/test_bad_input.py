"""Bad input, through the real command line: each case ends with the right exit code, says what is wrong and what to do, and leaves no mess."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.complaints import Case, assert_complains, nothing, parameters, processes_of, setting, tree_of
from tests.e2e.disks import tmpfs
from tests.e2e.house import CLIENT, ROOT, House

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> House:
    """An installation that never ran; the cases break copies of it."""
    house = House(tmp_path_factory.mktemp("pattern"))
    house.init()
    return house


@pytest.fixture
def copy(pattern: House, tmp_path: Path) -> House:
    """A copy of the pattern, for one case to break."""
    shutil.copytree(pattern.data, tmp_path / "data", symlinks=True)
    shutil.copy2(pattern.home / "master.key", tmp_path / "master.key")
    return House(tmp_path)


def write(name: str, content: str | bytes) -> Callable[[House], object]:
    """Write a file of the data folder."""
    return lambda house: (house.data / name).write_bytes(content.encode() if isinstance(content, str) else content)


def remove(name: str) -> Callable[[House], object]:
    """Remove a file or folder of the data folder."""

    def broken(house: House) -> None:
        path = house.data / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return broken


def newer_catalog(house: House) -> None:
    """As a newer program would leave it."""
    with sqlite3.connect(house.data / "catalog.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def open_master(house: House) -> None:
    """Readable by all."""
    (house.home / "master.key").chmod(0o644)


def master_in_data(house: House) -> None:
    """A copy of the data folder would hold the key to itself."""
    shutil.move(house.home / "master.key", house.data / "master.key")
    setting("KEYS__MASTER_FILE", "master.key")(house)


def other_master(house: House) -> None:
    """Of another installation."""
    (house.home / "master.key").unlink()
    subprocess.run(["age-keygen", "-o", str(house.home / "master.key")], check=True, capture_output=True)


def no_data(house: House) -> None:
    """Nothing but the master key."""
    shutil.rmtree(house.data)


def others_folder(house: House) -> None:
    """A folder whose one name looks like ours."""
    no_data(house)
    (house.data / "cache").mkdir(parents=True)
    (house.data / "cache" / "thesis.tex").write_text("the only copy")


def below_a_file(house: House) -> None:
    """There cannot be a folder at that place."""
    house.data = house.home / "master.key" / "data"


def master_to_be_inside(house: House) -> None:
    """The settings want the master in a data folder that is not there yet."""
    no_data(house)
    setting("KEYS__MASTER_FILE", "master.key")(house)


def open_master_alone(house: House) -> None:
    """No data folder, and a master that all can read."""
    no_data(house)
    open_master(house)


def wrong_port_alone(house: House) -> None:
    """No data folder, and settings that are wrong already."""
    no_data(house)
    setting("GATEWAY__PORT", "ssh")(house)


MISTAKES = """\
format = 1
frmat = 2

[gateway]
port = 70000
prot = 22

[backup]
timezone = "Europe/Zuerich"

[s3]
endpoint = "s3.example.org"
"""

UNTOUCHED = [
    Case("data folder missing", lambda h: shutil.rmtree(h.data), ("up",), 2, ("does not exist", "nightsafe init --data")),
    Case("data folder half-made", remove("VERSION"), ("up",), 2, ("not a finished data folder", "run it again: nightsafe init")),
    Case("data folder newer", write("VERSION", "2\n"), ("up",), 2, ("has format 2", "newer Nightsafe")),
    Case("data folder of no version", write("VERSION", "one"), ("status",), 2, ("does not hold a number", "restore it")),
    Case("catalog newer", newer_catalog, ("client", "list"), 2, ("newer Nightsafe (revision 9999", "nothing was changed")),
    Case("catalog newer, up", newer_catalog, ("up",), 2, ("newer Nightsafe (revision 9999", "nothing was changed")),
    Case("catalog missing", remove("catalog.sqlite3"), ("client", "list"), 2, ("catalog.sqlite3 is missing", "restore")),
    Case("catalog missing, up", remove("catalog.sqlite3"), ("up",), 2, ("catalog.sqlite3 is missing", "restore")),
    Case("catalog emptied, up", write("catalog.sqlite3", ""), ("up",), 2, ("catalog.sqlite3 is empty", "restore")),
    Case("catalog garbage", write("catalog.sqlite3", b"\x00\x17" * 4096), ("client", "list"), 5, ("not a database", "restore")),
    Case("catalog garbage, up", write("catalog.sqlite3", b"\x00\x17" * 4096), ("up",), 5, ("not a database", "restore")),
    Case(
        "several mistakes in the settings",
        write("nightsafe.toml", MISTAKES),
        ("status",),
        2,
        ("5 mistakes", "toml:2: frmat", "toml:5: gateway.port", "toml:6: gateway.prot", "toml:9: backup.timezone", "toml:12: s3.endpoint"),
        lines=7,
    ),
    Case("a mistake in the environment", setting("GATEWAY__PROT", "22"), ("status",), 2, ("1 mistake", "NIGHTSAFE_SET_GATEWAY__PROT"), lines=3),
    Case("a wrong table in the environment", setting("GATWAY__PORT", "22"), ("status",), 2, ("1 mistake", "NIGHTSAFE_SET_GATWAY__PORT"), lines=3),
    Case("settings are no TOML", write("nightsafe.toml", "[gateway\nport = 1\n"), ("up",), 2, ("not valid TOML", "line 1", "mend the line")),
    Case("settings are no text", write("nightsafe.toml", b"\xff\xfe"), ("up",), 2, ("not text in UTF-8", "save it")),
    Case("settings missing", remove("nightsafe.toml"), ("up",), 2, ("is missing", "restore it")),
    Case("master key missing", lambda h: (h.home / "master.key").unlink(), ("up",), 2, ("master file", "is missing", "put it back")),
    Case("master key open to others", open_master, ("up",), 2, ("open to other users (mode 0644)", "chmod 600")),
    Case("master key open to others, keyd", open_master, ("keyd",), 2, ("open to other users (mode 0644)", "chmod 600")),
    Case("master key in the data folder", master_in_data, ("up",), 2, ("inside the data folder", "move it elsewhere")),
    Case("master key of another installation", other_master, ("up",), 2, ("sealed to another key", "the right master")),
    Case("spool missing", remove("spool"), ("up",), 2, ("spool/partial is missing", "is its disk mounted?")),
    Case("vault missing", remove("vault"), ("up",), 2, ("vault is missing", "is its disk mounted?")),
    Case("keys missing", remove("keys"), ("up",), 2, ("keys", "restore")),
    Case("unknown client", nothing, ("client", "show", "nobody"), 2, ("no client 'nobody'", "nightsafe client list")),
    Case("unknown client, files", nothing, ("files", "list", "nobody"), 2, ("no client 'nobody'", "nightsafe client list")),
    Case("a name in other bytes", nothing, ("client", "show", "caf\udce9"), 2, ("not UTF-8", "locale charmap")),
    Case("a pattern in other bytes", nothing, ("files", "find", "caf\udce9"), 2, ("not UTF-8", "locale charmap")),
    Case("a name that is none", nothing, ("client", "add", "../acme"), 2, ("'../acme'",)),
    Case("client twice", nothing, ("client", "add", CLIENT), 2, ("already", "nightsafe client show acme")),
    Case("key file missing", nothing, ("client", "add", "b", "--public-key", "{home}/none.pub"), 2, ("none.pub cannot be read", ".pub")),
    Case("a private key as public key", nothing, ("client", "add", "b", "--public-key", "{home}/master.key"), 2, ("master.key",)),
    Case("init of a folder that lost its VERSION", remove("VERSION"), ("init",), 2, ("is not empty: it holds", "choose an empty folder")),
    Case("init of a folder of others", others_folder, ("init",), 2, ("is not empty: it holds 'cache'", "choose an empty folder")),
    Case("init below a file", below_a_file, ("init",), 2, ("cannot be made: Not a directory", "choose another place")),
    Case("init over a kit", no_data, ("init", "--recovery-kit", "{home}/master.key"), 2, ("master.key exists already", "choose another name")),
    Case("init with the kit inside", no_data, ("init", "--recovery-kit", "{home}/data/k"), 2, ("not lie inside the data folder", "keep it far")),
    Case("init with a kit in no folder", no_data, ("init", "--recovery-kit", "{home}/none/k"), 2, ("none does not exist", "make it")),
    Case("init with the master inside", master_to_be_inside, ("init",), 2, ("inside the data folder", "move it elsewhere")),
    Case("init with a master open to others", open_master_alone, ("init",), 2, ("open to other users", "chmod 600")),
    Case("init with a mistake in the environment", wrong_port_alone, ("init",), 2, ("1 mistake", "NIGHTSAFE_SET_GATEWAY__PORT"), lines=3),
    Case("init twice", nothing, ("init",), 2, ("finished data folder already", "nightsafe up")),
    Case("ready file in no folder", nothing, ("up", "--ready-file", "{home}/none/ready.json"), 2, ("{home}/none", "make it")),
]

# One of each kind runs by default, the others with --full.
USUAL = {
    "data folder missing", "data folder half-made", "catalog newer", "catalog missing, up", "catalog garbage", "several mistakes in the settings",
    "settings missing", "master key missing", "master key open to others, keyd", "master key in the data folder", "spool missing", "unknown client",
    "client twice", "a private key as public key", "init of a folder of others", "init over a kit", "init twice", "ready file in no folder",
}  # fmt: skip


@pytest.mark.parametrize("case", parameters(UNTOUCHED, USUAL))
def test_refused_and_untouched(copy: House, case: Case) -> None:
    case.broken(copy)
    before = tree_of(copy.home)
    done = copy.run(*(word.replace("{home}", str(copy.home)) for word in case.arguments))
    assert_complains(done, case.code, *(word.replace("{home}", str(copy.home)) for word in case.words), lines=case.lines)
    assert tree_of(copy.home) == before
    assert processes_of(copy) == []


def test_no_data_folder_named(pattern: House) -> None:
    command = [sys.executable, "-m", "nightsafe", "status"]
    environment = {name: value for name, value in pattern.environment.items() if name != "NIGHTSAFE_DATA"}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=ROOT, check=False)
    assert_complains(done, 2, "no data folder was named", "--data DIR")


def test_an_init_that_was_killed_is_said_and_run_again(tmp_path: Path) -> None:
    house = House(tmp_path)
    command = [sys.executable, "-m", "nightsafe", "init", "--data", str(house.data), "--recovery-kit", str(house.kit)]
    with subprocess.Popen(command, env=house.environment, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while not (house.data / "keys" / "secrets").exists():
            assert process.poll() is None
        process.kill()
    assert not (house.data / "VERSION").exists()
    assert not house.kit.exists()
    assert_complains(house.run("status"), 2, "is not a finished data folder", f"nightsafe init --data {house.data}")
    house.init()
    assert not (house.data / "INIT-UNFINISHED").exists()
    assert house.json("client", "list")[0]["name"] == CLIENT


def test_init_with_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", "64k") as disk:
        house = House(tmp_path, disk / "data")
        done = house.run("init", "--recovery-kit", str(house.kit))
        assert_complains(done, 5, "disk", "free some space")
        assert list(disk.iterdir()) == []
        assert not house.kit.exists()


def test_the_port_is_taken(copy: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = copy.run("up", "--sftp-host", "127.0.0.1", "--sftp-port", str(port), "--ready-file", str(copy.ready_file))
        assert_complains(done, 5, f"127.0.0.1 port {port} is taken", "stop it, or set", lines=4)
    assert processes_of(copy) == []
    assert not copy.ready_file.exists()
    assert not list((copy.data / "run").glob("*.json"))
