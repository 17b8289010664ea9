"""Backups and drills, beside restic and age by themselves, and the planning of a drill over a million papers.

Repositories are folders, so that no S3 server is measured. `--folder` names the disk.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from backup.drill.ledger import Ledger, Moments
from backup.drill.sample import Group, draw, state
from backup.drill.selftest import self_test
from backup.plan import KEYS, PAPERS, excludes, sources
from backup.report.evidence import Counts, DrawFacts, Evidence, Recovery, RepositoryFacts
from backup.report.page import render
from benches.frame import RAM, Page, Table, folder, pin, take
from benches.house import CLIENT, COPY, SAMPLE, House, row
from gateway.age import Identity
from gateway.catalog import Catalog
from gateway.keys.generations import generations, open_generation
from gateway.keys.master import load_master

INTRO = (
    "Repositories are folders on the same disk as the papers. Each pair of times is of one run, in rounds in which each has its turn; shown are "
    "medians."
)
SMALL, LARGE = 20_000, 64 << 20  # bytes
CLIENTS = 20  # of the sampled drill
MIB = 1024 * 1024


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this bench knows."""
    parser.add_argument("--papers", type=int, default=3000, metavar="N", help="small papers of the backup (3000)")
    parser.add_argument("--large", type=int, default=8, metavar="N", help="papers of 64 MiB beside them (8)")
    parser.add_argument("--many", type=int, default=100_000, metavar="N", help="papers of which a sample is drawn (100000)")
    parser.add_argument("--catalog", type=int, default=1_000_000, metavar="N", help="papers of the large catalog (1000000)")
    parser.add_argument("--folder", type=Path, default=RAM, metavar="DIR", help="where everything is made (the RAM disk)")
    parser.set_defaults(rounds=3)


def run(arguments: argparse.Namespace) -> Page:
    """All tables."""
    pin(2)
    tables = []
    for bench in (backups_and_full_drill, sampled_drill, planning):
        with folder(arguments.folder) as place:
            tables += bench(place, arguments)
    return Page("backup", INTRO, tables)


# backup and full drill


def backups_and_full_drill(place: Path, arguments: argparse.Namespace) -> list[Table]:
    """Both over one tree of small and large papers."""
    house = House(place)
    house.back_up()  # makes the repositories, empty
    pristine, offsite, bare = place / "pristine", place / "offsite", place / "bare"
    shutil.copytree(offsite, pristine)
    house.fill(iter([SMALL] * arguments.papers + [LARGE] * arguments.large))
    words = [word for pattern in excludes(house.folder.root.resolve()) for word in ("--exclude", pattern)]
    tree = sorted({*sources(PAPERS, house.folder.root, COPY), *sources(KEYS, house.folder.root, COPY)})
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        for there in (offsite, bare):
            shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(pristine, offsite)
        shutil.copytree(pristine / "papers", bare)
        theirs.append(take(lambda: house.restic(bare, "backup", "--compression", "off", "--host", "bench", *words, "--", *tree)).wall)
        ours.append(take(house.back_up).wall)
    size = sum(path.stat().st_size for path in house.folder.vault.rglob("*.age")) / MIB
    table = Table("A first backup", ("", "seconds", "ratio", "goal", "reached"))
    table.note = (
        f"{arguments.papers} papers of 20 kB and {arguments.large} of 64 MiB, {size:.0f} MiB in all, with names and receipts, into repositories that "
        "hold nothing yet."
    )
    one, two = median(ours), median(theirs)
    table.add("`restic backup` of the same tree", f"{two:.2f}")
    table.add("`nightsafe backup`", f"{one:.2f}", f"{one / two:.2f}", "1.03, and a second", reached=one <= 1.03 * two + 1)
    return [table, full_drill(house, arguments)]


def full_drill(house: House, arguments: argparse.Namespace) -> Table:
    """Restore, decrypt and compare everything, beside the programs that would do it by hand."""
    identity = house.root / "identity"
    [generation] = generations(house.folder.client_keys(CLIENT))
    identity.write_text(open_generation(house.folder.client_keys(CLIENT), generation, load_master(house.installation)).encode() + "\n")

    def by_hand() -> None:
        target = house.root / "by-hand"
        house.restic(house.root / "offsite" / "papers", "restore", "latest", "--no-lock", "--target", str(target))
        line = f'find "$0" -name "*.age" -print0 | xargs -0 -P 2 -n 1 sh -c \'age -d -i {identity} "$0" | sha256sum\''
        subprocess.run(["sh", "-c", line, str(target / "vault")], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(target)

    ours, theirs = [], []
    for _ in range(arguments.rounds):
        theirs.append(take(by_hand).wall)
        ours.append(take(lambda: house.drill("full")).wall)
    one, two = median(ours), median(theirs)
    table = Table("A full drill", ("", "seconds", "ratio", "goal", "reached"))
    table.note = (
        "Of the same papers. By hand: `restic restore`, then `age -d | sha256sum` over all files with two jobs; nothing is compared with anything."
    )
    table.add("by hand", f"{two:.2f}")
    table.add("`nightsafe drill run --full`", f"{one:.2f}", f"{one / two:.2f}", "1.00", reached=one <= two)
    scratch = house.root / "scratch-of-its-own"
    scratch.mkdir()
    table.add("its self-test, before it", f"{take(lambda: self_test(house.installation, scratch)).wall:.2f}")
    return table


# sample


def sampled_drill(place: Path, arguments: argparse.Namespace) -> list[Table]:
    """A sample, beside a full drill of the same backup."""
    house = House(place, CLIENTS)
    house.fill(iter([1000] * arguments.many))
    house.back_up()
    sample = take(lambda: house.drill("sample")).wall
    full = take(lambda: house.drill("full")).wall
    table = Table("A sampled drill", ("", "seconds", "of the full drill", "goal", "reached"))
    table.note = (
        f"{arguments.many:,} papers of 1 kB from {CLIENTS} clients, with names and receipts, measured once. restic compares every entry of a "
        "folder with every path that it looks for: were they all of one client, the sample would need some twice as long."
    )
    table.add("full", f"{full:.1f}")
    table.add(f"sample of {SAMPLE}", f"{sample:.1f}", f"{sample / full:.1%}", "10%", reached=sample < 0.1 * full)
    return [table]


# planning


def planning(place: Path, arguments: argparse.Namespace) -> list[Table]:
    """What a drill does besides restoring and comparing, in a process of its own."""
    with Catalog.create(place / "catalog.sqlite3") as catalog:
        catalog.add_client(CLIENT, recipient=str(Identity.generate().recipient))
        catalog.record([row("0" * 32, "/inbox/0", 0, SMALL, "0" * 64, "0" * 64, "0" * 64, SMALL)])
        _multiply(catalog.path, arguments.catalog)
        catalog.dump(place / "dump.sqlite3")
    root = Path(__file__).resolve().parent.parent.parent
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path; from benches.frame import take\n"
        "from benches.backup import plan_and_report\n"
        "def peak(): return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(take(lambda: plan_and_report(Path(sys.argv[3]))).wall, peak())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root), str(root / "scripts"), str(place)], check=True, stdout=subprocess.PIPE, text=True)
    seconds, kib = done.stdout.split()
    table = Table("Planning, sampling and reporting", ("", "measured", "goal", "reached"))
    table.note = (
        f"{arguments.catalog:,} papers in the live catalog and in the dump: both are read and joined, {SAMPLE} drawn, the evidence written as a page."
    )
    table.add("seconds", f"{float(seconds):.1f}", "10", reached=float(seconds) < 10)
    table.add("MiB of memory at the most", f"{int(kib) / 1024:.0f}", "300", reached=int(kib) / 1024 < 300)
    return [table]


def _multiply(file: Path, count: int) -> None:
    """Make `count` papers of the one that a catalog has."""
    own = {
        "id": "printf('%012x00000000%012x', n, n)", "path": "printf('/inbox/%d/%d.pdf', n % 1000, n)", "sha256": "printf('%064x', n)",
        "sealed_sha256": "printf('%064x', n)", "received_at": "received_at + 1000000 * n", "sealed_at": "sealed_at + 1000000 * n",
    }  # fmt: skip
    with closing(sqlite3.connect(file)) as base, base:
        names = [name for (_, name, *_) in base.execute("PRAGMA table_info(papers)")]
        numbers = f"WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count - 1})"  # noqa: S608 - own words
        columns = ", ".join(own.get(name, name) for name in names)
        base.execute(f"{numbers} INSERT INTO papers ({', '.join(names)}) SELECT {columns} FROM number, (SELECT * FROM papers)")  # noqa: S608 - own words


def plan_and_report(place: Path) -> None:
    """Both catalogs into the ledger, the draw, the statement, the page."""
    ledger = Ledger(place / "ledger")
    for source, name in (("live", "catalog.sqlite3"), ("dump", "dump.sqlite3")):
        with Catalog.open(place / name) as catalog:
            ledger.add_catalog(source, catalog.path, source, lambda finding: sys.exit(str(finding)))  # type: ignore[arg-type]
    count, moments = ledger.count(), Moments(dump_at=datetime.now(UTC), new_since=datetime.now(UTC))
    drawn = draw("bench", SAMPLE, {group: ledger.population(group, moments) for group in Group})
    ledger.choose(drawn.papers)
    entries = list(ledger.entries(chosen_only=True))
    stated = state(drawn.shares, 0)
    counts = Counts(of=count, drawn=len(entries), verified=len(entries))
    groups = [{"group": share.group.value, "size": share.size, "drawn": share.drawn} for share in drawn.shares]
    facts = DrawFacts(drawn.seed, "0" * 64, groups, drawn.papers)
    now = datetime.now(UTC)
    stated_values = {"text": stated.text, "at_most_percent": stated.at_most_percent}
    evidence = Evidence(
        run=1, drill="sample", verdict="passed", started_at=now, ended_at=now, installation={"host": "bench", "bucket": "", "prefix": ""},
        papers=RepositoryFacts(), keys=RepositoryFacts(), causes=(), counts=counts, bad=(), bad_total=0, by_cause={}, draw=facts,
        coverage=ledger.coverage(moments, "chosen").values(),
        statement=stated_values, stages=(), recovery=Recovery(1, 2, 1, 2), tools={}, audit_head="",
    )  # fmt: skip
    (place / "evidence.html").write_text(render(evidence.values()))
    ledger.close()
