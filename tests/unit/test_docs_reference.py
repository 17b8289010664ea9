"""The generated pages are in step with the program, and what formats.md says is what the code does."""

from __future__ import annotations

import ast
import json
import re
from datetime import UTC, datetime
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import click
import pytest

from backup.drill.judge import Cause
from config.errors import Exit
from config.folder import DataFolder
from config.grammar import TABLE, described
from gateway.audit.events import Event
from gateway.audit.lines import canonical, decode_line
from gateway.catalog.rows import Paper
from gateway.ingest.receipts import receipt_body, receipt_path
from gateway.jail import pointers
from gateway.store import format as spool
from nightsafe import cli

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    loader = SourceFileLoader("scripts_docs", str(ROOT / "scripts" / "docs"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def formats() -> str:
    return (REFERENCE / "formats.md").read_text("utf-8")


def test_the_generated_pages_are_in_step(generator: ModuleType) -> None:
    for name, text in generator.pages().items():
        assert (REFERENCE / name).read_text("utf-8") == text, f"docs/reference/{name}: run .venv/bin/python scripts/docs"


def test_the_table_for_the_tab_key_is_in_step() -> None:
    assert json.loads(TABLE.read_text("utf-8")) == described(cli, click.Context(cli)), "config/grammar.json: run .venv/bin/python scripts/docs"


def test_every_event_is_told_of_and_no_other(generator: ModuleType) -> None:
    assert set(generator.EVENTS) == {event.value for event in Event}


RECORDERS = {"append", "record", "_record", "_write"}


def events_in_code() -> list[tuple[str, str, set[str]]]:
    """(place, event, fields given by name) of every call that records an event."""
    found = []
    for path in sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "backup").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "attr", getattr(node.func, "id", "")) not in {
                "append",
                "record",
                "_record",
                "_write",
            }:
                continue
            for part in [inner for argument in node.args for inner in ast.walk(argument)]:
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "Event":
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg} - {"durable"}
                    found.append((f"{path.name}:{node.lineno}", Event[part.attr].value, fields))
    return found


def test_every_field_that_the_code_records_is_told_of(generator: ModuleType) -> None:
    calls = events_in_code()
    assert len(calls) > 25
    for place, event, fields in calls:
        assert fields <= set(generator.EVENTS[event][1]), f"{place}: {event} has fields that docs/reference/events.md does not tell of"


def test_an_event_without_a_writer_is_not_written(generator: ModuleType) -> None:
    written = {event for _, event, _ in events_in_code()} | {"drill.passed", "drill.failed", "drill.inconclusive"}
    assert {event for event, (who, _, _) in generator.EVENTS.items() if not who} == {event.value for event in Event} - written


def test_every_exit_code_is_told_of() -> None:
    text = (REFERENCE / "exit-codes.md").read_text("utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d) \|", text, re.MULTILINE)} == {code.value for code in Exit}


def block(heading: str, language: str) -> str:
    """The first code block of that language below a heading of formats.md."""
    rest = formats().split(f"\n## {heading}\n", 1)[1]
    found = re.search(rf"```{language}\n(.*?)```", rest, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_pointer_of_the_page_is_one() -> None:
    pointer = pointers.decode(block("Pointer", "json").encode())
    assert pointer.encode().decode() == block("Pointer", "json")


def test_the_receipt_of_the_page_has_the_form_of_a_real_one() -> None:
    shown = json.loads(block("Receipt", "json"))
    moment = datetime.fromisoformat
    paper = Paper(
        id=shown["paper"],
        client=shown["client"],
        path=shown["path"],
        person=shown["person"],
        state=shown["verdict"],
        reason=shown["reason"],
        size=shown["size"],
        sha256=shown["sha256"],
        received_at=moment(shown["received_at"]),
        sealed_at=moment(shown["sealed_at"]),
        modified_at=datetime(2026, 1, 1, tzinfo=UTC),
        generation=1,
        header_mac="",
        sealed_sha256="",
        sealed_size=0,
        session="",
        address="",
        version=shown["version"],
        receipted=True,
    )
    assert receipt_body(paper, shown["audit_head"]).decode() == block("Receipt", "json")
    assert receipt_path(paper) in formats()


def test_the_audit_line_of_the_page_is_one() -> None:
    line = block("Audit log", "json").strip()
    record = decode_line(line.encode())
    assert record is not None
    assert canonical(record).decode() == line


@pytest.mark.parametrize("name", ["HEADER_SIZE", "HEAD", "TAG", "NONCE", "MAC", "STRIDE", "TRAILER", "BLOCK"])
def test_the_sizes_of_the_spool_file_stand_in_the_page(name: str) -> None:
    assert re.search(rf"\b{getattr(spool, name):,}\b", formats().split("## Spool file", 1)[1]), name


def test_the_page_names_every_cause_of_a_bad_paper() -> None:
    for cause in Cause:
        assert f"`{cause.value}`" in formats()


def test_the_page_names_every_part_of_the_data_folder() -> None:
    tree = formats().split("## Data folder", 1)[1].split("\n## ", 1)[0]
    folder = DataFolder(Path("/DATA"))
    for name in [name for name, value in vars(DataFolder).items() if isinstance(value, property)]:
        top = getattr(folder, name).relative_to("/DATA").parts[0]
        assert top in tree, f"{name}: {top} is not in docs/reference/formats.md"
