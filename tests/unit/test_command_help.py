"""Every command says what it does and shows how it is used; shells complete it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from nightsafe import COMMANDS, cli


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


def test_there_are_many() -> None:
    assert len(ALL) > 80


@pytest.mark.parametrize("words", ALL)
def test_each_help_has_an_example_of_this_very_command(words: str) -> None:
    text = ALL[words].help or ""
    assert text.strip() and "Example: " in text, f"nightsafe {words} --help shows no example"
    example = text.split("Example: ", 1)[1].split("\n\n")[0]
    assert f"nightsafe {words}" in " ".join(example.split()), f"the example of nightsafe {words} is of another command"


@pytest.mark.parametrize("words", ALL)
def test_the_options_of_the_example_exist(words: str) -> None:
    command = ALL[words]
    example = (command.help or "").split("Example: ", 1)[1].split("\n\n")[0]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.split("=")[0] for word in shlex.split(" ".join(example.split()).replace("$(", "").replace(")", "")) if word.startswith("--")}
    assert asked <= known | {"--json", "--data"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str) -> None:
    done = subprocess.run([sys.executable, "-m", "nightsafe", "completion", shell], capture_output=True, text=True, check=True)
    assert "_NIGHTSAFE_COMPLETE" in done.stdout


def test_names_are_completed_without_importing_the_commands() -> None:
    code = (
        "import sys\nfrom config.cli import run\nfrom nightsafe import cli\n"
        "try:\n    run(cli, [])\nfinally:\n    sys.stderr.write(str(sorted(name for name in sys.modules if name.startswith('gateway.'))))\n"
    )
    environment = {**os.environ, "_NIGHTSAFE_COMPLETE": "bash_complete", "COMP_WORDS": "nightsafe ca", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,ca", "plain,catalog"] and done.stderr == "[]"
    assert {"ca", "catalog"} <= set(COMMANDS)
