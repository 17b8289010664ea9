"""Worker processes: what a paper can do to one, and that nobody else feels it. Archives and types, through a real one."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
import pyzipper

from gateway.ingest.checks.pool import NoWorker, WorkerFailed, WorkerPool

MIB = 1024 * 1024
MEMORY = 512 * MIB


class Bytes:
    """A paper in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read_at(self, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]


class Unlocked:
    """Keeps what a worker unlocked."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def begin(self, size: int) -> None:
        self.entries.append(b"")

    def piece(self, data: bytes) -> None:
        self.entries[-1] += data

    def end(self) -> None:
        pass


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(MEMORY)
    yield made
    made.close()


@pytest.fixture(scope="module")
def hostile() -> Iterator[WorkerPool]:
    made = WorkerPool(MEMORY, "tests.integration.hostile_worker")
    yield made
    made.close()


def job(name: str, **changes: Any) -> dict[str, Any]:
    limits = {"largest_ratio": 200, "largest_bytes": 64 * MIB, "entries": 100, "depth": 3, "inner_bytes": 4 * MIB, "scanned_bytes": None}
    values = {
        "name": name,
        "match_type": True,
        "archives": True,
        "password": None,
        "forbidden_names": [],
        "scan_unlocked": False,
    }
    return values | {"limits": limits | changes.pop("limits", {})} | changes


def zipped(*entries: tuple[str, bytes], packed: bool = True) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name) if not packed else name, content)
    return held.getvalue()


def locked(password: bytes, *entries: tuple[str, bytes]) -> bytes:
    held = io.BytesIO()
    with pyzipper.AESZipFile(held, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(password)
        for name, content in entries:
            archive.writestr(name, content)
    return held.getvalue()


def fault(pool: WorkerPool, content: bytes, **changes: Any) -> str | None:
    found = pool.look(job("a.zip", **changes), Bytes(content), 60)["fault"]
    return found["code"] if found else None


# what a paper can do to its worker


@pytest.mark.parametrize(
    ("name", "why"), [("hang", "slow"), ("crash", "crashed"), ("memory", "crashed"), ("nonsense", "crashed"), ("huge", "crashed")]
)
def test_a_worker_that_fails_is_ended_and_the_next_paper_is_fine(hostile: WorkerPool, name: str, why: str) -> None:
    with pytest.raises(WorkerFailed) as failed:
        hostile.look(job(name), Bytes(b"x"), 0.3 if name == "hang" else 30)
    assert failed.value.why == why
    assert hostile.look(job("other"), Bytes(b"x"), 30)["type"] == "fine"


def test_a_worker_that_reads_for_ever_is_ended(hostile: WorkerPool) -> None:
    with pytest.raises(WorkerFailed):
        hostile.look(job("greedy"), Bytes(b"x" * 1024), 60)


def test_a_worker_can_open_no_file(hostile: WorkerPool) -> None:
    process = hostile._take()
    from gateway.ingest.checks import wire

    assert process.popen.stdin is not None
    process.popen.stdin.write(wire.encode_json(wire.JOB, job("files")))
    assert process.popen.wait(240) == 7
    process.kill()


def test_an_archive_that_eats_memory_ends_its_worker_alone() -> None:
    small = WorkerPool(96 * MIB)
    try:
        content = zipped(("b.zip", b"PK\x03\x04" + bytes(80 * MIB)))
        roomy = {"inner_bytes": 1024 * MIB, "largest_bytes": 2048 * MIB, "largest_ratio": 1e9}
        with pytest.raises(WorkerFailed) as failed:
            small.look(job("a.zip", limits=roomy), Bytes(content), 60)
        assert failed.value.why == "memory"
        assert small.look(job("a.pdf"), Bytes(b"%PDF-1.7"), 60)["type"] == "pdf"
    finally:
        small.close()


def test_what_reading_the_paper_raises_comes_through(pool: WorkerPool) -> None:
    class Broken(Bytes):
        def read_at(self, offset: int, length: int) -> bytes:
            raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"):
        pool.look(job("a.pdf"), Broken(b"x"), 60)
    assert pool.look(job("a.pdf"), Bytes(b"%PDF-1.7"), 60)["type"] == "pdf"


# archives


def test_honest_archives_pass(pool: WorkerPool) -> None:
    assert fault(pool, zipped(("a/b/c.txt", b"hello" * 100), ("ä.txt", b""), ("empty/", b""))) is None
    assert fault(pool, zipped(("inner.zip", zipped(("a.txt", b"x"))))) is None
    assert fault(pool, zipped()) is None


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "\\\\host\\a", "C:\\a", "a\\..\\b", "a\nb"])
def test_names_that_lead_out_are_found(pool: WorkerPool, name: str) -> None:
    assert fault(pool, zipped((name, b"x"), packed=False)) == "archive-path"


def test_a_name_with_control_characters_is_told_as_such(pool: WorkerPool) -> None:
    found = pool.look(job("a.zip"), Bytes(zipped(("a\x01b", b"x"))), 60)["fault"]
    assert found["code"] == "archive-path" and "control characters" in found["detail"]


def test_links_are_found(pool: WorkerPool) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert fault(pool, held.getvalue()) == "archive-path"


def test_bombs_are_found(pool: WorkerPool) -> None:
    assert fault(pool, zipped(("a", bytes(20 * MIB)))) == "archive-bomb"
    assert fault(pool, zipped(*[(str(number), b"x" * 40_000) for number in range(101)])) == "archive-too-many"
    many = {"largest_ratio": 1e9}
    assert (
        fault(
            pool,
            zipped(
                *[(str(number), bytes(16 * MIB)) for number in range(5)],
            ),
            limits=many,
        )
        == "archive-too-large"
    )
    deep = b"x"
    for _ in range(4):
        deep = zipped(("inner.zip", deep))
    assert fault(pool, deep) == "archive-too-deep"
    assert fault(pool, zipped(("inner.zip", zipped(("a", b"x")) + bytes(5 * MIB)), packed=False)) == "archive-too-large"


def test_entries_that_share_their_bytes_are_found(pool: WorkerPool) -> None:
    """As in the bombs that unpack without any nesting: two entries of the directory stand for one."""
    content = zipped(("a", b"x" * 1000), ("b", b"y" * 1000))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    content = content[: second + 42] + struct.pack("<L", 0) + content[second + 46 :]
    assert fault(pool, content) in ("archive-overlap", "archive-damaged")
    assert fault(pool, content.replace(b"PK\x01\x02", b"PK\x01\x02")) == "archive-overlap"


def test_sizes_that_lie_are_found(pool: WorkerPool) -> None:
    content = bytearray(zipped(("a", b"A" * 5000)))
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = content[22:26] = struct.pack("<L", 10)
    assert fault(pool, bytes(content)) == "archive-damaged"


def test_damaged_ones_are_found(pool: WorkerPool) -> None:
    content = zipped(("a", b"hello" * 1000))
    assert fault(pool, content[:-10]) == "archive-damaged"
    assert fault(pool, content[:40] + b"\0\0\0\0" + content[44:]) == "archive-damaged"
    assert fault(pool, b"PK\x03\x04" + bytes(100)) == "archive-damaged"


@pytest.mark.parametrize("before", [b"MZ" + bytes(70_000), b"%PDF-1.7\n" + b"letter " * 20_000], ids=["program", "pdf"])
def test_an_archive_behind_something_else_is_looked_into(pool: WorkerPool, before: bytes) -> None:
    assert fault(pool, before + zipped(("../a", b"x"), packed=False)) == "archive-path"
    assert fault(pool, before + zipped(("a", b"x")), limits={"scanned_bytes": 0}) == "too-large-to-scan"
    assert fault(pool, zipped(("setup", before + zipped(("../a", b"x"), packed=False)))) == "archive-path"
    assert fault(pool, locked(b"agreed", ("a", before + zipped(("i.exe", b"x")))), password="agreed", forbidden_names=["*.exe"]) == (
        "archive-forbidden-name"
    )
    assert fault(pool, before + zipped(("a", b"x"))) is None
    assert fault(pool, before) is None


def test_an_archive_with_two_ends_is_damaged(pool: WorkerPool) -> None:
    content = zipped(("a", b"x"))
    assert fault(pool, content[:-2] + len(content).to_bytes(2, "little") + content) == "archive-damaged"
    assert fault(pool, zipped(("i.zip", content), packed=False)) is None  # the end of an archive within one is no second end


def test_what_a_scanner_may_not_unpack_is_handed_up(pool: WorkerPool) -> None:
    held, unlocked = io.BytesIO(), Unlocked()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"letter" * 100)
    assert pool.look(job("a.zip", scan_unlocked=True), Bytes(held.getvalue()), 60, unlocked)["fault"] is None
    assert unlocked.entries == [b"letter" * 100]


def test_a_directory_of_entries_that_is_too_long_is_not_read(pool: WorkerPool) -> None:
    content = zipped(*[("n" * 60_000 + str(number), b"") for number in range(3)], packed=False)
    assert fault(pool, content, limits={"entries": 5}) == "archive-too-many"


def test_forbidden_names_are_found_inside(pool: WorkerPool) -> None:
    assert fault(pool, zipped(("docs/Setup.EXE", b"x")), forbidden_names=["*.exe"]) == "archive-forbidden-name"
    assert fault(pool, zipped(("i.zip", zipped(("a.exe", b"x")))), forbidden_names=["*.exe"]) == "archive-forbidden-name"


def test_encrypted_ones_open_with_the_agreed_password_and_are_handed_up(pool: WorkerPool) -> None:
    content = locked(b"agreed", ("a.txt", b"secret" * 100), ("b.txt", b"more"))
    assert fault(pool, content) == "archive-locked"
    assert fault(pool, content, password="wrong") == "archive-locked"
    unlocked = Unlocked()
    assert pool.look(job("a.zip", password="agreed", scan_unlocked=True), Bytes(content), 60, unlocked)["fault"] is None
    assert unlocked.entries == [b"secret" * 100, b"more"]
    assert fault(pool, locked(b"agreed", ("../a", b"x")), password="agreed") == "archive-path"


def test_what_no_scanner_looks_at_is_told(pool: WorkerPool) -> None:
    assert fault(pool, zipped(("a", b"ab" * 1000)), limits={"scanned_bytes": 1999}) == "too-large-to-scan"
    assert fault(pool, zipped(("a", b"ab" * 1000)), limits={"scanned_bytes": 2000}) is None


def test_any_bytes_end_in_a_verdict(pool: WorkerPool) -> None:
    import random

    dice = random.Random(5)
    content = zipped(("a.txt", b"hello" * 200), ("i.zip", zipped(("b", b"y" * 500))))
    for _ in range(100):
        broken = bytearray(content)
        for _ in range(dice.randrange(1, 4)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        started = time.monotonic()
        pool.look(job("a.zip"), Bytes(bytes(broken)), 30)
        assert time.monotonic() - started < 25


# types


@pytest.mark.parametrize(
    ("name", "content", "kind", "misfit"),
    [
        ("a.pdf", b"%PDF-1.7 ...", "pdf", ""),
        ("a.pdf", b"\r\n junk %PDF-1.7", "pdf", ""),
        ("a.pdf", b"MZ\x90\0" + bytes(200), "program", "program"),
        ("a.pdf", b"just a text", "text", "something else"),
        ("a.txt", b"MZ is how this text begins, and it is long enough to be looked at as a program would be", "text", ""),
        ("a.txt", b"%PDF-1.7", "pdf", "pdf"),
        ("a.txt", b"a note about %PDF-1.7", "text", ""),
        ("a.csv", b"a,b\0c", "unknown", "no text"),
        ("a.jpg", b"\xff\xd8\xff\xdb" + bytes(10), "jpeg", ""),
        ("a.png", b"\xff\xd8\xff\xdb" + bytes(10), "jpeg", "jpeg"),
        ("a.dat", bytes(range(256)), "unknown", ""),
        ("a.dat", b"\x7fELF" + bytes(60), "program", "program"),
        ("letter.docx", zipped(("word/document.xml", b"x")), "docx", ""),
        ("letter", zipped(("a", b"x")), "zip", ""),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "ole", ""),
        ("a.pdf", b"", "empty", ""),
    ],
)
def test_types_and_endings(pool: WorkerPool, name: str, content: bytes, kind: str, misfit: str) -> None:
    found = pool.look(job(name, archives=False), Bytes(content), 60)
    assert (found["type"], found["misfit"]) == (kind, misfit)


def test_a_worker_that_cannot_be_started_is_no_fault_of_the_paper() -> None:
    missing = WorkerPool(MEMORY, "tests.integration.no_such_worker")
    for _ in range(2):
        with pytest.raises(NoWorker):
            missing.look(job("a.zip"), Bytes(b"x"), 5.0)


def test_workers_that_died_while_they_were_idle_are_no_fault_of_the_paper() -> None:
    made = WorkerPool(MEMORY)
    for process in [made._take() for _ in range(3)]:
        made._give_back(process)
        process.popen.kill()
        process.popen.wait()
    try:
        assert made.look(job("a.txt"), Bytes(b"a text"), 20.0)["type"] == "text"
    finally:
        made.close()
