"""Commands that renew keys, ended by a real SIGKILL at random moments: the installation works, every paper opens, running again completes."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from config.cli import run
from config.files import TEMPORARY_PREFIX
from gateway.age import AgeError, Identity, open_bytes
from gateway.catalog import Paper
from gateway.jail import Tree
from gateway.keys.archive_password import archive_password, set_archive_password
from gateway.keys.identities import identity_file
from gateway.keys.master import load_master
from gateway.keys.resealing import add_recovery
from gateway.keys.secrets import ROLES, secrets_for
from gateway.store import Spool, new_paper_id
from nightsafe import cli
from tests.integration.conftest import make_installation
from tests.integration.drill_house import DrillHouse

ROUNDS = 10
KIT = Identity.generate()
Words = Callable[[int], list[str]]  # of the command, in each round


class Firm(DrillHouse):
    """A house with a client of each custody, a paper of each, one in the spool, and a kit that we hold."""

    papers: list[Paper]
    waiting: str

    def furnish(self, kit: Path) -> None:
        kit.write_text(identity_file(KIT))
        add_recovery(self.keyring, KIT.recipient, self.master, None)
        self.add_client("acme")
        (deposits, _) = self.keyring.add_deposit_client("closed", None)
        for key in self.keyring.client_keys("closed"):
            if key.generation == deposits.generation:
                self.catalog.add_client("closed", custody="deposit-only", recipient=str(key.recipient), generation=key.generation)
            else:
                self.catalog.add_client_key("closed", recipient=str(key.recipient), generation=key.generation)
        Tree.create(self.folder.jail("closed")).close()
        self.keyring.seal_totp("ann", b"seed")
        set_archive_password(self.keyring, "acme", "agreed")
        self.papers = [self.add_paper("acme", "/inbox/a", b"of acme"), self.add_paper("closed", "/inbox/b", b"deposited")]
        self.waiting = new_paper_id()
        with self.spool() as spool:
            file = spool.create(self.waiting, "acme")
            file.write(0, b"half an upload")
            file.close()

    def spool(self) -> Spool:
        return Spool(self.folder.spool_partial, self.folder.spool_landed, self.keyring.ingest_recipient)

    def check(self, kits: list[Identity]) -> None:
        """It works: the master in its place opens what it has to, each of `kits` opens every key, all papers open."""
        self.master = load_master(self.installation, {})
        for role in ROLES:
            secrets_for(role, self.keyring, self.master)
        assert self.keyring.open_totp("ann", self.master) == b"seed"
        assert archive_password(self.keyring, "acme", self.keyring.ingest_identities(self.master)) == "agreed"
        for kit in kits:
            closed = [path for path in self.folder.keys.rglob("*.age") if not opens(path, kit)]
            assert closed == []
        with self.agent() as agent:
            agent.paper_key("acme", self.waiting, "spool", "ops:me", "resume")
            for paper in self.papers:
                if paper.client == "acme":
                    key = agent.paper_key("acme", paper.id, "vault", "ops:me", "look")
                    with self.vault.open("acme", paper.id, file_key=key) as reader:
                        assert reader.read() == self.contents[paper.id]
        deposited = self.keyring.client_identities("closed", kits[0], recovery=True)
        for paper in self.papers:
            if paper.client == "closed":
                with self.vault.open("closed", paper.id, identities=deposited) as reader:
                    assert reader.read() == self.contents[paper.id]


def opens(path: Path, identity: Identity) -> bool:
    try:
        open_bytes(path.read_bytes(), [identity])
    except AgeError:
        return False
    return True


def work(ready: Event, words: list[str]) -> None:
    """In a process of its own, everything imported: a kill hits the work, not the start."""
    ready.set()
    raise SystemExit(run(cli, words))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nightsafe", "gateway.commands.keys", "gateway.commands.client", "tests.integration.test_keys_killed"])
    return context


@pytest.fixture
def firm(tmp_path: Path) -> Iterator[Firm]:
    made = Firm(make_installation(tmp_path))
    made.furnish(tmp_path / "kit.txt")
    yield made
    made.close()


def seconds_of(processes: ForkServerContext, words: list[str], kill_after: float | None = None) -> tuple[float, int]:
    """How long the command took or lived, and how it ended."""
    ready = processes.Event()
    process = processes.Process(target=work, args=(ready, words))
    process.start()
    assert ready.wait(240)
    started = time.monotonic()
    if kill_after is not None:
        time.sleep(kill_after)
        process.kill()
    process.join(120)
    assert process.exitcode is not None
    return time.monotonic() - started, process.exitcode


COMMANDS = ["rotate-master", "add-recovery", "rotate-ingest", "rotate-key"]


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_it_works_and_goes_on(firm: Firm, processes: ForkServerContext, tmp_path: Path, command: str) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    news = defaultdict[int, Identity](Identity.generate)
    data = ["--data", str(firm.folder.root)]
    words: dict[str, Words] = {
        "rotate-master": lambda _: ["keys", "rotate-master", *data],
        "add-recovery": lambda number: ["keys", "add-recovery", str(news[number].recipient), "--identity", str(tmp_path / "kit.txt"), *data],
        "rotate-ingest": lambda _: ["keys", "rotate-ingest", *data],
        "rotate-key": lambda number: ["client", "rotate-key", "acme" if number % 2 else "closed", *data],
    }
    whole, code = seconds_of(processes, words[command](-1))
    assert code == 0
    kits, kills, number = [KIT], 0, -1
    while number + 1 < ROUNDS or kills <= ROUNDS // 3:  # so many were really killed at work
        number += 1
        assert number < 5 * ROUNDS, "no command is killed at work"
        lived, code = seconds_of(processes, words[command](number), chance.uniform(0, whole))
        kills += code < 0
        if code == 0:
            whole = min(whole, lived)  # the first one may have had a busier machine
        firm.check([KIT])
        for client in ("acme", "closed"):
            firm.papers.append(firm.add_paper(client, f"/inbox/{number}", b"after %d, seed %d" % (number, seed)))
        assert run(cli, words[command](number)) == 0, seed
        if command == "add-recovery":
            kits.append(news[number])
        firm.check(kits)
        for client in ("acme", "closed"):
            known = firm.catalog.client(client)
            assert known is not None and len(known.keys) == len(firm.keyring.client_keys(client))
    if command in ("rotate-master", "add-recovery"):
        assert not list(firm.folder.keys.rglob(f"{TEMPORARY_PREFIX}*"))
    assert run(cli, ["audit", "verify", *data]) == 0
