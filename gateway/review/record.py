"""Reviews that were done, as evidence: `evidence/access-review/N.json`, its signature (namespace audit@nightsafe), and its page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from config.errors import CheckFailed, OutOfReach
from config.files import make_folder, write_whole
from config.folder import DataFolder
from gateway.audit import page
from gateway.audit.bundle import encode
from gateway.audit.signatures import AUDIT, SigningKey, sign
from gateway.review.access import Differences, Entry, remarks

FORM = 1
COLUMNS = ("client", "person", "role", "state", "may", "since, by", "last used", "factors", "keys (days)", "look at")


@dataclass(frozen=True)
class Review:
    """One that was done. `values` are those of its JSON."""

    number: int
    values: Mapping[str, Any]

    @property
    def entries(self) -> list[Entry]:
        return list(self.values["entries"])


def last_review(folder: DataFolder) -> Review | None:
    """The newest review; None before the first. Raises CheckFailed when it cannot be read."""
    numbers = _numbers(_home(folder))
    if not numbers:
        return None
    path = _home(folder) / f"{numbers[-1]}.json"
    try:
        values = json.loads(path.read_bytes())
        return Review(numbers[-1], {**values, "entries": [dict(entry) for entry in values["entries"]]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckFailed(f"the last review {path} cannot be read", "restore it from a backup; its SHA-256 stands in the audit log") from error


def keep_review(folder: DataFolder, values: Mapping[str, Any], html: str, signer: SigningKey) -> tuple[int, str]:
    """Write a review that was done; its number and the SHA-256 of its JSON. Raises OutOfReach."""
    home = _home(folder)
    try:
        make_folder(home)
        number = (_numbers(home) or [0])[-1] + 1
        body = encode({"nightsafe_access_review": FORM, "review": number, **values})
        write_whole(home / f"{number}.html", html.encode(errors="backslashreplace"))
        write_whole(home / f"{number}.json.sig", sign(signer, AUDIT, body).encode())
        write_whole(home / f"{number}.json", body)
    except OSError as error:
        raise OutOfReach(f"the review could not be written: {error.strerror}", "make space on the disk of the data folder, then again") from error
    return number, hashlib.sha256(body).hexdigest()


def render(found: Sequence[Entry], changes: Differences | None, before: Review | None, facts: Mapping[str, object], now: datetime) -> str:
    """The page of a review, to be printed and signed by hand where that is wanted."""
    parts = [page.opening("Who can reach what"), page.facts(facts)]
    if before is not None and changes is not None:
        parts.append(page.heading(f"Changed since review {before.number}, {str(before.values.get('reviewed_at', ''))[:10]}"))
        parts.append(page.table(("what", "client", "person", "how"), difference_rows(changes)) if len(changes) else page.paragraph("Nothing."))
    parts += [page.heading("All"), page.table(COLUMNS, (cells(entry, now) for entry in found))]
    parts.append(page.paragraph("Whoever may run commands as the operator of the machine reaches everything, and is in the audit log.", "soft"))
    return "".join([*parts, page.CLOSING])


def cells(entry: Entry, now: datetime) -> tuple[str, ...]:
    """An entry as a row of COLUMNS."""
    return (
        entry["client"],
        entry["person"],
        entry["role"],
        entry["state"],
        "; ".join(f"/{folder}: {word}" for folder, word in entry["rights"].items()),
        f"{str(entry['since'])[:10]} {entry['granted_by']}".strip(),
        str(entry["last_used"] or entry["last_login"] or "never")[:10],
        " or ".join(entry["required"]),
        ", ".join(str(key["age_days"]) for key in entry["keys"]),
        ", ".join(remarks(entry, now)),
    )


def difference_rows(changes: Differences) -> list[tuple[str, str, str, str]]:
    """Differences as rows: what, client, person, how."""
    rows = [("new", entry["client"], entry["person"], f"{entry['role']}, by {entry['granted_by'] or 'unknown'}") for entry in changes.came]
    rows += [("gone", entry["client"], entry["person"], entry["role"]) for entry in changes.went]
    for entry, fields in changes.changed:
        told = "; ".join(f"{name}: {_short(name, old)} → {_short(name, new)}" for name, (old, new) in fields.items())
        rows.append(("changed", entry["client"], entry["person"], told))
    return rows


def _short(name: str, value: Any) -> str:
    if name == "keys":
        return ", ".join(str(key["fingerprint"])[:19] for key in value or ()) or "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _home(folder: DataFolder) -> Path:
    return folder.evidence / "access-review"


def _numbers(home: Path) -> list[int]:
    return sorted(int(path.stem) for path in home.glob("*.json") if path.stem.isdecimal())
