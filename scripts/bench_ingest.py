"""`scripts/bench ingest`: what ingest does in a second, on a data folder of its own that goes afterwards.

Three measurements, each a number to hold against the goal beside it:

- `papers`: small papers, durable, from landed to receipted;
- `seal`: one large paper from landed to receipted, against the vault sealing the same bytes;
- `catalog`: one batch's rows, a search, the versions and the listing of a folder, with few papers known and with many.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from config.folder import DataFolder
from gateway.age import Identity
from gateway.audit.log import AuditLog
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

BATCH = 64
SMALL = 20_000  # bytes
PIECE = 1 << 20
CLIENT = "acme"
NAMES = 1_000  # of the folder that is listed
ROUNDS = 7
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


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


def bench_papers(house: House, count: int) -> dict[str, Any]:
    """Small papers a second, durable, from landed to receipted."""
    content = os.urandom(SMALL)
    for number in range(count):
        house.land(f"{number:06}.pdf", iter([content]))
    with house.worker() as worker:
        cpu, began = time.process_time(), time.perf_counter()
        worker.work()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    papers, _ = house.catalog.count_papers(CLIENT, "accepted")
    if house.spool.landed_papers() or papers < count or house.catalog.unreceipted():
        raise SystemExit("not every paper was receipted: the measurement is void")
    return {
        "papers": count,
        "bytes": SMALL,
        "seconds": round(seconds, 3),
        "per_second": round(count / seconds),
        "cpu_ms": round(cpu / count * 1e3, 2),
    }


def bench_seal(house: House, size: int) -> dict[str, Any]:
    """One large paper, against the vault alone."""
    pieces = [os.urandom(PIECE) for _ in range(8)]
    count = size // PIECE
    rates = []
    for paper in (new_paper_id(), new_paper_id()):
        began = time.perf_counter()
        with house.vault.writer("bench", paper, house.recipient) as writer:
            for number in range(count):
                writer.write(pieces[number % len(pieces)])
            writer.commit()
        rates.append(count / (time.perf_counter() - began))
        house.vault.remove("bench", paper)
    house.land("large.bin", (pieces[number % len(pieces)] for number in range(count)))
    with house.worker() as worker:
        began = time.perf_counter()
        worker.work()
        rate = count / (time.perf_counter() - began)
    best = max(rates)
    return {"bytes": size, "ingest_mib_per_second": round(rate), "vault_mib_per_second": round(best), "ratio": round(rate / best, 2)}


def bench_catalog(house: House, few: int, many: int) -> dict[str, Any]:
    """Milliseconds (median) of what touches the catalog, with `few` and with `many` papers in it."""
    lengths: dict[str, dict[str, float]] = {}
    for number in range(NAMES):
        house.tree.put(path_of(f"/inbox/{number:04}.pdf"), Pointer(new_paper_id(), SMALL, "whole"), mtime=None, durable=False)
    for count in (few, many):
        _fill(house.catalog, count)
        for name, action in _actions(house).items():
            lengths.setdefault(name, {})[str(count)] = _median_ms(action)
    return {
        name: {**{f"{count}_papers_ms": round(ms, 2) for count, ms in found.items()}, "ratio": round(found[str(many)] / found[str(few)], 2)}
        for name, found in lengths.items()
    }


def _actions(house: House) -> dict[str, Callable[[], object]]:
    catalog = house.catalog

    def ingest() -> None:
        rows = [_row(new_paper_id(), f"/inbox/new/{number % 8}.pdf") for number in range(BATCH)]
        catalog.known(row.id for row in rows)
        catalog.record(rows)
        catalog.mark_receipted([row.id for row in rows])

    return {
        "ingest of 64 papers": ingest,
        "versions of a name": lambda: catalog.versions(CLIENT, "/inbox/7/7.pdf"),
        "files find by name": lambda: catalog.find(Search(client=CLIENT, name="77/77.pdf")),
        "files find by hash": lambda: catalog.find(Search(sha256=f"{77:064x}")),
        "files find by date": lambda: catalog.find(Search(since=EPOCH, until=EPOCH + timedelta(minutes=1))),
        "listing of 1,000 names": lambda: catalog.known([pointer.paper for _, pointer, _ in house.tree.pointers("/inbox")]),
    }


def _median_ms(action: Callable[[], object]) -> float:
    action()
    lengths = []
    for _ in range(ROUNDS):
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


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("papers", "seal", "catalog"), help="one of the measurements")
    parser.add_argument("--papers", type=int, default=2000)
    parser.add_argument("--large-mib", type=int, default=2048)
    parser.add_argument("--catalog", type=int, default=1_000_000, help="papers of the large catalog")
    parser.add_argument("--folder", type=Path, help="where the data folder is made; the disk to be measured")
    chosen = parser.parse_args()
    benches: dict[str, Callable[[House], dict[str, Any]]] = {
        "papers": lambda house: bench_papers(house, chosen.papers),
        "seal": lambda house: bench_seal(house, chosen.large_mib * PIECE),
        "catalog": lambda house: bench_catalog(house, 1_000, chosen.catalog),
    }
    results = {}
    for name, bench in benches.items():
        if chosen.only in (None, name):
            root = Path(tempfile.mkdtemp(prefix="nightsafe-bench-", dir=chosen.folder))
            try:
                results[name] = bench(House(root))
            finally:
                shutil.rmtree(root)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
