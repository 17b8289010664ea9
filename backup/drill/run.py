"""A drill from beginning to end: lock, run, rehearsal; `conclusion` has the verdict and what is left of it."""

from __future__ import annotations

import secrets as randomness
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from backup.drill.cleanroom import CleanRoom
from backup.drill.conclusion import conclude
from backup.drill.findings import Findings
from backup.drill.history import drilled_before
from backup.drill.job import Drill, Job, Kind, Setting
from backup.drill.rehearsal import Rehearsal
from backup.drill.repositories import drill_runner, open_for_reading, probe, restic_version
from backup.drill.scratch import scratch_folder
from backup.drill.selftest import self_test
from backup.drill.verify import HeaderKeys
from backup.drill.withkit import Escrow, KitAgent, KitRehearsal
from backup.kit.kit import WholeKit
from backup.repositories.locks import DRILL, at_place
from backup.restic import Interrupted
from config.console import Progress, Silent
from config.errors import NightsafeError, OutOfReach, UsageError
from config.folder import DataFolder
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Run
from gateway.keys.agent import key_agent
from gateway.keys.client import KeydClient, MasterAgent
from gateway.keys.keyring import Keyring
from gateway.keys.secrets import RoleSecrets, role_secrets

logger = structlog.get_logger("drill")


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
    kit: WholeKit | None = None,
    person: str = "",
) -> Run:
    """Rehearse a restore of the newest snapshot: of every paper (`full`), of a `sample` drawn with `seed` (random unless given), or with the
    recovery `kit` (`escrow`, `clean-room`). `copy` names another place than the first; `person` who asked, when it was not the clock.

    Returns the finished run, whose state is the verdict: `passed`, `failed` (the backup is bad; what is bad is named) or `inconclusive` (no
    verdict was possible, and that is not the backup's fault). `cancel`, once set, ends it soon. Raises Busy while another drill runs,
    SettingsError when secrets are missing, Interrupted when it was cancelled.
    """
    if (kit is None) == (kind in ("escrow", "clean-room")):
        raise UsageError(f"a drill of the kind '{kind}' {'needs the' if kit is None else 'takes no'} recovery kit")
    folder = installation.folder
    with (
        at_place(folder, DRILL, copy, "a drill runs already", "wait for it to end, then look at: nightsafe drill list"),
        Catalog.open(folder.catalog) as live,
        AuditLog(folder.audit, "drill") as audit,
    ):
        secrets = secrets if secrets is not None else role_secrets(installation, "drill")
        live.reconcile_runs("drill", copy)
        facts: dict[str, Any] = {"kind": kind, **{name: value for name, value in (("copy", copy), ("person", person)) if value}}
        run = live.start_run("drill", facts)
        job = Job(
            installation=installation,
            kind=kind,
            run=run,
            seed=str(randomness.token_hex(16) if seed is None else seed),
            wanted=sample or installation.settings.drill.sample,
            started_at=datetime.now(UTC),
            live=live,
            progress=progress or Silent(),
            cancel=cancel,
            copy=copy,
            audit=audit,
            secrets=secrets,
            kit=kit,
        )
        audit.append(Event.DRILL_STARTED, run=run, seed=job.seed, **facts)
        try:
            return conclude(job, *_rehearse(job))
        except BaseException as error:
            live.finish_run(run, "interrupted", detail={**facts, "cause": type(error).__name__})
            raise


def _rehearse(job: Job) -> tuple[Findings, str]:
    """The findings, and why there can be no verdict ('' when there can). The scratch folder is gone afterwards."""
    findings = Findings()
    try:
        with scratch_folder(job.installation, "drill") as scratch, _key_agent(job, scratch) as agent:
            rehearsal = _rehearsal(job, scratch, agent)
            findings = rehearsal.findings
            findings.restic = restic_version(job.installation, scratch)
            if job.kind == "full" and job.installation.settings.drill.self_test:
                _test_the_drill(job, scratch, findings)
            try:
                rehearsal.rehearse()
            finally:
                if isinstance(rehearsal, KitRehearsal):
                    _remember_kit(job, rehearsal)
    except Interrupted:
        raise
    except NightsafeError as error:
        return findings, error.message
    except Exception as error:
        logger.exception("drill.broke", run=job.run)
        return findings, f"the drill itself broke ({type(error).__name__}); please report it with the log"
    return findings, ""


def _test_the_drill(job: Job, scratch: Path, findings: Findings) -> None:
    """Raises OutOfReach when the drill does not fail where it must: then its verdict would mean nothing."""
    job.progress.update(0, 1, "testing the drill itself")
    if wrong := self_test(job.installation, scratch):
        raise OutOfReach(f"the self-test failed: {wrong}", "please report it with the log; its verdicts mean nothing until then")
    findings.notes.append("Self-test: a backup with three planted faults was drilled first, and these three were found.")


def _rehearsal(job: Job, scratch: Path, agent: HeaderKeys) -> Rehearsal:
    """What the kind of drill asks for, with the repositories as it sees them."""
    kit = job.kit
    if kit is None:
        papers = open_for_reading(job.installation, "papers", job.secrets, scratch, job.cancel, job.copy)
        keys = open_for_reading(job.installation, "keys", job.secrets, scratch, job.cancel, job.copy)
    else:
        runner = drill_runner(job.installation, scratch, job.cancel)
        papers, keys = kit.open("papers", runner, scratch / "cache"), kit.open("keys", runner, scratch / "cache")
    setting = Setting(
        **{one.name: getattr(job, one.name) for one in fields(Drill)},
        agent=agent,
        papers=papers,
        keys=keys,
        probe=kit.probe if kit else lambda: probe(job.installation, job.secrets, job.copy),
        scratch=scratch,
        drilled=drilled_before(job.live, job.installation.folder.evidence, job.copy),
    )
    if kit is None:
        return Rehearsal(setting)
    return CleanRoom(setting, kit) if job.kind == "clean-room" else Escrow(setting, kit)


def _remember_kit(job: Job, rehearsal: KitRehearsal) -> None:
    """The kit was tried thereby: the status tells when, and whether it was good."""
    states = {"identity": rehearsal.part_a, "access": rehearsal.part_b}
    bad = False in states.values()
    with suppress(NightsafeError):
        job.live.finish_run(job.live.start_run("kit"), "failed" if bad else "passed", detail={**states, "drill": job.run})


@contextmanager
def _key_agent(job: Job, scratch: Path) -> Iterator[HeaderKeys]:
    """The kit, where it was given; else keyd while it runs, else the master where this process may read it."""
    if job.kit is not None:
        yield KitAgent(Keyring(DataFolder(scratch / "restored-keys")), job.kit)
        return
    agent = key_agent(job.installation)
    try:
        yield agent
    finally:
        if isinstance(agent, KeydClient | MasterAgent):
            agent.close()
