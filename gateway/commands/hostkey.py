"""`nightsafe host-key`: the fingerprints by which clients know this server."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from config.cli import data_option, json_option
from config.console import emit, say, table
from config.errors import UsageError
from config.loading import open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.commands.operators import operator
from gateway.keys.hostkeys import host_keys, make_nist_host_key, take_over_host_key
from gateway.keys.keyring import Keyring


@click.command("host-key")
@click.option("--nist", is_flag=True, help="Make the key for the algorithm policy 'nist' first: ECDSA on P-256.")
@click.option(
    "--take-over",
    "taken_over",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="First put the private host key in FILE, of the server that this one replaces, in the place of ours: no client is warned then.",
)
@data_option
@json_option
def host_key(nist: bool, taken_over: Path | None, data: Path | None, as_json: bool) -> None:
    """The host keys and their fingerprints.

    A gateway that runs shows another key from the next reload on: systemctl reload nightsafe-gateway, or SIGHUP.

    Example: nightsafe host-key
    """
    folder = open_installation(data).folder
    keyring = Keyring(folder)
    if nist and taken_over is not None:
        raise UsageError("--nist and --take-over do not go together", "give one of them")
    if nist:
        make_nist_host_key(keyring)
        with AuditLog(folder.audit, "ops") as log:
            log.append(Event.KEY_CREATED, durable=True, person=operator(), whose="host-key-nist")
    elif taken_over is not None:
        before = {key.kind: key.fingerprint for key in host_keys(keyring)}
        new = take_over_host_key(keyring, taken_over)
        with AuditLog(folder.audit, "ops") as log:
            log.append(Event.HOST_KEY_REPLACED, durable=True, person=operator(), kind=new.kind, old=before.get(new.kind, ""), new=new.fingerprint)
    found = host_keys(keyring)
    if as_json:
        emit([{"kind": key.kind, "fingerprint": key.fingerprint, "public_key": key.line} for key in found], as_json)
        return
    table("Host keys", ("kind", "fingerprint"), [(key.kind, key.fingerprint) for key in found])
    if sys.stdout.isatty() and (nist or taken_over is not None):
        say("A running gateway shows it after its next reload. Then: nightsafe backup run, and nightsafe kit show, which names it.")
