"""Every page: links lead somewhere, commands and settings exist, nothing tells of the machine that it was written on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from config.settings import Settings
from gateway.audit.events import Event
from nightsafe import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
COMMAND = re.compile(r"(?:^|[`$|(;]|&& )\s*(?:\.venv/bin/)?(nightsafe [^`#\n]*)", re.MULTILINE)
SETTING = re.compile(rf"`((?:{'|'.join(set(Settings.model_fields) - {'format'})})\.[a-z_]+)`")
PACKAGES = {f"gateway.{name}" for name in ("age", "audit", "catalog", "ingest", "jail", "keys", "sftp", "store")} | {"backup.report"}
NOT_SETTINGS = PACKAGES | {"s3.toml", "notify.toml", "watch.sqlite3"} | {event.value for event in Event}
NOT_COMMANDS = {"spool"}  # `nightsafe spool v1` is a label of the spool's keys


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as common forges make them."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name_of(page)}: {target}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for page in PAGES:
        if page.parts[-2] in ("tutorial", "how-to", "reference", "explanation"):
            title = next(line for line in page.read_text("utf-8").splitlines() if line.startswith("# "))[2:]
            assert f"- [{title}]({page.parts[-2]}/{page.name})\n" in index


def test_decisions_are_numbered_once_and_listed() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    assert [page.name[:4] for page in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    listed = re.findall(r"^\| \[(\d+)\]\((\S+)\) \|", (ROOT / "docs" / "adr" / "README.md").read_text("utf-8"), re.MULTILINE)
    assert listed == [(page.name[:4], page.name) for page in records]


def problem(words: list[str]) -> str:
    """What is wrong with a command line of ours; empty when nothing is."""
    command: click.Command = cli
    words = words[1:]
    while words and isinstance(command, click.Group):
        names = [name for name in re.split(r"[|]", words[0]) if name]
        context = click.Context(command)
        found = [command.get_command(context, name) for name in names]
        if not names or any(one is None for one in found):
            return "" if words[0].startswith(("-", "…", "[", "\\")) or words[0] in NOT_COMMANDS else f"there is no command {words[0]!r}"
        command, words = found[0] or command, words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h", "--version"}
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    return f"there is no option {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    for written in COMMAND.findall(page.read_text("utf-8")):
        line = written.split(" | ")[0].split(" > ")[0].split(" && ")[0].rstrip(" .,;:)")
        try:
            words = shlex.split(line)
        except ValueError:
            words = line.split()
        assert not problem(words), f"{name_of(page)}: {line}: {problem(words)}"


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert problem(["nightsafe", "backup", "ruin"])
    assert problem(["nightsafe", "drill", "run", "--fulll"])
    assert not problem(["nightsafe", "drill", "run", "--full", "--data", "DATA"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_exist(page: Path) -> None:
    for dotted in set(SETTING.findall(page.read_text("utf-8"))) - NOT_SETTINGS:
        section, key = dotted.split(".")
        assert key in type(getattr(Settings(), section)).model_fields, f"{name_of(page)}: there is no setting {dotted}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_tells_of_the_machine(page: Path) -> None:
    text = page.read_text("utf-8")
    assert not re.search(r"/tmp/\w+-try|/root/|/home/\w+", text), name_of(page)


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
