"""Destroying a client, from the order to the certificate. Every step may be done twice, so that whoever runs it again finishes it.

1. the catalog: no hold, nobody of the client may log in from now on (live sessions end within a second). From here there is no way back;
2. what is still in the spool, and every copy of the client's identities here, is removed;
3. every key repository is cleaned; one that cannot be now is pending, with its cause, and tried again by the scheduler;
4. the proof: with every secret and every retained snapshot at hand, no paper opens;
5. names and sealed files go (in backups they stay, unreadable, as long as their snapshots do);
6. the certificate is written and signed. It says pending until 3 and 4 have succeeded everywhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import structlog

from backup.destruction.certificate import certificate_values, write_certificate
from backup.destruction.proof import Proof, prove
from backup.destruction.repositories import Means, key_repositories, secret_hashes, shred
from backup.repositories.locks import quiet
from config.console import Progress
from config.errors import Busy, NightsafeError
from config.loading import Installation
from config.roles import exclusive, role_state
from gateway.age import Identity
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog, Client, Destruction
from gateway.catalog.people import unknown_client
from gateway.keys.keyring import DESTRUCTION_SIGNING
from gateway.keys.master import load_master
from gateway.keys.secrets import RoleSecrets, role_secrets
from gateway.keys.shred import client_key_files, remove_client_keys, remove_sealed, remove_unsealed

SESSIONS_END_SECONDS = 1.5
log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """How far a destruction is. `obstacle` says why there is no proof yet; empty when there is one, good or bad."""

    destruction: Destruction
    proof: Proof | None
    obstacle: str
    certificate: Path


@dataclass(frozen=True)
class Order:
    """Who wants it, and why; recorded when it begins."""

    by: str
    reason: str
    operator: str


def destroy_client(
    installation: Installation, name: str, order: Order, progress: Progress | None = None, *, brought: Mapping[str, Identity] | None = None
) -> Outcome:
    """Destroy a client, or go on where an earlier run ended. `brought` are identities by where they come from, for the proof: the recovery kit's,
    a master of earlier times.

    Raises UsageError (unknown, under hold, no reason), Busy (another destruction runs, or a backup or drill at the last step), SettingsError
    without a master, OutOfReach when the disk refuses. Whatever stands in the way at a repository is in the outcome.
    """
    folder = installation.folder
    master = load_master(installation)
    identities = {"the master": master, **(brought or {})}
    secrets = role_secrets(installation, "scheduler")
    with (
        exclusive(folder, "destroy", "another destruction runs", "wait for it to end"),
        Catalog.open(folder.catalog) as catalog,
        AuditLog(folder.audit, "destroy") as audit,
    ):
        if catalog.client(name) is None:
            raise unknown_client(name)
        means = Means(installation, catalog, audit, secrets)
        before = catalog.destruction(name)
        begun = catalog.begin_destruction(name, ordered_by=order.by, reason=order.reason, keys=client_key_files(folder, name))
        if before is None:
            facts = {"client": name, "person": order.operator, "by": begun.ordered_by, "reason": begun.reason, "keys": len(begun.keys)}
            audit.append(Event.DESTRUCTION_BEGUN, durable=True, **facts)
            if role_state(folder, "gateway"):
                time.sleep(SESSIONS_END_SECONDS)
        return _go_on(means, name, identities, progress)


def retry_pending(installation: Installation, secrets: RoleSecrets, cancel: threading.Event | None = None) -> None:
    """For the scheduler: go on with every destruction that is not done. What fails is logged, and tried again the next time."""
    folder = installation.folder
    with Catalog.open(folder.catalog) as catalog:
        destroyed = catalog.destructions()
        for destruction in destroyed:
            remove_unsealed(folder, destruction.client)
        if all(destruction.state == "done" for destruction in destroyed):
            return
        try:
            identities = {"the master": load_master(installation)}
        except NightsafeError:  # another user's, or away: then the repositories are cleaned, and a person makes the proof
            identities = {}
        try:
            with exclusive(folder, "destroy", "another destruction runs"), AuditLog(folder.audit, "destroy") as audit:
                means = Means(installation, catalog, audit, secrets, cancel)
                for destruction in destroyed:
                    if destruction.state != "done" and not (cancel and cancel.is_set()):
                        _retry(means, destruction.client, identities)
        except Busy as error:
            log.info("destruction.waits", reason=error.message)


def _retry(means: Means, client: str, identities: Mapping[str, Identity]) -> None:
    try:
        outcome = _go_on(means, client, identities, None)
    except NightsafeError as error:
        log.warning("destruction.not_done", client=client, error=error.message)
    else:
        log.info("destruction.tried", client=client, state=outcome.destruction.state, obstacle=outcome.obstacle)


def _go_on(means: Means, name: str, identities: Mapping[str, Identity], progress: Progress | None) -> Outcome:
    """Steps 2 to 6."""
    client, catalog = means.catalog.client(name), means.catalog
    if client is None:
        raise unknown_client(name)
    _remove_here(means, name)
    destruction = catalog.destruction(name)
    if destruction is None or destruction.state != "done":  # what is done is only proven again
        _shred_everywhere(means, name)
        destruction = catalog.update_destruction(name, state="pending")
    proof, obstacle = None, _obstacle(destruction)
    if not obstacle:
        proof, obstacle = _prove(means, client, destruction, identities, progress)
    if proof is not None and proof.holds:
        # a backup that runs has a dump that counts on the sealed files
        with quiet(means.installation.folder, "wait for it to end, then destroy again"):
            remove_sealed(means.installation.folder, name)
        catalog.update_destruction(name, state="done", ended_at=destruction.ended_at or datetime.now(UTC))
    return _certify(means, client, proof, obstacle)


def _remove_here(means: Means, name: str) -> None:
    """Step 2."""
    folder = means.installation.folder
    remove_unsealed(folder, name)
    removed = remove_client_keys(folder, name)
    destruction = means.catalog.destruction(name)
    if removed or (destruction is not None and destruction.keys_removed_at is None):
        means.audit.append(Event.CLIENT_KEYS_REMOVED, durable=True, client=name, files=removed)
        means.catalog.update_destruction(name, keys_removed_at=datetime.now(UTC))


def _shred_everywhere(means: Means, name: str) -> None:
    """Step 3."""
    destruction = means.catalog.destruction(name)
    hashes = secret_hashes(destruction) if destruction else set()
    noted = {one.repository for one in destruction.repositories} if destruction else set()
    for lost in means.catalog.repositories_given_up():
        if lost.name.startswith("keys") and lost.name not in noted:
            means.catalog.note_shredding(name, lost.name, lost.url, "lost", "given up as lost: nobody can look into it")
    for repository in key_repositories(means.catalog):
        known = means.catalog.repository(repository)
        if known is None:
            continue  # no backup was ever made: no copy can be there
        facts = {"client": name, "repository": repository, "place": known.url}
        try:
            done = shred(means, repository, name, hashes)
        except NightsafeError as error:
            means.catalog.note_shredding(name, repository, known.url, "pending", error.message)
            means.audit.append(Event.REPOSITORY_PENDING, durable=True, cause=error.message, **facts)
        else:
            means.catalog.note_shredding(name, repository, known.url, "clean")
            means.audit.append(Event.REPOSITORY_SHREDDED, durable=True, forgotten=done.forgotten, versions=done.versions, **facts)


def _obstacle(destruction: Destruction) -> str:
    pending = [one for one in destruction.repositories if one.state == "pending"]
    return "; ".join(f"{one.repository}: {one.cause}" for one in pending)


def _prove(
    means: Means, client: Client, destruction: Destruction, identities: Mapping[str, Identity], progress: Progress | None
) -> tuple[Proof | None, str]:
    """Step 4: the proof, or why there is none."""
    if not identities:
        return None, "the proof needs the master, which the scheduler does not have here"
    try:
        proof, bad = prove(means, client, destruction, identities, progress)
    except NightsafeError as error:
        return None, f"the proof could not be made: {error.message}"
    means.catalog.update_destruction(client.name, proof=proof.values())
    if proof.holds:
        told = {"papers": proof.papers, "identities": proof.identities, "snapshots": proof.snapshots}
        means.audit.append(Event.DESTRUCTION_PROVEN, durable=True, client=client.name, **told)
    else:
        means.audit.append(Event.DESTRUCTION_DISPROVEN, durable=True, client=client.name, copies=proof.copies, opened=proof.opened_total)
        means.catalog.update_destruction(client.name, state="pending", ended_at=None)
        places = {one.repository: one.place for one in destruction.repositories}
        for repository in bad:
            means.catalog.note_shredding(client.name, repository, places.get(repository, ""), "pending", "a copy of a key was found in it")
    return proof, ""


def _certify(means: Means, client: Client, proof: Proof | None, obstacle: str) -> Outcome:
    """Step 6."""
    installation, catalog = means.installation, means.catalog
    destruction = catalog.destruction(client.name)
    if destruction is None:
        raise unknown_client(client.name)
    settings = installation.settings
    where = {"host": settings.backup.host, "bucket": settings.s3.bucket, "prefix": settings.s3.prefix}
    values = certificate_values(client, destruction, catalog.papers(client.name), where, means.audit.head)
    path = write_certificate(installation.folder, values, SigningKey.parse(means.secrets[DESTRUCTION_SIGNING]))
    name = path.relative_to(installation.folder.root).as_posix()
    if destruction.certificate != name:
        destruction = catalog.update_destruction(client.name, certificate=name)
        if destruction.state == "done":
            facts = {"certificate": name, "sha256": sha256(path.read_bytes()).hexdigest()}
            means.audit.append(Event.CLIENT_DESTROYED, durable=True, client=client.name, **facts)
    return Outcome(destruction, proof, obstacle, path)
