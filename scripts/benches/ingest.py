"""Ingest: small papers a second from landed to receipted, how long one waits, the sealing of a large one, and a catalog of a million papers.

Each has its goal beside it. `--folder` names the disk: small papers are a matter of its syncs. Checks and the virus scan are off.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from statistics import median, quantiles

from benches import servers
from benches.frame import Page, Table, filesystem, folder, pin, take
from config.files import write_whole
from config.folder import DataFolder
from config.memory import hold_little_memory
from config.settings import IngestSettings
from gateway.age import Identity
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.read import read
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog, NewPaper
from gateway.catalog.search import Search
from gateway.ingest.parts import Parts
from gateway.ingest.pipeline import Pipeline
from gateway.ingest.worker import Sources, Worker
from gateway.jail import Pointer, Tree, path_of
from gateway.keys.keyring import RECEIPT_SIGNING, Keyring
from gateway.keys.master import make_master
from gateway.store import Arrival, Spool, Vault, new_paper_id

INTRO = (
    "Papers land as the gateway leaves them, and are measured until their receipts lie in the jail: sealed, catalogued, durable. "
    "Everything runs on two cores; checks and the virus scan are off. The data folders are made for the purpose: on the disk where the table "
    "does not say otherwise, and for the large paper on a RAM disk, as in the vault's own bench."
)
BATCH = IngestSettings().batch
SMALL = 20_000  # bytes
PIECE = 1 << 20
CLIENT = "acme"
PER_SECOND, SECONDS, SESSIONS = 100, 10, 8  # of the uploads while receipts are waited for
HUGE_MIB = 20 * 1024
NAMES = 1_000  # of the folder that is listed
FEW = 1_000  # papers of the small catalog
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this bench knows."""
    parser.add_argument("--papers", type=int, default=2000, metavar="N", help="small papers of a round (2000)")
    parser.add_argument("--mib", type=int, default=2048, metavar="N", help="size of the large paper (2048)")
    parser.add_argument("--catalog", type=int, default=1_000_000, metavar="N", help="papers of the large catalog (1000000)")
    parser.add_argument("--large", action="store_true", help="a paper of 20 GiB as well: it takes 41 GiB in DIR")
    place = Path(tempfile.gettempdir())
    parser.add_argument("--folder", type=Path, default=place, metavar="DIR", help=f"on the disk that is measured ({place})")


def run(arguments: argparse.Namespace) -> Page:
    """All tables."""
    pin(2)
    with folder() as memory, folder(arguments.folder) as disk:
        tables = [small_papers((("the RAM disk", memory), (f"the disk ({filesystem(disk)})", disk)), arguments)]
    with folder(arguments.folder) as place:
        tables.append(waiting(place, arguments))
    with folder() as place:
        tables.append(large_paper(House(place), arguments))
    with folder(arguments.folder) as place:
        tables.append(catalogs(place, arguments))
    if arguments.large:
        with folder(arguments.folder) as place:
            tables.append(huge_paper(House(place), arguments))
    return Page("ingest", INTRO, tables)


class House:
    """A data folder with one client."""

    def __init__(self, root: Path) -> None:
        self.folder = DataFolder(root / "data")
        self.folder.root.mkdir()
        master = make_master(root / "master.key", self.folder)
        self.keyring = Keyring.create(self.folder, master.recipient, Identity.generate().recipient)
        for path in (self.folder.spool_partial, self.folder.spool_landed, self.folder.vault, self.folder.quarantine, self.folder.audit):
            path.mkdir(parents=True, exist_ok=True)
        self.catalog = Catalog.create(self.folder.catalog)
        self.spool = Spool(self.folder.spool_partial, self.folder.spool_landed, self.keyring.ingest_recipient)
        self.vault = Vault(self.folder.vault)
        self.identities = self.keyring.ingest_identities(master)
        self.signing = SigningKey.parse(self.keyring.open_secret(RECEIPT_SIGNING, master))
        self.recipient = self.keyring.add_client(CLIENT).recipient
        self.catalog.add_client(CLIENT, recipient=str(self.recipient))
        self.tree = Tree.create(self.folder.jail(CLIENT))

    def land(self, name: str, pieces: Iterator[bytes]) -> str:
        """What a gateway would have done for a paper."""
        paper, now = new_paper_id(), datetime.now(UTC)
        file = self.spool.create(paper, CLIENT)
        size = 0
        for piece in pieces:
            file.write(size, piece)
            size += len(piece)
        file.finish(Arrival(paper, CLIENT, CLIENT, f"/inbox/{name}", now, None, "bench", "192.0.2.7", "SSH-2.0-bench"))
        self.tree.put(path_of(f"/inbox/{name}"), Pointer(paper, size, "whole"), mtime=None, durable=False)
        self.spool.land(paper)
        file.close()
        return paper

    def check_done(self, papers: int) -> None:
        """Stop the bench unless `papers` are receipted and nothing is left."""
        done, _ = self.catalog.count_papers(CLIENT, "accepted")
        if self.spool.landed_papers() or done != papers or self.catalog.unreceipted():
            sys.exit("not every paper was receipted: the measurement is void")

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        """Ingest, as the role puts it together, without its process."""
        hold_little_memory()
        with ExitStack() as stack:
            parts = Parts(
                spool=self.spool,
                vault=self.vault,
                quarantine=self.folder.quarantine,
                landed=self.folder.spool_landed,
                claims=self.folder.run / "ingest.claims",
                catalog=self.catalog,
                audit=stack.enter_context(AuditLog(self.folder.audit, "ingest")),
                keyring=self.keyring,
                tree=lambda client: Tree(self.folder.jail(client)),
                identities=self.identities,
                signing=self.signing,
                sync_together=(self.folder.vault, self.folder.jails),
            )
            pipeline = stack.enter_context(Pipeline(parts))
            yield Worker(pipeline, Sources(self.spool.landed_papers), batch=BATCH, sweep_seconds=3600)


def small_papers(places: Sequence[tuple[str, Path]], arguments: argparse.Namespace) -> Table:
    """Small papers a second, durable, from landed to receipted, on each of the disks; medians of the rounds."""
    count, content = arguments.papers, os.urandom(SMALL)
    table = Table("Small papers", ("papers of 20 kB", "a second", "CPU ms each", "goal", "reached"))
    table.note = "What a disk gives: files of that size a second, each written, synced and renamed into a folder that is synced, one after the other."
    for name, place in places:
        house, taken = House(place), []
        gives = count / take(lambda folder=place / "plain": _plain_files(folder, content, count)).wall  # type: ignore[misc]
        for number in range(arguments.rounds):
            for paper in range(count):
                house.land(f"{number}-{paper:06}.pdf", iter([content]))
            with house.worker() as worker:
                taken.append(take(worker.work))
            house.check_done((number + 1) * count)
        rate, cpu = count / median(one.wall for one in taken), median(one.cpu for one in taken) / count * 1e3
        table.add(f"{count} on {name}", f"{rate:.0f}", f"{cpu:.2f}", "500 a second", reached=rate >= 500)
        table.add(f"what {name} gives", f"{gives:.0f}")
    return table


def _plain_files(folder: Path, content: bytes, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        write_whole(folder / f"{number}", content)


def waiting(place: Path, _: argparse.Namespace) -> Table:
    """From landed to receipted, as the audit log tells, while clients upload 100 papers a second to the real gateway and all roles run."""
    count = PER_SECOND * SECONDS
    bench = servers.Bench(place, 0, 0)
    with servers.nightsafe(bench) as server:
        began = time.perf_counter()
        asyncio.run(_upload(server, bench.key, count))
        rate = count / (time.perf_counter() - began)
        server.rest()
        folder = DataFolder(place / "nightsafe" / "data")
        with Catalog.open(folder.catalog) as catalog:
            while catalog.unreceipted() or catalog.count_papers(servers.CLIENT, "accepted")[0] < count:
                time.sleep(0.1)
    moments: dict[str, dict[str, datetime]] = {}
    for line in read(folder.audit, only=(Event.PAPER_LANDED.value, Event.RECEIPT_WRITTEN.value)):
        moments.setdefault(str(line["paper"]), {})[str(line["event"])] = datetime.fromisoformat(str(line["time"]))
    lengths = [(one[Event.RECEIPT_WRITTEN.value] - one[Event.PAPER_LANDED.value]).total_seconds() for one in moments.values()]
    if len(lengths) != count:
        sys.exit(f"{len(lengths)} papers of {count} were receipted: the measurement is void")
    cuts = quantiles(lengths, n=100)
    table = Table("Waiting for a receipt", ("papers", "uploaded a second", "median s", "99 % within s", "goal", "reached"))
    table.note = "All roles run, and the gateway serves the uploads meanwhile. From the landing of a paper to its receipt, as the audit log tells."
    table.add(
        str(count), f"{rate:.0f}", f"{cuts[49]:.3f}", f"{cuts[98]:.3f}", "1 s at 100 a second", reached=cuts[98] <= 1 and rate >= 0.95 * PER_SECOND
    )
    return table


async def _upload(server: servers.Server, key: Path, count: int) -> None:
    """`count` small papers at an even pace, by SESSIONS clients."""
    import asyncssh

    content, began = os.urandom(SMALL), time.perf_counter()

    async def client(first: int) -> None:
        options = {"username": server.user, "client_keys": [str(key)], "known_hosts": None, "config": None}
        async with asyncssh.connect("127.0.0.1", server.port, **options) as connection, connection.start_sftp_client() as sftp:
            for number in range(first, count, SESSIONS):
                await asyncio.sleep(began + number / PER_SECOND - time.perf_counter())
                async with sftp.open(f"{server.folder}/{number:06}.pdf", "wb") as file:
                    await file.write(content)

    await asyncio.gather(*(client(first) for first in range(SESSIONS)))


def large_paper(house: House, arguments: argparse.Namespace) -> Table:
    """One large paper, beside the vault that seals the same bytes."""
    pieces, count = [os.urandom(PIECE) for _ in range(8)], arguments.mib

    def vault_alone() -> None:
        with house.vault.writer("bench", paper, house.recipient) as writer:
            for number in range(count):
                writer.write(pieces[number % len(pieces)])
            writer.commit()

    def warm() -> None:
        with (house.folder.root / "warm").open("wb", buffering=0) as file:
            for number in range(count):
                file.write(pieces[number % len(pieces)])
        (house.folder.root / "warm").unlink()

    alone, ingest = [], []
    for number in range(min(3, arguments.rounds)):
        paper = new_paper_id()
        warm()
        alone.append(count / take(vault_alone).wall)
        house.vault.remove("bench", paper)
        landed = house.land(f"{number}.bin", (pieces[piece % len(pieces)] for piece in range(count)))
        warm()
        with house.worker() as worker:
            ingest.append(count / take(worker.work).wall)
        house.check_done(number + 1)
        house.vault.remove(CLIENT, landed)
    ratio = median(ingest) / median(alone)
    table = Table(f"A paper of {count} MiB", ("", "MiB/s", "of the vault's", "goal", "reached"))
    table.note = (
        "Both write into memory that was in use a moment ago: what a virtual machine has freed may be with its host, and fetching it back costs "
        "more than sealing. The vault alone has one core's work; ingest opens and hashes on the other."
    )
    table.add("vault alone", f"{median(alone):.0f}")
    table.add("landed to receipted", f"{median(ingest):.0f}", f"{ratio:.2f}", "0.60", reached=ratio >= 0.6)
    return table


def huge_paper(house: House, _: argparse.Namespace) -> Table:
    """A paper that fits into no memory."""
    piece, count = os.urandom(PIECE), HUGE_MIB
    house.land("huge.bin", (piece for _ in range(count)))
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = _kib(status, "VmRSS")
    with house.worker() as worker:
        taken = take(worker.work)
    house.check_done(1)
    above = (_kib(status, "VmHWM") - before) / 1024
    table = Table(f"A paper of {count // 1024} GiB", ("", "MiB/s", "MiB of memory more", "goal", "reached"))
    table.add("landed to receipted", f"{count / taken.wall:.0f}", f"{above:.0f}", "64", reached=above < 64)
    return table


def _kib(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))


def catalogs(place: Path, arguments: argparse.Namespace) -> Table:
    """What touches the catalog, with few papers in it and with many, by turns; every look is for another paper."""
    few, many = (_filled(place / name, count) for name, count in (("few", FEW), ("many", arguments.catalog)))
    table = Table("The catalog", ("", f"ms with {FEW:,}", f"ms with {arguments.catalog:,}", "ratio", "goal", "reached"))
    table.note = "Medians. The listing is that of `files list`; over SFTP the catalog is not asked at all."
    with few.worker() as first, many.worker() as second:
        of_few, of_many = _actions(few, FEW, first, arguments.rounds), _actions(many, arguments.catalog, second, arguments.rounds)
        for name, (times, action) in of_few.items():
            least, most = _medians_ms(times, action, of_many[name][1])
            table.add(name, f"{least:.2f}", f"{most:.2f}", f"{most / least:.2f}", "1.20", reached=most / least <= 1.2)
    return table


def _actions(house: House, count: int, worker: Worker, rounds: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """What is measured, and how often."""
    catalog, dice, content, fresh = house.catalog, random.Random(1), os.urandom(SMALL), iter(range(10**9))  # noqa: S311 - no secret

    def land() -> object:
        for _ in range(BATCH):
            house.land(f"{next(fresh)}.pdf", iter([content]))
        return _timed(worker.work)

    def find(search: Callable[[int], Search]) -> tuple[int, Callable[[], object]]:
        return 200 * rounds, lambda: catalog.find(search(dice.randrange(count)))

    def minute(number: int) -> Search:
        return Search(since=EPOCH + timedelta(seconds=number), until=EPOCH + timedelta(seconds=number + 60))

    def versions() -> object:
        number = dice.randrange(count)
        return catalog.versions(CLIENT, f"/inbox/{number % 1000}/{number}.pdf")

    return {
        f"ingest of {BATCH} papers": (3 * rounds, land),
        "versions of a name": (200 * rounds, versions),
        "files find by name": find(lambda number: Search(client=CLIENT, name=f"{number % 1000}/{number}.pdf")),
        "files find by hash": find(lambda number: Search(sha256=_hash(number))),
        "files find by date": find(minute),
        f"listing of {NAMES:,} names": (20 * rounds, lambda: catalog.known([one.paper for _, one, _ in house.tree.pointers("/inbox/listed")])),
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _medians_ms(times: int, one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """Of both, by turns. An action that gives a number took so many seconds, whatever it did besides."""
    lengths: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for action, found in zip((one, other), lengths, strict=True):
            began = time.perf_counter()
            told = action()
            found.append(told if isinstance(told, float) else time.perf_counter() - began)
    return median(lengths[0]) * 1e3, median(lengths[1]) * 1e3


def _filled(root: Path, count: int) -> House:
    """A house with `count` papers in its catalog, and a folder of NAMES of them, old and new."""
    root.mkdir()
    house = House(root)
    for start in range(0, count, 5000):
        rows = [_row(number) for number in range(start, min(count, start + 5000))]
        house.catalog.mark_receipted(house.catalog.record(rows))
        print(f"\r{min(count, start + 5000)} papers", end="", file=sys.stderr)
    print(file=sys.stderr)
    house.tree.make_folder(path_of("/inbox/listed"))
    for number in range(NAMES):
        paper = _row(number * count // NAMES).id
        house.tree.put(path_of(f"/inbox/listed/{number:04}.pdf"), Pointer(paper, SMALL, "whole"), mtime=None, durable=False)
    return house


def _hash(number: int) -> str:
    return sha256(number.to_bytes(8)).hexdigest()


def _row(number: int) -> NewPaper:
    moment = EPOCH + timedelta(seconds=number)
    return NewPaper(
        id=f"{number:012x}{_hash(number)[:20]}", client=CLIENT, path=f"/inbox/{number % 1000}/{number}.pdf", person=CLIENT, state="accepted",
        reason="", size=SMALL, sha256=_hash(number), received_at=moment, sealed_at=moment, modified_at=None, generation=1, header_mac="0" * 64,
        sealed_sha256=_hash(number), sealed_size=SMALL, session="bench", address="192.0.2.7",
    )  # fmt: skip
