"""`nightsafe init`: a data folder with keys and settings, and the recovery kit, shown once."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from config.cli import data_option, json_option
from config.console import emit, say
from config.errors import Busy, UsageError
from config.example import render_example
from config.files import TEMPORARY_PREFIX, make_folder, opened_folder, write_whole
from config.folder import FORMAT_VERSION, DataFolder
from config.loading import Installation, load_settings, locate
from gateway.age import Identity
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.commands.operators import operator
from gateway.keys.keyring import Keyring
from gateway.keys.kit import part_a
from gateway.keys.master import master_source
from gateway.keys.report import installation_keys

UNFINISHED = "INIT-UNFINISHED"  # stands in the folder as long as what is there may be thrown away
OURS = {"nightsafe.toml", "keys", "ingest-keys", "spool", "jails", "vault", "quarantine", "audit", "evidence", "dump", "run", "cache", "lost+found"}


@click.command()
@data_option
@click.option(
    "--recovery-kit", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Write the recovery kit to F instead of the terminal."
)
@json_option
def init(data: Path | None, recovery_kit: Path | None, as_json: bool) -> None:
    """Make a data folder: keys, host key, catalog, settings; print the recovery kit once.

    The master secret goes to the file named in the settings (beside the data folder, by default). An interrupted init is simply run again.

    Example: nightsafe init --data /srv/nightsafe/data --recovery-kit kit.txt
    """
    folder = locate(data)
    _check_place(folder, recovery_kit)
    with _claimed(folder), ExitStack() as undo:
        recovery = _make(folder)
        kit = part_a(recovery, Keyring(folder))
        if recovery_kit:
            write_whole(recovery_kit.absolute(), kit.encode())
            undo.callback(_withdraw_kit, folder, recovery_kit.absolute())
        elif not as_json:
            click.echo(kit)
        write_whole(folder.version_file, f"{FORMAT_VERSION}\n".encode())
        (folder.root / UNFINISHED).unlink()  # from here on nothing is undone any more
    if as_json:
        emit({"data": str(folder.root), "recovery_kit": str(recovery_kit) if recovery_kit else kit}, as_json)
        return
    say(f"Made {folder.root}.")
    if recovery_kit:
        say(f"The recovery kit is in {recovery_kit}. Print it, lock it away, and delete the file: nobody can show it a second time.")
    else:
        say("Print the recovery kit above and lock it away: nobody can show it a second time.")
    say("Next: nightsafe client add NAME --public-key FILE, then nightsafe up")


def _check_place(folder: DataFolder, recovery_kit: Path | None) -> None:
    if folder.version_file.exists():
        raise UsageError(
            f"{folder.root} is a finished data folder already", "nothing was changed; choose another folder, or go on with: nightsafe up"
        )
    if folder.root.exists():
        if not folder.root.is_dir():
            raise UsageError(f"{folder.root} is not a folder", "choose another name")
        found = set(os.listdir(folder.root)) - {"lost+found"}
        strangers = sorted(name for name in found - _ours(folder) if not name.startswith(TEMPORARY_PREFIX)) if UNFINISHED in found else sorted(found)
        if strangers:
            raise UsageError(f"{folder.root} is not empty: it holds {strangers[0]!r}", "choose an empty folder, or one that does not exist yet")
        if any(path.is_dir() and any(path.iterdir()) for path in (folder.vault, folder.jails, folder.keys / "clients")):
            raise UsageError(
                f"{folder.root} holds clients or papers, but no VERSION file",
                "nothing was touched; if this is a restored folder, put the file VERSION back",
            )
    if recovery_kit is not None:
        if recovery_kit.exists():
            raise UsageError(f"{recovery_kit} exists already", "the kit is never written over another file; choose another name")
        if recovery_kit.absolute().resolve().is_relative_to(folder.root.resolve()):
            raise UsageError("the recovery kit must not lie inside the data folder", "it opens every paper: keep it far from them")
        if not recovery_kit.absolute().parent.is_dir():
            raise UsageError(f"the folder {recovery_kit.absolute().parent} does not exist", "make it, or choose another place for the kit")


def _ours(folder: DataFolder) -> set[str]:
    return OURS | {UNFINISHED, *(name + end for name in (folder.catalog.name, folder.notify.name) for end in ("", "-wal", "-shm", "-journal"))}


@contextmanager
def _claimed(folder: DataFolder) -> Iterator[None]:
    """The folder, made if need be, cleared of what an interrupted init left, and ours alone; when the block fails it is as it was before."""
    was_there = folder.root.exists()
    try:
        make_folder(folder.root)
    except OSError as error:
        raise UsageError(f"the folder {folder.root} cannot be made: {error.strerror}", "choose another place, or mend its parent folder") from error
    with opened_folder(folder.root) as descriptor:
        if os.fstat(descriptor).st_uid != os.geteuid():  # its owner could put anything in the place of what is made here
            raise UsageError(
                f"{folder.root} belongs to another user", "choose a folder that does not exist yet, or make it your own with chown first"
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another 'nightsafe init' works on {folder.root}", "wait for it to end") from None
        _check_place(folder, None)  # once more: another init may have ended a moment ago
        _clear_half_made(folder)
        try:
            write_whole(folder.root / UNFINISHED, b"Made by 'nightsafe init', which did not come to its end. Run it again.\n")
            yield
        except BaseException:
            _clear_half_made(folder)
            if not was_there:
                folder.root.rmdir()
            raise


def _withdraw_kit(folder: DataFolder, kit: Path) -> None:
    """Remove the kit of an unfinished init: one that opens nothing must not be locked away."""
    if (folder.root / UNFINISHED).exists():
        kit.unlink(missing_ok=True)


def _clear_half_made(folder: DataFolder) -> None:
    """Remove what an unfinished init made, name by name, its mark last. Without the mark nothing is touched."""
    names = os.listdir(folder.root)
    if UNFINISHED not in names:
        return
    for name in sorted(set(names) - {"lost+found", UNFINISHED}):
        path = folder.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder.root / UNFINISHED).unlink()


def _make(folder: DataFolder) -> Identity:
    make_folder(folder.root)
    folder.root.chmod(0o700)
    for inner in (folder.keys, folder.spool_partial, folder.spool_landed, folder.jails, folder.vault, folder.quarantine):
        make_folder(inner)
    for inner in (folder.audit, folder.evidence, folder.dump, folder.run, folder.cache):
        make_folder(inner)
    write_whole(folder.settings, render_example().encode())
    installation = Installation(folder, load_settings(folder.settings))
    master = _master(installation)
    recovery = Identity.generate()
    Keyring.create(folder, master.recipient, recovery.recipient)
    Catalog.create(folder.catalog).close()
    log = AuditLog(folder.audit, "ops")
    log.append(Event.INSTALLATION_CREATED, person=operator(), recovery_recipient=str(recovery.recipient))
    for facts in installation_keys(Keyring(folder)):
        log.append(Event.KEY_CREATED, person=operator(), **facts)
    log.sync()
    log.close()
    return recovery


def _master(installation: Installation) -> Identity:
    """The master identity: the one that is there, or a new one."""
    return master_source(installation).make()
