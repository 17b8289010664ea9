"""`nightsafe client destroy`: lives in this wing, because the copies to be destroyed are in backups, too."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backup.commands.facts import moment, operator
from config.cli import data_option, json_option
from config.console import emit, facts, progress, say
from config.errors import CheckFailed, Partial, UsageError
from config.loading import open_installation
from config.words import all_of, counted
from gateway.catalog import Catalog
from gateway.catalog.people import unknown_client
from gateway.completing import named

if TYPE_CHECKING:
    from backup.destruction.run import Outcome


@click.command()
@click.argument("name", shell_complete=named("client"))
@click.option("--yes", "typed", metavar="NAME", help="The client's name once more, instead of typing it when asked.")
@click.option("--by", "ordered_by", default="", metavar="WHO", help="Who ordered it. Needed the first time.")
@click.option("--reason", default="", metavar="TEXT", help="Why. Needed the first time.")
@click.option(
    "--identity",
    "files",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="F",
    help="An identity to be tried in the proof, too: part A of the recovery kit, a master of earlier times.",
)
@data_option
@json_option
def destroy(name: str, typed: str | None, ordered_by: str, reason: str, files: Sequence[Path], data: Path | None, as_json: bool) -> None:
    """Destroy a client: its keys, here and in every key repository, so that nothing opens its papers any more; then prove it.

    Refused under a legal hold. There is no way back. A repository that cannot be cleaned now is pending: the scheduler tries again, and so
    does this command, which may be run as often as you like. Exit code 3: something is pending. 1: the proof failed, a copy was found.

    Example: nightsafe client destroy acme --by "R. Keller" --reason "contract ended"
    """
    from backup.destruction.run import Order, destroy_client
    from gateway.keys.master import parse_identity

    installation = open_installation(data)
    with Catalog.open(installation.folder.catalog) as catalog:
        known = catalog.client(name)
        if known is None:
            raise unknown_client(name)
        begun = catalog.destruction(name)
        papers, _ = catalog.count_papers(name)
    if begun is None:
        _confirm(name, papers, typed)
    brought = {str(file): parse_identity(file.read_bytes(), str(file)) for file in files}
    with progress("destroying") as watched:
        outcome = destroy_client(installation, name, Order(ordered_by, reason, operator()), watched, brought=brought)
    if as_json:
        emit(_facts(outcome), as_json)
    else:
        _print(outcome)
    if outcome.proof is not None and not outcome.proof.holds:
        found = "; ".join([*outcome.proof.copies[:5], *(f"opened: {path}" for path in outcome.proof.opened[:5])])
        raise CheckFailed(f"{name} is not destroyed: {found}", f"remove what is named, then: nightsafe client destroy {name}")
    if outcome.destruction.state != "done":
        todo = f"the scheduler tries again; or run: nightsafe client destroy {name}"
        raise Partial(f"{name} is not destroyed everywhere yet: {outcome.obstacle}", todo)
    if outcome.obstacle:
        raise Partial(f"{name} is destroyed; it could not be proven again: {outcome.obstacle}", "try again later")


def _confirm(name: str, papers: int, typed: str | None) -> None:
    if typed is None:
        if not sys.stdin.isatty():
            raise UsageError("a destruction wants the client's name once more", f"give --yes {name}")
        typed = click.prompt(
            f"{all_of(papers, 'paper', 'papers')} of {name} will be unreadable for ever, in every backup. Type the client's name",
            err=True,
        )
    if typed != name:
        raise UsageError(f"'{typed}' is not '{name}': nothing was destroyed", "type the name exactly")


def _facts(outcome: Outcome) -> dict[str, Any]:
    found = outcome.destruction
    return {
        "client": found.client,
        "state": found.state,
        "begun_at": moment(found.begun_at),
        "keys_removed_at": moment(found.keys_removed_at),
        "ended_at": moment(found.ended_at),
        "obstacle": outcome.obstacle,
        "repositories": [{"repository": one.repository, "state": one.state, "cause": one.cause} for one in found.repositories],
        "proof": outcome.proof.values() if outcome.proof else None,
        "certificate": str(outcome.certificate),
    }


def _print(outcome: Outcome) -> None:
    found, proof = outcome.destruction, outcome.proof
    tried = (
        f"{counted(proof.papers, 'paper')} tried with {counted(proof.identities, 'key')}: {'none opened' if proof.holds else 'IT FAILED'}"
        if proof
        else "not made yet"
    )
    facts({"client": found.client, "state": found.state, "keys removed": moment(found.keys_removed_at), "proof": tried})
    for one in found.repositories:
        say(f"repository {one.repository}: {one.state}{f' ({one.cause})' if one.cause else ''}")
    say(f"certificate: {outcome.certificate}")
    if found.state == "done":
        say("Sealed files in older snapshots stay there, unreadable. Make a new one without them: nightsafe backup run")
