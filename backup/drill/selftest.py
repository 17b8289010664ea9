"""A drill of a backup that is known to be bad: can the drill fail at all?

A small installation is made in the scratch folder, with papers, keys and a real restic repository; three of its papers are spoilt in three ways
before the backup. The same rehearsal that judges the real backup must name these three, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from backup.drill.findings import Findings
from backup.drill.history import Drilled
from backup.drill.job import Setting
from backup.drill.rehearsal import Rehearsal
from backup.restic import Limits, Restic
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from config.console import Silent
from config.errors import OutOfReach
from config.folder import DataFolder
from config.loading import Installation
from gateway.age import Identity
from gateway.catalog import Catalog, NewPaper
from gateway.keys.client import MasterAgent
from gateway.keys.keyring import Keyring
from gateway.store import Vault
from gateway.store.ids import new_paper_id

CLIENT = "self-test"
SOUND, DAMAGED, MISSING, FORGED = "/inbox/sound", "/inbox/damaged", "/inbox/missing", "/inbox/forged"
PLANTED = {DAMAGED, MISSING, FORGED}
SOURCES = ("dump", "vault", "keys")


@dataclass(frozen=True)
class _World:
    installation: Installation
    catalog: Catalog
    agent: MasterAgent
    restic: Restic


def self_test(installation: Installation, scratch: Path) -> str:
    """'' when the drill found what was planted and nothing else; otherwise what it got wrong. Raises what restic and the scratch disk raise."""
    with _world(installation, scratch / "self-test") as world:
        _plant(world)
        found = _rehearse(world, scratch / "self-test")
        named = {finding.path for finding in found.tally.findings}
        if missed := PLANTED - named:
            return f"the drill did not find what was planted: {', '.join(sorted(missed))}"
        if found.causes or named != PLANTED or found.tally.verified != 1:
            return f"the drill found what was not planted: {', '.join(sorted({*found.causes, *named} - PLANTED)) or 'a sound paper was not verified'}"
    return ""


@contextmanager
def _world(installation: Installation, root: Path) -> Iterator[_World]:
    folder = DataFolder(root / "data")
    try:
        for path in (folder.vault, folder.dump, folder.audit, folder.jails):
            path.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise OutOfReach(f"the self-test has no room: {error.strerror}", "free some space on the disk of drill.scratch") from error
    master = Identity.generate()
    keyring = Keyring.create(folder, master.recipient, Identity.generate().recipient)
    own = Installation(folder, installation.settings)
    settings = installation.settings.backup
    runner = Runner(settings.restic, root / "temporary", Limits(settings.timeout_seconds, settings.stall_seconds))
    restic = Restic(runner, Repository(str(root / "repository"), root / "cache"), Secrets(os.urandom(16).hex().encode()))
    with Catalog.create(folder.catalog) as catalog, MasterAgent(own, keyring, master) as agent:
        key = keyring.add_client(CLIENT)
        catalog.add_client(CLIENT, recipient=str(key.recipient), generation=key.generation)
        yield _World(own, catalog, agent, restic)


def _plant(world: _World) -> None:
    """Four papers, three of them spoilt, and one backup of it all."""
    folder = world.installation.folder
    vault, keyring = Vault(folder.vault), Keyring(folder)
    for path in (SOUND, DAMAGED, MISSING, FORGED):
        paper = _paper(world, vault, keyring, path)
        file = vault.path(CLIENT, paper)
        if path == DAMAGED:
            data = bytearray(file.read_bytes())
            data[-1] ^= 1
            file.write_bytes(data)
        elif path == MISSING:
            file.unlink()
    at = datetime.now(UTC)
    world.catalog.dump(folder.dump / "catalog.sqlite3")
    identity = world.restic.init()
    run = world.catalog.start_run("backup")
    done = world.restic.backup(SOURCES, cwd=folder.root, host=world.installation.settings.backup.host, tags=[])
    for name in ("papers", "keys"):
        world.catalog.add_repository(name, world.restic.repository.url, identity)
    snapshot = done.summary.snapshot
    world.catalog.finish_run(run, "passed", snapshot=snapshot, keys_snapshot=snapshot, detail={"catalog_at": at.isoformat()})


def _paper(world: _World, vault: Vault, keyring: Keyring, path: str) -> str:
    content, paper, key = os.urandom(1000), new_paper_id(), keyring.client_recipient(CLIENT)
    with vault.writer(CLIENT, paper, key.recipient) as writer:
        writer.write(content)
        sealed = writer.commit()
    at = datetime.now(UTC) - timedelta(days=1)
    world.catalog.record(
        [
            NewPaper(
                id=paper,
                client=CLIENT,
                path=path,
                person=CLIENT,
                state="accepted",
                reason="",
                size=sealed.size,
                sha256=sha256(content if path != FORGED else b"something else").hexdigest(),
                received_at=at,
                sealed_at=at,
                modified_at=None,
                generation=key.generation,
                header_mac=sealed.header_mac,
                sealed_sha256=sealed.sealed_sha256,
                sealed_size=sealed.sealed_size,
                session="",
                address="",
            )
        ]
    )
    return paper


def _rehearse(world: _World, root: Path) -> Findings:
    url, runner, secrets = world.restic.repository.url, world.restic.runner, world.restic.secrets
    papers, keys = (Restic(runner, Repository(url, root / f"cache-{name}"), secrets) for name in ("papers", "keys"))
    rehearsal = Rehearsal(
        Setting(
            installation=world.installation,
            kind="full",
            run=0,
            seed="",
            wanted=1,
            started_at=datetime.now(UTC),
            live=world.catalog,
            agent=world.agent,
            papers=papers,
            keys=keys,
            probe=lambda: None,
            scratch=root,
            drilled=Drilled(),
            progress=Silent(),
        )
    )
    rehearsal.rehearse()
    return rehearsal.findings
