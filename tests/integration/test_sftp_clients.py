"""A real gateway and keyd, and real clients: what the matrix in tests/e2e does not ask. Trees, fsync, random access, odd names, the audit log."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.integration.sftp_rig import CLIENT, Server, paramiko_client, running_server

SETTLE = "settle_seconds = 0.2\nunfinished_name_seconds = 0.5\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("sftp"), SETTLE) as running:
        yield running


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(5_000_000))
    return path


def test_openssh_trees_times_and_fsync(server: Server, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(40):
        folder = tree / f"f{number % 4}" / f"g{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(os.urandom(number * 1000))
        os.utime(folder / str(number), (1_500_000_000, 1_400_000_000 + number))
    server.sftp(f"put -Rpf {tree} /inbox/tree")
    back = tmp_path / "back"
    server.sftp(f"get -Rp /inbox/tree {back}")
    sent = {path.relative_to(tree): (path.read_bytes(), path.stat().st_mtime) for path in tree.rglob("*") if path.is_file()}
    assert {path.relative_to(back): (path.read_bytes(), path.stat().st_mtime) for path in back.rglob("*") if path.is_file()} == sent


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537])
def test_openssh_sizes(server: Server, tmp_path: Path, size: int) -> None:
    source = tmp_path / "s"
    source.write_bytes(os.urandom(size))
    server.sftp(f"put {source} /inbox/size-{size}", f"get /inbox/size-{size} {tmp_path}/now")
    time.sleep(0.5)
    server.sftp(f"get /inbox/size-{size} {tmp_path}/later")
    assert (tmp_path / "now").read_bytes() == (tmp_path / "later").read_bytes() == source.read_bytes()


NAMES = [
    "年度报告（终稿）.pdf",
    "x" * 255,
    "字" * 85,
    " leading and trailing ",
    "quote ' and \" and [brackets] {x} $HOME `id`",
    "-dash",
    "semi;colon&amp|pipe",
    "a	b",
    "~",
]


def test_names_from_hell(server: Server) -> None:
    with paramiko_client(server) as client, client.open_sftp() as sftp:
        sftp.mkdir("/inbox/hell")
        for number, name in enumerate(NAMES):
            with sftp.open(f"/inbox/hell/{name}", "wb") as file:
                file.write(str(number).encode())
        assert sorted(sftp.listdir("/inbox/hell")) == sorted(NAMES)
        for number, name in enumerate(NAMES):
            with sftp.open(f"/inbox/hell/{name}", "rb") as file:
                assert file.read() == str(number).encode()
        for bad in ("x" * 256, "字" * 86):
            with pytest.raises(OSError, match="bytes"), sftp.open(f"/inbox/hell/{bad}", "wb"):
                pass
        assert sftp.normalize("/inbox/../../x/./y//z") == "/x/y/z"
        assert sftp.normalize(".") == "/"


def test_paramiko_put_checks_the_size_and_random_access_works(server: Server, tmp_path: Path, big: Path) -> None:
    with paramiko_client(server) as client, client.open_sftp() as sftp:
        told = sftp.put(str(big), "/inbox/paramiko")  # stats afterwards, and raises when the size differs
        assert told.st_size == big.stat().st_size
        with sftp.open("/inbox/paramiko", "r+b") as file:
            file.seek(1_000_000)
            assert file.read(10) == big.read_bytes()[1_000_000:1_000_010]
            file.seek(2_000_000)
            file.write(b"patched")
            file.truncate(3_000_000)
        expected = bytearray(big.read_bytes()[:3_000_000])
        expected[2_000_000:2_000_007] = b"patched"
        with sftp.open("/inbox/paramiko", "rb") as file:
            file.prefetch()
            assert file.read() == expected
        with sftp.open("/inbox/paramiko", "ab") as file:
            file.write(b"tail")
        assert sftp.stat("/inbox/paramiko").st_size == 3_000_004
        sftp.posix_rename("/inbox/paramiko", "/inbox/paramiko2")
        sftp.utime("/inbox/paramiko2", (5, 6))
        assert sftp.stat("/inbox/paramiko2").st_mtime == 6
        sftp.chmod("/inbox/paramiko2", 0o4777)
        assert (sftp.stat("/inbox/paramiko2").st_mode or 0) & 0o7777 == 0o600
        sftp.remove("/inbox/paramiko2")
        with pytest.raises(OSError, match="not offered"):
            sftp.symlink("/inbox/a", "/inbox/b")
        with pytest.raises(OSError, match="not offered"):
            sftp.readlink("/inbox")


def test_asyncssh_many_files_at_once(server: Server) -> None:
    async def work() -> None:
        async with (
            asyncssh.connect("127.0.0.1", server.port, username=CLIENT, client_keys=[str(server.key)], known_hosts=None, config=None) as connection,
            connection.start_sftp_client() as sftp,
        ):
            await sftp.makedirs("/inbox/many/below")
            content = {f"/inbox/many/below/{number}": os.urandom(number * 997) for number in range(100)}

            async def one(path: str, data: bytes) -> None:
                async with sftp.open(path, "wb") as file:
                    await file.write(data)
                async with sftp.open(path, "rb") as file:
                    assert await file.read() == data

            await asyncio.gather(*(one(path, data) for path, data in content.items()))
            assert len(await sftp.listdir("/inbox/many/below")) == 100
            space = await sftp.statvfs("/inbox")
            assert space.bavail <= space.blocks
            await sftp.rmtree("/inbox/many")
            assert not await sftp.exists("/inbox/many")
            with pytest.raises(asyncssh.SFTPOpUnsupported):
                await sftp.link("/inbox/x", "/inbox/y")

    asyncio.run(asyncio.wait_for(work(), 60))


def test_every_clean_close_lands_under_its_last_name(server: Server) -> None:
    with paramiko_client(server) as client, client.open_sftp() as sftp:
        with sftp.open("/inbox/landing.filepart", "wb") as file:
            file.write(b"content")
        sftp.rename("/inbox/landing.filepart", "/inbox/landing")
    deadline = time.monotonic() + 240
    while not any(event["path"] == "/inbox/landing" for event in server.events("paper.landed")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_audit_log_knows_who_did_what(server: Server, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.write_bytes(b"12345")
    server.sftp(f"put {source} /inbox/audited", f"get /inbox/audited {tmp_path}/b", "rename /inbox/audited /inbox/audited2", "rm /inbox/audited2")
    events = [event for event in server.events() if str(event.get("path", "")).startswith("/inbox/audited")]
    told = [(event["event"], event["path"]) for event in events if event["event"] != "paper.landed"]
    assert told == [
        ("paper.deposited", "/inbox/audited"),
        ("paper.read", "/inbox/audited"),
        ("name.renamed", "/inbox/audited"),
        ("name.removed", "/inbox/audited2"),
    ]
    assert all(event["person"] == event["client"] == CLIENT and event["address"] == "127.0.0.1" for event in events)
    assert all(event["software"].startswith("OpenSSH") for event in events)
    assert [event["bytes"] for event in events if "bytes" in event] == [5, 5]
