"""Step 6: receipts into the jails, each with its signature. Twice is once: names are fixed, and a receipt that lies there already is kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.audit.events import Event
from gateway.audit.signatures import RECEIPT, sign
from gateway.catalog.rows import Paper
from gateway.ingest.checks.manifests import STATES, is_manifest, report
from gateway.ingest.parts import Parts
from gateway.ingest.receipts import SIGNATURE_SUFFIX, is_receipt_of, receipt_body, receipt_path
from gateway.jail.paths import VirtualPath, path_of
from gateway.jail.refused import Refused
from gateway.jail.tree import Tree

MOST_BYTES = 64 * 1024  # of a receipt; one with the longest path, escaped, is far below


@dataclass
class Issued:
    """Papers whose receipts lie in the jail, and those where it failed."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    manifests: dict[str, dict[str, int]] = field(default_factory=dict)  # what receipts of manifests told: lines in each state

    def add(self, other: Issued) -> None:
        """Take the results of another portion."""
        self.done += other.done
        self.failed.update(other.failed)
        self.manifests.update(other.manifests)


def hand_out(parts: Parts, papers: Sequence[Paper], heads: Mapping[str, str], *, durable: bool = True) -> Issued:
    """Write the receipts of `papers`, all of one client; without `durable` their disk is still to be synced.

    `heads` has the audit line's hash of those that were sealed just now.
    """
    issued = Issued()
    try:
        with parts.tree(papers[0].client) as tree:
            issued.manifests = _write(parts, tree, papers, heads, durable)
        issued.done = [paper.id for paper in papers]
    except Exception as error:  # noqa: BLE001 - one client's jail must not stop the others
        issued.failed = {paper.id: error for paper in papers}
    return issued


def tell_handed_out(parts: Parts, papers: Iterable[Paper]) -> None:
    """Tell the audit log of receipts that are on the disk. Raises AuditUnavailable."""
    for paper in papers:
        parts.audit.append(Event.RECEIPT_WRITTEN, client=paper.client, paper=paper.id, path=receipt_path(paper), verdict=paper.state)


def _write(parts: Parts, tree: Tree, papers: Sequence[Paper], heads: Mapping[str, str], durable: bool) -> dict[str, dict[str, int]]:
    manifests = {paper.id: told for paper in papers if (told := _manifest(parts, paper)) is not None}
    bodies = {paper.id: _body(parts, tree, paper, heads, manifests.get(paper.id)) for paper in papers}
    if any(paper.id not in heads for paper in papers):
        parts.audit.sync()  # a receipt names no line of the log that could still be lost
    tree.write_plains([file for paper in papers for file in _files(parts, paper, bodies[paper.id])], durable=durable)
    return {paper: {state: told[state] for state in STATES if told[state]} for paper, told in manifests.items()}


def _body(parts: Parts, tree: Tree, paper: Paper, heads: Mapping[str, str], manifest: Mapping[str, Any] | None) -> bytes:
    if head := heads.get(paper.id):
        return receipt_body(paper, head, manifest)
    lying = read_plain(tree, path_of(receipt_path(paper)), MOST_BYTES)
    if lying is not None and is_receipt_of(paper, lying, manifest):
        return lying
    head = parts.audit.append(Event.RECEIPT_RESUMED, client=paper.client, paper=paper.id, sha256=paper.sha256, size=paper.size, verdict=paper.state)
    return receipt_body(paper, head, manifest)


def _manifest(parts: Parts, paper: Paper) -> dict[str, Any] | None:
    found = parts.catalog.manifest(paper.id) if is_manifest(paper.path) else None
    return None if found is None else report(*found)


def _files(parts: Parts, paper: Paper, body: bytes) -> list[tuple[VirtualPath, bytes]]:
    """The signature first: a client that sees the receipt finds its signature there."""
    path = receipt_path(paper)
    return [(path_of(path + SIGNATURE_SUFFIX), sign(parts.signing, RECEIPT, body).encode()), (path_of(path), body)]


def read_plain(tree: Tree, path: VirtualPath, most: int) -> bytes | None:
    """What lies at `path` below /receipts, at most `most` bytes of it; None when there is nothing. Raises Refused."""
    try:
        descriptor = tree.open_plain(path)
    except Refused as error:
        if error.code == "no_such_file":
            return None
        raise
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most)
