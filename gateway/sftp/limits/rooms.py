"""Where the limits of clients are kept that all workers share, and how usage is counted: a folder for each client below `run/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.files import make_folder
from config.folder import DataFolder
from gateway.jail import Tree
from gateway.sftp.limits.ledger import Ledger
from gateway.sftp.limits.pace import Pace, SharedTimes
from gateway.sftp.limits.places import Places
from gateway.sftp.limits.quota import Quota, Usage
from gateway.store.ids import check_client
from gateway.store.usage import stored_bytes

FOLDER = "limits"  # in run/


@dataclass(frozen=True)
class Room:
    """What one client's sessions of all workers share."""

    quota: Quota
    pace: Pace
    places: Places


class Rooms:
    """Makes the Room of a client. Nothing is opened or counted before there is a limit."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder

    def of(self, client: str, tree: Tree) -> Room:
        """The room of `client`, without limits yet."""
        quota = Quota(None, lambda: Ledger(self._file(client, "quota")), lambda: usage(self._folder, client, tree, open_too=False))
        return Room(quota, Pace(lambda: SharedTimes(self._file(client, "pace"))), Places(lambda: self._file(client, "sessions")))

    def _file(self, client: str, what: str) -> Path:
        folder = self._folder.run / FOLDER / check_client(client)
        make_folder(folder)
        return folder / what


def usage(folder: DataFolder, client: str, tree: Tree, *, open_too: bool = True) -> Usage:
    """Blocking: count what a client has. `open_too`: with papers that somebody is writing at the moment (a Hold has those)."""
    size, names = tree.usage()
    stored = stored_bytes(
        client, sealed=folder.vault, quarantine=folder.quarantine, spool=(folder.spool_partial, folder.spool_landed), open_too=open_too
    )
    return Usage(size, names, stored)
