"""Two workers on one port, with real clients: whichever of them has a connection, a client's names and papers are one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from config.roles import role_state
from gateway.catalog import Catalog, PublicKey
from gateway.jail import Tree
from gateway.keys.keyring import Keyring
from gateway.sftp.defender.tallies import CELLS, Board
from gateway.sftp.workers.crew import Crew
from tests.integration.sftp_rig import CLIENT, Server, clean, running_server

OTHER = "beta"  # at home with worker 1; CLIENT is with worker 0
SETTINGS = "workers = 2\nmax_unauthenticated_per_address = 6\nmax_sessions_per_person = 8\nsettle_seconds = 0.05\nunfinished_name_seconds = 0.3"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("workers"), SETTINGS) as server:
        add_second_client(server)
        yield server


def add_second_client(server: Server) -> None:
    recipient = Keyring(server.folder).add_client(OTHER).recipient
    public = Path(f"{server.key}.pub").read_text().strip()
    shown = subprocess.run(["ssh-keygen", "-lf", f"{server.key}.pub"], check=True, capture_output=True, text=True).stdout.split()[1]
    with Catalog.open(server.folder.catalog) as catalog:
        catalog.add_client(OTHER, recipient=str(recipient))
        catalog.add_person("sue", role="staff", clients=[CLIENT, OTHER], keys=[PublicKey(public, shown)])
    Tree.create(server.folder.jail(OTHER)).close()


def workers(server: Server) -> list[int]:
    """The processes, by number."""
    pid = server.pid()
    names = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            names[Path(f"/proc/{child}/comm").read_text().strip()] = int(child)
    return [names[name] for name in ("gateway-0", "gateway-1") if name in names]


def wait_for(what: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def connect(server: Server, person: str = CLIENT) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", server.port, person, key_filename=str(server.key), allow_agent=False, look_for_keys=False)
    return client


def worker_of(server: Server, client: paramiko.SSHClient) -> int:
    """Which process has the connection."""
    transport = client.get_transport()
    assert transport
    ends = [f"0100007F:{port:04X}" for port in (server.port, transport.sock.getsockname()[1])]  # another server's old connection may have our port
    inode = next(fields[9] for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:]) if fields[1:3] == ends)
    for pid in workers(server):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if entry.readlink().name == f"socket:[{inode}]":
                    return pid
    raise AssertionError("nobody has this connection")


@contextlib.contextmanager
def one_on_each(server: Server, person: str = CLIENT) -> Iterator[list[paramiko.SSHClient]]:
    """Two connections of one person, on different workers, by their numbers."""
    found: dict[int, paramiko.SSHClient] = {}
    try:
        until = time.monotonic() + 240
        while len(found) < 2:
            assert time.monotonic() < until
            client = connect(server, person)
            if found.setdefault(worker_of(server, client), client) is not client:
                client.close()
        yield [found[pid] for pid in workers(server)]
    finally:
        for client in found.values():
            client.close()


def test_a_paper_goes_through_any_worker(server: Server) -> None:
    data = random.Random(1).randbytes(3 * MIB + 17)
    with one_on_each(server) as clients:
        for number, client in enumerate(clients):
            sftp = client.open_sftp()
            with sftp.open(f"/inbox/by-{number}", "w") as file:
                file.set_pipelined(True)
                file.write(data)
            assert sftp.stat(f"/inbox/by-{number}").st_size == len(data)
        for client in clients:
            assert {"by-0", "by-1"} <= set(client.open_sftp().listdir("/inbox"))
    wait_for(lambda: {"/inbox/by-0", "/inbox/by-1"} <= server.landed().keys())
    assert server.landed()["/inbox/by-0"] == server.landed()["/inbox/by-1"] == data


def test_two_connections_write_one_file(server: Server) -> None:
    """As rclone does it: each its pieces; whole when the last has closed."""
    data = random.Random(2).randbytes(2 * MIB)
    step = 20_000
    with one_on_each(server) as clients:
        files = [clients[0].open_sftp().open("/inbox/together", "w")]
        files.append(clients[1].open_sftp().open("/inbox/together", "r+"))
        for number, offset in enumerate(range(0, len(data), step)):
            file = files[number % 2]
            file.seek(offset)
            file.write(data[offset : offset + step])
        files[0].close()
        time.sleep(0.3)
        assert "/inbox/together" not in server.landed()
        files[1].close()
    wait_for(lambda: "/inbox/together" in server.landed())
    assert server.landed()["/inbox/together"] == data


def test_rclone_with_several_streams(server: Server, tmp_path: Path) -> None:
    data = random.Random(3).randbytes(9 * MIB + 5)
    (tmp_path / "multi.bin").write_bytes(data)
    facts = {
        "host": "127.0.0.1",
        "port": server.port,
        "user": CLIENT,
        "key-file": server.key,
        "shell-type": "none",
        "disable-hashcheck": True,
        "connections": 6,
    }
    streams = ["--multi-thread-cutoff", "1M", "--multi-thread-streams", "4", "--multi-thread-chunk-size", "1M"]
    known = ["--config", os.devnull, *(f"--sftp-{name}={value}" for name, value in facts.items()), *streams]
    subprocess.run(["rclone", "copy", *known, str(tmp_path / "multi.bin"), ":sftp:/inbox"], check=True, timeout=120, capture_output=True)
    wait_for(lambda: data in server.landed().values())  # it arrived under the name that rclone gives to what is not whole
    assert "multi.bin" in server.sftp("ls /inbox")


def test_staff_reach_clients_of_every_worker(server: Server) -> None:
    with one_on_each(server, "sue") as clients:
        for number, client in enumerate(clients):
            sftp = client.open_sftp()
            assert sorted(sftp.listdir("/")) == [CLIENT, OTHER]
            for name in (CLIENT, OTHER):
                with sftp.open(f"/{name}/outbox/note-{number}", "w") as file:
                    file.write(b"for " + name.encode())
                assert f"note-{number}" in sftp.listdir(f"/{name}/outbox")
                sftp.rename(f"/{name}/outbox/note-{number}", f"/{name}/outbox/kept-{number}")
                assert sftp.stat(f"/{name}/outbox/kept-{number}").st_size == 4 + len(name)
                with pytest.raises(OSError, match="o such file"):
                    sftp.stat(f"/{name}/outbox/note-{number}")
    wait_for(lambda: {"/outbox/note-0", "/outbox/note-1"} <= server.landed().keys())


def test_who_is_suspended_is_out_of_every_worker(server: Server) -> None:
    with Catalog.open(server.folder.catalog) as catalog, one_on_each(server) as both:
        files = [client.open_sftp() for client in both]
        assert all(sftp.listdir("/") for sftp in files)
        catalog.edit_person(CLIENT, active=False)
        try:
            wait_for(lambda: not any(transport.is_active() for client in both if (transport := client.get_transport())))
            with pytest.raises(paramiko.SSHException):
                connect(server, CLIENT)
        finally:
            catalog.edit_person(CLIENT, active=True)


def test_limits_hold_over_all_workers(server: Server) -> None:
    def greeted() -> int:
        with contextlib.ExitStack() as held:
            peers = [held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=240)) for _ in range(12)]
            return sum(answered(peer) for peer in peers)

    def answered(peer: socket.socket) -> bool:
        with contextlib.suppress(ConnectionError):
            return bool(peer.recv(64))
        return False

    counts: list[int] = []

    def full() -> bool:
        counts.append(greeted())
        return counts[-1] == 6

    wait_for(full)  # those of the test before may not be counted off yet
    assert max(counts) == 6

    def free() -> bool:
        with socket.create_connection(("127.0.0.1", server.port), timeout=240) as peer:
            return bool(peer.recv(64))

    wait_for(free)
    clients = []
    try:
        with pytest.raises((paramiko.SSHException, EOFError, OSError)):
            for _ in range(12):
                clients.append(connect(server))
                clients[-1].open_sftp().listdir("/")
        assert len(clients) in (8, 9)  # the one too many may log in before it is sent away
    finally:
        for client in clients:
            client.close()


def test_sessions_of_the_staff_are_counted_over_all_workers(server: Server) -> None:
    """They are in several clients' folders, so at home with no worker."""
    clients: list[paramiko.SSHClient] = []
    opened: list[paramiko.SFTPClient] = []  # kept: one that is forgotten is closed
    try:
        while len(clients) < 8 and (len(clients) < 5 or len({worker_of(server, client) for client in clients}) < 2):
            clients.append(connect(server, "sue"))
        assert len({worker_of(server, client) for client in clients}) == 2, "the kernel gave all to one worker"
        for client in clients * 2:
            with contextlib.suppress(paramiko.SSHException):
                opened.append(client.open_sftp())
        assert len(opened) == 8
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("victim", [0, 1])
def test_an_upload_goes_on_after_a_worker_was_killed(server: Server, tmp_path: Path, victim: int) -> None:
    """Number 0 has the connection and is home to the client; number 1 has the connection alone."""
    data = random.Random(victim).randbytes(4 * MIB)
    path = f"/inbox/resumed-{victim}"
    with one_on_each(server) as clients:
        pid = worker_of(server, clients[victim])
        kept = clients[1 - victim].open_sftp()
        with kept.open(f"/inbox/acknowledged-{victim}.part", "w") as file:
            file.write(b"this was acknowledged")
        sftp = clients[victim].open_sftp()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            file = sftp.open(path, "w")
            file.write(data[: 2 * MIB])
            os.kill(pid, signal.SIGKILL)
            file.write(data[2 * MIB :])
    wait_for(lambda: pid not in workers(server) and len(workers(server)) == 2)
    (tmp_path / "data").write_bytes(data)
    wait_for(lambda: _resumes(server, tmp_path / "data", path))
    wait_for(lambda: server.landed().get(path) == data)
    wait_for(lambda: server.landed().get(f"/inbox/acknowledged-{victim}.part") == b"this was acknowledged")


def _resumes(server: Server, source: Path, path: str) -> bool:
    server.sftp(f"reput {source} {path}", code=None)
    with contextlib.suppress(paramiko.SSHException, OSError, EOFError), contextlib.closing(connect(server)) as client:
        return client.open_sftp().stat(path).st_size == source.stat().st_size
    return False


def test_the_end_of_the_watcher_is_the_end_of_all(tmp_path: Path) -> None:
    with running_server(tmp_path, SETTINGS) as server:
        first = workers(server)
        assert len(first) == 2
        with contextlib.closing(connect(server)) as client:
            assert client.open_sftp().listdir("/inbox") == []
        assert server.stop("gateway") == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in first)
        assert [path.name for path in server.folder.run.glob("*.sock")] == ["keyd.sock"]
        server.start("gateway")
        second = workers(server)
        assert server.stop("gateway", signal.SIGKILL) == -signal.SIGKILL
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in second))
        assert role_state(server.folder, "gateway") is None
        assert clean(server.log())


def test_a_tally_is_of_all_workers_and_forgets_the_dead() -> None:
    board = Board(2)
    one, two = board.tally("logins", 0), board.tally("logins", 1)
    for tally in (one, two, two):
        tally.add("bob")
    assert (one.of("bob"), two.of("bob"), one.total) == (3, 3, 3)
    two.drop("bob")
    assert one.of("bob") == 2
    board.clear(0)
    assert (two.of("bob"), two.total) == (1, 1)
    assert board.tally("unauthenticated", 0).total == 0
    names = [f"192.0.2.{number}" for number in range(200)]
    assert len({one._cell(name) for name in names}) > 190
    assert all(0 <= one._cell(name) < CELLS for name in names)


def test_clients_are_at_home_with_one_worker(tmp_path: Path) -> None:
    crews = [Crew(number, 3, [], [], tmp_path, Board(1)) for number in range(3)]
    for client in (CLIENT, OTHER, "x" * 32):
        assert sum(crew.is_mine(client) for crew in crews) == 1
    of_two = Crew(0, 2, [], [], tmp_path, Board(2))
    assert (of_two.home_of(CLIENT), of_two.home_of(OTHER)) == (0, 1)
