"""The numbered steps from the landed spool to the receipt, for one batch of papers. What each does when it fails is in README.md.

Every step may be done twice. What is durable is the landed spool and the catalog: a batch that is broken off anywhere is begun again from
there, a paper that the catalog knows goes on at step 6.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar, cast

from config.disks import Disks
from config.errors import NightsafeError
from gateway.catalog.rows import Paper
from gateway.ingest.aside import claimed_client, move_aside
from gateway.ingest.checks.manifests import is_manifest
from gateway.ingest.checks.services import Slow
from gateway.ingest.claims import Claims
from gateway.ingest.clients import ClientBook
from gateway.ingest.handing import Issued, hand_out, tell_handed_out
from gateway.ingest.names import current_paths
from gateway.ingest.outcome import Outcome, Postponed
from gateway.ingest.parts import Parts
from gateway.ingest.rows import row_of
from gateway.ingest.sealing import Held, Unfit, seal_paper
from gateway.ingest.telling import Result, tell
from gateway.jail.refused import Refused
from gateway.store import SpoolGone

THREADS = 2  # that seal and write receipts: hashing, ciphers and fsync let go of the interpreter
GROUP = 4  # papers from which one sync of the whole disk is cheaper than one of each file


T = TypeVar("T")
R = TypeVar("R")


class VaultFileMissing(NightsafeError):
    """The catalog says that a paper is sealed, and its file is not in the vault."""


def nothing(_step: str) -> None:
    """The hook that does nothing."""


class Pipeline:
    """Handles batches, one at a time: one thread calls. `after` is told the name of each step that is done; tests stop the world there."""

    def __init__(self, parts: Parts, *, threads: int = THREADS, after: Callable[[str], None] = nothing, lane: str = "") -> None:
        self._parts = parts
        self._after = after
        self._claims = Claims(parts.claims, lane, self._client_of)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
        self._threads = threads

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the threads, let go of the claims."""
        self._pool.shutdown()
        self._claims.close()

    def begin(self) -> None:
        """A new pass over all papers begins, from the oldest on."""
        self._claims.begin()

    def _client_of(self, paper: str) -> str | None:
        try:
            return claimed_client(self._parts.landed, paper)
        except OSError:  # sealing will say so, of this paper alone
            return None

    def handle(self, papers: Sequence[str]) -> Outcome:
        """Take `papers`, oldest first, through all steps. A paper's own failure is in the outcome and does not touch the others.

        Raises NightsafeError or OSError when the audit log or the catalog cannot be used: then no paper of the batch has gone beyond step 4.
        """
        mine = self._claims.claim(papers)  # step 1
        try:
            with Disks(self._parts.sync_together if len(mine) >= GROUP else ()) as disks:
                outcome = self._steps(mine, disks) if mine else Outcome()
        finally:
            self._claims.release(mine)
        taken = set(mine)
        outcome.busy += [paper for paper in papers if paper not in taken]
        return outcome

    def _steps(self, papers: Sequence[str], disks: Disks) -> Outcome:
        outcome = Outcome()
        self._after("claimed")
        known = self._known(papers, outcome)
        waiting = {row.id: row for row in known.values() if row.state == "held" and self._parts.checks.may_go_on(row.id, row.code)}
        due = [paper for paper in papers if (paper not in known or paper in waiting) and paper not in outcome.failed]
        fresh = [result for result in self._seal(due, outcome, disks) if not _is_still_held(result, waiting)]  # 2 and 3
        self._after("sealed")
        heads = self._tell(fresh)  # 4
        self._after("audited")
        rows = self._record(fresh, waiting)  # 5
        manifests = self._parts.catalog.compare_manifests(rows) if rows else []
        self._after("recorded")
        settled = {row.id: row for row in (*known.values(), *rows)}  # a row that was settled just now takes the place of the held one
        self._hand_out([*settled.values(), *manifests], heads, outcome, disks)  # 6
        strangers = [result for result in fresh if _is_stranger(result)]
        self._clear(settled.values(), strangers, outcome)  # 7
        self._after("cleared")
        return outcome

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """What `work`, which must not raise, makes of each of `items`. The threads take the next one from a common pile: a task for each would
        cost a tenth of the work on a small paper."""
        found: list[R | None] = [None] * len(items)
        pile = iter(range(len(items)))

        def take() -> None:
            for place in pile:
                found[place] = work(items[place])

        for task in [self._pool.submit(take) for _ in range(min(self._threads, len(items)))]:
            task.result()
        return cast("list[R]", found)

    # before the steps: what was done by an earlier life

    def _known(self, papers: Iterable[str], outcome: Outcome) -> dict[str, Paper]:
        known = {}
        for paper, row in self._parts.catalog.known(papers).items():
            if row.state == "accepted" and row.sealed_size and not self._parts.vault.exists(row.client, row.id):
                outcome.failed[paper] = VaultFileMissing(f"the paper {paper} is catalogued, but not in the vault", "its spool file is kept")
                continue
            known[paper] = row
        return known

    # steps 2 and 3

    def _seal(self, papers: Sequence[str], outcome: Outcome, disks: Disks) -> list[Result]:
        book = ClientBook(self._parts.catalog, self._parts.keyring)

        def attempt(paper: str) -> Result | Exception:
            try:
                return seal_paper(self._parts, book, paper, durable=not disks.together)
            except Exception as error:  # noqa: BLE001 - whatever a paper does to its sealing must not stop the others
                return error

        fresh: list[Result] = []
        for paper, result in zip(papers, self._each(attempt, papers), strict=True):
            if isinstance(result, SpoolGone):
                outcome.done.append(paper)  # another process was done with it before we claimed it
            elif isinstance(result, Postponed):
                outcome.busy.append(paper)
            elif isinstance(result, Slow):
                self._parts.hand_over(paper)
                outcome.busy.append(paper)
            elif isinstance(result, Exception):
                outcome.failed[paper] = result
            else:
                fresh.append(result)
        disks.sync()
        return fresh

    # step 4

    def _tell(self, fresh: Sequence[Result]) -> dict[str, str]:
        """Append to the audit log, durably; the hash of each paper's line."""
        heads = {result.paper: tell(self._parts.audit, result) for result in fresh}
        if heads:
            self._parts.audit.sync()
        return heads

    # step 5

    def _record(self, fresh: Sequence[Result], waiting: Mapping[str, Paper]) -> list[Paper]:
        """The rows of all that is no stranger's; those of papers that were `waiting` are settled."""
        paths = self._paths([result for result in fresh if not _is_stranger(result)])
        new = [row_of(result, paths[result.paper]) for result in fresh if not _is_stranger(result)]
        for result in fresh:
            if not isinstance(result, Unfit) and result.finding.manifest is not None:
                manifest = result.finding.manifest
                lines = [(line.path, line.sha256) for line in manifest.lines]
                self._parts.catalog.put_manifest(result.paper, result.client, lines, manifest.unread, manifest.fault)
        arrived = [row for row in new if row.id not in waiting]
        settled = [row for row in new if row.id in waiting]
        catalog = self._parts.catalog
        return [*(catalog.record(arrived) if arrived else ()), *(catalog.settle(settled) if settled else ())]

    def _paths(self, results: Iterable[Result]) -> dict[str, str]:
        by_client: dict[str, dict[str, str]] = defaultdict(dict)
        for result in results:
            by_client[result.client][result.paper] = result.path
        paths: dict[str, str] = {}
        for client, landed_as in by_client.items():
            try:
                with self._parts.tree(client) as tree:
                    paths.update(current_paths(tree, landed_as))
            except Refused:
                paths.update(landed_as)  # no jail to look in: step 6 will say so
        return paths

    # step 6

    def _hand_out(self, rows: Sequence[Paper], heads: dict[str, str], outcome: Outcome, disks: Disks) -> None:
        due: dict[str, list[Paper]] = defaultdict(list)
        for row in rows:
            if not row.receipted:
                due[row.client].append(row)
        portions = [portion for papers in due.values() for portion in _portions(papers, self._threads)]
        issued = Issued()
        with self._claims.writing(row.id for papers in due.values() for row in papers if is_manifest(row.path)):
            for result in self._pool.map(lambda portion: hand_out(self._parts, portion, heads, durable=not disks.together), portions):
                issued.add(result)
            outcome.failed.update(issued.failed)
            disks.sync()
            done = set(issued.done)
            told = [row for row in rows if row.id in done]
            tell_handed_out(self._parts, told)
            self._after("receipted")
            if told:
                self._parts.catalog.mark_receipted(told, issued.manifests)
        self._after("marked")

    # step 7

    def _clear(self, rows: Iterable[Paper], strangers: Iterable[Result], outcome: Outcome) -> None:
        outcome.held += [row.id for row in rows if row.state == "held" and row.id not in outcome.failed]
        leaving = [(row.id, row.client, bool(row.sealed_size)) for row in rows if row.state != "held" and row.id not in outcome.failed]
        leaving += [(result.paper, result.client, False) for result in strangers]
        for (paper, _, _), error in zip(leaving, self._each(lambda one: self._take_out(*one), leaving), strict=True):
            if error is None:
                outcome.done.append(paper)
            else:
                outcome.failed[paper] = error

    def _take_out(self, paper: str, client: str, is_sealed: bool) -> Exception | None:
        """Out of the spool, which waits for the disk; what kept it there, if anything did."""
        try:
            if is_sealed:
                self._parts.spool.remove_landed(paper)
            else:
                move_aside(self._parts.landed, self._parts.quarantine, client, paper)
        except (NightsafeError, OSError) as error:
            return error
        return None


def _is_stranger(result: Result) -> bool:
    """Of a client that the catalog does not know: there can be no row, and there is no jail for a receipt."""
    return isinstance(result, Unfit) and not result.is_known_client


def _is_still_held(result: Result, waiting: Mapping[str, Paper]) -> bool:
    """Whether nothing has changed for a paper that was held before: there is nothing to tell anybody."""
    row = waiting.get(result.paper)
    return row is not None and isinstance(result, Held) and (row.code, row.reason) == (result.finding.verdict.code, result.finding.verdict.reason)


def _portions(papers: list[Paper], count: int) -> list[list[Paper]]:
    """`papers` in at most `count` parts of nearly the same length, none of them tiny."""
    length = max(8, -(-len(papers) // count))
    return [papers[start : start + length] for start in range(0, len(papers), length)]
