"""Two ways to the SFTP server for its tests: the operations of sessions without a network, and a real process with real clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from config.folder import DataFolder
from config.loading import Installation
from config.roles import role_state
from gateway.age import Identity, unwrap
from gateway.audit.log import AuditLog
from gateway.audit.read import read
from gateway.catalog import Catalog, PublicKey
from gateway.catalog.limits import Limits
from gateway.jail import Tree
from gateway.keys.errors import KeydUnavailable, KeyGone
from gateway.keys.keyring import Keyring
from gateway.sftp.limits.rooms import Rooms
from gateway.sftp.limits.space import SpaceGuard
from gateway.sftp.papers.book import Parts
from gateway.sftp.papers.papers import Papers
from gateway.sftp.papers.publish import Publisher, Tasks, land_all, recover
from gateway.sftp.papers.sources import Archive
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import OpenFlag, Status, Type
from gateway.sftp.session.handles import HandleTable
from gateway.sftp.session.operations import Operations
from gateway.sftp.session.pool import FairPool, Pool
from gateway.sftp.session.recording import Recorder, SessionRecord
from gateway.sftp.session.visitor import Visitor
from gateway.store.errors import SpoolGone, VaultGone
from gateway.store.paper_keys import file_key
from gateway.store.spool import Spool
from gateway.store.vault import Vault
from tests.integration.conftest import make_installation

CLIENT = "acme"
WRITE = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE
RESUME = OpenFlag.WRITE | OpenFlag.CREATE
APPEND = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.APPEND


class LocalKeys:
    """A key agent that holds the identities itself; `away` plays a keyd that is down."""

    def __init__(self, spool: Spool, vault: Vault, ingest: Identity, client: Identity) -> None:
        self._spool, self._vault, self._ingest, self._client = spool, vault, ingest, client
        self.away = False
        self.asked: list[tuple[str, str, str]] = []

    def paper_key(self, client: str, paper: str, where: str, person: str, reason: str) -> bytes:
        if self.away:
            raise KeydUnavailable("the key agent is out of reach")
        self.asked.append((where, person, reason))
        try:
            if where == "spool":
                return file_key(self._spool.describe(paper)[1], [self._ingest])
            return unwrap(self._vault.header(client, paper), [self._client])
        except (SpoolGone, VaultGone) as error:
            raise KeyGone("gone") from error


class Refusal(Exception):
    """A STATUS other than OK."""

    def __init__(self, code: Status, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True)
class Told:
    """Size and mtime of a STAT."""

    size: int
    mtime: int


class Session:
    """One session's requests and their replies, without SSH."""

    def __init__(self, operations: Operations) -> None:
        self.operations = operations
        self._number = 0
        operations.answer(ask.Init(3))

    async def send(self, kind: Callable[..., Any], *fields: Any) -> tuple[int, bytes]:
        """(type, the reply behind its id); EOF comes as a STATUS of 1."""
        self._number += 1
        reply = self.operations.answer(kind(self._number, *fields))
        packet = reply if isinstance(reply, bytes) else await reply
        assert int.from_bytes(packet[:4]) == len(packet) - 4 and int.from_bytes(packet[5:9]) == self._number
        return packet[4], packet[9:]

    async def ask(self, kind: Callable[..., Any], *fields: Any) -> bytes:
        """The same; Refusal for a STATUS that is not OK."""
        found, body = await self.send(kind, *fields)
        if found == Type.STATUS and (code := int.from_bytes(body[:4])):
            raise Refusal(Status(code), body[8 : 8 + int.from_bytes(body[4:8])].decode())
        return body

    async def open(self, path: str, flags: int, attributes: ask.Attributes | None = None) -> bytes:
        return (await self.ask(ask.Open, path.encode(), int(flags), attributes or ask.Attributes()))[4:]

    async def write(self, handle: bytes, offset: int, data: bytes) -> None:
        await self.ask(ask.Write, handle, offset, memoryview(data))

    async def read(self, handle: bytes, offset: int, length: int) -> bytes:
        return (await self.ask(ask.Read, handle, offset, length))[4:]

    async def close(self, handle: bytes) -> None:
        await self.ask(ask.Close, handle)

    async def put(self, path: str, data: bytes, flags: int = WRITE) -> None:
        handle = await self.open(path, flags)
        for start in range(0, len(data), 32768):
            await self.write(handle, start, data[start : start + 32768])
        await self.close(handle)

    async def get(self, path: str) -> bytes:
        handle = await self.open(path, OpenFlag.READ)
        content = b""
        while True:
            try:
                content += await self.read(handle, len(content), 32768)
            except Refusal as refusal:
                assert refusal.code is Status.EOF
                break
        await self.close(handle)
        return content

    async def stat(self, path: str) -> Told:
        return _told(await self.ask(ask.Stat, path.encode()))

    async def stat_handle(self, handle: bytes) -> Told:
        return _told(await self.ask(ask.HandleStat, handle))

    async def set(self, path: str, **wanted: int) -> None:
        await self.ask(ask.SetStat, path.encode(), ask.Attributes(**wanted))

    async def set_handle(self, handle: bytes, **wanted: int) -> None:
        await self.ask(ask.HandleSetStat, handle, ask.Attributes(**wanted))

    async def rename(self, source: str, target: str, *, replace: bool = False) -> None:
        await self.ask(ask.Rename, source.encode(), target.encode(), replace)

    async def remove(self, path: str) -> None:
        await self.ask(ask.Remove, path.encode())

    async def list(self, path: str) -> list[str]:
        return [name for name, _ in await self.list_sizes(path)]

    async def list_sizes(self, path: str) -> list[tuple[str, int]]:
        handle = (await self.ask(ask.OpenFolder, path.encode()))[4:]
        names: list[tuple[str, int]] = []
        while True:
            try:
                body = await self.ask(ask.ReadFolder, handle)
            except Refusal as refusal:
                assert refusal.code is Status.EOF
                await self.close(handle)
                return names
            at = 4
            for _ in range(int.from_bytes(body[:4])):
                length = int.from_bytes(body[at : at + 4])
                name = body[at + 4 : at + 4 + length].decode()
                at += 4 + length
                at += 4 + int.from_bytes(body[at : at + 4])
                names.append((name, int.from_bytes(body[at + 4 : at + 12])))
                at += 32

    async def lost(self) -> None:
        """The connection breaks."""
        await self.operations.abandon()


def _told(body: bytes) -> Told:
    return Told(int.from_bytes(body[4:12]), int.from_bytes(body[28:32]))


class Desk:
    """A gateway without a network, on real stores below `root`."""

    def __init__(self, root: Path, *, settle: float = 3600.0, reserve_bytes: int = 0, max_handles: int = 64, limits: Limits | None = None) -> None:
        self.folder = DataFolder(root)
        self.ingest, self.client_key = Identity.generate(), Identity.generate()
        self.settle = settle
        self.max_handles = max_handles
        self.limits = limits or Limits()
        self.reserve_bytes = reserve_bytes
        Tree.create(self.folder.jail(CLIENT)).close()
        self.folder.run.mkdir(parents=True, exist_ok=True)
        self.folder.audit.mkdir(parents=True, exist_ok=True)
        self.begin()

    def begin(self) -> None:
        """A process starts."""
        self.spool = Spool(self.folder.spool_partial, self.folder.spool_landed, self.ingest.recipient)
        self.vault = Vault(self.folder.vault)
        self.keys = LocalKeys(self.spool, self.vault, self.ingest, self.client_key)
        self.audit = AuditLog(self.folder.audit, "gateway")
        self.recorder = Recorder(self.audit)
        self.pool, self.copying = Pool(4), FairPool(2, "copying")
        self.tasks = Tasks()
        self.space = SpaceGuard(self.folder.spool_partial, self.reserve_bytes)
        parts = Parts(
            spool=self.spool,
            archive=Archive(self.spool, self.vault, self.keys),
            space=self.space,
            pool=self.pool,
            reading=self.pool,
            copying=self.copying,
            recorder=self.recorder,
            settle=lambda _: self.settle,
            after=Publisher(self.tasks).after,
        )
        self.tree = Tree(self.folder.jail(CLIENT))
        self.papers = Papers(CLIENT, self.tree, parts, room=Rooms(self.folder).of(CLIENT, self.tree))
        self.papers.take_limits(self.limits)
        self.sessions = 0

    def session(self) -> Session:
        self.sessions += 1
        visitor = Visitor(CLIENT, CLIENT, f"s{self.sessions}", "192.0.2.1", "test")
        record = SessionRecord(self.recorder, visitor)
        return Session(Operations(self.papers, visitor, record, self.pool.run, self.space, self.max_handles))

    def end(self) -> None:
        """The process ends, without a word to anybody: drafts are left as they are on the disk."""
        self.pool.close()
        self.copying.close()
        for draft in self.papers.book.drafts.values():
            draft.stop_settling()
            if draft.sketch is None:
                with contextlib.suppress(Exception):
                    os.close(draft.file._descriptor)
        self.papers.close()
        self.audit.close()
        self.spool.close()

    def again(self) -> int:
        """The process ends and another one starts; how many papers it landed."""
        self.end()
        self.begin()
        return recover(self.spool, lambda client: Tree(self.folder.jail(client)))

    async def land_all(self) -> None:
        await land_all([self.papers])

    def landed(self) -> list[tuple[str, bytes]]:
        """(path, content) of what waits for ingest, oldest first."""
        found = []
        for paper in self.spool.landed_papers():
            with self.spool.open_landed(paper, identities=[self.ingest]) as opened:
                found.append((opened.arrival.path, opened.read()))
        return found

    def seal_all(self) -> None:
        """What ingest does: from the spool into the vault."""
        for paper in self.spool.landed_papers():
            with self.spool.open_landed(paper, identities=[self.ingest]) as opened:
                writer = self.vault.writer(CLIENT, paper, self.client_key.recipient)
                writer.write(opened.read())
                writer.commit()
            self.spool.remove_landed(paper)

    def partials(self) -> list[str]:
        return sorted(path.name for path in self.folder.spool_partial.iterdir())

    def events(self) -> list[str]:
        self.audit.sync()
        return [entry["event"] for entry in read(self.folder.audit) if entry["event"] != "segment.opened"]


def run(work: Callable[[Desk], Coroutine[Any, Any, None]], root: Path, **options: Any) -> None:
    """Run `work` on a fresh desk, for a minute at the most."""

    async def main() -> None:
        desk = Desk(root, **options)
        try:
            await asyncio.wait_for(work(desk), 60)
            await desk.tasks.drained(5)
        finally:
            desk.end()

    asyncio.run(main())


__all__ = ["APPEND", "CLIENT", "RESUME", "WRITE", "Desk", "HandleTable", "Refusal", "Server", "Session", "run", "running_server"]


# a real process

SERVE = """
import sys
from config.loading import open_installation
from config.logging import set_up_logging
set_up_logging(sys.argv[2])
installation = open_installation(sys.argv[1], {})
if sys.argv[2] == "gateway":
    from gateway.sftp.role import serve
else:
    from gateway.keys.keyd import serve
serve(installation)
"""


class Server:
    """The roles gateway and keyd as processes, and one client with a key."""

    person = CLIENT

    def __init__(self, home: Path, settings: str = "") -> None:
        self.home = home
        self.key = home / "id_ed25519"
        self.installation: Installation = make_installation(home, f'[gateway]\nhost = "127.0.0.1"\nport = 0\nreserve_bytes = 0\n{settings}')
        self.folder = self.installation.folder
        self.port = 0
        self.before = ""  # Python that a role's process runs first
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._add_client()

    def _add_client(self) -> None:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        shown = subprocess.run(["ssh-keygen", "-lf", f"{self.key}.pub"], check=True, capture_output=True, text=True).stdout.split()
        recipient = Keyring(self.folder).add_client(CLIENT).recipient
        with Catalog.open(self.folder.catalog) as catalog:
            catalog.add_client(CLIENT, recipient=str(recipient))
            catalog.add_person(CLIENT, client=CLIENT, keys=[PublicKey(Path(f"{self.key}.pub").read_text().strip(), shown[1])])
        Tree.create(self.folder.jail(CLIENT)).close()

    def start(self, role: str) -> None:
        log = (self.home / f"{role}.log").open("ab")
        command = [sys.executable, "-c", self.before + SERVE, str(self.folder.root), role]
        self._processes[role] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        deadline = time.monotonic() + 240
        while (state := role_state(self.folder, role)) is None:
            assert self._processes[role].poll() is None and time.monotonic() < deadline, self.log(role)
            time.sleep(0.02)
        self.port = state.get("port", self.port)

    def stop(self, role: str, number: int = signal.SIGTERM) -> int:
        process = self._processes.pop(role)
        process.send_signal(number)
        return process.wait(240)

    def pid(self, role: str = "gateway") -> int:
        return self._processes[role].pid

    def stop_all(self) -> None:
        for role in list(self._processes):
            self.stop(role)

    def log(self, role: str = "gateway") -> str:
        return (self.home / f"{role}.log").read_text()

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The gateway's audit events."""
        return [entry for entry in read(self.folder.audit) if entry["role"] == "gateway" and (name is None or entry["event"] == name)]

    # OpenSSH

    def options(self, key: Path | None = None) -> list[str]:
        values = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes", "IdentitiesOnly=yes"]
        return ["-F", "none", "-i", str(key or self.key), *(part for value in values for part in ("-o", value))]

    def sftp(self, *lines: str, code: int | None = 0, extra: tuple[str, ...] = ()) -> str:
        """Run OpenSSH's sftp with a batch; its output, errors included."""
        ended, output = self.run_sftp(*lines, extra=extra)
        assert code is None or ended == code, output
        return output

    def run_sftp(self, *lines: str, extra: tuple[str, ...] = ()) -> tuple[int, str]:
        """How OpenSSH's sftp ended (negative: by that signal), and its output, errors included."""
        command = ["sftp", *self.options(), *extra, "-P", str(self.port), "-b", "-", f"{self.person}@127.0.0.1"]
        done = subprocess.run(command, input="".join(f"{line}\n" for line in lines).encode(), capture_output=True, timeout=120, check=False)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def scp(self, source: str, target: str) -> None:
        done = subprocess.run(["scp", *self.options(), "-P", str(self.port), source, target], capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def remote(self, path: str) -> str:
        return f"{self.person}@127.0.0.1:{path}"

    def landed(self) -> dict[str, bytes]:
        """Path → content of the papers that wait for ingest, the newest of each path."""
        from gateway.keys.master import load_master

        keyring = Keyring(self.folder)
        identities = keyring.ingest_identities(load_master(self.installation, {}))
        found = {}
        with Spool(self.folder.spool_partial, self.folder.spool_landed, keyring.ingest_recipient) as spool:
            for paper in spool.landed_papers():
                with spool.open_landed(paper, identities=identities) as opened:
                    found[opened.arrival.path] = opened.read()
        return found


def clean(log: str) -> bool:
    """Whether a log shows no bug: no traceback, nothing that crashed or was never awaited."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return "Traceback" not in log and "never" not in log and not any(line.get("level") in ("error", "critical") for line in lines)


@contextlib.contextmanager
def running_server(home: Path, settings: str = "", people: Callable[[Server], None] = lambda _: None) -> Iterator[Server]:
    """Gateway and keyd of a new installation, to which `people` adds more clients; the gateway's log has to be clean at the end."""
    server = Server(home, settings)
    people(server)
    try:
        server.start("keyd")
        server.start("gateway")
        yield server
    finally:
        server.stop_all()
    assert clean(server.log()), server.log()


def paramiko_client(server: Server) -> paramiko.SSHClient:
    """A connection of paramiko; the caller closes it."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", server.port, server.person, key_filename=str(server.key), allow_agent=False, look_for_keys=False)
    return client
