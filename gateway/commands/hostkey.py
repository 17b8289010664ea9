"""`nightsafe host-key`: the fingerprints by which clients know this server."""

from __future__ import annotations

from pathlib import Path

import click

from config.cli import data_option, json_option
from config.console import emit, table
from config.loading import open_installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.commands.operators import operator
from gateway.keys.hostkeys import host_keys, make_nist_host_key
from gateway.keys.keyring import Keyring


@click.command("host-key")
@click.option("--nist", is_flag=True, help="Make the key for the algorithm policy 'nist' first: ECDSA on P-256.")
@data_option
@json_option
def host_key(nist: bool, data: Path | None, as_json: bool) -> None:
    """The host keys and their fingerprints.

    Example: nightsafe host-key
    """
    folder = open_installation(data).folder
    keyring = Keyring(folder)
    if nist:
        make_nist_host_key(keyring)
        with AuditLog(folder.audit, "ops") as log:
            log.append(Event.KEY_CREATED, durable=True, person=operator(), whose="host-key-nist")
    found = host_keys(keyring)
    if as_json:
        emit([{"kind": key.kind, "fingerprint": key.fingerprint, "public_key": key.line} for key in found], as_json)
        return
    table("Host keys", ("kind", "fingerprint"), [(key.kind, key.fingerprint) for key in found])
