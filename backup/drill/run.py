"""A drill from beginning to end: lock, run, rehearsal, verdict, signed evidence, audit."""

from __future__ import annotations

import hashlib
import platform
import secrets as randomness
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import structlog

from backup.drill.history import PAST_DRILLS, drilled_before
from backup.drill.judge import Cause, Finding
from backup.drill.rehearsal import Findings, Kind, Rehearsal, Setting
from backup.drill.repositories import open_for_reading, probe, restic_version
from backup.drill.sample import digest, state
from backup.drill.scratch import scratch_folder
from backup.drill.selftest import self_test
from backup.drill.verify import HeaderKeys, causes
from backup.report.evidence import BadPaper, Counts, DrawFacts, Evidence, Recovery, Verdict, rfc3339, write_evidence
from backup.report.trends import forecast, history
from backup.restic import Interrupted
from config.console import Progress, Silent
from config.errors import NightsafeError, OutOfReach
from config.loading import Installation
from config.roles import exclusive
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog, Run
from gateway.keys.agent import key_agent
from gateway.keys.client import KeydClient, MasterAgent
from gateway.keys.keyring import EVIDENCE_SIGNING
from gateway.keys.secrets import RoleSecrets, role_secrets

EVENTS: dict[Verdict, Event] = {"passed": Event.DRILL_PASSED, "failed": Event.DRILL_FAILED, "inconclusive": Event.DRILL_INCONCLUSIVE}
LISTED = 100  # findings that the run names; the evidence names more
HOUR = 3600.0
logger = structlog.get_logger("drill")


@dataclass(frozen=True)
class _Job:
    """One drill that has its lock, its run and its tools."""

    installation: Installation
    kind: Kind
    run: int
    seed: str
    wanted: int
    started_at: datetime
    live: Catalog
    audit: AuditLog
    secrets: RoleSecrets
    progress: Progress
    cancel: threading.Event | None
    copy: str = ""


def run_drill(
    installation: Installation,
    kind: Kind,
    progress: Progress | None = None,
    seed: str | int | None = None,
    *,
    sample: int | None = None,
    secrets: RoleSecrets | None = None,
    cancel: threading.Event | None = None,
    copy: str = "",
) -> Run:
    """Rehearse a restore of the newest snapshot: of every paper (`full`), or of a `sample` drawn with `seed` (random unless given).
    `copy` names another place than the first.

    Returns the finished run, whose state is the verdict: `passed`, `failed` (the backup is bad; what is bad is named) or `inconclusive` (no
    verdict was possible, and that is not the backup's fault). `cancel`, once set, ends it soon. Raises Busy while another drill runs,
    SettingsError when secrets are missing, Interrupted when it was cancelled.
    """
    folder = installation.folder
    with (
        exclusive(folder, "drill", "a drill runs already", "wait for it to end, then look at: nightsafe drill list"),
        Catalog.open(folder.catalog) as live,
        AuditLog(folder.audit, "drill") as audit,
    ):
        secrets = secrets if secrets is not None else role_secrets(installation, "drill")
        live.reconcile_runs("drill")
        facts: dict[str, Any] = {"kind": kind, **({"copy": copy} if copy else {})}
        run = live.start_run("drill", facts)
        job = _Job(
            installation,
            kind,
            run,
            str(randomness.token_hex(16) if seed is None else seed),
            sample or installation.settings.drill.sample,
            datetime.now(UTC),
            live,
            audit,
            secrets,
            progress or Silent(),
            cancel,
            copy,
        )
        audit.append(Event.DRILL_STARTED, run=run, seed=job.seed, **facts)
        try:
            return _conclude(job, *_rehearse(job))
        except BaseException as error:
            live.finish_run(run, "interrupted", detail={**facts, "cause": type(error).__name__})
            raise


def _rehearse(job: _Job) -> tuple[Findings, str]:
    """The findings, and why there can be no verdict ('' when there can). The scratch folder is gone afterwards."""
    findings = Findings()
    try:
        with scratch_folder(job.installation, "drill") as scratch, _key_agent(job.installation) as agent:
            rehearsal = Rehearsal(
                Setting(
                    installation=job.installation,
                    kind=job.kind,
                    run=job.run,
                    seed=job.seed,
                    wanted=job.wanted,
                    started_at=job.started_at,
                    live=job.live,
                    agent=agent,
                    papers=open_for_reading(job.installation, "papers", job.secrets, scratch, job.cancel, job.copy),
                    keys=open_for_reading(job.installation, "keys", job.secrets, scratch, job.cancel, job.copy),
                    probe=lambda: probe(job.installation, job.secrets, job.copy),
                    scratch=scratch,
                    drilled=drilled_before(job.live, job.installation.folder.evidence),
                    progress=job.progress,
                    copy=job.copy,
                ),
            )
            findings = rehearsal.findings
            findings.restic = restic_version(job.installation, scratch)
            if job.kind == "full" and job.installation.settings.drill.self_test:
                _test_the_drill(job, scratch, findings)
            rehearsal.rehearse()
    except Interrupted:
        raise
    except NightsafeError as error:
        return findings, error.message
    except Exception as error:
        logger.exception("drill.broke", run=job.run)
        return findings, f"the drill itself broke ({type(error).__name__}); please report it with the log"
    return findings, ""


def _test_the_drill(job: _Job, scratch: Path, findings: Findings) -> None:
    """Raises OutOfReach when the drill does not fail where it must: then its verdict would mean nothing."""
    job.progress.update(0, 1, "testing the drill itself")
    if wrong := self_test(job.installation, scratch):
        raise OutOfReach(f"the self-test failed: {wrong}", "please report it with the log; its verdicts mean nothing until then")
    findings.notes.append("Self-test: a backup with three planted faults was drilled first, and these three were found.")


@contextmanager
def _key_agent(installation: Installation) -> Iterator[HeaderKeys]:
    """keyd while it runs, else the master where this process may read it."""
    agent = key_agent(installation)
    try:
        yield agent
    finally:
        if isinstance(agent, KeydClient | MasterAgent):
            agent.close()


def _conclude(job: _Job, findings: Findings, obstacle: str) -> Run:
    """Verdict, evidence, audit, run. A fault that was found counts even when the drill could not go on afterwards."""
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


def _evidence(job: _Job, findings: Findings, verdict: Verdict, obstacle: str, ended_at: datetime) -> Evidence:
    tally, settings = findings.tally, job.installation.settings
    drills = history(job.live.runs("drill", PAST_DRILLS), job.copy)
    point = (job.started_at - findings.dump_at).total_seconds() if findings.dump_at else None
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
        trend=drills,
        forecast=forecast(drills, job.live.count_papers(state="accepted")[0]),
    )


def _where(job: _Job) -> dict[str, str]:
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
    if kind == "full" or findings.draw is None:
        bad = findings.tally.bad_papers
        if findings.is_bad:
            return {"text": f"{bad} of {findings.of} papers are bad." if bad else ""}
        return {"text": f"All {findings.of} papers were restored, opened and compared, and none is bad.", "at_most": 0, "at_most_percent": 0.0}
    stated = state(findings.draw.shares, findings.tally.bad_papers)
    return {"text": stated.text, "confidence": stated.confidence, "at_most": stated.at_most, "at_most_percent": stated.at_most_percent}


def _nightsafe_version() -> str:
    try:
        return version("nightsafe")
    except PackageNotFoundError:
        return "from source"
