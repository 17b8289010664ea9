"""The role `ingest`: puts the parts together, watches, works, and ends in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import structlog

from config.errors import NightsafeError
from config.loading import Installation
from config.memory import give_back_by_the_clock
from config.roles import RunningRole, instance_name, running_role
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.settings import record_settings
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog
from gateway.ingest.access_lists import tell_accesses_by_the_clock
from gateway.ingest.aside import sweep_aside
from gateway.ingest.checking import Changes, opened_checks
from gateway.ingest.crew import Crew
from gateway.ingest.outcome import Stopping
from gateway.ingest.parts import Parts
from gateway.ingest.retention import expire_by_the_clock
from gateway.ingest.room import room_guard
from gateway.ingest.sealing import check_identities
from gateway.ingest.summaries import summarise_by_the_clock
from gateway.ingest.watch import watching
from gateway.ingest.worker import Worker
from gateway.jail.tree import Tree
from gateway.keys.archive_password import archive_password
from gateway.keys.keyring import RECEIPT_SIGNING, Keyring
from gateway.keys.process import harden_process, work_in_the_background
from gateway.keys.resealing import retire_ingest_keys
from gateway.keys.secrets import INGEST_IDENTITIES, role_secrets
from gateway.store import Spool, Vault

NAME = "ingest"
CLAIMS = "ingest.claims"  # in run/
TIDY_SECONDS = 3600.0
STOP_SECONDS = 30.0  # that a batch in hand may take to end; a large paper is left at once


Watch = Callable[..., AbstractContextManager[bool]]  # of the shape of `watching`


def serve(installation: Installation, *, instance: int = 1, watch: Watch = watching) -> None:
    """Run until SIGTERM or SIGINT. Several may run at once, each under a number of its own. Raises Busy when one of that number runs already,
    SettingsError when keys or stores are missing."""
    harden_process()
    work_in_the_background()  # clients wait for the gateway, nobody for a receipt
    folder = installation.folder
    with running_role(folder, instance_name(NAME, instance)) as role, ExitStack() as stack:
        role.stop_on_signals()
        parts, changes = stack.enter_context(opened_parts(installation, role))
        if instance == 1:
            record_settings(folder.audit, installation.settings, parts.audit, NAME)
        crew = Crew(stack, parts, changes, installation.settings.ingest)
        stack.enter_context(watch(folder.spool_landed, crew.bells[0]))
        threading.Thread(target=give_back_by_the_clock, args=(role.stop,), name="ingest-memory", daemon=True).start()
        if instance == 1:  # what concerns the whole house is done by one
            threading.Thread(target=_tidy, args=(parts, role.stop), name="ingest-tidy", daemon=True).start()
            threading.Thread(target=summarise_by_the_clock, args=(parts, role.stop), name="ingest-summaries", daemon=True).start()
            accesses = (folder.audit, parts, role.stop)
            threading.Thread(target=tell_accesses_by_the_clock, args=accesses, name="ingest-accesses", daemon=True).start()
            threading.Thread(target=expire_by_the_clock, args=(installation, parts, role.stop), name="ingest-retention", daemon=True).start()
        _work(role, list(zip(crew.workers, crew.bells, strict=True)))


@contextmanager
def opened_parts(installation: Installation, role: RunningRole) -> Iterator[tuple[Parts, Changes]]:
    """Everything that ingest works with, closed at the end; and what tells that held papers may go on."""
    folder = installation.folder
    keyring = Keyring(folder)
    secrets = role_secrets(installation, NAME)
    identities = secrets.identities(INGEST_IDENTITIES)
    check_identities(keyring, identities)

    def between_pieces() -> None:
        if role.stop.is_set():
            raise Stopping

    with Catalog.open(folder.catalog) as catalog, ExitStack() as stack:
        audit = AuditLog(folder.audit, NAME)
        stack.callback(audit.close)
        checks, changes = stack.enter_context(
            opened_checks(installation, catalog, audit, lambda client: archive_password(keyring, client, identities))
        )
        parts = Parts(
            spool=Spool(folder.spool_partial, folder.spool_landed, keyring.ingest_recipient),
            vault=Vault(folder.vault),
            quarantine=folder.quarantine,
            landed=folder.spool_landed,
            claims=folder.run / CLAIMS,
            catalog=catalog,
            audit=audit,
            keyring=keyring,
            tree=lambda client: Tree(folder.jail(client)),
            identities=identities,
            signing=SigningKey.parse(secrets[RECEIPT_SIGNING]),
            between_pieces=between_pieces,
            check_room=room_guard(folder.vault if folder.vault.is_dir() else folder.root, installation.settings.gateway.reserve_bytes),
            sync_together=(folder.vault, folder.quarantine, folder.jails),
            checks=checks,
        )
        yield parts, changes


def _work(role: RunningRole, workers: Sequence[tuple[Worker, threading.Event]]) -> None:
    threads = [threading.Thread(target=worker.run, args=(role.stop, bell), name="ingest-worker", daemon=True) for worker, bell in workers]
    for thread in threads:
        thread.start()
    role.announce()
    log = structlog.get_logger()
    log.info("ingest.ready")
    role.wait()
    for _, bell in workers:
        bell.set()
    for thread in threads:
        thread.join(STOP_SECONDS)
    log.info("ingest.stopped", in_order=not any(thread.is_alive() for thread in threads))


def _tidy(parts: Parts, stop: threading.Event) -> None:
    """From time to time: remove what killed lives left half-written in the vault and the quarantine, and destroy older keys of ingest that open
    nothing in the spool any more. The first reads all folders of both, so nobody waits for it; what the life before this one left is too young at
    the start."""
    log = structlog.get_logger()
    while not stop.is_set():
        try:
            removed = parts.vault.sweep() + sweep_aside(parts.quarantine)
        except (NightsafeError, OSError) as error:
            log.warning("ingest.untidy", error=str(error))
        else:
            log.info("ingest.tidied", removed=removed)
        try:
            destroyed, _ = retire_ingest_keys(parts.keyring, parts.identities, parts.spool, lambda number: tell_retired(parts.audit, number))
        except (NightsafeError, OSError) as error:
            log.warning("ingest.keys_not_retired", error=str(error))
        else:
            if destroyed:
                log.info("ingest.keys_retired", generations=destroyed)
        stop.wait(TIDY_SECONDS)


def tell_retired(audit: AuditLog, generation: int) -> None:
    """An audit line for a key of ingest that is about to be destroyed."""
    audit.append(Event.KEY_DESTROYED, durable=True, whose="ingest", generation=generation)
