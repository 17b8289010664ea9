"""From findings to what is left of a drill: the verdict, signed evidence, a line in the audit log, the finished run."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from backup.drill.findings import Findings
from backup.drill.history import PAST_DRILLS
from backup.drill.job import Job, Kind
from backup.drill.judge import Cause, Finding
from backup.drill.sample import digest, state
from backup.drill.verify import causes
from backup.report.evidence import BadPaper, Counts, DrawFacts, Evidence, Recovery, Verdict, YoungFacts, rfc3339, write_evidence
from backup.report.trends import forecast, history
from config.errors import OutOfReach
from config.words import all_of, counted
from gateway.audit.events import Event
from gateway.audit.signatures import SigningKey
from gateway.catalog import Run
from gateway.keys.keyring import EVIDENCE_SIGNING

EVENTS: dict[Verdict, Event] = {"passed": Event.DRILL_PASSED, "failed": Event.DRILL_FAILED, "inconclusive": Event.DRILL_INCONCLUSIVE}
LISTED = 100  # findings that the run names; the evidence names more
HOUR = 3600.0


def conclude(job: Job, findings: Findings, obstacle: str) -> Run:
    """Verdict, evidence, audit, run. A fault that was found counts even when the drill could not go on afterwards."""
    obstacle = "; ".join([*findings.obstacles, *([obstacle] if obstacle else [])])
    verdict: Verdict = "failed" if findings.is_bad else "inconclusive" if obstacle else "passed"
    ended_at = datetime.now(UTC)
    evidence = _evidence(job, findings, verdict, obstacle, ended_at)
    try:
        path = write_evidence(job.installation.folder.evidence, evidence, SigningKey.parse(job.secrets[EVIDENCE_SIGNING]))
        name = path.relative_to(job.installation.folder.root).as_posix()
        digest_of_evidence = hashlib.sha256(path.read_bytes()).hexdigest()
    except OutOfReach as error:
        verdict, obstacle, name, digest_of_evidence = ("failed" if findings.is_bad else "inconclusive"), error.message, "", ""
    snapshot, keys_snapshot = findings.papers.snapshot or None, findings.keys.snapshot or None
    job.audit.append(EVENTS[verdict], durable=True, run=job.run, kind=job.kind, snapshot=snapshot, evidence=name, evidence_sha256=digest_of_evidence)
    detail = {
        "kind": job.kind,
        **({"copy": job.copy} if job.copy else {}),
        "snapshot": snapshot,
        "drawn": findings.drawn,
        "of": findings.of,
        "verified": findings.tally.verified,
        "newer": findings.tally.newer,
        **_named(findings.tally.findings),
        "by_cause": causes(findings.tally),
        "cause": _cause(findings, obstacle),
        "statement": evidence.statement.get("text", ""),
        "coverage": evidence.coverage,
        "catalog_at": rfc3339(findings.dump_at) if findings.dump_at else None,
        "recovery_seconds": round(evidence.recovery.time_seconds, 1),
        "recovery_point": rfc3339(findings.dump_at) if findings.dump_at else None,
        "recovery_point_seconds": evidence.recovery.point_seconds and round(evidence.recovery.point_seconds, 1),
        "evidence": name,
        "seed": job.seed,
    }
    return job.live.finish_run(job.run, verdict, snapshot=snapshot, keys_snapshot=keys_snapshot, detail=detail)


def _named(findings: list[Finding]) -> dict[str, list[str]]:
    """The first findings in words, by kind."""
    kinds = {Cause.MISSING: "missing", Cause.SURPLUS: "surplus"}
    named: dict[str, list[str]] = {"bad": [], "missing": [], "surplus": []}
    for finding in findings:
        group = named[kinds.get(finding.cause, "bad")]
        if len(group) < LISTED:
            group.append(finding.text)
    return named


def _cause(findings: Findings, obstacle: str) -> str:
    """One line: what is wrong with the backup, else what stood in the way."""
    counted = ", ".join(f"{count} {cause}" for cause, count in causes(findings.tally).items())
    return "; ".join([*findings.causes, *([counted] if counted else []), *([obstacle] if obstacle else [])])


def _evidence(job: Job, findings: Findings, verdict: Verdict, obstacle: str, ended_at: datetime) -> Evidence:
    tally, settings = findings.tally, job.installation.settings
    drills = history(job.live.runs("drill", PAST_DRILLS), job.copy)
    point = point_seconds(findings.dump_at, job.started_at, ended_at)
    return Evidence(
        run=job.run,
        drill=job.kind,
        verdict=verdict,
        started_at=job.started_at,
        ended_at=ended_at,
        installation={"host": settings.backup.host, **_where(job)},
        papers=findings.papers,
        keys=findings.keys,
        causes=[*findings.causes, *([obstacle] if obstacle else [])],
        counts=Counts(
            of=findings.of,
            drawn=findings.drawn,
            verified=tally.verified,
            verified_bytes=tally.verified_bytes,
            by_ciphertext=tally.by_ciphertext,
            newer=tally.newer,
            bad=tally.bad_papers,
            unfinished=tally.unfinished,
            restored_files=findings.restored_files,
            restored_bytes=findings.restored_bytes,
            keys_compared=findings.keys_compared,
        ),
        bad=[BadPaper(f.paper, f.client, f.path, f.version, f.cause.value, f.what) for f in tally.findings],
        bad_total=tally.by_cause.total(),
        by_cause=causes(tally),
        draw=_draw_facts(findings),
        coverage=findings.coverage.values() if findings.coverage else None,
        young=YoungFacts(digest(findings.young), findings.young) if job.kind == "full" and verdict == "passed" else None,
        statement=_statement(findings, verdict, job.kind),
        stages=findings.stages,
        recovery=Recovery(
            sum(stage.seconds for stage in findings.stages),
            settings.drill.objective_recovery_time_hours * HOUR,
            point,
            settings.drill.objective_recovery_point_hours * HOUR,
        ),
        tools={"nightsafe": _nightsafe_version(), "python": platform.python_version(), "restic": findings.restic},
        audit_head=job.audit.head,
        notes=findings.notes,
        trend=[*drills, _this(job, findings, verdict, point)],
        forecast=forecast(drills, job.live.count_papers(state="accepted")[0]),
    )


def point_seconds(dump_at: datetime | None, started_at: datetime, ended_at: datetime) -> float | None:
    """How much work would have been lost, had the machine burned down when the drill began: none, where a backup was made while its self-test ran.
    None where that cannot be told: there is no backup, or it is of a time to come."""
    return max(0.0, (started_at - dump_at).total_seconds()) if dump_at and dump_at <= ended_at else None


def _this(job: Job, findings: Findings, verdict: Verdict, point_seconds: float | None) -> dict[str, Any]:
    """This drill, as `history` tells of the earlier ones."""
    return {
        "run": job.run,
        "at": job.started_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "drill": job.kind,
        "verdict": verdict,
        "papers": findings.of,
        "recovery_seconds": round(sum(stage.seconds for stage in findings.stages), 1),
        "point_seconds": point_seconds and round(point_seconds, 1),
    }


def _where(job: Job) -> dict[str, str]:
    """Which place was rehearsed."""
    if job.copy:
        return {"copy": job.copy, "url": job.installation.settings.copies[job.copy].url}
    return {"bucket": job.installation.settings.s3.bucket, "prefix": job.installation.settings.s3.prefix}


def _draw_facts(findings: Findings) -> DrawFacts | None:
    drawn = findings.draw
    if drawn is None:
        return None
    groups = [{"group": share.group.value, "size": share.size, "drawn": share.drawn} for share in drawn.shares]
    return DrawFacts(drawn.seed, digest(drawn.papers), groups, drawn.papers)


def _statement(findings: Findings, verdict: Verdict, kind: Kind) -> dict[str, Any]:
    """What may be said about all papers; nothing when the drill came to no verdict."""
    if verdict == "inconclusive":
        return {"text": ""}
    bad = findings.tally.bad_papers
    if findings.is_bad and (kind == "escrow" or findings.draw is None):
        return {"text": f"{bad} of {counted(findings.drawn, 'paper')} {'is' if bad == 1 else 'are'} bad." if bad else ""}
    if kind == "escrow":
        whose = "of the only client that has any" if findings.drawn == 1 else f"of each of the {findings.drawn} clients that have any"
        return {"text": f"The recovery kit opened both repositories, and one paper {whose}."}
    if kind == "clean-room":
        sealed = findings.tally.by_ciphertext
        besides = f"; {sealed} that no client can fetch were compared as sealed files" if sealed else ""
        came = "the only paper came" if findings.of == 1 else f"all {findings.of} papers came"
        fetched = counted(findings.of - sealed, "was", "were")
        text = f"With the recovery kit alone, {came} back: {fetched} fetched over SFTP and compared{besides}."
        return {"text": text, "at_most": 0, "at_most_percent": 0.0}
    if findings.draw is None:
        return {
            "text": f"{all_of(findings.of, 'paper was', 'papers were')} restored, opened and compared, and none is bad.",
            "at_most": 0,
            "at_most_percent": 0.0,
        }
    stated = state(findings.draw.shares, findings.tally.bad_papers)
    return {"text": stated.text, "confidence": stated.confidence, "at_most": stated.at_most, "at_most_percent": stated.at_most_percent}


def _nightsafe_version() -> str:
    try:
        return version("nightsafe")
    except PackageNotFoundError:
        return "from source"
