"""Every command says what it does and shows how it is used; shells complete it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from config.cli import Moment
from config.folder import DataFolder
from config.grammar import built
from gateway.catalog import Catalog
from gateway.completing import named
from gateway.ingest.aside import aside_path
from gateway.store import SealedPaper, Vault
from nightsafe import COMMANDS, cli
from tests.integration.catalog_rows import accepted_row


def commands(command: click.Command, context: click.Context, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    if not isinstance(command, click.Group) or (words and command.invoke_without_command):
        yield " ".join(words), command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, click.Context(inner, parent=context, info_name=name), (*words, name))


ALL = dict(commands(cli, click.Context(cli)))


def example_of(words: str) -> str:
    """The example that a command's help shows, as one line."""
    return " ".join((ALL[words].help or "").split("Example: ", 1)[1].split("\n\n")[0].split())


def test_there_are_many() -> None:
    assert len(ALL) > 80


@pytest.mark.parametrize("words", ALL)
def test_each_help_has_an_example_of_this_very_command(words: str) -> None:
    text = ALL[words].help or ""
    assert text.strip() and "Example: " in text, f"nightsafe {words} --help shows no example"
    assert f"nightsafe {words}" in example_of(words), f"the example of nightsafe {words} is of another command"


@pytest.mark.parametrize("words", ALL)
def test_the_options_of_the_example_exist(words: str) -> None:
    command = ALL[words]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.split("=")[0] for word in shlex.split(example_of(words).replace("$(", "").replace(")", "")) if word.startswith("--")}
    assert asked <= known | {"--json", "--data"}


def test_no_overview_cuts_a_sentence_off() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        group = cli.get_command(context, name)
        if isinstance(group, click.Group):
            overview = group.get_help(click.Context(group, parent=context, info_name=name, terminal_width=80)).replace("[ARGS]...", "")
            assert "..." not in overview, name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str) -> None:
    done = subprocess.run([sys.executable, "-m", "nightsafe", "completion", shell], capture_output=True, text=True, check=True)
    assert "_NIGHTSAFE_COMPLETE" in done.stdout


@pytest.mark.long
def test_a_real_bash_completes_commands_and_options() -> None:
    """What the Tab key does: the function of the script, with the words of the line."""
    lines = {"nightsafe defen": "defender", "nightsafe client e": "edit", "nightsafe audit show --pers": "--person"}
    script = ['eval "$(nightsafe completion bash)"', "complete -p nightsafe"]
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    for line in lines:
        words = line.split()
        script.append(f"COMP_WORDS=({line}) COMP_CWORD={len(words) - 1} COMPREPLY=()")
        script.append('_nightsafe_completion nightsafe; echo "${COMPREPLY[*]}"')
    done = subprocess.run(["bash", "-c", "\n".join(script)], env=environment, capture_output=True, text=True, check=True)
    registered, *completed = done.stdout.splitlines()
    assert "_nightsafe_completion" in registered and completed == list(lines.values()), done.stderr


def test_names_are_completed_without_importing_the_commands() -> None:
    code = (
        "import sys\nfrom config.cli import run\nfrom nightsafe import cli\n"
        "try:\n    run(cli, [])\nfinally:\n    sys.stderr.write(str(sorted(name for name in sys.modules if name.startswith('gateway.'))))\n"
    )
    environment = {**os.environ, "_NIGHTSAFE_COMPLETE": "bash_complete", "COMP_WORDS": "nightsafe ca", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,ca", "plain,catalog"] and done.stderr == "[]"
    assert {"ca", "catalog"} <= set(COMMANDS)


def test_the_tab_key_imports_nothing_that_the_commands_need(tmp_path: Path) -> None:
    code = (
        "import sys, nightsafe\ntry:\n    nightsafe.main()\nfinally:\n"
        "    heavy = {'sqlalchemy', 'pydantic', 'asyncssh', 'boto3', 'rich', 'cryptography', 'gateway.catalog', 'gateway.commands', 'backup'}\n"
        "    sys.stderr.write(str(sorted(heavy & set(sys.modules))))\n"
    )
    environment = {**os.environ, "_NIGHTSAFE_COMPLETE": "bash_complete", "COMP_WORDS": "nightsafe client sus", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("plain,suspend\n", "[]")


def test_the_table_for_the_tab_key_completes_as_the_commands_do() -> None:
    def offered(command: click.Command, words: tuple[str, ...], begun: str) -> list[tuple[str, str]]:
        found = BashComplete(command, {}, "nightsafe", "_NIGHTSAFE_COMPLETE").get_completions(list(words), begun)
        return [(item.value, item.type) for item in found]

    tabled = built(named)
    for words, command in ALL.items():
        for begun in ("", "--"):
            assert offered(tabled, tuple(words.split()), begun) == offered(cli, tuple(words.split()), begun), words
        for option in (one for one in command.params if isinstance(one, click.Option) and not one.is_flag and one.name != "data"):
            line = (*words.split(), option.opts[0])
            assert offered(tabled, line, "") == offered(cli, line, ""), line


def test_what_lies_in_the_data_folder_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tabled = DataFolder(tmp_path), built(named)

    def offered(*words: str) -> list[str]:
        return [item.value for item in BashComplete(tabled, {}, "nightsafe", "_NIGHTSAFE_COMPLETE").get_completions(list(words[:-1]), words[-1])]

    monkeypatch.setenv("NIGHTSAFE_DATA", str(tmp_path))
    names = [
        "/inbox/a.txt",
        "/inbox/über.txt",
        "/inbox/$(id).txt",
        "/inbox/a b",
        "/inbox/`id`",
        "/inbox/a;b",
        "/inbox/a\nb",
        "/inbox/a:b",
        "/outbox/c",
    ]
    with Catalog.create(folder.catalog) as catalog:
        catalog.add_client("acme", custody="managed", recipient="age1x")
        catalog.add_client("zeta", custody="managed", recipient="age1x")
        for number, path in enumerate([*names, "/inbox/a.txt"]):
            catalog.record([accepted_row(f"{number:032x}", SealedPaper(1, 1, "0" * 64, "0" * 64), client="acme", path=path)])
        run = catalog.start_run("backup")
        catalog.finish_run(run, "passed", snapshot="63bdd4deb757")
    assert offered("files", "get", "acme", "/inbox/") == ["/inbox/a.txt", "/inbox/über.txt"], "what a shell would take for more is not offered"
    assert offered("files", "get", "zeta", "") == []
    assert offered("files", "get", "acme", "/inbox/a.txt", "--version", "") == ["2", "1"]
    [moment] = offered("restore", "acme", "--at", "")
    assert 0 <= (Moment().convert(moment, None, None) - datetime.now(UTC)).total_seconds() + 60 <= 62 and ":" not in moment
    assert f"{datetime.now(UTC):%Y-%m-01}" in offered("audit", "export", "--from", "")
    assert offered("person", "add", "zoe", "--staff", "acme,") == ["acme,zeta"]
    (folder.evidence / "incidents" / "12").mkdir(parents=True)
    sealed = [Vault(folder.quarantine).path("acme", f"{number:032x}") for number in (7, 8)]
    for path in (*sealed, aside_path(folder.quarantine, "acme", f"{9:032x}")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder.settings.write_text('[copies.cellar]\nurl = "x"\n[notify.events]\nops = ["drill.*"]\n')
    assert offered("incident", "show", "") == ["12"]
    assert offered("quarantine", "show", "") == [f"{number:032x}" for number in (9, 8, 7)]
    assert offered("backup", "copy", "") == offered("restore", "acme", "--from", "") == ["cellar"]
    assert offered("notify", "test", "") == ["ops"]
    folder.settings.write_text("no = [settings")
    assert offered("backup", "copy", "") == []


def test_names_in_the_catalog_are_completed_for_who_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(*words: str) -> list[str]:
        return [item.value for item in BashComplete(cli, {}, "nightsafe", "_NIGHTSAFE_COMPLETE").get_completions(list(words[:-1]), words[-1])]

    path = DataFolder(tmp_path).catalog
    with Catalog.create(path) as catalog:
        for name in ("acme", "acorn", "zeta"):
            catalog.add_client(name, custody="managed", recipient="age1x")
        catalog.add_person("ann", role="staff", clients=("acme",))
        first, drill = (catalog.start_run(kind) for kind in ("backup", "drill"))
    monkeypatch.setenv("NIGHTSAFE_DATA", str(tmp_path))
    assert offered("client", "show", "ac") == ["acme", "acorn"]
    assert offered("audit", "show", "--person", "") == ["ann"]
    assert offered("drill", "show", "") == [str(drill)] != [str(first)]
    assert offered("client", "add", "") == []  # its name is new
    path.write_bytes(b"no database, to be sure")
    assert offered("client", "show", "") == []
    monkeypatch.setenv("NIGHTSAFE_DATA", str(tmp_path / "none"))
    assert offered("client", "show", "") == []
    monkeypatch.delenv("NIGHTSAFE_DATA")
    assert offered("client", "show", "") == []
    assert offered("client", "show", "--data", str(tmp_path / "none"), "") == []
