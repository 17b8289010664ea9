"""Settings: defaults, faults all at once with line and key, the environment, and the generated example."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest

from config.checks import Rule
from config.effective import flat
from config.errors import Exit, SettingsError
from config.example import render_example
from config.hiding import HIDDEN, hide_secrets
from config.loading import line_of, open_installation, parse_settings
from config.section import Section
from config.settings import CopySettings, Settings
from config.words import all_of, counted, noun

FAULTY = """\
[gateway]
port = 99999
settle = 1

[s3]
endpoint = "ftp://x"

[backup]
schedule = "often"
timezone = "Mars/Olympus"

[bakcup]
x = 1
"""


def test_all_faults_are_shown_at_once_with_line_and_key() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(FAULTY, "nightsafe.toml", {"NIGHTSAFE_SET_LOG__LEVEL": "loud"})
    text = str(caught.value)
    assert caught.value.exit_code == Exit.USAGE
    assert "7 mistakes" in text
    for expected in (
        "nightsafe.toml:2: gateway.port",
        "nightsafe.toml:3: gateway.settle: is not a known setting",
        "nightsafe.toml:6: s3.endpoint",
        "nightsafe.toml:9: backup.schedule",
        "nightsafe.toml:10: backup.timezone",
        "nightsafe.toml:12: bakcup: is not a known setting",
        "environment NIGHTSAFE_SET_LOG__LEVEL",
    ):
        assert expected in text


def test_broken_toml_names_the_line() -> None:
    with pytest.raises(SettingsError, match="line 2"):
        parse_settings("[gateway]\nport = \n", "nightsafe.toml", {})


def test_a_section_that_stands_twice_has_a_place() -> None:
    with pytest.raises(SettingsError, match="line 3") as raised:
        parse_settings("[retention]\n[log]\n[retention]\n", "nightsafe.toml", {})
    assert "in the file already" in str(raised.value.hint)


def test_the_example_means_all_defaults_and_shows_every_key() -> None:
    text = render_example()
    assert parse_settings(text, "example", {}) == Settings()
    assert (Path(__file__).parents[2] / "config" / "nightsafe.example.toml").read_text() == text
    for name, section in Settings():
        if name != "format":
            fields = CopySettings.model_fields if name == "copies" else type(section).model_fields
            assert all(f"# {key} = " in text for key in fields)


def test_the_environment_lies_over_the_file() -> None:
    settings = parse_settings("[gateway]\nport = 22\n", "x", {"NIGHTSAFE_SET_GATEWAY__PORT": "2222"})
    assert settings.gateway.port == 2222


def test_lines_of_dotted_keys_and_tables() -> None:
    assert line_of("a.b = 1\n[c]\nd = 2\n", ("a", "b")) == 1
    assert line_of("a.b = 1\n[c]\nd = 2\n", ("c", "d")) == 3
    assert line_of("[c]\n", ("x",)) is None
    rules = '[c]\n[[c.rules]]\nname = "a"\n[[c.rules]]\nname = "b"\n[d]\nname = "c"\n'
    assert [line_of(rules, keys) for keys in (("c", "rules"), ("c", "rules", "1"), ("c", "rules", "1", "name"), ("d", "name"))] == [2, 4, 5, 7]


@pytest.mark.parametrize(
    ("version", "expected"),
    [(None, "not a finished data folder"), ("2", "knows up to 1"), ("x", "does not hold a number")],
)
def test_a_data_folder_that_is_half_made_or_newer_is_refused(tmp_path: Path, version: str | None, expected: str) -> None:
    if version:
        (tmp_path / "VERSION").write_text(version)
    with pytest.raises(SettingsError, match=expected) as caught:
        open_installation(tmp_path)
    assert caught.value.hint


def test_a_missing_data_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist") as caught:
        open_installation(tmp_path / "none")
    assert "nightsafe init" in caught.value.hint


def test_secrets_are_hidden_from_the_log() -> None:
    event = hide_secrets(None, "info", {"event": "x", "password": "p", "note": "AGE-SECRET-KEY-1ABC", "path": "/inbox"})
    assert event == {"event": "x", "password": HIDDEN, "note": HIDDEN, "path": "/inbox"}


def test_every_line_of_the_log_names_its_role() -> None:
    program = (
        "import structlog, threading; from config.logging import set_up_logging; set_up_logging('keyd')\n"
        "work = threading.Thread(target=lambda: structlog.get_logger().info('in.thread')); work.start(); work.join()"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=Path(__file__).parents[2]).stderr
    assert json.loads(said)["role"] == "keyd"


def test_an_address_that_is_pinged_is_shown_without_its_secret() -> None:
    settings = parse_settings('[pings]\nurls = { backup = "https://hc-ping.com/secret-uuid", "copy:nas" = "http://[::1]:8000/ping/x" }\n', "x", {})
    found = flat(settings)
    assert [found[f"pings.urls.{job}"].shown for job in ("backup", "copy:nas")] == [f"https://hc-ping.com/{HIDDEN}", f"http://[::1]:8000/{HIDDEN}"]
    assert not [value for value in found.values() if "secret-uuid" in str(value.shown)]


# What a key of each kind refuses, as it would stand in the file.
REFUSED = {
    bool: ("1", "0", "1.0", '"true"', '"yes"', "[true]", "{}", "2026-01-31"),
    int: ("true", "false", "1.0", '"12"', "[12]", "{}", "nan", "2026-01-31"),
    float: ("true", '"1.5"', "[1.5]", "{}", "nan", "inf", "08:00:00"),
    str: ("1", "1.5", "true", '["x"]', "{}", "2026-01-31", "08:00:00"),
    Path: ("1", "true", '["x"]', "{}", "2026-01-31"),
    tuple: ('"x"', "1", "true", "[1]", "[true]", "[[]]", "{}", "2026-01-31"),
    dict: ('"x"', "1", "true", "[1]", "{ x = true }", "{ x = 1.5 }", '{ x = "1" }', "{ x = [1] }", "2026-01-31"),
    Literal: ('"no such word"', '""', "1", "true", "[]", "{}"),
}


def keys_of(model: type[Section], prefix: str) -> Iterator[tuple[str, Any]]:
    """Every key with its kind; a table of the user's own names by one of them, a list of tables by one entry."""
    for name, field in model.model_fields.items():
        kind = get_args(field.annotation)[0] if NoneType in get_args(field.annotation) else field.annotation
        inner = get_args(kind)[-1] if get_origin(kind) is dict else kind
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from keys_of(inner, f"{prefix}{name}." if inner is kind else f"{prefix}{name}.nas.")
        else:
            yield f"{prefix}{field.alias or name}", get_origin(kind) or kind


def test_every_key_refuses_what_is_of_another_type() -> None:
    """1 is not true, "12" is no number, 12.0 is not whole: whoever wrote it meant something else, or will read it differently next year."""
    keys = [*keys_of(Settings, ""), *((f"checks.rules.{name}", kind) for name, kind in keys_of(Rule, ""))]
    assert len(keys) > 150
    for dotted, kind in keys:
        *tables, key = dotted.split(".")
        header = f"[[{'.'.join(tables)}]]" if tables[:2] == ["checks", "rules"] else f"[{'.'.join(tables)}]" if tables else ""
        for written in REFUSED[kind]:
            with pytest.raises(SettingsError) as caught:
                parse_settings(f"{header}\n{key} = {written}\n", "x", {})
            assert key in str(caught.value), (dotted, written)
            assert re.search("must be|is not a known setting|is no job", str(caught.value)), (dotted, written)


def test_the_environment_knows_no_types_and_is_read_by_the_key() -> None:
    laid = {"GATEWAY__PORT": "2222", "GATEWAY__NOTICE_VERSION": "7", "GATEWAY__FAST_PATH": "false", "RETENTION__DAYS__TAX": "3650",
            "COPIES__NAS__OFFSITE": "true", "COPIES__NAS__URL": "/mnt/nas", "DRILL__MAX_AGE_HOURS": "2.5"}  # fmt: skip
    settings = parse_settings("", "x", {f"NIGHTSAFE_SET_{name}": text for name, text in laid.items()})
    assert (settings.gateway.port, settings.gateway.notice_version, settings.gateway.fast_path) == (2222, "7", False)
    assert (settings.retention.days, settings.copies["nas"].offsite, settings.drill.max_age_hours) == ({"tax": 3650}, True, 2.5)
    with pytest.raises(SettingsError, match="environment NIGHTSAFE_SET_GATEWAY__PORT: must be a whole number"):
        parse_settings("", "x", {"NIGHTSAFE_SET_GATEWAY__PORT": "2222.5"})


def test_counts_are_written_as_people_do() -> None:
    assert (counted(0, "paper"), counted(1, "paper"), counted(2, "paper")) == ("0 papers", "1 paper", "2 papers")
    assert (counted(1, "entry is", "entries are"), counted(2, "entry is", "entries are")) == ("1 entry is", "2 entries are")
    assert (noun(0, "paper"), noun(1, "paper"), noun(1, "was", "were"), noun(2, "was", "were")) == ("papers", "paper", "was", "were")
    assert (all_of(1, "paper was", "papers were"), all_of(3, "paper was", "papers were")) == ("The only paper was", "All 3 papers were")
