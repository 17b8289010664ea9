"""The receipt of a paper: what it says and what it is called. Pure; nothing is written here.

A receipt is a function of the catalog's row and of one hash of the audit chain, so that writing it again gives the same receipt. Beside NAME
lies NAME.sig, an SSH signature (namespace receipt@nightsafe) that `ssh-keygen -Y verify` checks: docs/how-to/check-a-receipt.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from config.printable import json_line
from gateway.catalog.names import receipt_name
from gateway.catalog.rows import Paper

VERSION = 1  # of the receipt's form, in "nightsafe_receipt"
FOLDER = "receipts"
SIGNATURE_SUFFIX = ".sig"


def receipt_path(paper: Paper) -> str:
    """The virtual path of the receipt: /receipts/YYYY-MM-DD/NAME.ID.json, the day (UTC) being that of arrival."""
    day = paper.received_at.astimezone(UTC).date().isoformat()
    return f"/{FOLDER}/{day}/{receipt_name(paper.path, paper.id)}"


def receipt_body(paper: Paper, audit_head: str, manifest: Mapping[str, Any] | None = None) -> bytes:
    """The receipt as it lies in the jail: JSON in UTF-8, keys sorted. `audit_head` is a hash (hex) of our audit chain that covers the paper.

    `manifest` is for a paper that is one: how its lines compare with what arrived. Characters of names that would steer a terminal, or turn the
    writing around, stand there as JSON escapes them.
    """
    return (json_line(_facts(paper, audit_head, manifest), indent=2, sort_keys=True) + "\n").encode()


def _facts(paper: Paper, audit_head: str, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "nightsafe_receipt": VERSION,
        "client": paper.client,
        "person": paper.person,
        "paper": paper.id,
        "path": paper.path,
        "name": _name(paper),
        "version": paper.version,
        "size": paper.size,
        "sha256": paper.sha256,
        "received_at": rfc3339(paper.received_at),
        "sealed_at": rfc3339(paper.sealed_at),
        "verdict": paper.state,
        "reason": paper.reason,
        "code": paper.code,
        "class": paper.class_name or None,
        "audit_head": audit_head,
    }
    if manifest is not None:
        facts["manifest"] = manifest
    return facts


def is_receipt_of(paper: Paper, body: bytes, manifest: Mapping[str, Any] | None = None) -> bool:
    """Whether `body` is the receipt of `paper`, whichever place of the audit chain it names."""
    try:
        facts = json.loads(body)
    except (ValueError, RecursionError):
        return False
    head = facts.get("audit_head") if isinstance(facts, dict) else None
    if not isinstance(head, str):
        return False
    plainly = json.dumps(_facts(paper, head, manifest), ensure_ascii=False, indent=2, sort_keys=True) + "\n"  # as earlier versions wrote it
    return body in (receipt_body(paper, head, manifest), plainly.encode())


def rfc3339(moment: datetime) -> str:
    """`2024-05-17T09:30:00.123456Z`: always UTC, always microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _name(paper: Paper) -> str:
    return paper.path.rpartition("/")[2]
