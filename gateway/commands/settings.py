"""`nightsafe config check | show | schema`, and `nightsafe completion`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from config.cli import Group, data_option, json_option
from config.console import emit, say, table
from config.effective import flat, origins
from config.errors import SettingsError
from config.files import write_whole
from config.loading import Installation, locate, open_installation, parse_settings
from config.settings import Settings
from config.words import counted
from gateway.commands.loose_ends import loose_ends

SHELLS = ("bash", "zsh", "fish")
HOW = {
    "bash": "add to ~/.bashrc: eval \"$(nightsafe completion bash)\"",
    "zsh": "add to ~/.zshrc: eval \"$(nightsafe completion zsh)\"",
    "fish": "write it to ~/.config/fish/completions/nightsafe.fish",
}  # fmt: skip


@click.group(cls=Group)
def config() -> None:
    """The settings: are they right, what holds, and a schema for editors."""


@config.command()
@click.option("--file", "path", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Check F instead of the settings in use.")
@data_option
@json_option
def check(path: Path | None, data: Path | None, as_json: bool) -> None:
    """Are the settings right? All mistakes are named at once, with their lines; exit code 2 when there is one.

    Also that the files which they name are there, and what they need beside them. Nothing is changed, and no role takes notice.

    Example: nightsafe config check --file new.toml
    """
    installation = open_installation(data) if path is None else Installation(locate(data), parse_settings(_read(path), str(path)))
    if lacking := list(loose_ends(installation)):
        raise SettingsError("each setting is right by itself, but something is lacking:\n" + "\n".join(f"  {line}" for line in lacking))
    changed = sum(origin != "default" for origin in _origins(installation, path).values())
    if as_json:
        emit({"ok": True, "changed": changed}, as_json)
    else:
        say(f"The settings are valid; {counted(changed, 'differs from the default', 'differ from the defaults')}.")


@config.command()
@click.option("--effective", is_flag=True, help="All that hold, defaults too; without it only those that somebody set.")
@data_option
@json_option
def show(effective: bool, data: Path | None, as_json: bool) -> None:
    """The settings, and where each comes from: the file with its line, the environment, or the default. What may be a secret is hidden.

    Example: nightsafe config show --effective
    """
    installation = open_installation(data)
    values, came_from = flat(installation.settings), _origins(installation, None)
    rows = [(name, values[name].shown, came_from[name]) for name in sorted(values) if effective or came_from[name] != "default"]
    if as_json:
        emit([{"name": name, "value": value, "from": origin} for name, value, origin in rows], as_json)
        return
    table("Settings", ("name", "value", "from"), [(name, json.dumps(value, ensure_ascii=False), origin) for name, value, origin in rows])
    if not rows:
        say("all settings are the defaults; see them with: nightsafe config show --effective")


@config.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="Write it to F, instead of the terminal.")
def schema(out: Path | None) -> None:
    """A JSON schema of the settings, for editors: they then complete names, show what they mean, and underline mistakes.

    Editors that know taplo (VS Code with Even Better TOML, Zed, Helix) find it by the first line of nightsafe.toml.

    Example: nightsafe config schema --out /srv/nightsafe/data/nightsafe.schema.json
    """
    text = json.dumps(settings_schema(), ensure_ascii=False, indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        write_whole(out.absolute(), text.encode(), 0o644)
        say(f"The schema is in {out}.")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """What a shell needs to complete commands and options of nightsafe.

    Example: eval "$(nightsafe completion bash)"
    """
    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    if found is None:
        raise SettingsError(f"there is no completion for {shell}", f"there is one for: {', '.join(SHELLS)}")
    sys.stdout.write(found(root, {}, "nightsafe", "_NIGHTSAFE_COMPLETE").source() + "\n")
    if sys.stdout.isatty():
        sys.stderr.write(f"# {HOW[shell]}\n")


def settings_schema() -> dict[str, Any]:
    """The schema, from the model."""
    made = Settings.model_json_schema(by_alias=True)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made, "title": "nightsafe.toml"}


def _origins(installation: Installation, path: Path | None) -> dict[str, str]:
    file = path or installation.folder.settings
    return origins(installation.settings, _read(file), file.name)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no UTF-8'}", "name a settings file") from error
