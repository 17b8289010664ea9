"""`nightsafe keys report | rotate-master | replace-master | add-recovery | rotate-ingest | to-kms`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.errors import SettingsError, UsageError
from config.loading import Installation, open_installation
from config.roles import exclusive, instance_names
from config.words import counted
from gateway.age import AgeError, Identity, Recipient, parse_identities
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.commands.client_keys import OPENED_BY, RecipientType
from gateway.commands.operators import operator
from gateway.handover import depositing
from gateway.keys.generations import generations
from gateway.keys.keyring import Keyring
from gateway.keys.master import KeptInFile, load_master, master_source
from gateway.keys.report import KeyFacts, key_report
from gateway.keys.resealing import (
    MasterChange,
    add_recovery,
    check_recovery,
    put_back_host_keys,
    replace_lost_master,
    reseal_archive_passwords,
    retire_ingest_keys,
    rotate_master,
    set_spool_aside,
)
from gateway.store import Spool

MAX_KIT_BYTES = 256 * 1024
IDLE = ("up", "gateway", "keyd", "ingest", "scheduler")


@click.group(cls=Group)
def keys() -> None:
    """The keys of this installation: what there is, and how to renew it."""


@keys.command()
@data_option
@json_option
def report(data: Path | None, as_json: bool) -> None:
    """Every key: its algorithm, its age, who opens it, and how many papers are sealed to it.

    Example: nightsafe keys report
    """
    folder = open_installation(data).folder
    with Catalog.open(folder.catalog) as catalog:
        found = key_report(Keyring(folder), [client.name for client in catalog.clients()], catalog.count_by_key())
    now = datetime.now(UTC)
    if as_json:
        emit([_facts(key, now) for key in found], as_json)
        return
    table(
        "Keys",
        ("key", "algorithm", "made", "days", "opened by", "papers", "public half"),
        [
            (_name(key), key.algorithm, key.made_at.date(), (now - key.made_at).days, _openers(key), _count(key), key.public or "none")
            for key in found
        ],
    )


@keys.command("rotate-master")
@click.option(
    "--new-master",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Make the new master in FILE, for you to install where the master comes from; needed for a command and for a service manager.",
)
@data_option
@json_option
def rotate_master_(new_master: Path | None, data: Path | None, as_json: bool) -> None:
    """Change the master secret: a new one is made, and everything that the old one opens is sealed to it instead.

    keyd, and 'nightsafe up', must not run meanwhile; it takes seconds. When it was interrupted, run it again: it goes on. With --new-master
    everything opens with both until you have installed FILE and run the command again.

    Example: nightsafe keys rotate-master
    """
    installation = open_installation(data)
    keyring = Keyring(installation.folder)
    with _idle(installation, "up", "keyd"), AuditLog(installation.folder.audit, "ops") as log:

        def tell(change: MasterChange) -> None:
            _note_change(installation, [change.new], keyring.recovery_recipients)
            facts = {"old": str(change.old) if change.old else None, "recipient": str(change.new), "files": change.files}
            log.append(Event.KEY_CREATED, person=operator(), whose="master", recipient=str(change.new))
            log.append(Event.MASTER_ROTATED, durable=True, person=operator(), **facts)

        place = KeptInFile(new_master.absolute(), installation.folder, setting="--new-master") if new_master else None
        change = rotate_master(keyring, master_source(installation), place, tell)
    if as_json:
        emit({"done": change.done, "recipient": str(change.new), "files": change.files}, as_json)
    elif change.done:
        _tell_new_master(change.new, change.files)
        say("Snapshots that were taken before still open with the old master.")
    else:
        say(f"The new master is in {new_master}; everything opens with both. Install it where the master comes from, and run this command again.")


@keys.command("replace-master")
@click.option("--identity", type=click.File("rb"), required=True, metavar="FILE", help="Part A of the recovery kit ('-': standard input).")
@data_option
@json_option
def replace_master(identity: Any, data: Path | None, as_json: bool) -> int:
    """Make a new master in the place of one that was lost: the recovery identity opens everything, and it is sealed to the new one.

    Nothing of Nightsafe must run. What only the lost master opened stays closed: uploads that had no receipt yet. They are set aside (exit code
    3), and their clients send them again.

    Example: nightsafe keys replace-master --identity part-a.txt
    """
    installation = open_installation(data)
    folder, keyring, recovery = installation.folder, Keyring(installation.folder), _read_identity(identity)
    with _idle(installation, *IDLE, *(lock.stem for lock in folder.run.glob("ingest-*.lock"))), AuditLog(folder.audit, "ops") as log:
        check_recovery(keyring, recovery)
        new = _master_to_be(installation, keyring)
        closed = set_spool_aside(folder) if new.recipient not in keyring.master_recipients else None
        files = replace_lost_master(keyring, recovery, new.recipient)
        put_back_host_keys(keyring, recovery)
        _note_change(installation, [new.recipient], keyring.recovery_recipients)
        log.append(Event.KEY_CREATED, person=operator(), whose="master", recipient=str(new.recipient))
        log.append(Event.MASTER_REPLACED, durable=True, person=operator(), recipient=str(new.recipient), files=files)
    if as_json:
        emit({"recipient": str(new.recipient), "files": files, "set_aside": str(closed) if closed else None}, as_json)
    else:
        _tell_new_master(new.recipient, files)
        if closed:
            say(f"Uploads that had no receipt yet open with the lost master alone: they are in {closed}. Ask their clients to send them again.")
    return 3 if closed else 0


def _master_to_be(installation: Installation, keyring: Keyring) -> Identity:
    """The new master, made where the settings say; one that an interrupted run made is taken. Raises UsageError when the present one is there."""
    source = master_source(installation)
    try:
        present = source.load()
    except SettingsError:
        present = None  # which is why we are here
    if present is not None and keyring.master_recipients == [present.recipient] and generations(installation.folder.ingest_keys):
        raise UsageError("the master is not lost: it is where the settings say", "to change it: nightsafe keys rotate-master")
    return present or source.make()


@keys.command("add-recovery")
@click.argument("recipient", type=RecipientType(), metavar="age1…")
@click.option(
    "--identity",
    type=click.File("rb"),
    metavar="FILE",
    help="Part A of a recovery kit that is valid already ('-' for standard input): needed for keys that the master does not open.",
)
@data_option
@json_option
def add_recovery_(recipient: Recipient, identity: Any, data: Path | None, as_json: bool) -> int:
    """Seal everything to one more recovery key, whose identity somebody else made and keeps: age-keygen -o FILE.

    Exit code 3: keys of deposit-only clients were left, because only a recovery identity opens them; give it with --identity.

    Example: nightsafe keys add-recovery age1…
    """
    installation = open_installation(data)
    recovery = _read_identity(identity) if identity else None
    with AuditLog(installation.folder.audit, "ops") as log:
        keyring = Keyring(installation.folder)
        left = add_recovery(keyring, recipient, load_master(installation), recovery)
        _note_change(installation, keyring.master_recipients, keyring.recovery_recipients)
        log.append(Event.KEY_CREATED, person=operator(), whose="recovery", recipient=str(recipient))
        log.append(Event.RECOVERY_ADDED, durable=True, person=operator(), recipient=str(recipient), left=left)
    if as_json:
        emit({"recipient": str(recipient), "left": left}, as_json)
    else:
        say(f"Everything that the master opens is sealed to {recipient} too. Save the keys: nightsafe backup run")
        if left:
            keys_left = counted(left, "key of a deposit-only client is", "keys of deposit-only clients are")
            say(f"{keys_left} not: run it again with --identity and part A of a recovery kit.")
    return 3 if left else 0


@keys.command("rotate-ingest")
@data_option
@json_option
def rotate_ingest(data: Path | None, as_json: bool) -> None:
    """Make a new key for papers on their way in; also the first one of a restored data folder, which has none.

    gateway and ingest, and 'nightsafe up', must not run meanwhile. An older key is destroyed once nothing in the spool is sealed to it: now, or
    by ingest within the hour after.

    Example: nightsafe keys rotate-ingest
    """
    installation = open_installation(data)
    folder, keyring = installation.folder, Keyring(installation.folder)
    with (
        _idle(installation, "up", "gateway", *instance_names(folder, "ingest")),
        exclusive(folder, depositing.LOCK, "'nightsafe files put' is running", "let it end, then try again"),
        AuditLog(folder.audit, "ops") as log,
    ):
        master = load_master(installation)
        generation, recipient = keyring.make_ingest_key()
        log.append(Event.KEY_CREATED, durable=True, person=operator(), whose="ingest", generation=generation, recipient=str(recipient))
        reseal_archive_passwords(keyring, master)
        for spool_folder in (folder.spool_partial, folder.spool_landed):
            spool_folder.mkdir(0o700, parents=True, exist_ok=True)  # a restored folder has none

        def tell(number: int) -> None:
            log.append(Event.KEY_DESTROYED, durable=True, person=operator(), whose="ingest", generation=number)

        with Spool(folder.spool_partial, folder.spool_landed, recipient) as spool:
            destroyed, needed = retire_ingest_keys(keyring, keyring.ingest_identities(master), spool, tell)
    if as_json:
        emit({"generation": generation, "recipient": str(recipient), "destroyed": destroyed, "still_needed": needed}, as_json)
        return
    say(f"Papers on their way in are sealed to key {generation} of ingest from now on. Start Nightsafe again.")
    for number in destroyed:
        say(f"Key {number} was destroyed.")
    for number in needed:
        say(f"Key {number} opens papers in the spool still; ingest destroys it when they are through.")


@keys.command("to-kms")
@data_option
@json_option
def to_kms(data: Path | None, as_json: bool) -> None:
    """Put the present master, encrypted by AWS KMS, into the file that keys.kms_file names.

    Set keys.kms_key and keys.kms_region first. Afterwards set keys.master_source to "kms", see that Nightsafe starts, and delete the old file.

    Example: nightsafe keys to-kms
    """
    from gateway.keys.kms import KmsKey

    installation = open_installation(data)
    settings = installation.settings.keys
    key = KmsKey(settings.kms_key, settings.kms_region, settings.kms_endpoint)
    path = installation.path(settings.kms_file)
    target = KeptInFile(path, installation.folder, key.seal, key.open, setting="keys.kms_file")
    master = load_master(installation)
    target.put(master)
    if target.load() != master:
        raise UsageError(f"KMS gave something else back than what was put into {path}", "delete that file; the master where it was is untouched")
    with AuditLog(installation.folder.audit, "ops") as log:
        log.append(Event.MASTER_COPIED, durable=True, person=operator(), recipient=str(master.recipient), to="kms")
    if as_json:
        emit({"file": str(path), "recipient": str(master.recipient)}, as_json)
        return
    say(f"The master is in {path}, encrypted by KMS, and opens.")
    if settings.master_source != "kms":
        say('Next: set keys.master_source = "kms", restart, see that it works, then delete the plain master file.')


def _tell_new_master(recipient: Recipient, files: int) -> None:
    sealed = counted(files, "file was", "files were")
    say(f"The master is now {recipient}; {sealed} sealed to it. Start Nightsafe again, and save the keys: nightsafe backup run")


@contextmanager
def _idle(installation: Installation, *roles: str) -> Iterator[None]:
    """These roles do not run, and cannot start before the block ends. Raises Busy."""
    with ExitStack() as stack:
        for role in roles:
            what = "'nightsafe up'" if role == "up" else f"the role '{role}'"
            stack.enter_context(exclusive(installation.folder, role, f"{what} is running", "stop it first; clients try again meanwhile"))
        yield


def _note_change(installation: Installation, masters: Sequence[Recipient], recoveries: Sequence[Recipient]) -> None:
    """For the drills: what is sealed anew differs from the snapshots until the next backup, and that is no fault."""
    detail = {"master": [str(one) for one in masters], "recovery": [str(one) for one in recoveries]}
    with Catalog.open(installation.folder.catalog) as catalog:
        catalog.finish_run(catalog.start_run("keys", detail), "passed", detail=detail)


def _read_identity(file: Any) -> Identity:
    try:
        found = parse_identities(file.read(MAX_KIT_BYTES).decode("utf-8", errors="replace"))
    except AgeError:
        found = []
    if len(found) != 1:
        raise UsageError("that file does not hold one age identity", "it must be part A of the recovery kit, with its line AGE-SECRET-KEY-1…")
    return found[0]


def _facts(key: KeyFacts, now: datetime) -> dict[str, Any]:
    return {
        "key": key.key,
        "client": key.client or None,
        "generation": key.generation or None,
        "algorithm": key.algorithm,
        "made_at": key.made_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "age_days": (now - key.made_at).days,
        "kind": key.kind or None,
        "opened_by": _openers(key),
        "recipient": key.public or None,
        "papers": key.papers,
    }


def _name(key: KeyFacts) -> str:
    return " ".join(str(part) for part in (key.client or key.key, key.generation) if part)


def _openers(key: KeyFacts) -> str:
    if key.key == "client":
        return next(words for kind, words in OPENED_BY.items() if kind == key.kind)
    return {"master": "its holder", "recovery": "its holder", "ingest": "the master"}.get(key.key, "the master and the recovery kit")


def _count(key: KeyFacts) -> str:
    return "" if key.papers is None else str(key.papers)
