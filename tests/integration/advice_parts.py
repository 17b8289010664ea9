"""Following advice: what `doctor` and `status` print is taken as it stands, and done."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from config.cli import run
from nightsafe import cli

ROOT = Path(__file__).parents[2]
PAGE = re.compile(r"docs/[a-z0-9/-]+\.md(?:#[a-z0-9-]+)?")
SETTING = re.compile(r"in nightsafe\.toml, \[([a-z0-9_.-]+)\]: ([a-z0-9_]+) = (.*)")
COMMAND = re.compile(r"^(?:.*(?:: |then: ))?((?:sudo nightsafe|nightsafe|chmod|chown|mv|rm) .*)$")


def pieces(advice: str) -> list[str]:
    """The steps, in order."""
    return [piece.strip() for piece in advice.split("; ") if piece.strip()]


def commands(advice: str) -> list[str]:
    """The commands among them."""
    return [found[1] for piece in pieces(advice) if not piece.startswith("in nightsafe.toml") and (found := COMMAND.match(piece))]


def check_pages(advice: str) -> int:
    """Each page that is named is there, with its heading; how many were named."""
    for page in PAGE.findall(advice):
        path, _, anchor = page.partition("#")
        text = (ROOT / path).read_text("utf-8")
        headings = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines() if line.startswith("#")}
        assert not anchor or anchor in headings, page
    return len(PAGE.findall(advice))


def follow(advice: str, data: Path, said: dict[str, str], *, only: int | None = None) -> list[int]:
    """Do what the advice says, with the words of `said` for what only a person knows; the exit codes of the `nightsafe` commands."""
    codes, done = [], 0
    for piece in pieces(advice):
        for word, value in said.items():
            piece = piece.replace(word, value)
        if only is not None and done >= only:
            break
        if line := SETTING.fullmatch(piece):
            change_settings(data, line[1], line[2], line[3])
        elif not piece.startswith("in nightsafe.toml") and (found := COMMAND.match(piece)):
            words = shlex.split(found[1].removeprefix("sudo "))
            if words[0] == "nightsafe":
                codes.append(run(cli, words[1:]))
            else:
                subprocess.run(words, check=True)
        else:
            continue
        done += 1
    assert done or check_pages(advice), f"nothing to be done in: {advice}"
    check_pages(advice)
    return codes


def change_settings(data: Path, section: str, key: str, value: str) -> None:
    """One line of the settings, as somebody with an editor changes it: in its table, instead of what stood there."""
    path = data / "nightsafe.toml"
    lines = path.read_text().splitlines()
    if f"[{section}]" not in lines:
        lines.append(f"[{section}]")
    start = lines.index(f"[{section}]") + 1
    end = next((place for place in range(start, len(lines)) if lines[place].startswith("[")), len(lines))
    kept = [line for line in lines[start:end] if not re.match(rf"{key}\s*=", line)]
    path.write_text("\n".join([*lines[:start], f"{key} = {value}", *kept, *lines[end:]]) + "\n")
