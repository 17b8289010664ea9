"""Readable content, wherever a paper is at the moment: being written, landed in the spool, sealed in the vault; and plain receipts."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Literal, Protocol

from config.errors import NightsafeError
from gateway.age import AgeError
from gateway.jail import Refused
from gateway.keys.errors import KeyGone
from gateway.sftp.papers.drafts import Draft
from gateway.sftp.session.visitor import Visitor
from gateway.store.errors import SpoolGone, VaultGone
from gateway.store.spool import Spool
from gateway.store.vault import Vault

Where = Literal["spool", "vault", "quarantine"]
MOVING_PAUSES = (0.0, 0.02, 0.1, 0.3)  # seconds between looks at spool and vault while a paper is moved from one to the other


class PaperKeys(Protocol):
    """The part of a key agent that reading needs."""

    def paper_key(self, client: str, paper: str, where: Where, person: str, reason: str) -> bytes:
        """The 16-byte file key of a stored paper."""
        ...

    def check_code(self, person: str, code: str) -> bool:
        """Whether this is the next code of the person's second factor."""
        ...


class Seekable(Protocol):
    """What the store gives for reading: not thread-safe."""

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As of a file."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """As of a file. Raises NightsafeError, OSError, ValueError."""
        ...

    def close(self) -> None:
        """As of a file."""
        ...


class DraftSource:
    """A paper of this process that is not landed yet, or landed while it was being read."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    @property
    def size(self) -> int:
        """See `handles.Source`."""
        return self._draft.size

    def read(self, offset: int, length: int) -> bytes:
        """See `handles.Source`."""
        return self._draft.file.read(offset, length)

    def close(self) -> None:
        """The draft belongs to its handles, not to this."""


class StoredSource:
    """A stored paper. Reads are authenticated; damage raises Refused. One lock, because several requests of a session may overlap a copy."""

    def __init__(self, reader: Seekable) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self.size = reader.size

    def read(self, offset: int, length: int) -> bytes:
        """See `handles.Source`."""
        if offset >= self.size:
            return b""
        with self._lock:
            try:
                self._reader.seek(offset)
                return self._reader.read(length)
            except (NightsafeError, OSError, ValueError) as error:
                raise Refused("failure", "the paper cannot be read: it is damaged; please tell the firm") from error

    def close(self) -> None:
        """See `handles.Source`."""
        with self._lock:
            self._reader.close()


class PlainSource:
    """A receipt. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """See `handles.Source`."""
        try:
            return os.pread(self._descriptor, length, min(offset, 2**62))
        except OSError as error:
            raise Refused("failure", "the receipt cannot be read") from error

    def close(self) -> None:
        """See `handles.Source`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Archive:
    """Opens stored papers by key. Blocking; thread-safe."""

    def __init__(self, spool: Spool, vault: Vault, keys: PaperKeys, sleep: Callable[[float], None] = time.sleep) -> None:
        self._spool = spool
        self._vault = vault
        self._keys = keys
        self._sleep = sleep

    def open(self, paper: str, visitor: Visitor, reason: str) -> StoredSource:
        """A whole paper, in the vault or still in the spool. Raises Refused when it is in neither, KeydUnavailable, KeyRefused."""
        for pause in MOVING_PAUSES:
            self._sleep(pause)
            found = self.look(paper, visitor, reason)
            if found is not None:
                return found
        raise not_there()

    def look(self, paper: str, visitor: Visitor, reason: str) -> StoredSource | None:
        """The same, without waiting: None when it is in neither, which may be because it is being moved."""
        return self._in_vault(paper, visitor, reason) or self._in_spool(paper, visitor, reason)

    def partial_key(self, paper: str, visitor: Visitor) -> bytes:
        """The key with which a broken upload goes on. Raises KeyGone, KeydUnavailable, KeyRefused."""
        return self._keys.paper_key(visitor.client, paper, "spool", visitor.person, "resume")

    def _in_vault(self, paper: str, visitor: Visitor, reason: str) -> StoredSource | None:
        if not self._vault.exists(visitor.client, paper):
            return None
        try:
            key = self._keys.paper_key(visitor.client, paper, "vault", visitor.person, reason)
            return StoredSource(self._vault.open(visitor.client, paper, file_key=key))
        except (VaultGone, KeyGone):
            return None
        except AgeError as error:
            raise Refused("failure", "the paper cannot be read: it is damaged; please tell the firm") from error

    def _in_spool(self, paper: str, visitor: Visitor, reason: str) -> StoredSource | None:
        try:
            key = self._keys.paper_key(visitor.client, paper, "spool", visitor.person, reason)
            return StoredSource(self._spool.open_landed(paper, file_key=key))
        except (SpoolGone, KeyGone):
            return None


def not_there() -> Refused:
    """A paper is neither in the vault nor in the spool, and has been looked for often enough."""
    return Refused("failure", "the paper is not available: it is held back, or being moved; look at its receipt")
