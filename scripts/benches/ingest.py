"""Ingest: small papers a second from landed to receipted, how long one waits, the sealing of a large one, and a catalog of a million papers.

Each has its goal beside it. `--folder` names the disk: small papers are a matter of its fsync. Checks and the virus scan are off.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles

from benches import gateway
from benches.frame import RAM, Page, Table, folder, pin, take
from config.folder import DataFolder
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
    "The data folder is made for the purpose."
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
    parser.add_argument("--large", action="store_true", help="a paper of 20 GiB as well, on the disk of the temporary files: it takes 41 GiB there")
    parser.add_argument("--folder", type=Path, default=RAM, metavar="DIR", help="where the data folder is made (the RAM disk)")


def run(arguments: argparse.Namespace) -> Page:
    """All tables."""
    pin(2)
    tables = []
    for bench in (small_papers, large_paper, catalogs):
        with folder(arguments.folder) as place:
            tables.append(bench(House(place), arguments))
    if arguments.large:
        with folder(Path(tempfile.gettempdir())) as place:
            tables.append(huge_paper(House(place), arguments))
    with folder(arguments.folder) as place:
        tables.insert(1, waiting(place, arguments))
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


def small_papers(house: House, arguments: argparse.Namespace) -> Table:
    """Small papers a second, durable, from landed to receipted; median of the rounds."""
    count, content, taken = arguments.papers, os.urandom(SMALL), []
    for number in range(arguments.rounds):
        for paper in range(count):
            house.land(f"{number}-{paper:06}.pdf", iter([content]))
        with house.worker() as worker:
            taken.append(take(worker.work))
        house.check_done((number + 1) * count)
    rate, cpu = count / median(one.wall for one in taken), median(one.cpu for one in taken) / count * 1e3
    table = Table("Small papers", ("papers of 20 kB", "a second", "CPU ms each", "goal", "reached"))
    table.add(str(count), f"{rate:.0f}", f"{cpu:.2f}", "500 a second", reached=rate >= 500)
    return table


def waiting(place: Path, _: argparse.Namespace) -> Table:
    """From landed to receipted, as the audit log tells, while clients upload 100 papers a second to the real gateway and all roles run."""
    count = PER_SECOND * SECONDS
    bench = gateway.Bench(place, 0, 0)
    with gateway.nightsafe(bench) as server:
        began = time.perf_counter()
        asyncio.run(_upload(server, bench.key, count))
        rate = count / (time.perf_counter() - began)
        server.rest()
        folder = DataFolder(place / "nightsafe" / "data")
        with Catalog.open(folder.catalog) as catalog:
            while catalog.unreceipted() or catalog.count_papers(gateway.CLIENT, "accepted")[0] < count:
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


async def _upload(server: gateway.Server, key: Path, count: int) -> None:
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

    alone, ingest = [], []
    for number in range(min(3, arguments.rounds)):
        paper = new_paper_id()
        alone.append(count / take(vault_alone).wall)
        house.vault.remove("bench", paper)
        landed = house.land(f"{number}.bin", (pieces[piece % len(pieces)] for piece in range(count)))
        with house.worker() as worker:
            ingest.append(count / take(worker.work).wall)
        house.check_done(number + 1)
        house.vault.remove(CLIENT, landed)
    ratio = median(ingest) / median(alone)
    table = Table(f"A paper of {count} MiB", ("", "MiB/s", "of the vault's", "goal", "reached"))
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


def catalogs(house: House, arguments: argparse.Namespace) -> Table:
    """What touches the catalog, with few papers in it and with many."""
    for number in range(NAMES):
        house.tree.put(path_of(f"/inbox/{number:04}.pdf"), Pointer(new_paper_id(), SMALL, "whole"), mtime=None, durable=False)
    found: dict[str, list[float]] = {}
    for count in (FEW, arguments.catalog):
        _fill(house.catalog, count)
        for name, action in _actions(house).items():
            found.setdefault(name, []).append(_median_ms(action, arguments.rounds))
    table = Table("The catalog", ("", f"ms with {FEW:,}", f"ms with {arguments.catalog:,}", "ratio", "goal", "reached"))
    for name, (few, many) in found.items():
        table.add(name, f"{few:.2f}", f"{many:.2f}", f"{many / few:.2f}", "1.20", reached=many / few <= 1.2)
    return table


def _actions(house: House) -> dict[str, Callable[[], object]]:
    catalog = house.catalog

    def ingest() -> None:
        rows = [_row(new_paper_id(), f"/inbox/new/{number % 8}.pdf") for number in range(BATCH)]
        catalog.known(row.id for row in rows)
        catalog.record(rows)
        catalog.mark_receipted([row.id for row in rows])

    return {
        f"ingest of {BATCH} papers": ingest,
        "versions of a name": lambda: catalog.versions(CLIENT, "/inbox/7/7.pdf"),
        "files find by name": lambda: catalog.find(Search(client=CLIENT, name="77/77.pdf")),
        "files find by hash": lambda: catalog.find(Search(sha256=f"{77:064x}")),
        "files find by date": lambda: catalog.find(Search(since=EPOCH, until=EPOCH + timedelta(minutes=1))),
        "listing of 1,000 names": lambda: catalog.known([pointer.paper for _, pointer, _ in house.tree.pointers("/inbox")]),
    }


def _median_ms(action: Callable[[], object], rounds: int) -> float:
    action()
    lengths = []
    for _ in range(5 * rounds):
        began = time.perf_counter()
        action()
        lengths.append((time.perf_counter() - began) * 1e3)
    return median(lengths)


def _fill(catalog: Catalog, count: int) -> None:
    have, _ = catalog.count_papers()
    for start in range(have, count, 5000):
        catalog.record(
            [
                _row(f"{number:012x}{'0' * 8}{number:012x}", f"/inbox/{number % 1000}/{number}.pdf", number)
                for number in range(start, min(count, start + 5000))
            ]
        )
        print(f"\r{min(count, start + 5000)} papers", end="", file=sys.stderr)
    print(file=sys.stderr)


def _row(paper: str, path: str, number: int = 0) -> NewPaper:
    moment = EPOCH + timedelta(seconds=number)
    return NewPaper(
        id=paper, client=CLIENT, path=path, person=CLIENT, state="accepted", reason="", size=SMALL, sha256=f"{number:064x}",
        received_at=moment, sealed_at=moment, modified_at=None, generation=1, header_mac="0" * 64, sealed_sha256=f"{number:064x}",
        sealed_size=SMALL, session="bench", address="192.0.2.7",
    )  # fmt: skip
