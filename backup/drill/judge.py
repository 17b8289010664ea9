"""What is wrong with one paper, told from what its witnesses say. Pure.

A paper that came back from the bucket has up to three witnesses besides itself: the live catalog, the catalog's dump in the snapshot and the
receipt that was written at arrival. The restored file is measured, so it has the casting voice: who differs from it is named, unless most
witnesses agree against it, and then it is the file that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

GRACE = timedelta(minutes=15)  # between sealing a paper and its row in the catalog (a batch of large papers takes a while)
LIVE, DUMP, RECEIPT = "the live catalog", "the dump", "the receipt"
CLAIMED = ("client", "path", "version", "size", "sha256", "sealed_size", "sealed_sha256", "header_mac", "generation")
CIPHERTEXT = frozenset({"sealed_size", "sealed_sha256", "header_mac"})


class Cause(StrEnum):
    """Why a paper is bad. The values appear in evidence; their explanations in `EXPLAINED`."""

    MISSING = "missing"
    SWAPPED = "swapped"
    DAMAGED = "damaged"
    NO_KEY = "no-key"
    UNREADABLE = "unreadable"
    NOT_SERVED = "not-served"
    CONTENT = "content"
    LIVE_DIFFERS = "live-differs"
    DUMP_DIFFERS = "dump-differs"
    RECEIPT_DIFFERS = "receipt-differs"
    RECEIPT_BAD = "receipt-bad"
    RECEIPT_MISSING = "receipt-missing"
    NOT_IN_DUMP = "not-in-dump"
    NOT_IN_LIVE = "not-in-live"
    SURPLUS = "surplus"
    ROW_BAD = "row-bad"
    KEY_MISSING = "key-missing"
    KEY_DIFFERS = "key-differs"


EXPLAINED: Mapping[Cause, str] = {
    Cause.MISSING: "its file did not come back from the backup",
    Cause.SWAPPED: "its file holds another paper",
    Cause.DAMAGED: "its file is not the one that was sealed",
    Cause.NO_KEY: "no key of the client opens its file",
    Cause.UNREADABLE: "its file cannot be decrypted",
    Cause.NOT_SERVED: "the restored gateway did not give it to its client",
    Cause.CONTENT: "its content is not what arrived",
    Cause.LIVE_DIFFERS: "the live catalog contradicts what came back",
    Cause.DUMP_DIFFERS: "the catalog in the backup contradicts what came back",
    Cause.RECEIPT_DIFFERS: "its receipt contradicts what came back",
    Cause.RECEIPT_BAD: "its receipt cannot be read, or its signature is wrong",
    Cause.RECEIPT_MISSING: "its receipt did not come back from the backup",
    Cause.NOT_IN_DUMP: "the catalog in the backup does not know it, though it is older than the backup",
    Cause.NOT_IN_LIVE: "the live catalog does not know it any more",
    Cause.SURPLUS: "a file came back that no catalog explains",
    Cause.ROW_BAD: "its row in a catalog cannot be a paper's",
    Cause.KEY_MISSING: "this key did not come back from the backup",
    Cause.KEY_DIFFERS: "this key is not the one that the live keyring has",
}
DIFFERS = {LIVE: Cause.LIVE_DIFFERS, DUMP: Cause.DUMP_DIFFERS, RECEIPT: Cause.RECEIPT_DIFFERS}


@dataclass(frozen=True, slots=True)
class Record:
    """What one catalog says of one accepted paper. Sizes in bytes, hashes in lowercase hex."""

    client: str
    path: str
    version: int
    size: int
    sha256: str
    sealed_size: int
    sealed_sha256: str
    header_mac: str
    generation: int
    received_at: datetime
    sealed_at: datetime
    receipted: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the receipt says; `fault` is set, and the rest without meaning, when it cannot be believed."""

    client: str
    path: str
    version: int
    size: int
    sha256: str
    verdict: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What the restored file turned out to be; None is what could not be, or was not, measured."""

    present: bool = True
    sealed_size: int | None = None
    sealed_sha256: str | None = None
    header_mac: str | None = None
    size: int | None = None
    sha256: str | None = None
    fault: Cause | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that is known of one paper when it is judged."""

    paper: str
    live: Record | None
    dump: Record | None
    receipt: Receipt | None
    found: Found

    @property
    def record(self) -> Record:
        """The record that names the paper to people."""
        record = self.dump or self.live
        if record is None:
            raise ValueError("a case needs a record")
        return record


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one paper. `version` is 0 where none is known."""

    paper: str
    client: str
    path: str
    version: int
    cause: Cause
    detail: str = ""
    other: str = ""  # the paper whose file lies in its place
    observed: str = field(default="", repr=False)  # SHA-256 of the file that came back, to look for a swap

    @property
    def text(self) -> str:
        """`CLIENT PATH (version N): what is wrong`; what is no paper has no version."""
        version = f" (version {self.version})" if self.version else ""
        return f"{self.client} {self.path}{version}: {self.what}".lstrip()

    @property
    def what(self) -> str:
        """What is wrong, in words."""
        return EXPLAINED[self.cause] + (f" ({self.detail})" if self.detail else "")


def is_newer(live: Record | None, dump: Record | None, dump_at: datetime) -> bool:
    """Whether a paper is too new for the snapshot, so that nobody expects it there."""
    return live is not None and is_too_new(dump is not None, live.sealed_at, dump_at)


def is_too_new(in_dump: bool, sealed_at: datetime, dump_at: datetime) -> bool:
    """The dump lacks it, and it was sealed after the dump, or so shortly before that its row may have come later."""
    return not in_dump and sealed_at > dump_at - GRACE


def judge(case: Case) -> list[Finding]:
    """All that is wrong with one paper; empty when nothing is."""
    found = case.found
    wrong: list[tuple[Cause, str]] = []
    if case.dump is None:
        wrong.append((Cause.NOT_IN_DUMP, ""))
    if case.live is None:
        wrong.append((Cause.NOT_IN_LIVE, ""))
    if not found.present:
        wrong.append((Cause.MISSING, found.why))
    in_file, by_witness = _dissent(case)
    if in_file & CIPHERTEXT:
        wrong.append((Cause.DAMAGED, _listed("differs in", sorted(in_file))))
    elif found.fault is not None:
        wrong.append((found.fault, found.why))
    elif in_file:
        wrong.append((Cause.CONTENT, _listed("differs in", sorted(in_file))))
    wrong += [(DIFFERS[witness], _listed("in", names)) for witness, names in by_witness.items()]
    wrong += _receipt_faults(case)
    record = case.record
    observed = found.sealed_sha256 or ""
    return [Finding(case.paper, record.client, record.path, record.version, cause, detail, observed=observed) for cause, detail in wrong]


def surplus(paper: str, client: str, path: str) -> Finding:
    """The finding for a restored file that no catalog explains."""
    return Finding(paper, client, path, 0, Cause.SURPLUS)


def swapped(finding: Finding, paper: str, record: Record) -> Finding:
    """The finding again, now that the file is known to be another paper's."""
    return replace(
        finding, cause=Cause.SWAPPED, detail=f"that of {record.client} {record.path}, version {record.version}, paper {paper}", other=paper
    )


def _dissent(case: Case) -> tuple[frozenset[str], dict[str, list[str]]]:
    """Where the file is wrong, and where each witness is."""
    in_file: set[str] = set()
    by_witness: dict[str, list[str]] = {}
    receipt = case.receipt if case.receipt and not case.receipt.fault else None
    witnesses = {LIVE: case.live, DUMP: case.dump, RECEIPT: receipt}
    for name in CLAIMED:
        claims = {witness: getattr(source, name) for witness, source in witnesses.items() if hasattr(source, name)}
        measured = getattr(case.found, name, None)
        if measured is not None:
            against = [witness for witness, value in claims.items() if value != measured]
            if len(against) * 2 > len(claims):  # then who sides with the file is as wrong as the file
                in_file.add(name)
                against = [witness for witness in claims if witness not in against] or _outvoted(claims)
        else:
            against = _outvoted(claims)
        for witness in against:
            by_witness.setdefault(witness, []).append(name)
    return frozenset(in_file), by_witness


def _outvoted(claims: Mapping[str, object]) -> list[str]:
    """Whoever differs from the majority; everybody, when there is none."""
    values = list(claims.values())
    if len(set(values)) < 2:
        return []
    return [witness for witness, value in claims.items() if values.count(value) * 2 <= len(values)]


def _receipt_faults(case: Case) -> list[tuple[Cause, str]]:
    if case.receipt is None:
        due = case.dump is not None and case.dump.receipted
        return [(Cause.RECEIPT_MISSING, "")] if due else []
    if case.receipt.fault:
        return [(Cause.RECEIPT_BAD, case.receipt.fault)]
    if case.receipt.verdict != "accepted":
        return [(Cause.RECEIPT_DIFFERS, f"it says {case.receipt.verdict[:20]}")]
    return []


def _listed(word: str, names: list[str]) -> str:
    return f"{word} {', '.join(names)}"
