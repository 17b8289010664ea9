"""`nightsafe drill run | list | show | proof`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from backup.commands.facts import from_option, moment, operator, read_kit, run_facts
from config.cli import Group, data_option, json_option
from config.console import emit, facts, progress, say, table
from config.errors import CheckFailed, OutOfReach, UsageError
from config.folder import DataFolder
from config.loading import Installation, open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog, Run
from gateway.completing import named

if TYPE_CHECKING:
    from backup.drill.job import Kind


@click.group(cls=Group)
def drill() -> None:
    """Rehearsed restores: the proof that a backup is one."""


@drill.command()
@click.option("--full", is_flag=True, help="Every paper and every key.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="N papers (default: the setting), drawn at random.")
@click.option("--clean-room", is_flag=True, help="With the recovery kit alone: back to a gateway that gives each client its papers.")
@click.option("--escrow", is_flag=True, help="With the recovery kit: open both repositories, and one paper of each client.")
@click.option("--kit", type=click.File("rb"), multiple=True, metavar="FILE", help="The recovery kit, part A and part B ('-': standard input).")
@click.option("--self-test", is_flag=True, help="Only see whether the drill fails on a backup with known faults; touches no real one.")
@from_option
@data_option
@json_option
def run(
    full: bool,
    sample: int | None,
    clean_room: bool,
    escrow: bool,
    kit: Sequence[BinaryIO],
    self_test: bool,
    copy: str,
    data: Path | None,
    as_json: bool,
) -> None:
    """Restore from S3 into a scratch folder, decrypt in memory, compare with the hashes recorded at arrival; write signed evidence.

    Exit code 1: the backup is bad, and what is bad is named. 5: S3, keyd or the scratch disk was out of reach, nothing was proven.

    --clean-room and --escrow ask for the recovery kit: files named by --kit, else standard input. Nothing of it is stored.

    Example: nightsafe drill run --clean-room --kit part-a.txt --kit part-b.txt
    """
    from backup.drill.run import run_drill
    from backup.repositories.places import save_words

    if sum([full, sample is not None, clean_room, escrow, self_test]) > 1:
        raise UsageError("--full, --sample, --clean-room, --escrow and --self-test exclude each other", "name one of them")
    kind: Kind = "full" if full else "clean-room" if clean_room else "escrow" if escrow else "sample"
    if kit and kind in ("sample", "full"):
        raise UsageError("--kit goes with --clean-room or --escrow", "leave it out, or name one of them")
    if copy and kind not in ("sample", "full"):
        raise UsageError("the kit says where the backups are: --from does not go with it", "name the copy in part B, in place of the bucket")
    installation = open_installation(data)
    if self_test:
        _test_itself(installation, as_json)
        return
    read = read_kit(kit) if kind in ("clean-room", "escrow") else None
    with progress("rehearsing") as watched:
        done = run_drill(installation, kind, watched, sample=sample, copy=copy, kit=read, person=operator())
    if as_json:
        emit(run_facts(done, installation.folder), as_json)
    else:
        _print(done, installation.folder)
    if done.state == "failed":
        nothing_yet = done.detail.get("cause") == "there is no backup yet"
        raise CheckFailed(
            f"drill {done.id} failed: {done.detail.get('cause')}",
            f"make one with: {save_words(copy)}" if nothing_yet else f"what is bad is named by: nightsafe drill show {done.id}",
        )
    if done.state == "inconclusive":
        raise OutOfReach(
            f"drill {done.id} proved nothing: {done.detail.get('cause')}", "mend that and run it again; nothing says that the backup is bad"
        )


def _test_itself(installation: Installation, as_json: bool) -> None:
    from backup.drill.scratch import scratch_folder
    from backup.drill.selftest import PLANTED, self_test

    with progress("testing the drill"), scratch_folder(installation, "self-test") as scratch:
        wrong = self_test(installation, scratch)
    if as_json:
        emit({"passed": not wrong, "planted": sorted(PLANTED), "wrong": wrong}, as_json)
    elif not wrong:
        facts({"self-test": "passed", "planted and found": ", ".join(sorted(PLANTED))})
    if wrong:
        raise CheckFailed(f"the self-test failed: {wrong}", "please report it; verdicts of drills mean nothing until then")


@drill.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest so many.")
@data_option
@json_option
def list_(limit: int, data: Path | None, as_json: bool) -> None:
    """The drills of the past, newest first.

    Example: nightsafe drill list --limit 1000
    """
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        found = catalog.runs("drill", limit + 1)
    found, more = found[:limit], len(found) > limit
    if as_json:
        emit([run_facts(run, folder) for run in found], as_json)
        return
    table(
        "Drills",
        ("id", "kind", "verdict", "started", "papers", "snapshot"),
        [(r.id, r.detail.get("kind"), r.state, moment(r.started_at), r.detail.get("drawn"), (r.snapshot or "")[:8]) for r in found],
    )
    if not found:
        say("no drills yet; run one with: nightsafe drill run")
    if more:
        click.echo(f"these are the newest {limit}; older ones: --limit {limit * 10}", err=True)


@drill.command()
@click.argument("number", metavar="ID", type=int, shell_complete=named("drill"))
@data_option
@json_option
def show(number: int, data: Path | None, as_json: bool) -> None:
    """One drill: verdict, papers, times, evidence.

    Example: nightsafe drill show 12
    """
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        found = catalog.run(number)
    if found.kind != "drill":
        raise UsageError(f"run {number} is a {found.kind}, not a drill", "see the drills with: nightsafe drill list")
    if as_json:
        emit(run_facts(found, folder), as_json)
    else:
        _print(found, folder)


@drill.command()
@click.argument("client", shell_complete=named("client"))
@data_option
@json_option
def proof(client: str, data: Path | None, as_json: bool) -> None:
    """Write the evidence of one CLIENT: its papers, each with the newest drill that brought it back. Nothing of others is in it.

    A signed JSON file, and a page for people, below evidence/clients; for the client, or for who audits it.

    Example: nightsafe drill proof acme
    """
    from backup.report.proof import write_proof
    from gateway.audit.signatures import SigningKey
    from gateway.keys.keyring import EVIDENCE_SIGNING, Keyring
    from gateway.keys.master import load_master

    installation = open_installation(data)
    signer = SigningKey.parse(Keyring(installation.folder).open_secret(EVIDENCE_SIGNING, load_master(installation)))
    path, counts, sha256 = write_proof(installation, client, signer)
    with AuditLog(installation.folder.audit, "ops") as log:
        log.append(Event.PROOF_WRITTEN, durable=True, person=operator(), client=client, **counts, sha256=sha256)
    if as_json:
        emit({**counts, "evidence": str(path), "page": str(path.with_suffix(".html"))}, as_json)
    else:
        facts({**counts, "evidence": str(path), "page": str(path.with_suffix(".html"))})


def _print(run: Run, folder: DataFolder) -> None:
    detail = run_facts(run, folder)["detail"]
    drawn, sound, seconds = detail.get("drawn"), detail.get("verified"), detail.get("recovery_seconds")
    counts = {} if drawn is None else {kind: len(detail.get(kind, [])) for kind in ("bad", "missing", "surplus")}  # none, when it was interrupted
    told: dict[str, object] = {
        "drill": f"{run.id} ({detail.get('kind')})",
        "verdict": run.state + (f": {detail['cause']}" if detail.get("cause") else ""),
        "snapshot": run.snapshot,
        "papers": None if drawn is None else f"{drawn} of {detail.get('of')} compared" + (f", {sound} of them sound" if sound != drawn else ""),
        "this shows": detail.get("statement") or None if detail.get("kind") == "sample" else None,
        "coverage": (detail.get("coverage") or {}).get("text"),
        **counts,
        "recovery time": None if seconds is None else f"{seconds} s",
        "recovery point": detail.get("recovery_point"),
        "evidence": detail.get("evidence"),
    }
    facts({name: value for name, value in told.items() if value is not None})
    for kind in ("bad", "missing", "surplus"):
        for item in list(detail.get(kind, []))[:50]:
            say(f"{kind}: {item}")
