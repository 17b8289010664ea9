"""The settings file that `init` writes: every setting with its meaning and default, commented out. Generated from the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.settings import Settings

HEAD = """\
#:schema ./nightsafe.schema.json
# The line above is for editors that know taplo: 'nightsafe config schema --out nightsafe.schema.json' makes that file.
#
# Settings of Nightsafe. Every line that begins with '# ' and a name shows a default: remove the '#' to change it.
# The unit of a number is in its name. Relative paths are relative to the data folder.
# Any setting can be laid over by the environment: NIGHTSAFE_SET_GATEWAY__PORT=2022
"""


def render_example() -> str:
    """The whole example file, as TOML that is valid as it stands and means all defaults."""
    lines = [HEAD, f"format = {Settings().format}\n"]
    for name, section in sections():
        mark = "# " if name.endswith(".NAME") else ""
        lines.append(f"\n{mark}[{name}]\n# {(section.__doc__ or '').strip()}\n")
        lines.extend(_setting(key, inner, section()) for key, inner in section.model_fields.items())
    return "".join(lines)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables of the file, by name; `copies.NAME` stands for tables that have names of their own."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation
        elif get_origin(field.annotation) is dict:
            yield f"{name}.NAME", get_args(field.annotation)[1]


def _setting(key: str, field: FieldInfo, section: BaseModel) -> str:
    value = getattr(section, key)
    shown = f"# {key} = {toml_value(value)}" if value is not None else f'# {key} = "…"'
    return f"\n# {field.description}\n{shown}\n"


def toml_value(value: Any) -> str:
    """A default as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
