"""The roles' log: every line of a warning or an error has to be explained by something that was done to the house."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BAD = ("warning", "error", "critical")
ANY = re.compile("")


@dataclass(frozen=True)
class Explained:
    """Lines of `event` that say `says` are owed to one of `causes`; there may be `each` of them for each time that it was done. Without causes, to
    the machine, which others use too."""

    event: str
    causes: tuple[str, ...]
    says: str = ""
    each: float = float("inf")


NO_SPACE = "[Nn]o space left|no room|disk is full"
SKEWED = "RequestTimeTooSkewed|clock"
S3_AWAY = "does not run|cannot be reached|refused|out of reach|unreachable|no answer|answers with an error"
KILLED_BACKUP = "there is no backup yet|the repository of the keys has no snapshot"
OTHER_CLOCK = "is of the future|which was at another time"
WHILE_FULL = (
    "audit.settings_not_kept", "background.failed", "defender.not_kept", "expiry.failed", "handle.not_released",
    "ingest.access_list_failed", "ingest.access_lists_failed", "ingest.batch_failed", "ingest.keys_not_retired", "ingest.paper_failed",
    "ingest.paper_set_aside", "ingest.scan_state_unwritten", "ingest.short", "ingest.summaries_failed", "ingest.summary_failed",
    "ingest.unrecorded", "ingest.untidy", "job.failed", "job.finished", "keyd.tick_failed", "limits.not_read", "login.not_recorded",
    "names.not_mended", "notify.not_collected", "paper.not_landed", "partial.not_kept", "partial.not_made", "partial.not_removed",
    "partials.not_expired", "quota.unavailable", "refusal.not_recorded", "request.failed", "retention.failed", "session.refused", "space.not_watched",
    "watch.failed",
)  # fmt: skip
EXPLAINED = (
    Explained("sync_cost.stalled", ()),  # the disk is busy
    Explained("role.died", ("gateway", "keyd", "ingest", "scheduler", "s3"), each=1),
    # keyd is away for a moment: who reads is told to try again
    Explained("keyd.unavailable", ("keyd",), "out of reach"),
    Explained("keyd.unavailable", ("full",), NO_SPACE),
    # the scanner is away: papers are held
    Explained("scanner.lost", ("clamd",), each=1),
    # without space for the audit log nobody gets in, and nothing is done that could not be told
    *(Explained(event, ("full",), NO_SPACE) for event in WHILE_FULL),
    # the catalog is locked for longer than it is waited for
    *(Explained(event, ("locked",), "locked") for event in ("job.failed", "job.finished", "limits.not_read", "login.catalog_unavailable")),
    # backups: their server or they themselves were killed, or the clock is so wrong that S3 refuses
    Explained("runs.interrupted", ("scheduler",), each=1),
    *(Explained(event, ("s3",), S3_AWAY) for event in ("job.failed", "job.finished")),
    *(Explained(event, ("clock",), SKEWED) for event in ("job.failed", "job.finished")),
    Explained("job.tried_again", ("s3", "clock", "full", "locked")),
    Explained("job.skipped", ("s3", "clock", "full", "scheduler"), "runs"),  # one that waited meets the next one
    # drills that found what was wrong indeed: a backup that was killed half-way, whose snapshot is dated by restic, for which this clock is not set.
    # The next backup mends it; forgetting waits meanwhile. What comes of the clock alone says so.
    *(Explained(event, ("scheduler", "s3"), KILLED_BACKUP) for event in ("job.failed", "job.finished")),
    *(Explained(event, ("clock",), OTHER_CLOCK) for event in ("job.failed", "job.finished")),
)


def bad_lines(lines: Iterable[str]) -> list[str]:
    """Those of a warning or worse, and whatever is no line of the log at all."""
    found = []
    for line in filter(str.strip, lines):
        try:
            level = json.loads(line).get("level", "error")
        except (ValueError, AttributeError):
            level = "error"
        if level in BAD:
            found.append(line)
    return found


def unexplained(lines: Iterable[str], done: Mapping[str, int], table: Iterable[Explained] = EXPLAINED) -> list[str]:
    """Lines that nothing in `table` explains, where `done` is how often each thing was done to the house."""
    left: Counter[Explained] = Counter()
    found = []
    table = tuple(table)
    for line in bad_lines(lines):
        event = _event(line)
        for one in table:
            times = sum(done.get(cause, 0) for cause in one.causes) if one.causes else 1
            if one.event == event and re.search(one.says, line) and left[one] < one.each * times:
                left[one] += 1
                break
        else:
            found.append(line)
    return found


def _event(line: str) -> str:
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return ""
