"""Where the server's names, content and keys come from."""

from __future__ import annotations

from dataclasses import dataclass

from config.folder import DataFolder
from gateway.sftp.authentication.revocation import Watched
from gateway.sftp.papers.sources import PaperKeys
from gateway.sftp.session.recording import Recorder
from gateway.store.spool import Spool
from gateway.store.vault import Vault


@dataclass(frozen=True)
class Stores:
    """What a role opens before it serves, and closes when it has served."""

    folder: DataFolder
    catalog: Watched
    spool: Spool
    vault: Vault
    keys: PaperKeys
    recorder: Recorder
