"""Reads what came back from the bucket and has it judged: every paper, or those that were drawn.

Plaintext passes through memory in pieces and is only hashed. Two workers measure files while the next papers' headers are read and their
keys fetched; memory is bounded by one batch, whatever the number of papers.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from backup.drill.errors import ScratchFailed
from backup.drill.judge import Case, Cause, Finding, Found, is_newer, judge, surplus, swapped
from backup.drill.ledger import Entry, Ledger
from config.console import Progress
from config.files import TEMPORARY_PREFIX
from gateway.age import AgeError, NoMatchError, header_mac, open_payload, read_header
from gateway.keys.errors import KeyDamaged, KeyGone, KeyLimited, KeyRefused

WORKERS = 2
BATCH = 256  # papers whose keys are asked for at once
PIECE = 1024 * 1024
MAX_FINDINGS = 10_000  # kept one by one; beyond that they are only counted
PERSON = "ops:drill"


class HeaderKeys(Protocol):
    """The part of a key agent that a drill needs."""

    def header_keys(self, client: str, headers: Sequence[tuple[str, bytes]], person: str, reason: str) -> list[bytes | None]:
        """The file keys of (paper id, age header) pairs; None where no key of the client opens one."""


@dataclass
class Tally:
    """What was found so far. `findings` holds at most MAX_FINDINGS, `by_cause` counts them all."""

    verified: int = 0
    by_ciphertext: int = 0  # verified by the hash of the sealed file alone: nobody here can open them
    verified_bytes: int = 0
    newer: int = 0
    bad_papers: int = 0
    unfinished: int = 0
    findings: list[Finding] = field(default_factory=list)
    by_cause: Counter[Cause] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        self.by_cause[finding.cause] += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


@dataclass(frozen=True, slots=True)
class Served:
    """What a client was given of a paper over SFTP: size in bytes and SHA-256 (hex), or why nothing."""

    size: int = 0
    sha256: str = ""
    why: str = ""


@dataclass(frozen=True)
class Question:
    """What a verification needs to know: where the restored vault is, when its dump was made, whom to ask for keys and in whose name."""

    vault: Path
    dump_at: datetime
    agent: HeaderKeys
    run: str
    managed: Callable[[str, int], bool]  # whether somebody here can open what is sealed to a client's key of that generation
    served: Callable[[str], Served | None] = lambda _paper: None  # what its client got of it, where clients were played
    dump_usable: bool = True  # else that is one cause for all, and no paper is blamed for not being in it


def verify_papers(question: Question, ledger: Ledger, tally: Tally, progress: Progress, *, chosen_only: bool) -> None:
    """Judge every paper of the ledger (or those drawn) into `tally`. Raises OutOfReach when keys or the scratch disk cannot be had."""
    entries = (entry for entry in ledger.entries(chosen_only) if not _newer(entry, question, tally))
    total = ledger.count_chosen() if chosen_only else ledger.count()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="verify") as pool:
        pending: list[tuple[Entry, Future[Found]]] = []
        for batch in _batches(entries):
            started = [(entry, pool.submit(measure, _file(question.vault, entry), key)) for entry, key in _with_keys(batch, question)]
            _settle(pending, question, tally)
            pending = started
            progress.update(tally.verified + tally.bad_papers + tally.newer, total)
        _settle(pending, question, tally)
    progress.update(total, total)


def name_swaps(ledger: Ledger, tally: Tally) -> None:
    """Turn 'damaged' into 'swapped' where the file that came back is another paper's."""
    for index, finding in enumerate(tally.findings):
        if finding.cause is Cause.DAMAGED and finding.observed:
            for paper, record in ledger.owners(finding.observed, finding.paper)[:1]:
                tally.findings[index] = swapped(finding, paper, record)
                tally.by_cause[Cause.DAMAGED] -= 1
                tally.by_cause[Cause.SWAPPED] += 1


def find_surplus(files: Iterator[tuple[str, str, str]], ledger: Ledger, tally: Tally) -> None:
    """Report files of the vault that no catalog explains; `files` are (client, paper id or '', path in the vault)."""
    while batch := list(itertools.islice(files, 500)):
        named = [paper for _, paper, _ in batch if paper]
        explained, excused = ledger.explained(named), ledger.excused(named)
        for client, paper, path in batch:
            if paper in excused:
                continue  # expired, it stays in the repository until the snapshots that hold it are forgotten; or it came while the vault was read
            if path.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                tally.unfinished += 1  # ingest was writing it when the backup passed by
            elif (client, paper) not in explained or path != vault_path(client, paper):
                tally.add(surplus(paper, client, path))


def vault_path(client: str, paper: str) -> str:
    """Where a paper's file lies in the vault, as `Vault` has it."""
    return f"{client}/{paper[-2:]}/{paper}.age"


def vault_files(vault: Path) -> Iterator[tuple[str, str, str]]:
    """Every file below a restored vault, for `find_surplus`; links count as files and are not followed."""
    for folder, folders, names in os.walk(vault):
        folders.sort()
        where = Path(folder).relative_to(vault)
        for name in names:
            yield split_vault_path((where / name).as_posix())


def split_vault_path(path: str) -> tuple[str, str, str]:
    """(client, paper id or '', the path itself) of a path in the vault."""
    paper = path.rpartition("/")[2].removesuffix(".age")
    return path.partition("/")[0], paper if len(paper) == 32 else "", os.fsencode(path).decode(errors="backslashreplace")


def measure(path: Path, key: bytes | Cause | None) -> Found:
    """What the file at `path` holds: hash of the whole, and, with its file `key`, of the plaintext. A Cause instead of a key says why there is none.

    Raises ScratchFailed when the disk cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return Found(present=False, why="" if error.errno == errno.ENOENT else "something else lies in its place")
        raise ScratchFailed(f"a restored file cannot be read: {error.strerror}", "look at the disk of drill.scratch") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Found(present=False, why="something else lies in its place")
        try:
            return _measure_open(file, key)
        except OSError as error:
            raise ScratchFailed(f"a restored file cannot be read: {error.strerror}", "look at the disk of drill.scratch") from error


def _measure_open(file: io.BufferedReader, key: bytes | Cause | None) -> Found:
    sealed = hashlib.file_digest(file, "sha256").hexdigest()
    sealed_size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        mac = header_mac(read_header(file)).hex()
    except AgeError as error:
        return Found(True, sealed_size, sealed, None, fault=Cause.UNREADABLE, why=error.message)
    if key is None or isinstance(key, Cause):
        return Found(True, sealed_size, sealed, mac, fault=key)
    file.seek(0)
    hashed, size = hashlib.sha256(), 0
    try:
        reader = open_payload(file, key)
        piece = bytearray(PIECE)
        view = memoryview(piece)
        while got := reader.readinto(view):
            hashed.update(view[:got])
            size += got
    except NoMatchError:
        return Found(True, sealed_size, sealed, mac, fault=Cause.NO_KEY)
    except AgeError as error:
        return Found(True, sealed_size, sealed, mac, fault=Cause.UNREADABLE, why=error.message)
    return Found(True, sealed_size, sealed, mac, size, hashed.hexdigest())


def _newer(entry: Entry, question: Question, tally: Tally) -> bool:
    newer = is_newer(entry.live, entry.dump, question.dump_at)
    tally.newer += newer
    return newer


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(itertools.islice(entries, BATCH)):
        yield batch


def _file(vault: Path, entry: Entry) -> Path:
    record = entry.dump or entry.live
    return vault / vault_path(record.client, entry.paper) if record else vault / "none"


def _with_keys(batch: Sequence[Entry], question: Question) -> list[tuple[Entry, bytes | Cause | None]]:
    """Each paper with its file key; None for those that nobody here can open, a Cause for those that somebody should."""
    keys: dict[str, bytes | Cause | None] = {}
    by_client: dict[str, list[tuple[str, bytes]]] = {}
    for entry in batch:
        record = entry.dump or entry.live
        if record is None or not question.managed(record.client, record.generation):
            continue
        header = _header(_file(question.vault, entry))
        if header:
            by_client.setdefault(record.client, []).append((entry.paper, header))
    for client, headers in by_client.items():
        for (paper, _), key in zip(headers, _opened(client, headers, question), strict=True):
            keys[paper] = Cause.NO_KEY if key is None else key
    return [(entry, keys.get(entry.paper)) for entry in batch]


def _opened(client: str, headers: Sequence[tuple[str, bytes]], question: Question) -> Sequence[bytes | None]:
    """File keys. A client whose key is gone or damaged opens nothing, which is a finding; an agent that cannot answer is none, and is raised."""
    try:
        return question.agent.header_keys(client, headers, PERSON, f"drill {question.run}")
    except KeyLimited:
        raise
    except (KeyRefused, KeyGone, KeyDamaged):
        return [None] * len(headers)


def _header(path: Path) -> bytes:
    """The age header of a restored file; empty when there is none (the measurement will say why)."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return read_header(file) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except (OSError, AgeError):
        return b""


def _settle(pending: Sequence[tuple[Entry, Future[Found]]], question: Question, tally: Tally) -> None:
    """Judge the papers of one batch, in order."""
    for entry, future in pending:
        found = _with_served(future.result(), question.served(entry.paper))
        findings = judge(Case(entry.paper, entry.live, entry.dump, entry.receipt, found))
        if not question.dump_usable:
            findings = [finding for finding in findings if finding.cause is not Cause.NOT_IN_DUMP]
        for finding in findings:
            tally.add(finding)
        tally.bad_papers += bool(findings)
        tally.verified += not findings
        tally.by_ciphertext += not findings and found.sha256 is None
        tally.verified_bytes += (found.size if found.size is not None else found.sealed_size) or 0


def _with_served(found: Found, served: Served | None) -> Found:
    """The measurements of a sealed file, and what its client got of it."""
    if served is None or not found.present or found.fault is not None:
        return found
    return replace(found, fault=Cause.NOT_SERVED, why=served.why) if served.why else replace(found, size=served.size, sha256=served.sha256)


def causes(tally: Tally) -> Mapping[str, int]:
    """How often each cause was met, by name; those that were."""
    return {cause.value: count for cause, count in sorted(tally.by_cause.items()) if count}
