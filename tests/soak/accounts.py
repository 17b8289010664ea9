"""The accounts after a storm: every paper that was promised is somewhere, once, with a receipt that holds; and nothing else is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from config.files import TEMPORARY_PREFIX
from config.folder import DataFolder
from gateway.audit.signatures import RECEIPT, verify
from gateway.catalog import Catalog
from gateway.catalog.rows import Paper
from gateway.ingest.receipts import is_receipt_of, receipt_path
from tests.soak.deposits import Deposit

PLACES = {"accepted": "vault", "refused": "quarantine"}


def missing_and_strange(deposits: Sequence[Deposit], papers: Iterable[Paper]) -> list[str]:
    """Acknowledged uploads that are not among `papers`, or not in a final state; papers that were never sent whole, or are there too often."""
    found = []
    promised, possible = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    names: dict[tuple[str, str], str] = {}
    for one in deposits:
        what = (one.client, one.sha256)
        names[what] = one.sent_as
        promised[what] += one.phase == "acknowledged"
        possible[what] += one.phase != "writing"
    there = Counter[tuple[str, str]]()
    for paper in papers:
        what = (paper.client, paper.sha256)
        there[what] += 1
        if paper.state not in PLACES:
            found.append(f"{paper.client} {paper.path} ({paper.id}) ended {paper.state}: {paper.reason}")
        if what not in possible:
            found.append(f"{paper.client} {paper.path} ({paper.id}), {paper.size} bytes: published, but never sent like this")
    for what, name in names.items():
        if not promised[what] <= there[what] <= possible[what]:
            found.append(f"{what[0]} {name}: {there[what]} papers of {promised[what]} acknowledged and {possible[what]} possible uploads")
    return found


def misplaced(folder: DataFolder, papers: Sequence[Paper], cut_short: int) -> list[str]:
    """Papers whose file is not exactly where their state says, and files of no paper; but for as many half-written ones as lives of ingest
    were `cut_short`, which the next hour removes."""
    wanted = {(PLACES[paper.state], paper.client, paper.id) for paper in papers if paper.state in PLACES}
    there = {
        (root.name, path.relative_to(root).parts[0], path.name.removesuffix(".age"))
        for root in (folder.vault, folder.quarantine)
        for path in root.rglob("*")
        if path.is_file()
    }
    more = sorted(there - wanted)
    half_written = [one for one in more if one[2].startswith(TEMPORARY_PREFIX)]
    if len(half_written) <= cut_short:
        more = [one for one in more if one not in half_written]
    return [f"no file: {one}" for one in sorted(wanted - there)] + [f"no paper: {one}" for one in more]


def bad_receipts(folder: DataFolder, papers: Sequence[Paper]) -> list[str]:
    """Papers without a receipt that says what the catalog says, signed by a key of ours; and receipts of nothing."""
    keys = re.findall(r"ssh-ed25519 \S+", (folder.root / "keys" / "allowed_signers").read_text())
    found, wanted = [], set[Path]()
    for paper in papers:
        path = folder.jail(paper.client) / receipt_path(paper).lstrip("/")
        signature = path.with_name(f"{path.name}.sig")
        wanted |= {path, signature}
        try:
            body, signed = path.read_bytes(), signature.read_text()
        except OSError as error:
            found.append(f"{paper.client} {paper.path} ({paper.id}): {error}")
            continue
        if not is_receipt_of(paper, body) or not any(verify(key, RECEIPT, body, signed) for key in keys):
            found.append(f"{path} does not hold")
    there = {path for jail in folder.jails.iterdir() for path in (jail / "receipts").rglob("*.json*")}
    return found + [f"a receipt of nothing: {path}" for path in sorted(there - wanted)]


def leftovers(folder: DataFolder, partials: int) -> list[str]:
    """What is in the spool: nothing that landed, and no more partials than were broken off."""
    found = [f"not sealed: {path.name}" for path in folder.spool_landed.iterdir()]
    left = [path.name for path in folder.spool_partial.iterdir()]
    return found + ([f"{len(left)} partials of {partials} that may be there: {left[:10]}"] if len(left) > partials else [])


def all_papers(folder: DataFolder) -> list[Paper]:
    """Of the catalog."""
    with Catalog.open(folder.catalog) as catalog:
        return list(catalog.papers())
