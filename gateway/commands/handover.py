"""`nightsafe files export | put`: papers out as an encrypted zip, and the firm's files in."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from config.cli import data_option, json_option
from config.console import emit, facts, human_bytes, progress, say
from config.errors import Exit, NightsafeError, Partial, UsageError
from config.loading import Installation, open_installation
from config.roles import role_state, starter, together
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.commands.operators import operator
from gateway.completing import named
from gateway.handover import depositing, zipping
from gateway.jail import ROOT, Tree, VirtualPath, parse
from gateway.keys.agent import key_agent
from gateway.keys.client import KeydClient, MasterAgent
from gateway.keys.keyring import Keyring
from gateway.store import Spool, Vault

SHOWN = 20
SEALED_SECONDS = 60.0  # to wait for ingest, after which the papers are on their way still


@click.command()
@click.argument("client", shell_complete=named("client"))
@click.argument("paths", nargs=-1, metavar="[PATH]…", shell_complete=named("path"))
@click.option("--zip", "target", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="F", help="The zip to write; a new file.")
@click.option("--passphrase-stdin", is_flag=True, help="Read the passphrase from standard input instead of making one.")
@data_option
@json_option
def export(client: str, paths: Sequence[str], target: Path, passphrase_stdin: bool, data: Path | None, as_json: bool) -> int:
    """Hand papers over as a zip (AES-256) that 7-Zip and its like open with a passphrase. Names inside are not encrypted, contents are.

    PATH names papers or folders; without one, all that the client's folders show now. The passphrase is shown once: tell it to the receiver
    by another way than the zip. Exit code 3: some papers did not go in, and they are named.

    Example: nightsafe files export acme /outbox/2026 --zip acme-2026.zip
    """
    installation = open_installation(data)
    if target.absolute().resolve().is_relative_to(installation.folder.root.resolve()):
        raise UsageError(f"{target} lies in the data folder", "write the zip elsewhere")
    passphrase = zipping.check_passphrase(sys.stdin.readline().rstrip("\r\n")) if passphrase_stdin else zipping.new_passphrase()
    with Catalog.open(installation.folder.catalog) as catalog:
        _check_client(catalog, client)
        agent = key_agent(installation)
        source = zipping.Source(catalog, Vault(installation.folder.vault), agent, client, operator(), f"export to {target.name}"[:200])
        wanted = [parse(os.fsencode(path)) for path in paths] or [ROOT]
        with Tree(installation.folder.jail(client)) as tree, progress("exporting") as watched:
            try:
                done = zipping.export(source, zipping.chosen(tree, wanted), target, passphrase, watched)
            finally:
                if isinstance(agent, KeydClient | MasterAgent):
                    agent.close()
    with AuditLog(installation.folder.audit, "ops") as log:
        told = {"papers": done.papers, "bytes": done.plain_bytes, "missed": done.not_exported, "file": target.name, "sha256": done.sha256}
        log.append(Event.FILES_EXPORTED, durable=True, person=operator(), client=client, paths=list(paths)[:SHOWN], **told)
    made = {} if passphrase_stdin else {"passphrase": passphrase}
    if as_json:
        emit({"client": client, "zip": str(target.absolute()), **told, "not_exported": done.missed, **made}, as_json)
    else:
        facts({"zip": target, "papers": done.papers, "bytes": human_bytes(done.size), "sha256": done.sha256, **made})
        if not passphrase_stdin:
            say("The passphrase is shown this once and kept nowhere. Give it to the recipient by another way than the zip.")
        for line in done.missed[:SHOWN]:
            say(f"not exported: {line}")
    return Exit.PARTLY if done.not_exported else Exit.DONE


@click.command()
@click.argument("client", shell_complete=named("client"))
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--to", "to", default="/outbox", show_default=True, metavar="P", help="A folder below /outbox or /inbox; for one file also its name.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the papers are sealed.")
@data_option
@json_option
def put(client: str, sources: Sequence[Path], to: str, no_wait: bool, data: Path | None, as_json: bool) -> int:
    """Put files of the firm into a client's outbox (or inbox). They are sealed, catalogued and receipted as uploads are; missing folders are made.

    A name that exists gets a new version. The files themselves stay where they are. Exit code 3: some were not put, or not accepted.

    Example: nightsafe files put acme balance-2026.pdf --to /outbox/2026
    """
    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog, Tree(_jail(installation, catalog, client)) as tree:
        for source in sources:
            depositing.check_readable(source)
        chosen = depositing.destinations(tree, sources, parse(os.fsencode(to)))
        done, failed = _put_all(installation, tree, client, chosen)
        states = {} if no_wait or not role_state(installation.folder, "ingest") else _wait(catalog, [one.paper for one in done])
    rows = [_row(one, states.get(one.paper)) for one in done]
    if as_json:
        emit({"put": rows, "failed": failed}, as_json)
    else:
        _tell(installation, rows, failed, no_wait)
    if not done and failed:
        raise UsageError(f"nothing was put: {failed[0]}", "mend that, then put it again")
    if failed or any(row["state"] in ("refused", "held") for row in rows):
        raise Partial("not everything was put and accepted", "what is missing is named above")
    return Exit.DONE


def _put_all(
    installation: Installation, tree: Tree, client: str, chosen: Sequence[tuple[Path, VirtualPath]]
) -> tuple[list[depositing.Deposit], list[str]]:
    folder, session = installation.folder, secrets.token_hex(8)
    done: list[depositing.Deposit] = []
    failed: list[str] = []
    with (
        # The key that papers in the spool are sealed to must not be replaced, and destroyed, while one is made.
        together(folder, depositing.LOCK, "the key of ingest is being renewed", "try again in a moment"),
        AuditLog(folder.audit, "ops") as log,
        closing(Spool(folder.spool_partial, folder.spool_landed, Keyring(folder).ingest_recipient)) as spool,
        progress("putting") as watched,
    ):
        for number, (source, path) in enumerate(chosen):
            watched.update(number, len(chosen), source.name)
            try:
                one = depositing.deposit(folder, spool, tree, client, operator(), session, source, path)
            except NightsafeError as error:
                failed.append(f"{source}: {error.message}")
                continue
            log.append(Event.FILE_PUT, person=operator(), client=client, path=one.path, paper=one.paper, size=one.size, session=session)
            done.append(one)
        log.sync()
    return done, failed


def _wait(catalog: Catalog, papers: Sequence[str]) -> dict[str, str]:
    """Paper → state, once ingest has dealt with them; those that it has not in time are left out."""
    states: dict[str, str] = {}
    until = time.monotonic() + SEALED_SECONDS
    while len(states) < len(papers) and time.monotonic() < until:
        for paper in papers:
            if paper not in states and (row := catalog.paper(paper)) is not None:
                states[paper] = row.state
        if len(states) < len(papers):
            time.sleep(0.1)
    return states


def _row(one: depositing.Deposit, state: str | None) -> dict[str, Any]:
    return {"path": one.path, "paper": one.paper, "size": one.size, "state": state or "being sealed"}


def _tell(installation: Installation, rows: Sequence[dict[str, Any]], failed: Sequence[str], no_wait: bool) -> None:
    for row in rows:
        say(f"{row['path']}  {human_bytes(row['size'])}  {row['state']}")
    for line in failed:
        say(f"not put: {line}")
    if any(row["state"] == "being sealed" for row in rows) and not no_wait:
        running = role_state(installation.folder, "ingest") is not None
        say("They are safe, and will be sealed " + ("soon." if running else f"once ingest runs; start it with: {starter(installation.folder)}"))


def _check_client(catalog: Catalog, client: str) -> None:
    if catalog.client(client) is None:
        raise unknown_client(client)
    catalog.check_not_destroyed(client)


def _jail(installation: Installation, catalog: Catalog, client: str) -> Path:
    _check_client(catalog, client)
    return installation.folder.jail(client)
