"""Reviews that were done, as evidence: `evidence/access-review/N.json`, its signature (namespace audit@nightsafe), and its page `N.html`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.errors import CheckFailed, OutOfReach
from config.files import make_folder, write_whole
from config.folder import DataFolder
from gateway.audit.bundle import encode
from gateway.audit.signatures import AUDIT, SigningKey, sign

FORM = 1


@dataclass(frozen=True)
class Review:
    """One that was done. `values` are those of its JSON."""

    number: int
    values: Mapping[str, Any]

    @property
    def entries(self) -> list[dict[str, Any]]:
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


def _home(folder: DataFolder) -> Path:
    return folder.evidence / "access-review"


def _numbers(home: Path) -> list[int]:
    return sorted(int(path.stem) for path in home.glob("*.json") if path.stem.isdecimal())
