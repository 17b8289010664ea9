"""The file keys of spool files: made for new papers, and found again by whoever holds the identity of ingest.

To wrap a key for a recipient takes an exchange on Curve25519, which costs more than everything else that a small paper needs. So papers of one client
that come close together share one wrapped key, for SHARED_SECONDS and SHARED_PAPERS at the most, and each has its own file key, drawn from the shared
one by HKDF-SHA256 with a random salt that stands in its header. Nobody who has a paper's file key can tell the shared one, or another paper's.

Whoever unwraps (ingest, keyd) never gives the shared key away.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.age import Identity, Recipient, SealedKey, new_header, unwrap
from gateway.store.format import SALT, SpoolHeader

SHARED_SECONDS = 5.0  # as long as a paper under an unfinished name keeps its key in memory by itself
SHARED_PAPERS = 256
_OPENED = 16  # shared keys that one who unwraps remembers
_KEY = 16
_INFO = b"nightsafe spool file key v1"


@dataclass(frozen=True)
class PaperKey:
    """What a new paper is sealed with: its header, and the 16-byte file key that only the header's holder can find again."""

    header: SpoolHeader
    file_key: bytes = field(repr=False)


@dataclass
class _Shared:
    sealed: SealedKey
    until: float
    left: int


class NewKeys:
    """Makes the keys of new papers, sealed to `recipient`. Thread-safe."""

    def __init__(self, recipient: Recipient, clock: Callable[[], float] = time.monotonic) -> None:
        self._recipient = recipient
        self._clock = clock
        self._lock = threading.Lock()
        self._shared: dict[str, _Shared] = {}  # by client

    def make(self, paper: str, client: str) -> PaperKey:
        """The key of a new paper."""
        sealed = self._of(client)
        header = SpoolHeader(paper, client, sealed.header, os.urandom(SALT))
        return PaperKey(header, _derived(sealed.file_key, header))

    def forget_old(self) -> bool:
        """Forget shared keys whose time is over; whether any is left."""
        now = self._clock()
        with self._lock:
            for client in [client for client, shared in self._shared.items() if now >= shared.until]:
                del self._shared[client]
            return bool(self._shared)

    def _of(self, client: str) -> SealedKey:
        with self._lock:
            shared = self._shared.get(client)
            if shared is None or not shared.left or self._clock() >= shared.until:
                shared = self._shared[client] = _Shared(new_header([self._recipient]), self._clock() + SHARED_SECONDS, SHARED_PAPERS)
            shared.left -= 1
            return shared.sealed


class Unwrapper:
    """Finds file keys from headers, and remembers a few shared keys for the papers that come together. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: OrderedDict[tuple[bytes, tuple[Recipient, ...]], bytes] = OrderedDict()

    def file_key(self, header: SpoolHeader, identities: Sequence[Identity]) -> bytes:
        """As `file_key`."""
        of = header.age_header, tuple(identity.recipient for identity in identities)
        with self._lock:
            found = self._opened.get(of)
        if found is None:
            found = unwrap(header.age_header, identities)
            with self._lock:
                self._opened[of] = found
                while len(self._opened) > _OPENED:
                    self._opened.popitem(last=False)
        return _derived(found, header)


def file_key(header: SpoolHeader, identities: Sequence[Identity]) -> bytes:
    """The 16-byte file key of the paper with this header. Raises AgeError when none of `identities` opens it."""
    return _derived(unwrap(header.age_header, identities), header)


def _derived(shared: bytes, header: SpoolHeader) -> bytes:
    if not header.salt:  # version 1: a wrapped key for each paper
        return shared
    return HKDF(SHA256(), _KEY, header.salt, _INFO + bytes.fromhex(header.paper)).derive(shared)
