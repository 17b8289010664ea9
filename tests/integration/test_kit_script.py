"""The kit's restore.sh, with real restic and age, on a PATH that holds these and POSIX tools only: every paper under its own name."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.folder import DataFolder
from gateway.age import Identity, open_bytes, seal
from gateway.jail.pointers import Pointer
from gateway.keys.keyring import Keyring
from gateway.keys.kit import KitValues, part_a, part_b, restore_script
from gateway.store.ids import new_paper_id
from tests.integration.ready_repositories import prepare_folder

PASSWORD = "kit-password"
TOOLS = ("restic", "age", "sh", "find", "sed", "mkdir", "mv", "cp", "rm", "touch", "wc")
EDGES = (0, 1, 65535, 65536, 65537, 3 * 65536)
NAMES = (
    "二〇二四年 发票.pdf",
    " spaces  on both ends ",
    'quote\'s and "double" `ticks` $(echo no) $HOME',
    "brackets [a-z] {b} (c) * ? ! \\ back",
    "-rf",
    "--help",
    "new\nline",
    "ends with newline\n",
    "tab\tand \x01 control",
    "é" * 127 + "x",  # 255 bytes
    "账" * 85,  # 255 bytes
    ".hidden",
    ".filepart",
    "a%sb%n&;|<>~#",
)


@dataclass
class House:
    """A data folder, made by hand, with its repositories beside it."""

    base: Path
    recovery: Identity = field(default_factory=Identity.generate)
    expected: dict[str, bytes] = field(default_factory=dict)  # path below TARGET → SHA-256
    folder: DataFolder = field(init=False)
    keyring: Keyring = field(init=False)

    def __post_init__(self) -> None:
        self.folder = DataFolder(self.base / "data")
        self.folder.root.mkdir(parents=True)
        self.keyring = Keyring.create(self.folder, Identity.generate().recipient, self.recovery.recipient)

    def seal(self, client: str, content: Iterable[bytes], vault: Path) -> tuple[str, int, bytes]:
        """Seal a paper; (id, size, SHA-256)."""
        paper, digest = new_paper_id(), hashlib.sha256()
        path = vault / client / paper[-2:] / f"{paper}.age"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            writer = seal(file, [self.keyring.client_recipient(client).recipient])
            for piece in content:
                digest.update(piece)
                writer.write(piece)
            writer.close()
        return paper, writer.size, digest.digest()

    def point(self, client: str, name: str, pointer: Pointer, mtime: float = 1_600_000_000.0) -> None:
        path = self.folder.jail(client) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pointer.encode())
        os.utime(path, (mtime, mtime))

    def paper(self, client: str, name: str, content: Iterable[bytes]) -> str:
        paper, size, digest = self.seal(client, content, self.folder.vault)
        self.point(client, name, Pointer(paper, size, "whole"))
        self.expected[f"{client}/{name}"] = digest
        return paper

    def client(self, name: str) -> None:
        self.keyring.add_client(name)
        for inner in ("inbox", "outbox", "receipts", ".tmp"):
            (self.folder.jail(name) / inner).mkdir(parents=True)

    def back_up(self) -> None:
        """As a backup does it: relative paths, two repositories."""
        for made in (self.folder.vault, self.folder.quarantine, self.folder.keys / "clients"):
            made.mkdir(parents=True, exist_ok=True)
        for repository, sources in (
            ("papers", ("jails", "vault", "quarantine", "keys/secrets")),
            ("keys", ("keys/clients", "keys/master.recipient")),
        ):
            self.restic(repository, "backup", "--host", "nightsafe", *sources)

    def restic(self, repository: str, *arguments: str) -> None:
        environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(self.base / "cache")}
        command = ["restic", "-q", "-r", str(self.base / repository), *arguments]
        subprocess.run(command, env=environment, cwd=self.folder.root, check=True, capture_output=True)

    def restore(self, *arguments: str, target: str = "target", **changes: str | None) -> subprocess.CompletedProcess[str]:
        """Run the script as in a disaster; `changes` to the environment, None removes."""
        script, identity = self.base / "restore.sh", self.base / "kit-a.txt"
        script.write_text(restore_script())
        identity.write_text(part_a(self.recovery, self.keyring))
        environment: dict[str, str | None] = {
            "PATH": str(tools(self.base)),
            "NIGHTSAFE_PAPERS": str(self.base / "papers"),
            "NIGHTSAFE_KEYS": str(self.base / "keys"),
            "RESTIC_PASSWORD": PASSWORD,
            "KEYS": "a variable of this name is hidden from the programs",
            **changes,
        }
        return subprocess.run(
            ["/bin/sh", str(script), *(arguments or (str(identity), str(self.base / target)))],
            env={name: value for name, value in environment.items() if value is not None},
            cwd=self.base,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=240,
        )


def tools(base: Path) -> Path:
    """A folder with nothing but links to what the script says it needs."""
    path = base / "only-tools"
    if not path.exists():
        path.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, f"{tool} is not installed"
            (path / tool).symlink_to(Path(found).resolve() if tool != "sh" else Path("/bin/dash"))
    return path


def files_below(root: Path) -> dict[str, Path]:
    return {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}


def digests(root: Path) -> dict[str, bytes]:
    found = {}
    for name, path in files_below(root).items():
        with path.open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").digest()
    return found


@pytest.fixture(scope="module")
def empty_repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two new repositories, to be copied: making one takes restic two seconds of key derivation."""
    made = House(tmp_path_factory.mktemp("empty"))
    prepare_folder(made.base / "papers", PASSWORD.encode())
    prepare_folder(made.base / "keys", PASSWORD.encode())
    return made.base


@pytest.fixture
def house(tmp_path: Path, empty_repositories: Path) -> House:
    made = House(tmp_path / "with spaces [and] 'quotes'")
    for repository in ("papers", "keys"):
        shutil.copytree(empty_repositories / repository, made.base / repository)
    made.client("acme")
    return made


def test_every_paper_comes_back_under_its_own_name(house: House) -> None:
    house.client("zeta.b_2-c")
    for size in EDGES:
        house.paper("acme", f"inbox/{size}.bin", [os.urandom(size)])
    for name in NAMES:
        house.paper("acme", f"inbox/{name}", [name.encode()])
        house.paper("acme", f"inbox/deep {name[:80]}/{name}", [b"deep " + name.encode()])
        house.paper("zeta.b_2-c", f"outbox/{name}", [b"out " + name.encode()])
    receipt = house.folder.jail("acme") / "receipts" / "2024-01-02" / "发票 'x'.json"
    receipt.parent.mkdir()
    receipt.write_bytes(b'{"nightsafe_receipt":1}\n')
    (house.folder.jail("acme") / "inbox" / "empty folder").mkdir()
    (house.folder.jail("acme") / ".tmp" / "left-over").write_bytes(b"half a pointer")
    house.back_up()

    result = house.restore()

    assert result.returncode == 0, result.stderr
    target = house.base / "target"
    expected = {**house.expected, "acme/receipts/2024-01-02/发票 'x'.json": hashlib.sha256(receipt.read_bytes()).digest()}
    assert digests(target) == expected
    assert (target / "acme" / "inbox" / "empty folder").is_dir()
    assert (target / "acme" / "inbox" / "1.bin").stat().st_mtime == 1_600_000_000
    assert f"{len(house.expected)} papers restored, 0 not in the backup, 0 damaged" in result.stderr
    assert sorted(path.name for path in target.iterdir()) == ["acme", "zeta.b_2-c"]
    assert house.recovery.encode() not in result.stdout + result.stderr


@pytest.mark.parametrize("mebibytes", [40, pytest.param(1024, marks=pytest.mark.long)])
def test_a_large_paper(house: House, mebibytes: int) -> None:
    piece = os.urandom(1 << 20)
    house.paper("acme", "inbox/large.bin", (piece for _ in range(mebibytes)))
    house.back_up()
    result = house.restore()
    assert result.returncode == 0, result.stderr
    assert digests(house.base / "target") == house.expected


def test_what_was_not_sealed_is_named_and_counted(house: House) -> None:
    house.paper("acme", "inbox/there.pdf", [b"there"])
    house.point("acme", "inbox/landed later\n.pdf", Pointer(new_paper_id(), 5, "whole"))
    house.point("acme", "inbox/half.pdf", Pointer(new_paper_id(), 5, "partial"))
    house.back_up()
    result = house.restore()
    assert result.returncode == 3
    assert digests(house.base / "target") == house.expected
    assert "acme/inbox/landed later?.pdf: not in the backup: it was not sealed yet" in result.stderr
    assert "acme/inbox/half.pdf: not in the backup: it was still being uploaded" in result.stderr
    assert "1 paper restored, 2 not in the backup, 0 damaged" in result.stderr


def test_damage_is_found_and_leaves_no_half_paper(house: House) -> None:
    house.paper("acme", "inbox/good.pdf", [b"good"])
    flipped = house.paper("acme", "inbox/flipped.pdf", [bytes(300_000)])
    swapped = [house.paper("acme", f"inbox/swapped {number}.pdf", [b"x" * number]) for number in (10, 11)]
    vault = house.folder.vault / "acme"
    path = vault / flipped[-2:] / f"{flipped}.age"
    data = bytearray(path.read_bytes())
    data[-100_000] ^= 1
    path.write_bytes(data)
    one, other = (vault / paper[-2:] / f"{paper}.age" for paper in swapped)
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    (house.folder.jail("acme") / "inbox" / "no pointer").write_bytes(b"\x00\xff garbage")
    house.back_up()
    result = house.restore()
    assert result.returncode == 3
    assert "acme/inbox/flipped.pdf: it does not decrypt" in result.stderr
    assert "acme/inbox/swapped 10.pdf: it does not have the size" in result.stderr
    assert "acme/inbox/no pointer: the name does not point to a paper" in result.stderr
    assert "1 paper restored, 0 not in the backup, 4 damaged" in result.stderr
    assert not (house.base / "target" / "acme" / "inbox" / "flipped.pdf").exists()
    assert not (house.base / "target" / ".partial").exists()


def test_all_generations_of_a_key_open(house: House) -> None:
    house.paper("acme", "inbox/old.pdf", [b"old"])
    newer = Keyring(house.folder)
    newer.rotate_client("acme")
    house.paper("acme", "inbox/new.pdf", [b"new"])
    house.back_up()
    result = house.restore()
    assert result.returncode == 0, result.stderr
    assert digests(house.base / "target") == house.expected


def test_papers_of_deposit_only_clients(house: House) -> None:
    """What recovery alone opens comes back; what only the client opens is handed out sealed, and named."""
    theirs = Identity.generate()
    for client, recipient in (("deposits", None), ("closed", theirs.recipient)):
        house.keyring.add_deposit_client(client, recipient)
        for inner in ("inbox", "outbox", "receipts"):
            (house.folder.jail(client) / inner).mkdir(parents=True)
    house.paper("deposits", "inbox/a.pdf", [b"a"])
    house.paper("closed", "inbox/b 'c'.pdf", [b"b"])
    damaged = house.paper("closed", "inbox/damaged.pdf", [b"d"])
    file = house.folder.vault / "closed" / damaged[-2:] / f"{damaged}.age"
    file.write_bytes(file.read_bytes()[:100])
    house.back_up()
    result = house.restore()
    found = {name: path.read_bytes() for name, path in files_below(house.base / "target").items()}
    assert found["deposits/inbox/a.pdf"] == b"a"
    assert open_bytes(found["closed/inbox/b 'c'.pdf.age"], [theirs]) == b"b"
    assert len(found) == 2
    assert "closed/inbox/b 'c'.pdf.age: sealed to a key that only the client holds" in result.stderr
    assert "1 paper is sealed to keys that only clients hold" in result.stderr
    assert result.returncode == 3 and "closed/inbox/damaged.pdf: it does not decrypt" in result.stderr


def test_a_missing_client_key_is_no_success(house: House) -> None:
    house.paper("acme", "inbox/a.pdf", [b"a"])
    house.client("other")
    house.paper("other", "inbox/b.pdf", [b"b"])
    shutil.rmtree(house.folder.client_keys("acme"))
    house.back_up()
    result = house.restore()
    assert result.returncode == 3
    assert "acme/inbox/a.pdf: it does not decrypt" in result.stderr
    assert (house.base / "target" / "other" / "inbox" / "b.pdf").read_bytes() == b"b"


def test_quarantine_goes_apart_and_versions_on_request(house: House) -> None:
    house.paper("acme", "inbox/now.pdf", [b"now"])
    old, _, digest = house.seal("acme", [b"an earlier version"], house.folder.vault)
    held, size, held_digest = house.seal("acme", [b"held"], house.folder.quarantine)
    house.point("acme", "inbox/held.pdf", Pointer(held, size, "whole"))
    house.back_up()
    result = house.restore("-a", str(house.base / "kit-a.txt"), str(house.base / "target"))
    assert result.returncode == 0, result.stderr
    expected = {**house.expected, "acme/quarantine/inbox/held.pdf": held_digest, f"acme/unnamed/{old}": digest}
    assert digests(house.base / "target") == expected


def test_one_client_and_an_older_snapshot(house: House) -> None:
    house.client("other")
    house.paper("other", "inbox/b.pdf", [b"b"])
    house.paper("acme", "inbox/a.pdf", [b"a"])
    house.back_up()
    shutil.rmtree(house.folder.jail("acme") / "inbox")
    house.back_up()
    listed = subprocess.run(
        ["restic", "-r", str(house.base / "papers"), "snapshots", "--json"],
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(house.base / "cache")},
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    first = listed.split('"short_id":"')[1][:8]
    result = house.restore("-s", first, str(house.base / "kit-a.txt"), "relative target", "acme")
    assert result.returncode == 0, result.stderr
    assert (house.base / "relative target" / "acme" / "inbox" / "a.pdf").read_bytes() == b"a"
    assert list((house.base / "relative target").iterdir()) == [house.base / "relative target" / "acme"]


def test_wrong_use_says_what_to_do(house: House) -> None:
    house.paper("acme", "inbox/a.pdf", [b"a"])
    house.back_up()
    cases: list[tuple[dict[str, str | None], int, str]] = [
        ({"RESTIC_PASSWORD": None}, 2, "set RESTIC_PASSWORD"),
        ({"NIGHTSAFE_KEYS": None}, 2, "set NIGHTSAFE_PAPERS and NIGHTSAFE_KEYS"),
        ({"RESTIC_PASSWORD": "wrong"}, 1, "nothing was restored"),
        ({"NIGHTSAFE_PAPERS": "/nowhere/at/all"}, 1, "nothing was restored"),
    ]
    for changes, code, text in cases:
        result = house.restore(**changes)
        assert result.returncode == code, changes
        assert text in result.stderr
        assert files_below(house.base / "target") == {}


def test_wrong_arguments(house: House) -> None:
    house.back_up()
    kit, target = str(house.base / "kit-a.txt"), house.base / "target"
    assert "usage: sh restore.sh" in house.restore("x").stderr
    assert house.restore("-z", kit, str(target)).returncode == 2
    assert house.restore(kit, str(target), "../acme").returncode == 2
    assert "there is no line AGE-SECRET-KEY" in house.restore(str(house.base / "restore.sh"), str(target)).stderr
    unknown = house.restore(kit, str(target), "unknown")
    assert unknown.returncode in (1, 3)
    shutil.rmtree(target)
    target.mkdir()
    (target / ".x").touch()
    refused = house.restore()
    assert refused.returncode == 2
    assert "is not empty" in refused.stderr


def test_the_wrong_recovery_identity_opens_nothing(house: House) -> None:
    house.paper("acme", "inbox/a.pdf", [b"a"])
    house.back_up()
    house.recovery = Identity.generate()
    result = house.restore()
    assert result.returncode == 3
    assert "does not open with this recovery identity" in result.stderr
    assert files_below(house.base / "target") == {}


@pytest.mark.parametrize(
    ("dumped", "known", "warned"),
    [
        ("-5 minutes", "", ""),
        ("-5 minutes", "-5 minutes", ""),
        ("-5 minutes", "what is no time", ""),
        ("-7 hours", "", "an old one may pass for new"),
        ("-400 days", "", "an old one may pass for new"),
        ("-5 minutes", "+2 minutes", "newer ones are gone"),
    ],
)
def test_an_old_snapshot_that_passes_for_new_is_warned_of(house: House, dumped: str, known: str, warned: str) -> None:
    house.paper("acme", "inbox/a.pdf", [b"a"])
    house.folder.dump.mkdir()
    house.back_up()
    (house.folder.dump / "catalog.sqlite3").write_bytes(b"a catalog")
    subprocess.run(["touch", "-d", dumped, house.folder.dump / "catalog.sqlite3"], check=True)
    house.restic("papers", "backup", "--host", "nightsafe", "jails", "vault", "dump")
    zone = {"TZ": "Asia/Kolkata"}  # what restic writes has its own zone
    told = subprocess.run(["date", "-u", "-d", known, "+%Y-%m-%dT%H:%MZ"], capture_output=True, text=True).stdout.strip() or known
    result = house.restore(NIGHTSAFE_NEWEST=told, **zone)
    assert result.returncode == (3 if warned else 0), result.stderr
    assert ("WARNING" in result.stderr) == bool(warned) and warned in result.stderr
    assert digests(house.base / "target") == house.expected, "what there is comes all the same"


@pytest.mark.parametrize("time", ["2026-01-31T09:05+01:00", "2024-02-29T23:59Z", "1999-12-31T00:00-08:30", "2026-08-09T08:09+09:45"])
def test_the_scripts_reckoning_of_time(tmp_path: Path, time: str) -> None:
    text = restore_script()
    function = text[text.index("minutes() {") : text.index("# time_of KEY")]
    program = f'{function}echo $(($(minutes "$1") - $(minutes 1970-01-01T00:00Z)))'
    told = subprocess.run(["dash", "-euc", program, "dash", time], capture_output=True, text=True)
    assert int(told.stdout) == datetime.fromisoformat(time).timestamp() / 60, told.stderr


def test_the_printed_kit_is_enough(house: House) -> None:
    """Part B as it is printed, cut with its own two sed lines."""
    house.paper("acme", "inbox/a 'b'.pdf", [b"a"])
    house.back_up()
    newest = datetime(2020, 1, 31, 2, tzinfo=UTC)
    values = KitValues(str(house.base / "papers"), str(house.base / "keys"), PASSWORD, "reader", "reader's secret", newest=newest)
    (house.base / "kit-b.txt").write_text(part_b(values, house.keyring))
    (house.base / "kit-a.txt").write_text(part_a(house.recovery, house.keyring))
    lines = [line.strip() for line in part_b(values, house.keyring).split("# values\n")[0].splitlines() if line.startswith("       ")]
    assert len(lines) == 4
    script = "\n".join(line.replace("TARGET", "target") for line in lines)
    result = subprocess.run(
        ["/bin/sh", "-ec", script], cwd=house.base, env={"PATH": str(tools(house.base))}, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert digests(house.base / "target") == house.expected
    assert PASSWORD not in repr(values)
    assert "reader's secret" not in repr(values)


def test_the_script_needs_no_more_than_it_says() -> None:
    text = restore_script()
    assert text.isascii()
    said = next(line for line in text.splitlines() if "# Needs restic" in line)
    assert all(tool in said for tool in TOOLS)
    assert io.StringIO(text).readline() == "#!/bin/sh\n"
