"""Papers as a zip that 7-Zip, WinZip and their like open with a passphrase: AES-256 (the WinZip way, AE-2), one piece in memory at a time.

The names inside are in clear, as in every zip: only contents are encrypted. Each paper is compared with its recorded hash on the way.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
import unicodedata
import zlib
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pyzipper

from config.console import Progress
from config.errors import NightsafeError, UsageError
from config.words import counted
from gateway.age import AgeError
from gateway.catalog import Catalog, Paper
from gateway.handover.appearing import appearing
from gateway.jail import Tree, VirtualPath
from gateway.keys.client import KeyAgent
from gateway.keys.errors import KeyGone, KeyLimited, KeyRefused
from gateway.store import VaultGone
from gateway.store.vault import Vault

PIECE = 1 << 20
PATIENCE_SECONDS = 1800.0
LISTED = 1000
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is taken for something else when it is read out
GROUPS, GROUP = 6, 5  # 30 characters, some 148 bits
MIN_PASSPHRASE, MAX_PASSPHRASE = 12, 128
WORTH_IT = 0.95  # of the size, or less
FIRST_YEAR, LAST_YEAR = 1980, 2107  # what a zip can say


@dataclass(frozen=True)
class Source:
    """Where papers come from, and in whose name their keys are asked for."""

    catalog: Catalog
    vault: Vault
    agent: KeyAgent
    client: str
    person: str
    reason: str
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Exported:
    """What went into the zip; `missed` says line by line what did not (bounded; `not_exported` counts all)."""

    papers: int = 0
    plain_bytes: int = 0
    not_exported: int = 0
    missed: list[str] = field(default_factory=list)
    sha256: str = ""
    size: int = 0

    def miss(self, line: str) -> None:
        """One name that did not go in, and why."""
        self.not_exported += 1
        if len(self.missed) < LISTED:
            self.missed.append(line)


def new_passphrase() -> str:
    """A passphrase to be read out: `k7mq2-…`."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))


def check_passphrase(text: str) -> str:
    """Raises UsageError for what is too short, or read differently by different programs."""
    if not MIN_PASSPHRASE <= len(text) <= MAX_PASSPHRASE:
        raise UsageError(f"the passphrase has {counted(len(text), 'character')}", f"it needs {MIN_PASSPHRASE} to {MAX_PASSPHRASE}")
    if not text.isascii() or not text.isprintable():
        raise UsageError("the passphrase holds other characters than plain ASCII", "zip programs read them differently; use letters and digits")
    return text


def chosen(tree: Tree, paths: Iterable[VirtualPath]) -> Iterator[tuple[VirtualPath, str, str, float]]:
    """(path, paper, state of the pointer, mtime) of every name below `paths`, in order. Raises UsageError for a path that is not there."""
    for path in paths:
        entry = tree.stat(path)
        if entry.kind == "folder":
            found = ((name, pointer.paper, pointer.state, mtime) for name, pointer, mtime in tree.pointers(path))
            yield from sorted(found, key=lambda one: str(one[0]))
        elif entry.pointer is not None:
            yield path, entry.pointer.paper, entry.pointer.state, entry.mtime
        else:
            raise UsageError(f"{path} is no paper", "name papers or folders below /inbox or /outbox")


def export(source: Source, names: Iterable[tuple[VirtualPath, str, str, float]], target: Path, passphrase: str, progress: Progress) -> Exported:
    """Write the zip. What cannot go in is missed and told of. Raises UsageError when nothing could, and what the disk or the key agent raises;
    then there is no file."""
    done = Exported()
    seen: set[str] = set()
    with appearing(target) as file:
        with pyzipper.AESZipFile(file, "w", compression=pyzipper.ZIP_DEFLATED, allowZip64=True, encryption=pyzipper.WZ_AES) as archive:
            archive.setpassword(passphrase.encode("ascii"))
            archive.setencryption(pyzipper.WZ_AES, nbits=256)
            for path, paper_id, state, mtime in names:
                if str(path) in seen:
                    continue
                seen.add(str(path))
                _add(source, archive, path, paper_id, state, mtime, done)
                progress.update(done.papers, done.papers + 1, str(path))
        if not done.papers:
            why = f": {done.missed[0]}" if done.missed else ""
            raise UsageError(f"there is nothing to export{why}", f"see the names with: nightsafe files list {source.client}")
        done.sha256, done.size = _digest(file)
    return done


def _add(source: Source, archive: pyzipper.AESZipFile, path: VirtualPath, paper_id: str, state: str, mtime: float, done: Exported) -> None:
    paper = source.catalog.paper(paper_id)
    if state != "whole" or paper is None or paper.client != source.client:
        done.miss(f"{path}: it is not sealed yet")
        return
    if paper.state != "accepted":
        done.miss(f"{path}: it was not accepted ({paper.state})")
        return
    try:
        key = _key(source, paper)
        reader = source.vault.open(source.client, paper.id, file_key=key)
    except (KeyRefused, KeyGone, VaultGone, AgeError) as error:
        done.miss(f"{path}: {error.message}")
        return
    with reader:
        piece = reader.read(PIECE)
        info = archive.zipinfo_cls(entry_name(path, archive.NameToInfo), _date(mtime))
        info.compress_type = pyzipper.ZIP_DEFLATED if shrinks(piece) else pyzipper.ZIP_STORED
        info.external_attr = 0o600 << 16
        info.file_size = paper.size
        digest = hashlib.sha256()
        with archive.open(info, "w", force_zip64=paper.size > (1 << 30)) as inside:
            while piece:
                digest.update(piece)
                inside.write(piece)
                piece = reader.read(PIECE)
    if digest.hexdigest() != paper.sha256:
        raise NightsafeError(f"{path} is not what arrived: its hash differs from the recorded one", "nothing was exported; run: nightsafe drill run")
    done.papers += 1
    done.plain_bytes += paper.size


def entry_name(path: VirtualPath, taken: Container[str]) -> str:
    """What a paper is called inside, other than those that are `taken`: its path, but for what another system would take for more than a name. To
    Windows a backslash is a slash, so `..\\..\\letter.exe`, which is one name here, would lead out of the folder there."""
    name = "/".join("".join("_" if one == "\\" or unicodedata.category(one) == "Cc" else one for one in part) for part in path.parts)
    stem, dot, ending = name.rpartition(".") if "." in name.rpartition("/")[2] else (name, "", "")
    numbered = (f"{stem} ({number}){dot}{ending}" for number in itertools.count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def shrinks(beginning: bytes) -> bool:
    """Whether compressing is worth it, by the beginning of a file: most papers (PDF, pictures, archives) are compressed already, and trying it
    again takes nine tenths of the time of an export."""
    return len(zlib.compress(beginning, level=1)) < len(beginning) * WORTH_IT


def _key(source: Source, paper: Paper) -> bytes:
    """The paper's key; waits while the rate limit says so."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return source.agent.paper_key(source.client, paper.id, "vault", source.person, source.reason)
        except KeyLimited as error:
            if time.monotonic() + error.retry_seconds > until:
                raise
            source.sleep(error.retry_seconds + 0.05)


def _date(mtime: float) -> tuple[int, int, int, int, int, int]:
    moment = datetime.fromtimestamp(mtime, UTC)
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        moment = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    return moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second


def _digest(file: BinaryIO) -> tuple[str, int]:
    file.flush()
    size = file.seek(0, 2)
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.hexdigest(), size
