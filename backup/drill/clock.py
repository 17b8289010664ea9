"""What a clock that was set makes look like a bad backup, and what shows that it was the clock.

A verdict rests on times: a paper that is older than the dump must be in it, and the dump is of the time that was recorded. Where the clock was set,
a good backup contradicts its times. That is told from damage by what needs no clock: a dump has the run under way that made it, and the audit log's
order shows whether a paper was accepted before the checkpoint that this run signed, or after it. What is explained that way is an obstacle, which
allows no verdict; what is not is a fault, as ever.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from backup.drill.findings import Findings
from backup.drill.ledger import Ledger, Moments
from backup.restic import Snapshot
from config.errors import NightsafeError
from config.folder import DataFolder
from gateway.audit.since import accepted_since
from gateway.catalog import Run
from gateway.keys.keyring import CHECKPOINT_SIGNING, Keyring

SLACK = timedelta(minutes=5)  # between the recorded time of a dump and the time that its file has, and between two readings of the clock
PUT_RIGHT = "look that it is right, back up, and drill again"


def when_written(dump: Path | None) -> datetime | None:
    """What the file of a restored dump says. To be asked before anybody opens it."""
    return datetime.fromtimestamp(dump.stat().st_mtime, UTC) if dump else None


def when_dumped(findings: Findings, written: datetime | None, snapshot: Snapshot, run: Run | None, now: datetime, *, of_run: bool) -> datetime:
    """When the dump in the snapshot was made: as recorded at its beginning, else as its file says. A snapshot with another dump than recorded is a
    cause; `of_run`: the dump is known to be the run's own, which may have taken long. `now` is the beginning of the drill."""
    recorded = _moment(run.detail.get("catalog_at")) if run else None
    if written and recorded and abs(written - recorded) > SLACK and not (of_run and written > recorded):
        said = f"the catalog in the snapshot is of {written:%Y-%m-%d %H:%M} UTC, recorded was {recorded:%Y-%m-%d %H:%M} UTC"
        if of_run:
            findings.obstacles.append(f"{said}; it is the right one, so the clock was set back while it was made: {PUT_RIGHT}")
        else:
            findings.causes.append(said)
    made = recorded or written or snapshot.time
    if made > now + SLACK:
        findings.obstacles.append(f"the newest backup is of {made:%Y-%m-%d %H:%M} UTC, which is yet to come, so the clock was set back: {PUT_RIGHT}")
    return made


def set_later_aside(findings: Findings, ledger: Ledger, moments: Moments, run: Run, folder: DataFolder) -> None:
    """Expect nothing of papers that came after the dump of `run`, as the audit log shows, and have times from before it."""
    if not ledger.count_lacking(moments):
        return
    try:
        signer = Keyring(folder).public_half(CHECKPOINT_SIGNING)
    except NightsafeError:
        return  # the order cannot be told: they are missing, then
    if later := ledger.set_aside(accepted_since(folder.audit, str(run.detail.get("audit_head")), [signer]), moments):
        what = "1 paper came after the newest backup and has a time" if later == 1 else f"{later} papers came after the newest backup and have times"
        findings.obstacles.append(f"{what} from before it, so the clock was set back in between: {PUT_RIGHT}")


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else None
