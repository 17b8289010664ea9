"""The generations of one owner's key in a folder of the keyring: making one once, reading it back.

    N.recipient      the public half of generation N
    N.age            its identity, sealed to master and recovery (ingest's: to the master alone)
    N.recovery.age   its identity, sealed to recovery alone: nothing on this machine opens it
    N.external       no identity here at all: only the public half, which somebody else gave us

A generation comes to be in this order: public half, then the file that makes it exist. A public half alone is a leftover of an interruption
and is written anew; the file that makes it exist is never replaced, but for sealing it anew to other recipients.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from config.errors import SettingsError
from config.files import make_folder, write_whole
from gateway.age import AgeError, Identity, NoMatchError, Recipient, open_bytes, seal_bytes
from gateway.keys.errors import KeyDamaged, KeyMismatch
from gateway.keys.identities import identity_file, parse_identity
from gateway.keys.pieces import read_piece, write_new

Kind = Literal["managed", "recovery", "external"]
SUFFIXES: dict[Kind, str] = {"managed": ".age", "recovery": ".recovery.age", "external": ".external"}
_KINDS: dict[str, Kind] = {suffix: kind for kind, suffix in SUFFIXES.items()}
_NAME = re.compile(r"([1-9][0-9]{0,8})(\.age|\.recovery\.age|\.external)", re.ASCII)


@dataclass(frozen=True, order=True)
class Generation:
    """One generation: its number, and who can open it."""

    number: int
    kind: Kind

    def file(self, folder: Path) -> Path:
        """The file that makes it exist."""
        return folder / f"{self.number}{SUFFIXES[self.kind]}"


def generations(folder: Path) -> list[Generation]:
    """Newest first; empty when there is no such folder."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted((Generation(int(match[1]), _KINDS[match[2]]) for name in names if (match := _NAME.fullmatch(name))), reverse=True)


def make_generation(folder: Path, generation: Generation, sealed_to: Sequence[Recipient]) -> None:
    """A new identity, sealed."""
    identity = Identity.generate()
    make_folder(folder)
    write_whole(_public(folder, generation), f"{identity.recipient}\n".encode())
    write_new(generation.file(folder), seal_bytes(identity_file(identity).encode(), sealed_to))


def take_external(folder: Path, number: int, recipient: Recipient) -> None:
    """A public half whose identity somebody else keeps."""
    make_folder(folder)
    generation = Generation(number, "external")
    write_whole(_public(folder, generation), f"{recipient}\n".encode())
    write_new(generation.file(folder), f"{recipient}\n".encode())


def recipient_of(folder: Path, generation: Generation) -> Recipient:
    """The public half. Raises SettingsError, KeyDamaged."""
    return recipients_in(_public(folder, generation))[0]


def made_at(folder: Path, generation: Generation) -> float:
    """When it was made, in seconds since the epoch. Raises OSError."""
    return _public(folder, generation).stat().st_mtime


def open_generation(folder: Path, generation: Generation, opener: Identity) -> Identity:
    """The identity. Raises KeyMismatch when `opener` does not open it, KeyDamaged when it is altered."""
    path = generation.file(folder)
    try:
        sealed = read_piece(path)
    except OSError as error:
        raise KeyDamaged(f"the key {path} cannot be read: {error.strerror}", "restore it from the key repository") from error
    identity = parse_identity(unsealed(sealed, opener, path), str(path))
    if str(identity.recipient) != str(recipient_of(folder, generation)):
        raise KeyDamaged(f"the two halves of the key {path} do not belong together", "restore both from the key repository; somebody altered one")
    return identity


def unsealed(sealed: bytes, identity: Identity, path: Path) -> bytes:
    """What a sealed file of the keyring holds; `path` stands in messages. Raises KeyMismatch, KeyDamaged."""
    try:
        return open_bytes(sealed, [identity])
    except NoMatchError as error:
        raise KeyMismatch(
            f"{path} does not open: it is sealed to another key than the one at hand", "is it the right master? see the section keys of the settings"
        ) from error
    except AgeError as error:
        raise KeyDamaged(f"{path} does not open: {error.message}", "restore the file from a backup") from error


def recipients_in(path: Path) -> list[Recipient]:
    """The recipients in a file, one a line; never empty. Raises SettingsError when it is missing, KeyDamaged."""
    try:
        text = read_piece(path).decode("ascii")
        recipients = [Recipient.parse(line) for line in text.split()]
    except FileNotFoundError:
        raise SettingsError(f"{path} is missing", "restore it from a backup; if 'nightsafe init' was interrupted, run it again") from None
    except (OSError, UnicodeDecodeError, AgeError) as error:
        raise KeyDamaged(f"{path} does not hold age recipients", "restore it from a backup") from error
    if not recipients:
        raise KeyDamaged(f"{path} is empty", "restore it from a backup")
    if text != "".join(f"{recipient}\n" for recipient in recipients):
        raise KeyDamaged(f"{path} was altered: there must be one recipient a line, and nothing else", "restore it from a backup")
    return recipients


def _public(folder: Path, generation: Generation) -> Path:
    return folder / f"{generation.number}.recipient"
