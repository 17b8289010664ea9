"""Papers from hand to hand: `files put` through the spool and ingest, `files export` into a zip that 7-Zip opens."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from config.roles import exclusive, together
from gateway.audit.events import Event
from gateway.handover import depositing
from gateway.handover.appearing import appearing
from gateway.handover.zipping import entry_name, new_passphrase
from gateway.jail import Pointer, Tree, path_of
from gateway.store import new_paper_id
from nightsafe import cli
from tests.integration.catalog_rows import accepted_row
from tests.integration.ingest_world import World

PASSPHRASE = "correct horse battery"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def ask(world: World, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command with --json: (exit code, result, what it complained)."""

    def asked(*words: str, stdin: str = "") -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run(cli, [*words, "--data", str(world.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else None, err

    return asked


def extract(archive: Path, passphrase: str, into: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["7z", "x", f"-p{passphrase}", f"-o{into}", "-y", str(archive)], capture_output=True, check=False)


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_put_then_export_then_7z(world: World, ask: Any, tmp_path: Path) -> None:
    sources = tmp_path / "firm"
    sources.mkdir()
    contents = {"balance 2026.pdf": os.urandom(200_000), "報告 «é».txt": b"x" * 70_000, "empty": b""}
    for name, content in contents.items():
        (sources / name).write_bytes(content)
        os.utime(sources / name, (1_700_000_000, 1_700_000_000))
    code, told, _ = ask("files", "put", "acme", *(str(sources / name) for name in contents), "--to", "/outbox/2026/Q1")
    assert code == 0 and [row["state"] for row in told["put"]] == ["being sealed"] * 3, "ingest does not run"
    world.ingest()
    rows = {paper.path: paper for paper in world.catalog.papers("acme")}
    assert set(rows) == {f"/outbox/2026/Q1/{name}" for name in contents} and {row.state for row in rows.values()} == {"accepted"}
    assert all(row.person.startswith("ops:") for row in rows.values()) and len(world.receipts()) == 3
    with Tree(world.folder.jail("acme")) as tree:
        assert {mtime for _, _, mtime in tree.pointers()} == {1_700_000_000.0}
    assert len(world.events(Event.FILE_PUT)) == 3
    assert not any(b"x" * 1000 in path.read_bytes() for path in world.folder.root.rglob("*") if path.is_file()), "nothing in the clear"
    # a second time, one file under its own name: a new version
    code, told, _ = ask("files", "put", "acme", str(sources / "empty"), "--to", "/outbox/2026/Q1/balance 2026.pdf")
    world.ingest()
    assert code == 0 and [paper.version for paper in world.catalog.versions("acme", "/outbox/2026/Q1/balance 2026.pdf")] == [1, 2]
    # and out
    world.land("/evil\\name;$(x).txt".strip("/"), b"of the client")
    world.ingest()
    archive = tmp_path / "acme.zip"
    code, told, _ = ask("files", "export", "acme", "/outbox/2026", "/inbox", "/outbox/2026/Q1/empty", "--zip", str(archive))
    assert code == 0 and told["papers"] == 4 and len(told["passphrase"]) == 35
    assert archive.stat().st_mode & 0o777 == 0o600
    assert extract(archive, told["passphrase"], tmp_path / "out").returncode == 0
    expected = {f"outbox/2026/Q1/{name}": content for name, content in contents.items()} | {"outbox/2026/Q1/balance 2026.pdf": b""}
    found = files_below(tmp_path / "out")
    assert {name: content for name, content in found.items() if name.startswith("outbox")} == expected
    assert b"of the client" in found.values() and len(found) == 4
    with zipfile.ZipFile(archive) as listing:
        assert {info.filename for info in listing.infolist()} == {*expected, "inbox/evil_name;$(x).txt"}, "names intact, but for a backslash"
        assert all(info.flag_bits & 1 and info.compress_type == 99 for info in listing.infolist()), "every entry is AES"
        assert {info.date_time for info in listing.infolist() if info.filename.endswith("empty")} == {(2023, 11, 14, 22, 13, 20)}
    assert extract(archive, "wrong passphrase", tmp_path / "no").returncode != 0
    (event,) = world.events(Event.FILES_EXPORTED)
    assert event["papers"] == 4 and event["sha256"] == told["sha256"] and told["passphrase"] not in json.dumps(world.events(Event.FILES_EXPORTED))
    assert len([line for line in world.events(Event.KEY_GRANTED) if str(line["reason"]).startswith("export to acme.zip")]) == 4
    # with a passphrase of one's own
    code, told, _ = ask("files", "export", "acme", "/inbox", "--zip", str(tmp_path / "own.zip"), "--passphrase-stdin", stdin=PASSPHRASE + "\n")
    assert code == 0 and "passphrase" not in told and extract(tmp_path / "own.zip", PASSPHRASE, tmp_path / "own").returncode == 0
    # a version by its number
    old = tmp_path / "old.pdf"
    code, _, _ = ask("files", "get", "acme", "/outbox/2026/Q1/balance 2026.pdf", "--version", "1", "--out", str(old))
    assert code == 0 and old.read_bytes() == contents["balance 2026.pdf"]


def test_what_cannot_be_exported_leaves_no_file(world: World, ask: Any, tmp_path: Path) -> None:
    archive = tmp_path / "zips" / "a.zip"
    archive.parent.mkdir()

    def refused(*words: str, stdin: str = "", code: int = 2) -> str:
        found, _, complaint = ask("files", "export", *words, "--zip", str(archive), stdin=stdin)
        assert found == code and list(archive.parent.iterdir()) == [] and "Traceback" not in complaint, complaint
        return str(complaint)

    assert "nothing to export" in refused("acme")
    assert "no client 'nobody'" in refused("nobody")
    damaged = world.land("a.txt", b"a" * 300_000)
    assert "not sealed yet" in refused("acme")
    world.ingest()
    refused("acme", "/inbox/none.txt", code=1)
    assert "characters" in refused("acme", "--passphrase-stdin", stdin="short\n")
    assert "plain ASCII" in refused("acme", "--passphrase-stdin", stdin="passwörter sind kurz\n")
    sealed = world.vault.path("acme", damaged)
    raw = sealed.read_bytes()
    sealed.write_bytes(raw[:-100_000] + bytes([raw[-100_000] ^ 1]) + raw[-99_999:])
    refused("acme", code=1)
    sealed.write_bytes(raw)
    world.land("b.txt", b"not sealed")
    code, told, _ = ask("files", "export", "acme", "--zip", str(archive))
    assert code == 3 and told["papers"] == 1 and told["not_exported"] == ["/inbox/b.txt: it is not sealed yet"]
    before = archive.read_bytes()
    assert ask("files", "export", "acme", "--zip", str(archive))[0] == 2 and archive.read_bytes() == before
    assert ask("files", "export", "acme", "--zip", str(world.folder.root / "a.zip"))[0] == 2
    with appearing(archive.parent / "half.zip") as file:
        file.write(b"half")
        assert [path.name for path in archive.parent.iterdir()] == ["a.zip"], "without a name until it is whole"
    assert (archive.parent / "half.zip").read_bytes() == b"half"


def test_what_cannot_be_put_is_refused_in_words(world: World, ask: Any, tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_bytes(b"good")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for words in (
        [str(tmp_path / "missing")],
        [str(tmp_path / "pipe")],
        [str(tmp_path / "folder")],
        [str(good), str(tmp_path / "missing")],
        [str(good), str(good)],
        [str(good), "--to", "/receipts"],
        [str(good), "--to", "/"],
        [str(good), "--to", "/elsewhere"],
    ):
        code, _, complaint = ask("files", "put", "acme", *words)
        assert code == 2 and "Traceback" not in complaint, (words, complaint)
    assert ask("files", "put", "nobody", str(good))[0] == 2
    assert ask("files", "put", "acme", str(good), "--to", "/outbox/" + "n" * 300)[0] == 1
    assert not list(world.folder.spool_partial.iterdir()) and not world.spool.landed_papers()
    # a disk that is full, here a limit on files: nothing half-made stays
    big = tmp_path / "big.bin"
    big.write_bytes(os.urandom(1 << 20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        code, _, complaint = ask("files", "put", "acme", str(big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert code == 2 and "nothing was put" in complaint
    assert not list(world.folder.spool_partial.iterdir()) and not world.spool.landed_papers()


def test_nothing_is_put_while_the_key_of_the_spool_is_renewed_nor_the_other_way(world: World, ask: Any, tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_bytes(b"good")
    with exclusive(world.folder, depositing.LOCK, "held"):
        code, _, complaint = ask("files", "put", "acme", str(tmp_path / "good.txt"))
    assert code == 4 and "being renewed" in complaint and not list(world.folder.spool_partial.iterdir())
    with together(world.folder, depositing.LOCK, "held"), together(world.folder, depositing.LOCK, "held"):
        code, _, complaint = ask("keys", "rotate-ingest")
    assert code == 4 and "files put" in complaint


def test_no_name_leads_out_of_the_folder_where_a_zip_is_unpacked() -> None:
    taken: set[str] = set()
    for name in ("..\\..\\letter.exe", ".._.._letter.exe", "a\nb", "a_b", "C:\\x", "\u202e.pdf"):
        taken.add(entry_name(path_of("/inbox").child(name), taken))
    assert sorted(taken) == sorted(
        ["inbox/.._.._letter.exe", "inbox/.._.._letter (2).exe", "inbox/a_b", "inbox/a_b (2)", "inbox/C:_x", "inbox/\u202e.pdf"]
    )


def test_passphrases_are_long_and_never_the_same() -> None:
    made = {new_passphrase() for _ in range(100)}
    assert len(made) == 100 and all(len(one) == 35 for one in made)


MOST_KIB = 250 * 1024  # of memory, of which most is the interpreter and its libraries
EXPORT = """
import sys
from config.cli import run
from nightsafe import cli
code = run(cli, sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.long
def test_more_than_four_gibibytes(world: World, tmp_path: Path) -> None:
    """Past what 32 bits count: a member, what it is in the zip, and where the next one begins."""
    text = b"behind four gibibytes" * 100
    whole = seal_large(world, "a-large.bin", os.urandom(1 << 20), 4097)
    world.land("b-last.txt", text)
    world.ingest()
    archive = tmp_path / "huge.zip"
    command = [sys.executable, "-c", EXPORT, "files", "export", "acme", "--data", str(world.folder.root), "--zip", str(archive), "--json"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < MOST_KIB
    told = json.loads(done.stdout)
    assert told["papers"] == 2 and archive.stat().st_size > 1 << 32
    with zipfile.ZipFile(archive) as listing:
        large, last = listing.infolist()
    assert min(large.file_size, large.compress_size, last.header_offset) > 1 << 32 and last.compress_size < len(text)
    assert hashed_by_7z(archive, told["passphrase"], "inbox/a-large.bin") == whole
    assert hashed_by_7z(archive, told["passphrase"], "inbox/b-last.txt") == hashlib.sha256(text).hexdigest()


def seal_large(world: World, name: str, piece: bytes, count: int) -> str:
    """A paper of `count` times `piece`, as ingest leaves it, without the way through the spool; its SHA-256."""
    paper, digest = new_paper_id(), hashlib.sha256()
    with world.vault.writer("acme", paper, world.keyring.client_recipient("acme").recipient) as writer:
        for _ in range(count):
            digest.update(piece)
            writer.write(piece)
        sealed = writer.commit()
    row = accepted_row(paper, sealed, client="acme", path=f"/inbox/{name}", sha256=digest.hexdigest())
    world.catalog.record([row])
    with Tree(world.folder.jail("acme")) as tree:
        tree.put(path_of(row.path), Pointer(paper, row.size, "whole"), mtime=None, durable=False)
    return row.sha256


def hashed_by_7z(archive: Path, passphrase: str, name: str) -> str:
    """The SHA-256 of a member, as 7z extracts it."""
    with subprocess.Popen(["7z", "x", "-so", f"-p{passphrase}", str(archive), name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        digest = hashlib.file_digest(process.stdout, "sha256").hexdigest()  # type: ignore[arg-type]
    assert process.returncode == 0
    return digest


@pytest.mark.long
def test_memory_stays_small_and_a_kill_leaves_nothing(world: World, tmp_path: Path) -> None:
    piece = os.urandom(1 << 20)
    world.land("large.bin", b"")
    world.land("huge.bin", (piece for _ in range(300)))
    world.ingest()
    target = tmp_path / "zips"
    target.mkdir()
    command = [sys.executable, "-c", EXPORT, "files", "export", "acme", "--data", str(world.folder.root), "--zip"]
    done = subprocess.run([*command, str(target / "a.zip")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) < MOST_KIB
    with subprocess.Popen([*command, str(target / "b.zip")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 240
        while not any("deleted" in target for target in _open_files(process.pid)):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        process.kill()
    assert [path.name for path in target.iterdir()] == ["a.zip"]


def _open_files(pid: int) -> list[str]:
    """What the descriptors of a process lead to; those that are closed just now are left out."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(str(Path(f"/proc/{pid}/fd/{name}").readlink()))
    return found
