"""`nightsafe config`: right or not, what holds and where it comes from, and a schema that accepts what the program accepts."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config.cli import run
from config.effective import COMMANDS, flat
from config.errors import SettingsError
from config.example import render_example
from config.folder import DataFolder
from config.loading import parse_settings
from config.settings import Settings
from gateway.commands.settings import settings_schema
from nightsafe import cli
from tests.integration.conftest import make_installation

TEXT = """
[gateway]
port = 2222

[retention]
days = { tax = 3650 }

[scan]
scanner = "command"
command = ["/bin/scan", "--token=hunter2"]

[[checks.rules]]
extensions = ["pdf"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = make_installation(tmp_path).folder
    made.settings.write_text(TEXT)
    return made


@pytest.fixture
def ask(folder: DataFolder, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def asked(*words: str) -> tuple[int, str]:
        code = run(cli, ["config", *words, "--data", str(folder.root)])
        out, err = capsys.readouterr()
        return code, out + err

    return asked


def shown(text: str) -> dict[str, tuple[Any, str]]:
    return {one["name"]: (one["value"], one["from"]) for one in json.loads(text)}


def test_each_value_and_where_it_comes_from(ask: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSAFE_SET_GATEWAY__WORKERS", "3")
    monkeypatch.setenv("NIGHTSAFE_SET_GATEWAY__PORT", "4444")
    found = shown(ask("show", "--effective", "--json")[1])
    assert found["gateway.workers"] == (3, "environment NIGHTSAFE_SET_GATEWAY__WORKERS")
    assert found["gateway.port"] == (4444, "environment NIGHTSAFE_SET_GATEWAY__PORT"), "the environment lies over the file"
    assert found["retention.days.tax"] == (3650, "nightsafe.toml:6")
    assert found["scan.scanner"] == ("command", "nightsafe.toml:9")
    assert found["gateway.settle_seconds"] == (0.2, "default")
    assert found["checks.rules"][0][0]["extensions"] == ["pdf"]
    code, text = ask("show", "--json")
    assert code == 0 and "gateway.settle_seconds" not in shown(text) and "retention.days.tax" in shown(text)


def test_no_secret_is_shown(ask: Callable[..., tuple[int, str]]) -> None:
    for words in (("show",), ("show", "--effective"), ("show", "--effective", "--json")):
        code, text = ask(*words)
        assert code == 0 and "hunter2" not in text and "(hidden)" in text


PLANTS = ("https://ops:hunter2@example.com/x", ["https://ops:hunter2@example.com/x"], ["/bin/x", "--token=hunter2"])


def test_a_secret_planted_in_any_setting_is_hidden() -> None:
    """Wherever an address with a password, or the arguments of a command, are accepted at all."""
    planted = set()
    for section, model in Settings.model_fields.items():
        for key in getattr(model.annotation, "model_fields", {}):
            for plant in PLANTS:
                if "Path" in str(model.annotation.model_fields[key].annotation):  # type: ignore[union-attr]
                    continue  # no address
                with contextlib.suppress(SettingsError):
                    found = flat(parse_settings(f"[{section}]\n{key} = {json.dumps(plant)}\n", "t", {}))
                    name = f"{section}.{key}"
                    if plant is PLANTS[2] and name not in COMMANDS:
                        continue  # a list of words that are no command
                    assert "hunter2" not in json.dumps([value.shown for value in found.values()]), name
                    planted.add(name)
    rest = '[pings.urls]\nbackup = "https://hc.example.com/hunter2"\n[[checks.rules]]\nforbidden_names = ["https://a:hunter2@b"]\n'
    assert "hunter2" not in json.dumps([value.shown for value in flat(parse_settings(rest, "t", {})).values()])
    assert {"s3.endpoint", "keys.kms_endpoint", "keys.master_command", "scan.command", "incident.contacts"} <= planted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[gateway]\nalgorithms = "nist"\n',
            "gateway.algorithms: there is no host key for the policy 'nist'; make it with: nightsafe host-key --nist",
        ),
        ('[s3]\nendpoint = "https://s3.example.com"\n', "s3.credentials_file: is not set"),
        ('[copies.x]\nurl = "rest:https://h/b"\n', "copies.x.credentials_file: is not set"),
        ('[web]\ntoken_file = "/none/token"\n', "web.token_file: /none/token is not there; make it"),
        ('[scan]\nclamd_config = "/none"\n', "scan.clamd_config: /none is not there; make it"),
        ('[keys]\nmaster_source = "kms"\n', "keys.kms_key is not set; name the key"),
        ('[keys]\nmaster_source = "command"\n', "keys.master_command is empty; as in"),
        ('[keys]\nmaster_file = "master.key"\n', "lies inside the data folder; move it elsewhere"),
        ('[notify.events]\nops = ["*"]\n', "notify: the file of receivers"),
        ("[gatway]\nport = 1\n", "1: gatway: is not a known setting; did you mean 'gateway'?"),
        ("[gateway]\nprot = 1\n", "2: gateway.prot: is not a known setting; did you mean 'port'?"),
        (
            '[checks]\n[[checks.rules]]\nname = "*"\n[[checks.rules]]\nclients = "acme"\n',
            "5: checks.rules.1.clients: is not a known setting; did you mean 'client'?",
        ),
        ('[checks]\n[[rules]]\nclient = "acme"\n', "2: rules: is not a known setting"),
        ('[gateway]\nalgorithms = "best"\n', "2: gateway.algorithms: must be 'modern', 'strict' or 'nist'"),
        ('[incident]\ncontacts = "me"\n', "2: incident.contacts: must be a list"),
        ("gateway = 3\n", "1: gateway: must be a table"),
        ("[gateway]\nport = \n", "(at line 2"),
    ],
)
def test_each_kind_of_mistake_says_where_and_what_to_do(ask: Callable[..., tuple[int, str]], tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "new.toml").write_text(text)
    code, told = ask("check", "--file", str(tmp_path / "new.toml"))
    assert code == 2 and says in told, told
    assert "lacking" in told or "docs/reference/settings.md" in told or "mend the line" in told


def test_check_names_all_mistakes_and_missing_files(ask: Callable[..., tuple[int, str]], folder: DataFolder, tmp_path: Path) -> None:
    code, text = ask("check")
    assert code == 0 and "are valid" in text
    (tmp_path / "new.toml").write_text('[gateway]\nport = "x"\ncolour = 1\n')
    code, text = ask("check", "--file", str(tmp_path / "new.toml"))
    assert code == 2 and "new.toml:2: gateway.port" in text and "new.toml:3: gateway.colour: is not a known setting" in text
    folder.settings.write_text('[s3]\nendpoint = "https://s3.example.com"\ncredentials_file = "../none.toml"\n')
    code, text = ask("check")
    assert code == 2 and "s3.credentials_file" in text
    folder.settings.write_text('[notify.events]\nops = ["backup.*"]\n')
    code, text = ask("check")
    assert code == 2 and "receivers" in text
    assert ask("check", "--file", str(tmp_path / "none.toml"))[0] == 2


def test_the_schema_accepts_what_holds_and_refuses_what_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = settings_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    judge = jsonschema.Draft7Validator(schema)
    assert list(judge.iter_errors(tomllib.loads(TEXT))) == []
    assert list(judge.iter_errors(tomllib.loads(render_example()))) == []
    for wrong in ("[gateway]\nport = 99999\n", "[gateway]\ncolour = 1\n", "[watch]\nsuspend = ['yes']\n", "[[checks.classes]]\nname = '*.pdf'\n"):
        assert list(judge.iter_errors(tomllib.loads(wrong))), wrong
    assert run(cli, ["config", "schema", "--out", str(tmp_path / "s.json")]) == 0
    capsys.readouterr()
    assert json.loads((tmp_path / "s.json").read_text()) == schema
    assert render_example().startswith("#:schema ./nightsafe.schema.json\n")
