"""The front door: one command line, both wings opened lazily."""

from __future__ import annotations

import os
import sys

import click

from config.cli import LazyGroup, run

COMMANDS = {
    "init": ("gateway.commands.init:init", "Make a data folder: keys, settings, the recovery kit."),
    "up": ("gateway.commands.up:up", "Run all roles in the foreground."),
    "status": ("backup.commands.status:status", "One screen: is everything safe?"),
    "doctor": ("backup.commands.doctor:doctor", "What should be mended: each finding with why and how."),
    "config": ("gateway.commands.settings:config", "The settings: check, show, schema."),
    "client": ("gateway.commands.client:client", "Clients: add, list, show, edit, suspend, resume, destroy."),
    "person": ("gateway.commands.person:person", "People who may log in: add, list, show, sheet, edit, suspend, resume, off-board."),
    "ca": ("gateway.commands.ca:ca", "Certificates for logins: show, sign, list, revoke."),
    "access-review": ("gateway.commands.access_review:access_review", "Who can reach what, and what changed since the last review: done."),
    "incident": ("gateway.commands.incident:incident", "Incidents: open (freeze at once), collect, list, show, close."),
    "files": ("gateway.commands.files:files", "Papers: list, find, get, put, export, versions, history."),
    "host-key": ("gateway.commands.hostkey:host_key", "The fingerprints by which clients know this server."),
    "sessions": ("gateway.commands.sessions:sessions", "Who is logged in now: list, kill."),
    "defender": ("gateway.commands.defender:defender", "Bans of addresses: list, ban, unban."),
    "hold": ("gateway.commands.hold:hold", "Legal holds: set, release, list."),
    "held": ("gateway.commands.held:held", "Papers that a check holds: list, release, refuse, again."),
    "quarantine": ("gateway.commands.quarantine:quarantine", "Refused papers: list, show, release, delete."),
    "retention": ("gateway.commands.retention:retention", "How long papers are kept: report, run."),
    "notify": ("gateway.commands.notify:notify", "Notices of events: list, test."),
    "catalog": ("gateway.commands.catalog:catalog", "The catalog: rebuild, upgrade."),
    "backup": ("backup.commands.backup:backup", "Backups: run, status, snapshots, check, repair, forget, copy, begin anew."),
    "drill": ("backup.commands.drill:drill", "Rehearsed restores: run, list, show; what they prove of a client."),
    "restore": ("backup.commands.restore:restore", "Bring papers back from the newest backup."),
    "keys": ("gateway.commands.keys:keys", "Keys: report, rotate, replace a lost master, add a recovery key, move the master to a KMS."),
    "audit": ("gateway.commands.audit:audit", "The audit log: verify, show, export."),
    "kit": ("backup.commands.kit:kit", "The recovery kit: show, check, restore a data folder."),
    "web": ("backup.commands.roles:web", "The page for ops, read-only: serve it on loopback."),
    "completion": ("gateway.commands.settings:completion", "What a shell needs to complete commands."),
    "gateway": ("gateway.commands.roles:gateway", "Role: the SFTP server."),
    "keyd": ("gateway.commands.roles:keyd", "Role: the key agent."),
    "ingest": ("gateway.commands.roles:ingest", "Role: from landed papers to sealed ones."),
    "scheduler": ("backup.commands.roles:scheduler", "Role: backups and drills by the clock."),
    "permissions": ("gateway.commands.permissions:permissions", "Who may read and write what: show, check, apply."),
    "credentials": ("backup.commands.credentials:credentials", "For the service manager: each role's secrets, on a RAM disk."),
    "s3": ("backup.commands.roles:s3", "Role: the embedded S3 server, for a look."),
}

# Commands that belong to a group of the other wing: group → name → where it lives.
GRAFTS = {"audit": {"verify": "backup.commands.audit:verify"}, "client": {"destroy": "backup.commands.destroy:destroy"}}


@click.group(cls=LazyGroup, lazy=COMMANDS, grafts=GRAFTS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="nightsafe", prog_name="nightsafe")
def cli() -> None:
    """Nightsafe: a secure file-exchange gateway whose backups prove themselves.

    Exit codes: 0 done, 1 the thing checked is bad, 2 wrong use or settings, 3 partly done, 4 busy, 5 a needed service is out of reach.
    """


def main() -> int:
    """The console script."""
    return complete() if "_NIGHTSAFE_COMPLETE" in os.environ else run(cli)


def complete() -> int:
    """What the Tab key asks: answered from a table, with nothing imported that the commands need. Without a table nothing is offered."""
    from config.grammar import built
    from gateway.completing import named

    try:
        commands = built(named)
    except (OSError, ValueError, LookupError, TypeError):
        return 1
    return run(commands)


if __name__ == "__main__":
    sys.exit(main())
