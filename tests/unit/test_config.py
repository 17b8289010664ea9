"""Settings: defaults, faults all at once with line and key, the environment, and the generated example."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from config.effective import flat
from config.errors import Exit, SettingsError
from config.example import render_example
from config.loading import line_of, open_installation, parse_settings
from config.logging import HIDDEN, hide_secrets
from config.settings import CopySettings, Settings

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
