"""keyd over its socket, and the master at hand: one suite for both ways to a key; then what only a socket can get wrong."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from config.errors import Busy, OutOfReach
from config.folder import DataFolder
from config.loading import Installation
from config.roles import role_state
from config.settings import Settings
from gateway.age import Identity, new_header, unwrap
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, NewPaper
from gateway.keys.client import KeyAgent, KeyDamaged, KeydClient, KeydUnavailable, KeyGone, KeyLimited, KeyRefused, MasterAgent
from gateway.keys.keyd import KeyServer
from gateway.keys.keyring import Keyring
from gateway.keys.limits import KeyLimits
from gateway.keys.master import make_master
from gateway.keys.paths import short_path
from gateway.keys.protocol import MAX_LINE_BYTES
from gateway.keys.service import CACHE_SECONDS, KeyService
from gateway.store import Arrival, SealedPaper, Spool, Vault, new_paper_id

KEY_BYTES = 16


@dataclass
class House:
    """An installation with the clients acme and zeta, and a person of each."""

    installation: Installation
    keyring: Keyring
    master: Identity
    recovery: Identity

    @property
    def folder(self) -> DataFolder:
        return self.installation.folder

    def seal(self, client: str, content: bytes, root: Path | None = None) -> tuple[str, SealedPaper]:
        paper = new_paper_id()
        writer = Vault(root or self.folder.vault).writer(client, paper, self.keyring.client_recipient(client).recipient)
        writer.write(content)
        return paper, writer.commit()

    def spool(self) -> Spool:
        return Spool(self.folder.spool_partial, self.folder.spool_landed, self.keyring.ingest_recipient)

    def land(self, client: str, content: bytes) -> str:
        paper = new_paper_id()
        with self.spool() as spool:
            file = spool.create(paper, client)
            file.write(0, content)
            file.finish(Arrival(paper, client, client, "/inbox/a", datetime.now(UTC), None, "s", "127.0.0.1", "test"))
            file.close()
            spool.land(paper)
        return paper

    def header(self, client: str, paper: str) -> bytes:
        return Vault(self.folder.vault).header(client, paper)

    def catalog(self) -> Catalog:
        return Catalog.open(self.folder.catalog)

    def alter(self, statement: str) -> None:
        """Change the catalog as another process would."""
        engine = create_engine(f"sqlite:///{self.folder.catalog}")
        with engine.begin() as connection:
            assert connection.execute(text(statement)).rowcount == 1
        engine.dispose()

    def audited(self) -> list[dict[str, Any]]:
        lines = [line for path in sorted(self.folder.audit.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [event for event in map(json.loads, lines) if str(event["event"]).startswith("key.")]

    def everything_written(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.folder.audit.iterdir())


def build(base: Path) -> House:
    folder = DataFolder(base / "data")
    folder.root.mkdir(parents=True, mode=0o700)
    master, recovery = make_master(base / "master.key", folder), Identity.generate()
    keyring = Keyring.create(folder, master.recipient, recovery.recipient)
    with Catalog.create(folder.catalog) as catalog:
        for name in ("acme", "zeta"):
            catalog.add_client(name, recipient=str(keyring.add_client(name).recipient))
            catalog.add_person(name, client=name)
        catalog.add_person("staff", role="staff")
    return House(Installation(folder, Settings()), keyring, master, recovery)


@contextlib.contextmanager
def served(house: House, *, per_minute: int = 1_000_000, clock: Callable[[], float] = time.monotonic, **options: Any) -> Iterator[KeydClient]:
    """keyd's server and service in this process, and a client of it."""
    with house.catalog() as catalog, AuditLog(house.folder.audit, "keyd") as audit:
        service = KeyService(house.keyring, house.master, catalog, audit, limits=KeyLimits(per_minute, clock()), clock=clock)
        with KeyServer(house.folder.keyd_socket, service, **options):
            client = KeydClient(house.folder.keyd_socket, answer_seconds=5)
            try:
                yield client
            finally:
                client.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return build(tmp_path)


@pytest.fixture(params=["keyd", "master"])
def agent(request: pytest.FixtureRequest, house: House) -> Iterator[KeyAgent]:
    if request.param == "keyd":
        with served(house) as client:
            yield client
    else:
        with MasterAgent(house.installation, house.keyring, house.master) as at_hand:
            yield at_hand


# one suite for both agents


def test_a_paper_in_the_vault_opens_and_is_recorded(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    key = agent.paper_key("acme", paper, "vault", "acme", "download")
    with Vault(house.folder.vault).open("acme", paper, file_key=key) as reader:
        assert reader.read() == b"content"
    (event,) = house.audited()
    asked = {"client": "acme", "paper": paper, "where": "vault", "person": "acme", "reason": "download"}
    assert event["event"] == "key.granted"
    assert asked.items() <= event.items()


def test_a_paper_in_the_spool_opens_partial_and_landed(agent: KeyAgent, house: House) -> None:
    landed = house.land("acme", b"landed")
    key = agent.paper_key("acme", landed, "spool", "acme", "read")
    with house.spool() as spool:
        assert spool.open_landed(landed, file_key=key).read() == b"landed"
        partial = new_paper_id()
        file = spool.create(partial, "acme")
        file.write(0, b"half")
        file.close()
    with house.spool() as spool:
        file = spool.reopen(partial, agent.paper_key("acme", partial, "spool", "acme", "resume"))
        assert file.read(0, 4) == b"half"
        file.close()


def test_older_generations_open_too(agent: KeyAgent, house: House) -> None:
    old, _ = house.seal("acme", b"old")
    assert len(agent.paper_key("acme", old, "vault", "acme", "r")) == KEY_BYTES
    house.keyring.rotate_client("acme")
    new, _ = house.seal("acme", b"new")
    for paper in (old, new):
        assert len(agent.paper_key("acme", paper, "vault", "acme", "r")) == KEY_BYTES


@pytest.mark.parametrize(
    ("person", "why"),
    [
        ("zeta", "does not belong to this client"),
        ("nobody", "unknown person"),
        ("staff", "does not belong to this client"),
        ("keyd", "unknown person"),
    ],
)
def test_the_wrong_person_is_refused_and_recorded(agent: KeyAgent, house: House, person: str, why: str) -> None:
    paper, _ = house.seal("acme", b"content")
    landed = house.land("acme", b"content")
    for where, one in (("vault", paper), ("spool", landed)):
        with pytest.raises(KeyRefused, match=why):
            agent.paper_key("acme", one, where, person, "r")  # type: ignore[arg-type]
    events = house.audited()
    assert [event["event"] for event in events] == ["key.refused"] * 2
    assert all(event["person"] == person and why in event["why"] for event in events)


def test_staff_read_what_was_accepted_and_nothing_before(agent: KeyAgent, house: House) -> None:
    with house.catalog() as catalog:
        catalog.add_person("sue", role="staff", clients=["acme"])
    paper, _ = house.seal("acme", b"content")
    assert len(agent.paper_key("acme", paper, "vault", "sue", "download")) == KEY_BYTES
    with pytest.raises(KeyRefused, match="not accepted yet"):
        agent.paper_key("acme", house.land("acme", b"content"), "spool", "sue", "download")


def test_naming_ones_own_client_does_not_open_anothers_paper(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    landed = house.land("acme", b"content")
    with pytest.raises(KeyGone):
        agent.paper_key("zeta", paper, "vault", "zeta", "r")
    with pytest.raises(KeyRefused, match="another client"):
        agent.paper_key("zeta", landed, "spool", "zeta", "r")
    stolen = Vault(house.folder.vault).path("zeta", paper)  # and not by moving the file either
    stolen.parent.mkdir(parents=True)
    os.link(Vault(house.folder.vault).path("acme", paper), stolen)
    with pytest.raises(KeyRefused, match="no key on this machine"):
        agent.paper_key("zeta", paper, "vault", "zeta", "r")


def test_a_deactivated_person_is_refused_at_once(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    agent.paper_key("acme", paper, "vault", "acme", "r")
    house.alter("update people set active = 0 where name = 'acme'")
    with pytest.raises(KeyRefused, match="not active"):
        agent.paper_key("acme", paper, "vault", "acme", "r")
    house.alter("update people set active = 1 where name = 'acme'")
    agent.paper_key("acme", paper, "vault", "acme", "r")
    house.alter("update clients set active = 0 where name = 'acme'")
    with pytest.raises(KeyRefused, match="suspended"):
        agent.paper_key("acme", paper, "vault", "acme", "r")
    agent.paper_key("acme", paper, "vault", "ops:anna", "r")


def test_an_expired_person_is_refused(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    with house.catalog() as catalog:
        catalog.add_person("past", client="acme", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        catalog.add_person("future", client="acme", expires_at=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(KeyRefused, match="not active"):
        agent.paper_key("acme", paper, "vault", "past", "r")
    agent.paper_key("acme", paper, "vault", "future", "r")


def test_the_quarantine_is_for_ops(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"held", house.folder.quarantine)
    with pytest.raises(KeyRefused, match="only ops"):
        agent.paper_key("acme", paper, "quarantine", "acme", "r")
    assert len(agent.paper_key("acme", paper, "quarantine", "ops:anna", "look at it")) == KEY_BYTES


@pytest.mark.parametrize("where", ["spool", "vault", "quarantine"])
def test_a_paper_that_is_not_there_is_gone(agent: KeyAgent, where: Any) -> None:
    with pytest.raises(KeyGone):
        agent.paper_key("acme", new_paper_id(), where, "ops:anna", "r")


def test_a_destroyed_key_is_gone_at_once(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    agent.paper_key("acme", paper, "vault", "acme", "r")
    for path in house.folder.client_keys("acme").iterdir():
        path.unlink()
    with pytest.raises(KeyRefused, match="no key on this machine"):
        agent.paper_key("acme", paper, "vault", "acme", "r")
    house.folder.client_keys("acme").rmdir()
    with pytest.raises(KeyRefused, match="no key on this machine"):
        agent.paper_key("acme", paper, "vault", "acme", "r")


def catalogue(house: House, paper: str, sealed: SealedPaper, content: bytes) -> None:
    now = datetime.now(UTC)
    row = NewPaper(
        id=paper,
        client="acme",
        path=f"/inbox/{paper}",
        person="acme",
        state="accepted",
        reason="",
        size=len(content),
        sha256="0" * 64,
        received_at=now,
        sealed_at=now,
        modified_at=None,
        generation=1,
        header_mac=sealed.header_mac,
        sealed_sha256=sealed.sealed_sha256,
        sealed_size=sealed.sealed_size,
        session="s",
        address="127.0.0.1",
    )
    with house.catalog() as catalog:
        catalog.record([row])


def test_two_swapped_vault_files_are_noticed(agent: KeyAgent, house: House) -> None:
    """Both are whole age files of this client: only the catalog knows that they are not the right ones."""
    vault = Vault(house.folder.vault)
    papers = []
    for content in (b"the real one", b"another one."):
        paper, sealed = house.seal("acme", content)
        catalogue(house, paper, sealed, content)
        papers.append(vault.path("acme", paper))
        agent.paper_key("acme", paper, "vault", "acme", "r")
    one, other = papers
    one.rename(one.with_suffix(".swap"))
    other.rename(one)
    one.with_suffix(".swap").rename(other)
    for path in papers:
        with pytest.raises(KeyRefused, match="not the one that was catalogued"):
            agent.paper_key("acme", path.stem, "vault", "acme", "r")


def test_damaged_files_are_refused(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    path = Vault(house.folder.vault).path("acme", paper)
    good = path.read_bytes()
    for bad in (b"", b"garbage", good[:50], good[:120] + bytes([good[120] ^ 1]) + good[121:]):
        path.write_bytes(bad)
        with pytest.raises(KeyRefused):
            agent.paper_key("acme", paper, "vault", "acme", "r")
    landed = house.folder.spool_landed / house.land("acme", b"content")
    landed.write_bytes(b"garbage")
    with pytest.raises(KeyRefused, match="damaged"):
        agent.paper_key("acme", landed.name, "spool", "acme", "r")


def test_a_damaged_client_key_is_said_to_be_so(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    path = house.folder.client_keys("acme") / "1.age"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises((KeyDamaged, KeydUnavailable), match="does not open"):
        agent.paper_key("acme", paper, "vault", "acme", "r")


def test_headers_of_restored_papers(agent: KeyAgent, house: House) -> None:
    sealed = [house.seal("acme", b"%d" % number)[0] for number in range(3)]
    foreign, _ = house.seal("zeta", b"foreign")
    headers = [(paper, house.header("acme", paper)) for paper in sealed]
    headers[1:1] = [(foreign, house.header("zeta", foreign)), (new_paper_id(), b"garbage")]
    if isinstance(agent, KeydClient):
        headers += [(new_paper_id(), b""), (new_paper_id(), bytes(100_000))]  # too long for a message: answered here
    keys = agent.header_keys("acme", headers, "ops:drill", "drill 7")
    identities = house.keyring.client_identities("acme", house.recovery)
    opened = [unwrap(header, identities) if paper in sealed else None for paper, header in headers]
    assert keys == opened
    granted = [event["paper"] for event in house.audited() if event["event"] == "key.granted"]
    assert granted == sealed
    assert agent.header_keys("acme", [], "ops:drill", "r") == []


def test_headers_are_for_ops(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    with pytest.raises(KeyRefused, match="only ops"):
        agent.header_keys("acme", [(paper, house.header("acme", paper))], "acme", "r")


def test_a_thousand_headers_come_back_in_order(agent: KeyAgent, house: House) -> None:
    recipient = house.keyring.client_recipient("acme").recipient
    sealed = [new_header([recipient]) for _ in range(1000)]
    keys = agent.header_keys("acme", [(new_paper_id(), one.header) for one in sealed], "ops:drill", "r")
    assert keys == [one.file_key for one in sealed]


def test_nothing_secret_is_recorded(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    key = agent.paper_key("acme", paper, "vault", "acme", "r")
    written = house.everything_written()
    for secret in (key.hex(), house.master.encode(), house.keyring.client_identities("acme", house.master)[0].encode()):
        assert secret not in written
    assert key.hex() not in repr(agent)
    assert house.master.encode() not in repr(agent)


# only keyd


def test_the_rate_limit_refuses_for_a_while(house: House) -> None:
    now = [100.0]
    papers = [house.seal("acme", b"content")[0] for _ in range(3)]
    with served(house, per_minute=3, clock=lambda: now[0]) as client:
        for paper in papers:
            client.paper_key("acme", paper, "vault", "acme", "r")
        with pytest.raises(KeyLimited, match="too many keys") as caught:
            client.paper_key("acme", papers[0], "vault", "acme", "r")
        assert 0 < caught.value.retry_seconds <= 20
        client.paper_key("acme", papers[0], "vault", "ops:anna", "r")
        now[0] += 20
        client.paper_key("acme", papers[0], "vault", "acme", "r")
    assert [event["event"] for event in house.audited()].count("key.refused") == 1


def test_a_refused_flood_does_not_fill_the_log(house: House) -> None:
    now = [0.0]
    with served(house, clock=lambda: now[0]) as client:
        for _ in range(700):
            with pytest.raises(KeyRefused):
                client.paper_key("acme", "0" * 32, "vault", "nobody", "r")
        assert len(house.audited()) == 600
        now[0] += 1
        with pytest.raises(KeyRefused):
            client.paper_key("acme", "0" * 32, "vault", "nobody", "r")
    assert house.audited()[-1]["suppressed"] == 100


def test_identities_are_forgotten(house: House) -> None:
    now = [0.0]
    paper, _ = house.seal("acme", b"content")
    with house.catalog() as catalog, AuditLog(house.folder.audit, "keyd") as audit:
        service = KeyService(house.keyring, house.master, catalog, audit, limits=None, clock=lambda: now[0])
        agent = MasterAgent(house.installation, house.keyring, house.master)
        agent._made = service
        agent.paper_key("acme", paper, "vault", "acme", "r")
        assert len(service._cache._kept) == 1
        now[0] += CACHE_SECONDS
        service.tick()
        assert len(service._cache._kept) == 0


@contextlib.contextmanager
def raw(house: House) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        with short_path(house.folder.keyd_socket) as name:
            connection.connect(name)
        yield connection


def everything(connection: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize("garbage", [b"\n", b"garbage\n", b"\x00\xff\xfe\n", b"[" * 200_000 + b"\n", b'{"op":"master"}\n', b"GET / HTTP/1.1\r\n"])
def test_garbage_is_answered_and_the_connection_ended(house: House, garbage: bytes) -> None:
    paper, _ = house.seal("acme", b"content")
    with served(house) as client:
        with raw(house) as connection:
            connection.sendall(garbage)
            assert json.loads(everything(connection))["error"] == "bad_message"
        assert len(client.paper_key("acme", paper, "vault", "acme", "r")) == KEY_BYTES
    assert house.audited()[0]["event"] == "key.refused"


def test_an_oversized_line_is_cut_off(house: House) -> None:
    with served(house), raw(house) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            for _ in range(64):
                connection.sendall(b"x" * (MAX_LINE_BYTES // 16))
        answer = everything(connection)  # nothing when the kernel threw it away together with what we still sent
        assert answer == b"" or json.loads(answer)["message"] == "the line is too long"
    assert house.audited()[-1]["why"] == "the line is too long"


def test_a_line_that_never_ends_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.keys.keyd.LINE_SECONDS", 0.3)
    with served(house), raw(house) as connection:
        started = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(20):
                connection.sendall(b"{")
                time.sleep(0.1)
        assert everything(connection) == b""
        assert time.monotonic() - started < 4


def test_requests_may_come_in_pieces_and_together(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    line = json.dumps({"op": "paper", "client": "acme", "paper": paper, "where": "vault", "person": "acme", "reason": "r"}).encode() + b"\n"
    with served(house), raw(house) as connection:
        for place in range(0, len(line), 7):
            connection.sendall(line[place : place + 7])
        connection.sendall(line * 20)
        connection.shutdown(socket.SHUT_WR)
        answers = everything(connection).splitlines()
    assert len(answers) == 21
    assert len(set(answers)) == 1
    assert set(json.loads(answers[0])) == {"file_key"}


def test_connections_are_bounded(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    with served(house, max_connections=3) as client, contextlib.ExitStack() as stack:
        held = [stack.enter_context(raw(house)) for _ in range(3)]
        with pytest.raises(KeydUnavailable, match="too many connections"):
            client.paper_key("acme", paper, "vault", "acme", "r")
        held[0].close()
        for _ in range(50):
            with contextlib.suppress(KeydUnavailable):
                client.paper_key("acme", paper, "vault", "acme", "r")
                break
            time.sleep(0.05)
        else:
            pytest.fail("a freed connection was not given on")


def test_another_user_is_turned_away(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    with served(house, users=frozenset({os.geteuid() + 4711})) as client, pytest.raises(KeydUnavailable):
        client.paper_key("acme", paper, "vault", "acme", "r")
    assert house.audited()[-1]["why"] == f"a connection by the user {os.geteuid()}"


def test_the_socket_is_private(house: House) -> None:
    with served(house):
        assert stat.S_IMODE(house.folder.keyd_socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(house.folder.run.stat().st_mode) == 0o700
    assert not house.folder.keyd_socket.exists()


def test_a_data_folder_deep_down(tmp_path: Path) -> None:
    deep = build(tmp_path.joinpath(*["a folder with a long name"] * 8))
    assert len(str(deep.folder.keyd_socket)) > 200
    paper, _ = deep.seal("acme", b"content")
    with served(deep) as client:
        assert len(client.paper_key("acme", paper, "vault", "acme", "r")) == KEY_BYTES


def test_keyd_down_is_temporary(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    client = KeydClient(house.folder.keyd_socket)
    with pytest.raises(KeydUnavailable, match="out of reach") as caught:
        client.paper_key("acme", paper, "vault", "acme", "r")
    assert isinstance(caught.value, OutOfReach)
    with served(house):
        key = client.paper_key("acme", paper, "vault", "acme", "r")
    with pytest.raises(KeydUnavailable):
        client.paper_key("acme", paper, "vault", "acme", "r")
    with served(house):  # the old connection is dead, and nobody notices
        assert client.paper_key("acme", paper, "vault", "acme", "r") == key


def test_a_silent_keyd_is_given_up(house: House) -> None:
    house.folder.run.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, short_path(house.folder.keyd_socket) as name:
        listener.bind(name)
        listener.listen()
        client = KeydClient(house.folder.keyd_socket, answer_seconds=0.3)
        with pytest.raises(KeydUnavailable, match="did not answer in time"):
            client.paper_key("acme", "0" * 32, "vault", "acme", "r")


def test_many_threads_share_a_client(house: House) -> None:
    papers = [house.seal("acme", b"content")[0] for _ in range(4)]
    with served(house) as client:
        wanted = {paper: client.paper_key("acme", paper, "vault", "acme", "r") for paper in papers}
        wrong: list[str] = []

        def ask(paper: str) -> None:
            for _ in range(25):
                if client.paper_key("acme", paper, "vault", "acme", "r") != wanted[paper]:
                    wrong.append(paper)

        threads = [threading.Thread(target=ask, args=(paper,)) for paper in papers * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_without_a_record_no_key(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    paper, _ = house.seal("acme", b"content")
    with house.catalog() as catalog, AuditLog(house.folder.audit, "keyd") as audit:
        service = KeyService(house.keyring, house.master, catalog, audit, limits=None)
        with KeyServer(house.folder.keyd_socket, service):
            client = KeydClient(house.folder.keyd_socket)
            client.paper_key("acme", paper, "vault", "acme", "r")
            descriptor, audit._descriptor = audit._descriptor, os.open("/dev/full", os.O_WRONLY)
            monkeypatch.setattr(os, "ftruncate", lambda *_: None)
            with pytest.raises(KeydUnavailable, match="audit log cannot be written"):
                client.paper_key("acme", paper, "vault", "acme", "r")
            os.close(audit._descriptor)
            audit._descriptor = descriptor
            client.paper_key("acme", paper, "vault", "acme", "r")
            client.close()


# the whole process

SERVE = """
import sys
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from pathlib import Path
from gateway.keys.keyd import serve
serve(Installation(DataFolder(Path(sys.argv[1])), Settings()))
"""


@contextlib.contextmanager
def keyd_process(house: House) -> Iterator[subprocess.Popen[bytes]]:
    log = house.folder.root.parent / "keyd.log"
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", SERVE, str(house.folder.root)], stderr=output, stdout=output)
    try:
        until = time.monotonic() + 30
        while not role_state(house.folder, "keyd"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_role_serves_restarts_and_stops(house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    client = KeydClient(house.folder.keyd_socket)
    with keyd_process(house) as process:
        key = client.paper_key("acme", paper, "vault", "acme", "download")
        assert Path(f"/proc/{process.pid}/limits").read_text().splitlines()[5].split()[4:6] == ["0", "0"]  # max core file size
        process.kill()
        process.wait()
    assert role_state(house.folder, "keyd") is None
    with pytest.raises(KeydUnavailable):
        client.paper_key("acme", paper, "vault", "acme", "download")
    with keyd_process(house) as process:
        assert client.paper_key("acme", paper, "vault", "acme", "download") == key
        process.terminate()
        assert process.wait(10) == 0
        assert not house.folder.keyd_socket.exists()
    said = (house.folder.root.parent / "keyd.log").read_text() + house.everything_written()
    for secret in (key.hex(), house.master.encode(), *(one.encode() for one in house.keyring.client_identities("acme", house.master))):
        assert secret not in said
    assert [event["event"] for event in house.audited()] == ["key.granted", "key.granted"]


def test_a_hardened_process_cannot_be_dumped() -> None:
    script = "import ctypes; from gateway.keys.process import harden_process; harden_process(); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    dumpable = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert dumpable == "0\n"


def test_arguments_and_environment_hold_no_secret(house: House) -> None:
    with keyd_process(house) as process:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"AGE-SECRET" not in environment + arguments


def test_only_one_keyd_runs_on_a_folder(house: House) -> None:
    from gateway.keys import keyd

    with keyd_process(house):
        script = (
            SERVE.replace("serve(Inst", "from config.errors import Busy\ntry:\n  serve(Inst").rstrip()
            + "\nexcept Busy as error:\n  sys.exit(int(error.exit_code))\n"
        )
        assert subprocess.run([sys.executable, "-c", script, str(house.folder.root)], timeout=30).returncode == Busy.exit_code
    assert keyd.MAX_CONNECTIONS > 0


def test_peer_credentials_are_the_kernels() -> None:
    from gateway.keys.keyd import _peer_user

    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert _peer_user(one) == os.geteuid()
        assert struct.calcsize("3i") == 12
