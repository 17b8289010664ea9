"""The clean room: with the recovery kit alone, in an empty folder, back to a gateway that gives clients their papers.

    restore everything → a data folder with a new master → keyd and a read-only gateway → each client logs in, lists, downloads

The very code runs that `nightsafe kit restore` runs after a loss. What a client gets is compared with the hash recorded at arrival; what no client
can fetch (deposits, versions without a name) is compared as a sealed file. The new master is in memory and in a pipe alone, the host key and the
clients' keys are made for this hour, and the real host key stays sealed.
"""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backup.drill.door import Door, DoorClosed, Visit
from backup.drill.errors import FREE_SCRATCH, ScratchFailed
from backup.drill.findings import BackupBad
from backup.drill.ledger import Ledger
from backup.drill.scratchroles import SETTINGS, RoleDidNotStart, serving
from backup.drill.verify import Question, Served
from backup.drill.withkit import KitRehearsal
from backup.kit.revival import put_together, take_keys
from backup.report.evidence import Stage
from backup.restic import Interrupted
from backup.restore.returned import FOLDERS, names_below
from config.errors import NightsafeError
from config.files import write_whole
from config.folder import DataFolder
from config.loading import load_settings
from config.words import counted
from gateway.age import Identity
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog, Client, PublicKey
from gateway.catalog.limits import COLUMNS
from gateway.catalog.sshkeys import fingerprint
from gateway.keys.keyring import HOST_KEY, Keyring

NAMED = 20  # clients, in one line


@dataclass
class _Watch:
    """Two stages that take turns: how long each took so far, in seconds."""

    listing: float = 0.0
    fetching: float = 0.0


class CleanRoom(KitRehearsal):
    """See the module."""

    def _play(self, ledger: Ledger) -> None:
        if not self._dump_usable:
            raise BackupBad  # the cause is named already
        folder, master = DataFolder(self._root), Identity.generate()
        host_key, key = SigningKey.generate("clean room"), SigningKey.generate("clean room")
        with self._stage("put the data folder together"):
            people = self._put_together(folder, master, host_key, key)
        started = time.monotonic()
        try:
            with serving(folder, master, self._is.scratch, self._is.cancel) as port:
                self.findings.stages.append(Stage("start keyd and the gateway", time.monotonic() - started))
                self._visit(Door(port, host_key.public, key), people, ledger)
        except RoleDidNotStart as error:
            if self._is.cancel is not None and self._is.cancel.is_set():
                raise Interrupted("the drill was stopped") from error
            self.findings.stages.append(Stage("start keyd and the gateway", time.monotonic() - started))
            self.findings.blame(error.message)

    def _question(self, ledger: Ledger) -> Question:
        asked = super()._question(ledger)

        def served(paper: str) -> Served | None:
            found = ledger.served(paper)
            return None if found is None else Served(*found)

        return Question(asked.vault, asked.dump_at, asked.agent, asked.run, lambda _client, _generation: False, served, asked.dump_usable)

    # the data folder

    def _put_together(self, folder: DataFolder, master: Identity, host_key: SigningKey, key: SigningKey) -> dict[str, str]:
        """A working data folder; the login of each client."""
        try:
            load_settings(folder.settings, {})
        except NightsafeError as error:
            self.findings.blame(f"the settings in the backup cannot be used: {error.message.splitlines()[0]}")
        try:
            take_keys(folder, self._keys / "keys")
            put_together(folder, self._kit.identity, master.recipient)
            self._check_host_key(folder)
            folder.host_key.parent.mkdir(mode=0o700, exist_ok=True)
            write_whole(folder.host_key, host_key.encode())
            write_whole(folder.host_key.with_name(folder.host_key.name + ".pub"), host_key.public.encode() + b"\n")
            write_whole(folder.settings, SETTINGS.encode())
            with Catalog.open(folder.catalog) as catalog:
                return {client.name: _let_in(catalog, client, key) for client in self._listed}
        except NightsafeError as error:
            self.findings.blame(f"no data folder can be made of what came back: {error.message}")
            raise BackupBad from error
        except OSError as error:
            raise ScratchFailed(f"the scratch folder cannot be used: {error.strerror or error}", FREE_SCRATCH) from error

    def _check_host_key(self, folder: DataFolder) -> None:
        """That clients would meet the same server: the sealed host key is the one that they know."""
        try:
            restored = SigningKey.parse(Keyring(folder).open_secret(HOST_KEY, self._kit.identity)).public.split()[:2]
            known = _public(self._is.installation.folder.host_key)
        except (NightsafeError, ValueError, OSError) as error:
            self.findings.blame(f"the host key in the backup cannot be used: {error}")
            return
        if restored != known:
            self.findings.blame("the host key in the backup is not the one that clients know")

    # the clients

    def _visit(self, door: Door, people: dict[str, str], ledger: Ledger) -> None:
        watch, locked_out = _Watch(), 0
        for number, client in enumerate(self._listed):
            self._is.progress.update(number, len(self._listed), "clients log in, list and download")
            if self._is.cancel is not None and self._is.cancel.is_set():
                raise Interrupted("the drill was stopped")
            started = time.monotonic()
            try:
                with door.enter(people[client.name]) as visit:
                    listed = {name: size for top in FOLDERS for name, size in visit.names(f"/{top}")}
                    receipts = {name for name, _ in visit.names("/receipts")}
                    watch.listing += time.monotonic() - started
                    self._compare_receipts(client, receipts)
                    started = time.monotonic()
                    ledger.add_served(self._served(visit, client, listed, ledger))
                    watch.fetching += time.monotonic() - started
            except DoorClosed as error:
                locked_out += 1
                if locked_out <= NAMED:
                    self.findings.blame(f"the client {client.name}: {error.message}")
        self.findings.stages += [Stage("log in and list", watch.listing), Stage("download and hash", watch.fetching)]
        self.findings.notes.append(f"{len(self._listed) - locked_out} of {counted(len(self._listed), 'client')} logged in to the restored gateway.")

    def _served(self, visit: Visit, client: Client, listed: dict[str, int], ledger: Ledger) -> Iterator[tuple[str, int, str, str]]:
        """What the client gets of each of its papers that has a name and that the catalog knows."""
        keyring = self._restored_keys
        for top in FOLDERS:
            for name in names_below(self._root / "jails" / client.name / top, (top,)):
                record = ledger.record(name.paper) if name.state == "whole" else None
                if record is None or record.client != client.name:
                    continue  # it came after the dump, was refused, or is another's: the comparison of the files says so
                path = "/" + "/".join(name.parts)
                if path not in listed:
                    yield name.paper, 0, "", "it does not list it"
                elif listed[path] != record.size:
                    yield name.paper, 0, "", f"it lists it with {counted(listed[path], 'byte')} in place of {record.size}"
                elif keyring.client_kind(client.name, record.generation) == "managed":
                    yield (name.paper, *_fetched(visit, path))

    def _compare_receipts(self, client: Client, listed: set[str]) -> None:
        base = self._root / "jails" / client.name
        there = {"/" + path.relative_to(base).as_posix() for path in (base / "receipts").rglob("*") if path.is_file()}
        if missing := len(there - listed):
            self.findings.blame(f"the client {client.name}: {counted(missing, 'file of receipts is', 'files of receipts are')} not listed")


def _fetched(visit: Visit, path: str) -> tuple[int, str, str]:
    try:
        return (*visit.fetch(path), "")
    except DoorClosed as error:
        return 0, "", error.message


def _let_in(catalog: Catalog, client: Client, key: SigningKey) -> str:
    """A login for this hour, in the restored copy alone; what bounds the client's real logins does not bound it."""
    catalog.edit_client(client.name, active=True, **{column: None for name, column in COLUMNS.items() if name != "profile"}, profile="exchange")
    person = f"clean-room-{randomness.token_hex(8)}"
    catalog.add_person(person, client=client.name, keys=[PublicKey(key.public, fingerprint(key.public))])
    return person


def _public(private: Path) -> list[str]:
    return private.with_name(private.name + ".pub").read_text("ascii").split()[:2]
