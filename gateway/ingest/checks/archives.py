"""What a zip archive holds, within limits, without unpacking anything anywhere but in memory, piece by piece. Run by a worker process.

An archive is a stranger's program for whatever will unpack it. What is looked for is what makes unpacking dangerous: more bytes, entries or
archives within archives than anybody needs; names that lead out of the folder; entries that share their bytes; sizes that lie.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import BinaryIO, Protocol

import pyzipper

from config.words import counted
from gateway.ingest.checks.zip_end import IN_DIRECTORY, LARGE_BYTES, TAIL_BYTES, directory_of, end_in, is_ambiguous, is_zip

PIECE_BYTES = 256 * 1024
RATIO_FROM_BYTES = 1024 * 1024  # a small text of blanks has any ratio and harms nobody
DIRECTORY_BYTES = 512  # of the central directory for each entry that is allowed: names of some hundred bytes
LOCAL_HEADER = struct.Struct("<4s22xHH")
ENCRYPTED = 1
BEYOND = frozenset({"archive-bomb", "archive-too-large", "archive-too-many", "archive-too-deep"})
SCANNED_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2})  # what a scanner unpacks, as we do
DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Limits:
    """As in [archives] of the settings."""

    largest_ratio: float
    largest_bytes: int
    entries: int
    depth: int
    inner_bytes: int
    scanned_bytes: int | None = None  # larger entries no scanner looks at


@dataclass(frozen=True)
class ArchiveFault:
    """Why an archive is not taken: `code` for the verdict, `detail` in words for the client (it may quote an entry's name, made harmless)."""

    code: str
    detail: str


class Unlocked(Protocol):
    """Takes what was inside of an archive with entries that are encrypted, or packed by a method that not every scanner knows, to be scanned."""

    def begin(self, size: int) -> None:
        """An entry of about `size` bytes follows."""

    def piece(self, data: bytes) -> None:
        """A piece of it."""

    def end(self) -> None:
        """It is over."""


class _Found(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.fault = ArchiveFault(code, detail)


class _Budget:
    """What is left of the limits over an archive and all archives inside."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._bytes = limits.largest_bytes
        self.entries = limits.entries

    def take_bytes(self, count: int) -> None:
        self._bytes -= count
        if self._bytes < 0:
            raise _Found("archive-too-large", f"it unpacks to more than {counted(self.limits.largest_bytes, 'byte')}")

    def take_entries(self, count: int) -> None:
        self.entries -= count
        if self.entries < 0:
            raise _Found("archive-too-many", f"it has more than {counted(self.limits.entries, 'entry', 'entries')}")


def look_into(
    file: BinaryIO,
    size: int,
    limits: Limits,
    *,
    password: bytes | None = None,
    forbidden_names: Sequence[str] = (),
    unlocked: Unlocked | None = None,
) -> ArchiveFault | None:
    """What is wrong with the zip archive in `file`, of `size` bytes; None when all of it was read and is within the limits."""
    try:
        looker = _Looker(_Budget(limits), password, [pattern.lower() for pattern in forbidden_names], unlocked)
        looker.archive(file, size, 1)
    except _Found as found:
        return found.fault
    return looker.unscanned


def hidden_inside(file: BinaryIO, size: int, limits: Limits) -> ArchiveFault | None:
    """Whether the zip archive in `file` holds anything that a scanner would leave out without a word: because it is too large or too much
    (`too-large-to-scan`), or because it is damaged, or packed by a method that not every scanner knows (`archive-unreadable`). None when it does
    not. Nothing else is asked of it: names and locks are the scanner's, or another rule's."""
    looker = _SizesAlone(_Budget(limits), None, (), None)
    try:
        looker.archive(file, size, 1)
    except _Found as found:
        beyond = found.fault.code in BEYOND
        looker.unscanned = looker.unscanned or ArchiveFault("too-large-to-scan" if beyond else "archive-unreadable", found.fault.detail)
    return looker.unscanned or looker.unread


class _Looker:
    def __init__(self, budget: _Budget, password: bytes | None, forbidden_names: Sequence[str], unlocked: Unlocked | None) -> None:
        self._budget = budget
        self._password = password
        self._forbidden_names = forbidden_names
        self._unlocked = unlocked
        self.unscanned: ArchiveFault | None = None  # told only when nothing worse was found

    def archive(self, file: BinaryIO, size: int, depth: int) -> None:
        if depth > self._budget.limits.depth:
            raise _Found("archive-too-deep", f"it has archives within archives, more than {self._budget.limits.depth} deep")
        _check_directory(file, size, self._budget)
        try:
            with pyzipper.AESZipFile(file, "r") as opened:
                entries = opened.infolist()
                self._budget.take_entries(len(entries))
                self._directory(file, entries, opened.start_dir)
                forward = self._unlocked if any(map(_is_closed, entries)) else None
                for entry in entries:
                    if not entry.is_dir():
                        self._entry(opened, entry, depth, forward)
        except (_Found, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - a library that meets a forged archive raises whatever its parts raise
            raise _Found("archive-damaged", "it is damaged") from None

    def _directory(self, file: BinaryIO, entries: Sequence[pyzipper.ZipInfo], start: int) -> None:
        for entry in entries:
            self._name(entry)
        _check_overlap(file, entries, start)

    def _name(self, entry: pyzipper.ZipInfo) -> None:
        name = entry.orig_filename
        parts = re.split(r"[/\\]", name)
        if name.startswith(("/", "\\")) or DRIVE.match(name) or ".." in parts:
            raise _Found("archive-path", f"the entry {_shown(name)} has a name that leads out of its folder")
        if any(ord(letter) < 32 for letter in name):
            raise _Found("archive-path", f"the entry {_shown(name)} has a name with control characters")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise _Found("archive-path", f"the entry {_shown(name)} is a link")
        last = parts[-1].lower()
        if any(fnmatchcase(last, pattern) for pattern in self._forbidden_names):
            raise _Found("archive-forbidden-name", f"the entry {_shown(name)} has a name that is not taken")

    def _entry(self, opened: pyzipper.AESZipFile, entry: pyzipper.ZipInfo, depth: int, forward: Unlocked | None) -> None:
        locked = bool(entry.flag_bits & ENCRYPTED)
        if locked and self._password is None:
            raise _Found("archive-locked", "it is encrypted, and no password has been agreed")
        declared, packed = entry.file_size, entry.compress_size
        entry.file_size = self._budget.limits.largest_bytes + 1  # read to the real end, not to the one that it tells
        if forward:
            forward.begin(declared)
        count, inner, tail = 0, None, b""
        try:
            with opened.open(entry, pwd=self._password if locked else None) as stream:
                while piece := stream.read(PIECE_BYTES):
                    if not count and piece.startswith(b"PK\x03\x04"):
                        inner = io.BytesIO()
                    tail = (tail + piece)[-TAIL_BYTES:]
                    count += len(piece)
                    self._budget.take_bytes(len(piece))
                    if count > RATIO_FROM_BYTES and count > packed * self._budget.limits.largest_ratio:
                        raise _Found("archive-bomb", f"the entry {_shown(entry.orig_filename)} unpacks to far more than it is")
                    if inner is not None:
                        self._keep(inner, piece)
                    if forward:
                        forward.piece(piece)
                    self._count(entry, count)
        except RuntimeError:  # what the library says of a wrong password
            raise _Found("archive-locked", "it is encrypted, and the agreed password does not open it") from None
        except NotImplementedError:
            raise _Found("archive-unreadable", "it is packed by a method that cannot be read here") from None
        if forward:
            forward.end()
        if count != declared:
            raise _Found("archive-damaged", f"the entry {_shown(entry.orig_filename)} is not of the size that it tells")
        if inner is None and is_zip(b"", tail, count):  # behind something else
            inner = self._read_again(opened, entry)
        if inner is not None:
            self.archive(inner, count, depth + 1)

    def _read_again(self, opened: pyzipper.AESZipFile, entry: pyzipper.ZipInfo) -> io.BytesIO:
        inner = io.BytesIO()
        with opened.open(entry, pwd=self._password if entry.flag_bits & ENCRYPTED else None) as stream:
            while piece := stream.read(PIECE_BYTES):
                self._keep(inner, piece)
        return inner

    def _count(self, entry: pyzipper.ZipInfo, count: int) -> None:
        scanned = self._budget.limits.scanned_bytes
        if scanned is not None and count > scanned and self.unscanned is None:
            self.unscanned = ArchiveFault("too-large-to-scan", f"the entry {_shown(entry.orig_filename)} is")

    def _keep(self, inner: io.BytesIO, piece: bytes) -> None:
        if inner.tell() + len(piece) > self._budget.limits.inner_bytes:
            raise _Found("archive-too-large", f"an archive inside of it is larger than {counted(self._budget.limits.inner_bytes, 'byte')}")
        inner.write(piece)


class _SizesAlone(_Looker):
    """Counts what is inside, and no more. What is locked is passed over: the scanner tells of it. What cannot be unpacked is told of in the end."""

    unread: ArchiveFault | None = None

    def _directory(self, *_: object) -> None:
        return

    def _entry(self, opened: pyzipper.AESZipFile, entry: pyzipper.ZipInfo, depth: int, forward: Unlocked | None) -> None:
        if entry.flag_bits & ENCRYPTED:
            return
        try:
            if entry.compress_type not in SCANNED_METHODS:
                raise _Found("archive-unreadable", f"the entry {_shown(entry.orig_filename)} is packed by a method that is not known")
            super()._entry(opened, entry, depth, forward)
        except _Found as found:
            if found.fault.code in BEYOND:
                raise
            self._leave(found.fault.detail)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
            self._leave(f"the entry {_shown(entry.orig_filename)} is damaged")

    def _leave(self, detail: str) -> None:
        self.unread = self.unread or ArchiveFault("archive-unreadable", detail)


def _check_directory(file: BinaryIO, size: int, budget: _Budget) -> None:
    """Before the library reads the directory of entries whole: is it of a length that the limit on entries allows?"""
    length = min(size, TAIL_BYTES)
    file.seek(size - length)
    tail = file.read(length)
    place = end_in(tail)
    if place is None:
        raise _Found("archive-damaged", "it has no end")
    if is_ambiguous(tail):
        raise _Found("archive-damaged", "it has two ends, and readers differ about which one counts")
    end = size - length + place
    file.seek(max(0, end - LARGE_BYTES))
    directory = directory_of(tail[place:], file.read(min(end, LARGE_BYTES)), end)
    if directory is None:
        raise _Found("archive-damaged", "its end is damaged, or could be read in two ways")
    file.seek(min(directory.told, size))
    if directory.told != directory.start and file.read(len(IN_DIRECTORY)) == IN_DIRECTORY:
        raise _Found("archive-damaged", "it has two directories, and readers differ about which one counts")
    if directory.count > budget.entries or directory.size > (budget.entries + 16) * DIRECTORY_BYTES:
        raise _Found("archive-too-many", f"it has more than {counted(budget.limits.entries, 'entry', 'entries')}, or very long names")


def _check_overlap(file: BinaryIO, entries: Sequence[pyzipper.ZipInfo], directory: int) -> None:
    """Every byte belongs to one entry at most."""
    free_from = 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        if entry.header_offset < free_from:
            raise _Found("archive-overlap", f"the entry {_shown(entry.orig_filename)} shares its bytes with another one")
        file.seek(entry.header_offset)
        header = file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise _Found("archive-damaged", f"the entry {_shown(entry.orig_filename)} is not where it should be")
        _, name, extra = LOCAL_HEADER.unpack(header)
        free_from = entry.header_offset + LOCAL_HEADER.size + name + extra + entry.compress_size
    if free_from > directory:
        raise _Found("archive-overlap", "its entries and its directory share bytes")


def _is_closed(entry: pyzipper.ZipInfo) -> bool:
    """Whether a scanner may be unable to open an entry that we can."""
    return bool(entry.flag_bits & ENCRYPTED) or entry.compress_type not in SCANNED_METHODS


def _shown(name: str) -> str:
    """A stranger's name, short and without anything that steers a terminal."""
    text = "".join(letter if letter.isprintable() else "_" for letter in name)
    return f"'{text[:57]}…'" if len(text) > 60 else f"'{text}'"
