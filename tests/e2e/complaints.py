"""What every refusal owes a person: the right exit code, a message and a hint on standard error, and not one word of a traceback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from backup.bucket import list_names
from backup.repositories.access import access
from config.loading import open_installation
from gateway.keys.secrets import role_secrets
from tests.e2e.house import House


def plain_lines(stderr: bytes) -> list[str]:
    """Standard error without the log's JSON lines."""
    return [line for line in stderr.decode().splitlines() if line.strip() and not line.startswith("{")]


def assert_complains(done: subprocess.CompletedProcess[bytes], code: int, *words: str, lines: int = 2) -> list[str]:
    """`done` failed with `code`, said all of `words`, in at most so many lines: what is wrong, and what to do. The lines."""
    text, said = done.stderr.decode(), plain_lines(done.stderr)
    shown = f"exit {done.returncode}\n{done.stdout.decode(errors='replace')}\n{text}"
    assert done.returncode == code, shown
    for forbidden in ("Traceback", "a defect of Nightsafe", "\\x0a", "AGE-SECRET-KEY"):
        assert forbidden not in text + done.stdout.decode(errors="replace"), shown
    complaint = said[[line.startswith("nightsafe: ") for line in said].index(True) :] if any(line.startswith("nightsafe: ") for line in said) else []
    assert complaint, shown
    assert 2 <= len(complaint) <= lines, shown
    for word in words:
        assert word in "\n".join(complaint), f"{word!r} is missing\n{shown}"
    return complaint


def tree_of(folder: Path) -> dict[str, str]:
    """Every path below `folder` with the hash of its content; without run/, whose files are worthless once their process has ended."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "run"]
        for name in folders:
            found[str(Path(place, name).relative_to(folder))] = "folder"
        for name in files:
            path = Path(place, name)
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def processes_of(house: House) -> list[str]:
    """Command lines of living processes of Nightsafe or its helpers that name this house's folders."""
    return processes_named(str(house.home))


def processes_named(text: str) -> list[str]:
    """Command lines of living processes that hold this text."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if text.encode() in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def repositories(house: House) -> list[str]:
    """Names of all objects in the bucket of the embedded server."""
    installation = open_installation(house.data, house.environment)
    secrets = role_secrets(installation, "s3", dict(house.environment))
    return list_names(access(installation, "reader", secrets), "")


def log_is_clean(house: House) -> None:
    """No traceback in what the roles printed."""
    text = house.log.read_text(errors="replace") if house.log.exists() else ""
    assert "Traceback" not in text and "unexpected" not in text, text[-6000:]


def events(house: House, event: str) -> list[dict[str, object]]:
    """Lines of the roles' log with this event."""
    found = [json.loads(line) for line in house.log.read_text(errors="replace").splitlines() if line.startswith("{")]
    return [line for line in found if line.get("event") == event]


@dataclass(frozen=True)
class Case:
    """How to break an installation, what to run, and what must be said. `{home}` stands for the folder of the house."""

    name: str
    broken: Callable[[House], object]
    arguments: tuple[str, ...]
    code: int
    words: tuple[str, ...]
    lines: int = 2


def nothing(_: House) -> None:
    """A sound installation."""


def setting(name: str, value: str) -> Callable[[House], object]:
    """Lay a setting over the file."""
    return lambda house: house.environment.update({f"NIGHTSAFE_SET_{name}": value.replace("{home}", str(house.home))})


def parameters(cases: list[Case], usual: set[str]) -> list[ParameterSet]:
    """The cases, those that are not `usual` marked as long."""
    return [pytest.param(case, id=case.name, marks=[] if case.name in usual else [pytest.mark.long]) for case in cases]
