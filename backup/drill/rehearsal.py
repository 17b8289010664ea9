"""One rehearsal: from two repositories to findings. Knows neither locks nor runs nor evidence; `run` does.

    snapshots → keys → catalog (sample) or everything (full) → witnesses → draw → papers (sample) → verify

What is wrong with the backup is collected, not raised, so that one fault does not hide the next; what keeps the rehearsal from a verdict is
raised as OutOfReach.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, timedelta
from pathlib import Path

from backup.bucket import BucketMissing
from backup.drill.clock import set_later_aside, when_dumped, when_written
from backup.drill.coverage import Coverage
from backup.drill.destroyed import Destroyed
from backup.drill.errors import FREE_SCRATCH, ScratchFailed
from backup.drill.fetch import Fetch, RestoreSource, Wanted
from backup.drill.findings import BackupBad, Findings
from backup.drill.job import Setting
from backup.drill.judge import DUMP, LIVE, Record
from backup.drill.keycheck import compare_keys, count_keys, read_keys, was_resealed
from backup.drill.ledger import Ledger, Moments, Proven
from backup.drill.lineage import under_way
from backup.drill.newest import newest
from backup.drill.sample import Draw, Group, draw
from backup.drill.scratch import check_room
from backup.drill.sources import receipts
from backup.drill.verify import Question, find_surplus, name_swaps, vault_files, vault_path, verify_papers
from backup.plan import found_dump
from backup.report.evidence import Stage
from backup.repositories.access import RepositoryName
from backup.repositories.places import recorded_name
from backup.restic import (
    Damaged,
    Interrupted,
    RepositoryMissing,
    ResticError,
    Snapshot,
    UnknownFailure,
    WrongPassword,
)
from backup.restic.arguments import literal
from config.errors import NightsafeError, OutOfReach
from config.words import counted
from gateway.catalog import Catalog, CatalogError, Client, Run
from gateway.catalog.names import ID_DIGITS, receipt_name
from gateway.keys.keyring import Keyring

EVERYTHING = ("full", "clean-room")  # kinds that restore all there is
END = len(".json") + ID_DIGITS + 1  # of a receipt's name
FILES = 4  # of a paper in a snapshot: sealed, its name, its receipt with the signature
NEW = timedelta(days=7)  # since sealing: papers this young get the largest share of a draw
BACKUPS_FAULT = (RepositoryMissing, WrongPassword, Damaged, UnknownFailure)  # with a bucket that answers; anything else gives no verdict


class Rehearsal:
    """One rehearsal in a scratch folder of its own. `rehearse` fills `findings`; raises OutOfReach when there can be no verdict."""

    _keys_first = False  # else they come beside the rest: most of it is the derivation of a key

    def __init__(self, setting: Setting) -> None:
        self._is = setting
        self._root = setting.scratch / "restored"
        self._keys = setting.scratch / "restored-keys"
        self.findings = Findings()
        self._listed: list[Client] = []
        self._dump_usable = False
        self._dump_of_run = False  # it was made while the run was under way that made the snapshot
        self._keys_at = setting.started_at
        self._destroyed = Destroyed.of(setting.live)
        self._fetch = Fetch(setting.probe, self.findings.blame)

    def rehearse(self) -> None:
        """Go through all stages. Faults of the backup end in the findings."""
        try:
            self._is.probe()
            self._rehearse()
        except BackupBad:
            pass
        except BucketMissing as error:
            if self._is.live.repository(recorded_name("papers", self._is.copy)) is None:
                raise
            self.findings.causes.append(f"the bucket is gone: {error.message}")
        except Interrupted:
            raise
        except ResticError as error:
            if not isinstance(error, BACKUPS_FAULT):
                raise OutOfReach(error.message, error.hint) from error
            self.findings.causes.append(error.message)

    def _rehearse(self) -> None:
        found = self.findings
        with self._stage("find the snapshots"):
            snapshot, run = self._newest(self._is.papers, "papers", lambda one: one.snapshot)
            keys_snapshot, _ = self._newest(self._is.keys, "keys", lambda one: one.keys_snapshot)
        self._keys_at = keys_snapshot.time
        full = self._is.kind in EVERYTHING
        with ThreadPoolExecutor(1, thread_name_prefix="keys") as pool:
            keys = pool.submit(self._fetch.restore, self._is.keys, keys_snapshot, self._keys)
            if self._keys_first:
                with self._stage("restore the keys"):
                    keys.result()
                self._check_keys()
            with self._stage("restore everything" if full else "restore the catalog"):
                if full:
                    check_room(self._is.scratch, self._room_for_all())
                self._fetch.restore(self._is.papers, snapshot, self._root, () if full else ("/dump",))
                keys.result()
        with ExitStack() as stack:
            with self._stage("read both catalogs"):
                ledger = stack.enter_context(_ledger(self._is.scratch / "ledger"))
                written = when_written(found_dump(self._root / "dump"))
                self._read_catalogs(ledger, run)
                found.dump_at = when_dumped(found, written, snapshot, run, self._is.started_at, of_run=self._dump_of_run)
                if run is not None and self._dump_of_run:
                    set_later_aside(found, ledger, self._moments(), run, self._is.installation.folder)
                found.of = ledger.count()
            if not full:
                with self._stage("draw and restore papers"):
                    self._draw(ledger, snapshot)
            with self._stage("read the receipts"):
                ledger.add_receipts(receipts(self._root / "jails", self._receipt_signer()))
            self._count_files()
            self._play(ledger)
            with self._stage("compare the sealed files" if self._is.kind == "clean-room" else "decrypt and compare"):
                self._verify(ledger)

    def _check_keys(self) -> None:
        """Look at the keys that came back before anything else is done."""

    def _play(self, ledger: Ledger) -> None:
        """What is done with the restored tree before it is compared."""

    # stages

    def _newest(self, source: RestoreSource, name: RepositoryName, of_run: Callable[[Run], str | None]) -> tuple[Snapshot, Run | None]:
        return newest(self._is, self.findings, source, name, of_run, destroyed=bool(self._destroyed.begun))

    def _read_catalogs(self, ledger: Ledger, run: Run | None) -> None:
        tally = self.findings.tally
        ledger.leave_out(self._destroyed.begun)
        ledger.add_drilled(self._is.drilled.papers)
        try:
            ledger.add_catalog("live", self._is.live.path, LIVE, tally.add)
        except (ValueError, TypeError, OverflowError) as error:
            raise OutOfReach(
                f"the live catalog is damaged: {error}",
                "bring it back from the newest snapshot by hand, with restic: it lies there as dump/catalog.sqlite3",
            ) from error
        file = found_dump(self._root / "dump")
        if file is None:
            self.findings.causes.append("the catalog did not come back from the backup")
            return
        try:
            with Catalog.adopt(file) as dump:
                self._listed = self._destroyed.clients(dump.clients())
                ledger.add_catalog("dump", file, DUMP, tally.add)
                self._dump_of_run = run is not None and under_way(run.id, dump) is not None
            self._dump_usable = True
        except ScratchFailed:
            raise
        except (NightsafeError, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, CatalogError) and "full" in error.message:
                raise ScratchFailed("the disk of the scratch folder is full", FREE_SCRATCH) from error
            why = error.message if isinstance(error, NightsafeError) else str(error)
            self.findings.causes.append(f"the catalog in the backup cannot be read: {why}")

    def _draw(self, ledger: Ledger, snapshot: Snapshot) -> None:
        found = self.findings
        found.draw = self._choose(ledger)
        ledger.choose(found.draw.papers)
        chosen = [(entry.paper, record) for entry in ledger.entries(chosen_only=True) if (record := entry.dump or entry.live)]
        check_room(self._is.scratch, sum(record.sealed_size for _, record in chosen))
        files = sorted("/vault/" + literal(vault_path(record.client, paper)) for paper, record in chosen)
        names = sorted(literal(_receipt(paper, record) + suffix) for paper, record in chosen for suffix in ("", ".sig"))
        in_vault, in_days = ledger.count_beside()
        known = FILES * ledger.count()
        self._fetch.restore_some(self._is.papers, snapshot, self._root, [Wanted(files, in_vault), Wanted(names, in_days)], known)
        # The end of a receipt's name is the paper's, whatever it begins with. To look for that costs restic many times more, so it is for those
        # alone that are due, and did not come under the name that the catalog lets expect.
        due = (_receipt(paper, record) for paper, record in chosen if record.receipted)
        missing = [os.path.split(path) for path in due if not os.path.lexists(f"{self._root}{path}")]
        patterns = sorted(f"{literal(day)}/*{literal(name[-END:])}*" for day, name in missing)
        self._fetch.restore_some(self._is.papers, snapshot, self._root, [Wanted(patterns, in_days)], known)

    def _choose(self, ledger: Ledger) -> Draw:
        """The papers to look at, where not all are."""
        moments = self._moments()
        self.findings.tally.newer += ledger.count_newer(moments)
        return draw(self._is.seed, self._is.wanted, {group: ledger.population(group, moments) for group in Group})

    def _moments(self) -> Moments:
        return Moments(self.findings.dump_at or self._is.started_at, self._is.started_at - NEW, self._is.drilled.covered)

    def _question(self, ledger: Ledger) -> Question:  # noqa: ARG002 - for the rehearsals that answer otherwise
        """How papers are opened."""
        custody = {client.name: client.custody for client in self._listed}
        custody.update((client.name, client.custody) for client in self._is.live.clients())
        keyring = Keyring(self._is.installation.folder)
        return Question(
            self._root / "vault",
            self.findings.dump_at or self._is.started_at,
            self._is.agent,
            str(self._is.run),
            lambda client, generation: custody.get(client) != "deposit-only" or keyring.client_kind(client, generation) == "managed",
            dump_usable=self._dump_usable,
        )

    def _verify(self, ledger: Ledger) -> None:
        found, full = self.findings, self._is.kind in EVERYTHING
        verify_papers(self._question(ledger), ledger, found.tally, self._is.progress, chosen_only=not full)
        if full:
            find_surplus(self._destroyed.files(vault_files(self._root / "vault")), ledger, found.tally)
            found.of -= found.tally.newer
            found.drawn = found.of
            found.young = ledger.young(self._moments())
        else:
            found.of, found.drawn = (found.draw.of or found.of, len(found.draw.papers)) if found.draw else (0, 0)
            found.notes.append("A sample does not look for files that no catalog explains; a full drill does.")
        name_swaps(ledger, found.tally)
        self._compare_keys()
        if self._is.kind in ("full", "sample"):
            found.coverage = self._coverage(ledger)
        if self._destroyed.begun:
            found.notes.append(f"Papers of {counted(len(self._destroyed.begun), 'destroyed client')} were left out: nothing is to open them.")

    def _coverage(self, ledger: Ledger) -> Coverage:
        """What is proven now, with this drill if nothing is bad."""
        proven: Proven = "none" if self.findings.is_bad else "chosen" if self.findings.draw else "all"
        return ledger.coverage(self._moments(), proven)

    def _compare_keys(self) -> None:
        restored = read_keys(self._keys / "keys")
        self.findings.keys_compared = count_keys(restored)
        live, others = read_keys(self._is.installation.folder.keys), self._destroyed.keys(restored)
        resealed = was_resealed(live, next(iter(self._is.live.runs("keys", 1)), None), self._keys_at)
        if resealed:
            self.findings.notes.append("The keys were sealed anew since the snapshot: their public halves were compared. The next backup saves them.")
        findings = compare_keys(live, others, self._listed, self._destroyed.clients(self._is.live.clients()), resealed=resealed)
        for finding in [*findings, *self._destroyed.returned(restored)]:
            self.findings.tally.add(finding)

    # what the stages need

    def _room_for_all(self) -> int:
        count, size = self._is.live.count_papers()
        catalog = self._is.installation.folder.catalog
        return size + size // 1000 + 8192 * count + 3 * (catalog.stat().st_size if catalog.exists() else 0)

    def _receipt_signer(self) -> str | None:
        try:
            return (self._is.installation.folder.keys / "secrets" / "receipt-signing.pub").read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            self.findings.notes.append("The receipts' public key is missing here: their signatures were not checked.")
            return None

    def _count_files(self) -> None:
        for top in (self._root, self._keys):
            for folder, _, names in os.walk(top):
                for name in names:
                    self.findings.restored_files += 1
                    self.findings.restored_bytes += os.lstat(os.path.join(folder, name)).st_size

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Time a stage, whichever way it ends."""
        self._is.progress.update(0, 1, name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.findings.stages.append(Stage(name, time.monotonic() - started))


@contextmanager
def _ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    try:
        yield ledger
    finally:
        ledger.close()


def _receipt(paper: str, record: Record) -> str:
    """Where a paper's receipt lies in the snapshot."""
    return f"/jails/{record.client}/receipts/{record.received_at.astimezone(UTC).date().isoformat()}/{receipt_name(record.path, paper)}"
