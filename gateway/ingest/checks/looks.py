"""What a worker process finds in a paper, as a verdict: its type, its archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from config.checks import Rule
from gateway.ingest.checks.pool import WorkerFailed, WorkerPool
from gateway.ingest.checks.scans import EntryScans
from gateway.ingest.checks.services import Checks, Slow, Way
from gateway.ingest.checks.view import View, plain
from gateway.ingest.verdicts import CHECK_FAILED, Verdict, verdict, worst

ATTEMPTS = 2  # of the thorough way
LEAST_SECONDS = 0.05


@dataclass(frozen=True)
class Looked:
    """What is wrong, the type by content, and whether an archive was unlocked and all that is in it scanned, entry by entry."""

    verdict: Verdict | None = None
    kind: str = ""
    unlocked: bool = False


def look(checks: Checks, pool: WorkerPool, rule: Rule, client: str, name: str, view: View, way: Way, seconds: float) -> Looked:
    """Have a worker look. On the quick way a worker has `seconds`: raises Slow. On the other, what does not end is refused."""
    job = _job(checks, rule, client, name)
    for _ in range(1 if way == "quick" else ATTEMPTS):
        entries = EntryScans(checks)
        try:
            result = pool.look(job, view, max(LEAST_SECONDS, seconds) if way == "quick" else checks.settings.seconds, entries)
        except WorkerFailed:
            if way == "quick":
                raise Slow from None
            continue
        finally:
            entries.close()
        faults = _faults(checks, rule, result)
        unlocked = entries.any and not result.get("fault")
        return Looked(worst([*faults, *([entries.found] if entries.found else [])]), str(result.get("type", "")), unlocked)
    return Looked(CHECK_FAILED)


def _job(checks: Checks, rule: Rule, client: str, name: str) -> dict[str, Any]:
    scanned = checks.standby is not None and rule.scan
    return {
        "name": name,
        "match_type": rule.match_type,
        "archives": rule.archives,
        "sizes": scanned,
        "limits": checks.archives.model_dump(exclude={"locked", "unreadable"}) | {"scanned_bytes": checks.scan.largest_bytes if scanned else None},
        "password": checks.password(client) if rule.archives else None,
        "forbidden_names": list(rule.forbidden_names),
        "scan_unlocked": scanned,
    }


def _faults(checks: Checks, rule: Rule, result: Mapping[str, Any]) -> list[Verdict]:
    found = []
    if result.get("misfit"):
        found.append(verdict("wrong-type", rule.breach, f"it is {plain(str(result['misfit']))}"))
    fault = result.get("fault")
    if isinstance(fault, dict):
        code = str(fault.get("code"))
        own = {"too-large-to-scan": checks.scan.too_large, "archive-locked": checks.archives.locked, "archive-unreadable": checks.archives.unreadable}
        found.append(verdict(code, own.get(code, rule.breach), plain(str(fault.get("detail")))))
    return found
