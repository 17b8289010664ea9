"""One paper through all checks, beside its one pass from the spool to the vault: what is known at once, what its bytes say, the verdict.

Two ways to be checked. Quick: within a moment, so that nobody waits; a paper that takes longer, or does something to its check, is handed to the
thorough way (`Slow`), which has a lane of its own, the time of the settings and several attempts. What still does not end there is refused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from config.checks import Rule
from gateway.ingest.checks.looks import Looked, look
from gateway.ingest.checks.manifests import MOST_BYTES, Manifest, is_manifest
from gateway.ingest.checks.manifests import parse as parse_manifest
from gateway.ingest.checks.rules import breach
from gateway.ingest.checks.scans import PaperScan
from gateway.ingest.checks.services import Checks, Slow, Way
from gateway.ingest.checks.view import View
from gateway.ingest.checks.zip_end import TAIL_BYTES, is_zip
from gateway.ingest.verdicts import ACCEPTED, DECLINED, Verdict, released, verdict, worst
from gateway.store import Arrival, LandedPaper

LOCKED = "archive-locked"
QUICK_BYTES_PER_SECOND = 20e6  # a large paper may take longer and is quick all the same


@dataclass(frozen=True)
class Finding:
    """What the checks found. `kind` is the type by content, empty when nobody asked for it."""

    verdict: Verdict = ACCEPTED
    class_name: str = ""
    kind: str = ""
    manifest: Manifest | None = None


class Inspection:
    """The checks of one paper that lies under `path`: `take` each piece in order, then `finish`, and `close` in any case. Used by one thread."""

    def __init__(self, checks: Checks, arrival: Arrival, path: str, landed: LandedPaper, way: Way) -> None:
        """Raises Slow at once for a paper that did something to its checks before."""
        if way == "quick" and checks.blame.is_on(arrival.paper):
            raise Slow
        self._checks = checks
        self._arrival = arrival
        self._path = path
        self._way = way
        self._view = View(landed)
        self._rule = checks.rules.rule_for(arrival.client, path)
        self._decision = checks.decided(arrival.paper)
        self._early = breach(self._rule, path, landed.size) or _too_many(checks, self._rule, arrival)
        self._until = time.monotonic() + checks.settings.quick_seconds + landed.size / QUICK_BYTES_PER_SECOND
        self._manifest = bytearray() if checks.settings.manifests and is_manifest(path) else None
        wanted = checks.standby is not None and self._rule.scan and self._decision != "refuse"
        self._scan = PaperScan(checks, arrival.paper, self._view, way) if wanted else None

    @property
    def is_held(self) -> bool:
        """Whether it is known already that the paper will not be sealed now."""
        known = [found for found in (self._early, self._scan.known if self._scan else None) if found]
        return self._decision is None and worst(known).state == "held"

    def take(self, piece: memoryview) -> None:
        """The next piece of the paper."""
        if self._scan is not None:
            self._scan.take(piece)
        if self._manifest is not None and len(self._manifest) <= MOST_BYTES:
            self._manifest += piece[: MOST_BYTES + 1]

    def finish(self) -> Finding:
        """All pieces were taken: the verdict. Raises Slow on the quick way, and whatever reading the paper raises."""
        scanned = self._scan.finish(self._until) if self._scan else None
        looked = self._looked()
        if looked.unlocked and scanned is not None and scanned.code == LOCKED:  # by us, with the agreed password
            scanned = None
        found = self._decided(worst([one for one in (self._early, looked.verdict, scanned) if one]))
        self._checks.blame.clear(self._arrival.paper)
        manifest = None if self._manifest is None else parse_manifest(self._path, bytes(self._manifest))
        return Finding(found, self._checks.rules.class_of(self._arrival.client, self._path, looked.kind), looked.kind, manifest)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._scan is not None:
            self._scan.close()

    def _decided(self, found: Verdict) -> Verdict:
        if self._decision == "refuse":
            return DECLINED
        return released(found) if self._decision == "release" and found.state == "held" else found

    def _looked(self) -> Looked:
        checks, rule = self._checks, self._rule
        if checks.pool is None or not (rule.match_type or rule.archives or checks.rules.classes_need_type or self._may_hide_from_the_scanner()):
            return Looked()
        name = self._path.rpartition("/")[2]
        return look(checks, checks.pool, rule, self._arrival.client, name, self._view, self._way, self._until - time.monotonic())

    def _may_hide_from_the_scanner(self) -> bool:
        """clamd says nothing of an entry in a zip that is beyond its limits, or that it cannot unpack: somebody has to look."""
        if self._scan is None or self._scan.known is not None:
            return False
        size = self._view.size
        return is_zip(self._view.read_at(0, 4), self._view.read_at(max(0, size - TAIL_BYTES), TAIL_BYTES), size)


def _too_many(checks: Checks, rule: Rule, arrival: Arrival) -> Verdict | None:
    most = rule.papers_per_day
    return verdict("too-many", rule.breach) if most is not None and checks.over_the_day(arrival.client, arrival.paper, most) else None
