"""Where the quotas of clients are kept and how they are counted: one ledger a client below `run/`."""

from __future__ import annotations

from config.files import make_folder
from config.folder import DataFolder
from gateway.jail import Tree
from gateway.sftp.ledger import Ledger
from gateway.sftp.quota import Quota, Usage
from gateway.store.ids import check_client
from gateway.store.usage import stored_bytes

FOLDER = "quota"  # in run/


class Rooms:
    """Makes the Quota of a client."""

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder

    def of(self, client: str, tree: Tree) -> Quota:
        """The quota of `client`, without limits yet; nothing is opened or counted before there are some."""
        return Quota(None, lambda: self._open(client), lambda: usage(self._folder, client, tree, open_too=False))

    def _open(self, client: str) -> Ledger:
        folder = self._folder.run / FOLDER
        make_folder(folder)
        return Ledger(folder / check_client(client))


def usage(folder: DataFolder, client: str, tree: Tree, *, open_too: bool = True) -> Usage:
    """Blocking: count what a client has. `open_too`: with papers that somebody is writing at the moment (a Hold has those)."""
    size, names = tree.usage()
    stored = stored_bytes(
        client, sealed=folder.vault, quarantine=folder.quarantine, spool=(folder.spool_partial, folder.spool_landed), open_too=open_too
    )
    return Usage(size, names, stored)
