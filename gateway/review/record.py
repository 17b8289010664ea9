"""A review as rows, and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.audit import page
from gateway.review.access import Differences, Entry, remarks
from gateway.review.kept import Review

COLUMNS = ("client", "person", "role", "state", "may", "since, by", "last used", "factors", "keys (days)", "look at")


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
