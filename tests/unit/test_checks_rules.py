"""Rules and classes by client, folder and name; size, ending and name; what weighs more. Pure."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config.checks import ChecksSettings, Rule, ScanSettings
from gateway.ingest.checks.rules import Rules, breach
from gateway.ingest.verdicts import (
    CHECK_FAILED,
    DAMAGED,
    DECLINED,
    RELEASED,
    SENTENCES,
    UNKNOWN_CLIENT,
    UNREADABLE,
    Verdict,
    released,
    verdict,
    worst,
)


def rules(**values: object) -> Rules:
    return Rules(ChecksSettings.model_validate(values))


def test_the_first_rule_that_matches_counts() -> None:
    found = rules(rules=[{"client": "acme", "folder": "/inbox/pay*", "largest_bytes": 1}, {"client": "a*", "largest_bytes": 2}])
    assert found.rule_for("acme", "/inbox/payroll/2026/a.pdf").largest_bytes == 1
    assert found.rule_for("acme", "/inbox/a.pdf").largest_bytes == 2
    assert found.rule_for("beta", "/inbox/a.pdf").largest_bytes is None


def test_capitals_count_as_small_letters() -> None:
    rule = rules(rules=[{"folder": "/inbox/Payroll", "forbidden_names": ["*.EXE"]}]).rule_for("acme", "/inbox/payroll/Setup.Exe")
    found = breach(rule, "/inbox/payroll/Setup.Exe", 1)
    assert found is not None and found.code == "name"


@pytest.mark.parametrize(
    ("values", "name", "size", "code"),
    [
        ({"smallest_bytes": 1}, "a.pdf", 0, "too-small"),
        ({"largest_bytes": 10}, "a.pdf", 11, "too-large"),
        ({"largest_bytes": 10}, "a.pdf", 10, None),
        ({"extensions": [".PDF"]}, "a.pdf", 1, None),
        ({"extensions": ["pdf"]}, "a.pdf.exe", 1, "ending"),
        ({"extensions": ["pdf"]}, "pdf", 1, "ending"),
        ({"extensions": ["pdf"]}, ".pdf", 1, "ending"),
        ({"forbidden_names": ["~$*"]}, "~$letter.docx", 1, "name"),
        ({}, "anything\n.exe", 1, None),
    ],
)
def test_a_breach_is_found(values: dict[str, object], name: str, size: int, code: str | None) -> None:
    rule = rules(rules=[values]).rule_for("acme", f"/inbox/{name}")
    found = breach(rule, f"/inbox/{name}", size)
    assert (found.code if found else None) == code
    assert found is None or found.state == "refused"


def test_a_rule_may_hold_instead() -> None:
    rule = rules(rules=[{"breach": "hold", "largest_bytes": 1}]).rule_for("acme", "/inbox/a")
    found = breach(rule, "/inbox/a", 2)
    assert found is not None and found.state == "held" and "waits" in found.reason


def test_a_class_comes_from_folder_name_and_type() -> None:
    payroll = {"folder": "/inbox/payroll*", "class": "payroll"}
    found = rules(classes=[payroll, {"type": "pdf", "class": "document"}, {"name": "*.csv", "class": "data"}])
    assert found.classes_need_type
    assert found.class_of("acme", "/inbox/payroll/a.pdf", "pdf") == "payroll"
    assert found.class_of("acme", "/inbox/a.bin", "pdf") == "document"
    assert found.class_of("acme", "/inbox/a.csv", "text") == "data"
    assert found.class_of("acme", "/inbox/a", "text") == ""


@pytest.mark.parametrize(
    "values",
    [
        {"rules": [{"largest": 1}]},
        {"rules": [{"breach": "accept"}]},
        {"classes": [{"name": "*"}]},
        {"classes": [{"class": "Not A Class"}]},
        {"memory_bytes": 1},
    ],
)
def test_mistakes_in_the_settings_are_found(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ChecksSettings.model_validate(values)


def test_a_command_scanner_needs_a_command() -> None:
    with pytest.raises(ValidationError, match="needs a command"):
        ScanSettings.model_validate({"scanner": "command"})


def test_a_refusal_outweighs_a_hold_and_a_hold_a_mark() -> None:
    marked, held, refused = verdict("unscanned", "accept"), verdict("unscanned", "hold"), verdict("virus", "refuse", "X")
    assert worst([marked, held, refused]) == refused
    assert worst([marked, held]) == held
    assert worst([Verdict("accepted"), marked]) == marked
    assert worst([]) == Verdict("accepted")


def test_every_sentence_ends_as_one() -> None:
    for code in SENTENCES:
        for otherwise in ("hold", "accept", "refuse"):
            found = verdict(code, otherwise, "some detail")  # type: ignore[arg-type]
            assert found.reason.endswith(".") and ".." not in found.reason and found.code == code


def test_a_released_paper_says_what_was_found() -> None:
    found = released(verdict("wrong-type", "hold", "it is program"))
    assert found.state == "accepted" and "program" in found.reason and found.code == "released"


def test_the_reference_names_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "checks.md").read_text("utf-8")
    fixed = {one.code for one in (DAMAGED, UNREADABLE, UNKNOWN_CLIENT, RELEASED, DECLINED, CHECK_FAILED)}
    assert [code for code in {*SENTENCES, *fixed} if f"`{code}`" not in page] == []


def test_the_reference_names_every_setting_of_a_rule() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "checks.md").read_text("utf-8")
    assert [name for name in Rule.model_fields if f"`{name}`" not in page] == []
