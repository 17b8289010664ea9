"""Every identity that can be had: what lies open, and what opens with what was found before.

A destroyed key would have to be in one of these places: the data folder, or a snapshot of the key repositories. Whatever looks like an age
file is opened with every identity at hand, whatever looks like an identity is taken, until nothing new is found.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.age import AgeError, Identity, open_bytes

MOST_BYTES = 256 * 1024  # of a file that may hold identities
IDENTITY = re.compile(rb"AGE-SECRET-KEY-1[A-Z0-9]{10,120}", re.IGNORECASE)
SEALED = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")
CONTENT = ("vault", "quarantine", "spool", "jails", "cache")  # below the data folder: papers' ciphertext, names, restic's cache of names


@dataclass
class Hoard:
    """Identities by recipient, with the place where each was found first; neither repr nor errors tell an identity."""

    identities: dict[str, Identity] = field(default_factory=dict, repr=False)
    places: dict[str, str] = field(default_factory=dict)
    files: int = 0
    wanted: Collection[str] = ()  # SHA-256 of files that are to be gone, whether they can be opened here or not
    copies: list[str] = field(default_factory=list)  # places where one of them was found
    _locked: list[tuple[str, bytes]] = field(default_factory=list, repr=False)

    def add(self, identity: Identity, place: str) -> None:
        """Take an identity."""
        recipient = str(identity.recipient)
        if recipient not in self.identities:
            self.identities[recipient] = identity
            self.places[recipient] = place

    def search(self, root: Path, place: str, leave_out: tuple[str, ...] = ()) -> None:
        """Take what the files below `root` hold; `place` names it to people."""
        for path in _files(root, leave_out):
            data = _read(path)
            if data is None:
                continue
            self.files += 1
            name = f"{place}: {os.fsencode(path.relative_to(root)).decode(errors='backslashreplace')}"
            if hashlib.sha256(data).hexdigest() in self.wanted:
                self.copies.append(name)
            self._take(data, name)
            if data.lstrip().startswith(SEALED):
                self._locked.append((name, data))

    def open_all(self) -> None:
        """Open what was found sealed, with everything at hand, until nothing new turns up."""
        while True:
            known = len(self.identities)
            self._locked = [(name, data) for name, data in self._locked if not self._open(name, data)]
            if len(self.identities) == known:
                return

    def _open(self, name: str, data: bytes) -> bool:
        try:
            self._take(open_bytes(data, list(self.identities.values())), name)
        except AgeError:
            return False
        return True

    def _take(self, data: bytes, name: str) -> None:
        for found in IDENTITY.findall(data):
            try:
                self.add(Identity.parse(found.decode("ascii")), name)
            except AgeError:
                continue


def _files(root: Path, leave_out: tuple[str, ...]) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in leave_out]
        yield from (Path(folder) / name for name in sorted(names))


def _read(path: Path) -> bytes | None:
    """A small plain file; None for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError:
        return None
    return data if len(data) <= MOST_BYTES else None
