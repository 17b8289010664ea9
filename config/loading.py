"""From a data folder to typed settings: find the folder, read the file, lay the environment over it, check, report all faults at once."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from config.errors import SettingsError
from config.folder import FORMAT_VERSION, DataFolder
from config.settings import Settings
from config.words import counted

FORMAT = 1  # of the settings file
ENVIRONMENT_PREFIX = "NIGHTSAFE_SET_"  # NIGHTSAFE_SET_GATEWAY__PORT=2022
WORDS = {
    "extra_forbidden": "is not a known setting",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_type": "must be a text, in quotes",
    "path_type": "must be a path, in quotes",
    "int_type": "must be a whole number, without quotes",
    "float_type": "must be a number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "finite_number": "must be a finite number",
}


CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"  # systemd's LoadCredential: files that this process alone is shown


def credential_file(name: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """The file of a credential that the service manager gave to this process; None when it gave none of that name."""
    folder = (os.environ if environment is None else environment).get(CREDENTIALS_DIRECTORY)
    path = Path(folder) / name if folder else None
    return path if path is not None and path.exists() else None


@dataclass(frozen=True)
class Installation:
    """A data folder together with its settings: what every command starts from."""

    folder: DataFolder
    settings: Settings

    def path(self, value: Path) -> Path:
        """A path from the settings, made absolute against the data folder."""
        return Path(os.path.normpath(self.folder.root / value))


def open_installation(data: Path | str | None, environment: Mapping[str, str] | None = None) -> Installation:
    """Open a finished data folder. Raises SettingsError when it is missing, half-made, newer than this program, or its settings are wrong."""
    folder = locate(data, environment)
    root = folder.root
    if not root.exists():
        raise SettingsError(f"the data folder {root} does not exist", f"make one with: nightsafe init --data {root}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise SettingsError(f"the data folder {root} cannot be read by this user", "run as the user that owns it")
    if not folder.version_file.exists():
        raise SettingsError(
            f"{root} is not a finished data folder: it has no VERSION file",
            f"if 'nightsafe init' was interrupted, run it again: nightsafe init --data {root}",
        )
    check_version(folder)
    return Installation(folder, load_settings(folder.settings, environment))


def locate(data: Path | str | None, environment: Mapping[str, str] | None = None) -> DataFolder:
    """The data folder that was named by option or by NIGHTSAFE_DATA; it need not exist. Raises SettingsError when none was named."""
    named = data or (os.environ if environment is None else environment).get("NIGHTSAFE_DATA")
    if not named:
        raise SettingsError("no data folder was named", "give --data DIR, or set NIGHTSAFE_DATA")
    return DataFolder(Path(named).absolute())


def check_version(folder: DataFolder) -> None:
    """Refuse a data folder that this program does not understand."""
    try:
        text = folder.version_file.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise SettingsError(
            f"{folder.version_file} cannot be read: {error.strerror}", "it must be a file that this user may read; restore it from a backup"
        ) from error
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise SettingsError(f"{folder.version_file} does not hold a number", "restore it from a backup; its content is the format's version, now 1")
    if int(text) > FORMAT_VERSION:
        raise SettingsError(
            f"the data folder {folder.root} has format {text}; this program knows up to {FORMAT_VERSION}",
            "use the newer Nightsafe that wrote it; nothing was changed",
        )


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check a settings file. Raises SettingsError that names every fault with line and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"the settings file {path} is missing", "restore it, or write an empty file to take all defaults") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"the settings file {path} is not text in UTF-8", "save it as UTF-8, or restore it from a backup") from error
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}", "it must be a file that this user may read") from error
    return parse_settings(text, str(path), environment)


def parse_settings(text: str, name: str, environment: Mapping[str, str] | None = None) -> Settings:
    """Like `load_settings`, from text; `name` stands in messages."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        again = "Cannot declare" in str(error)  # lines of a how-to that were put at the end
        mend = "the section stands in the file already: write its lines there" if again else "mend the line that is named"
        raise SettingsError(f"{name} is not valid TOML: {error}", mend) from error
    written = values.get("format", FORMAT)
    if isinstance(written, int) and written > FORMAT:
        raise SettingsError(
            f"{name} was written by a newer Nightsafe (format {written}; this one knows {FORMAT})", "use that newer version; nothing was changed"
        )
    overridden = _lay_over(values, os.environ if environment is None else environment)
    try:
        # By way of JSON, whose types are TOML's: only so does "strict" take a list for a tuple and a text for a path, but no 1 for true.
        return Settings.model_validate_json(json.dumps(values, default=_foreign), strict=True)
    except ValidationError as error:
        faults = sorted(_fault(text, name, overridden, fault["loc"], fault["msg"], fault["type"]) for fault in error.errors())
        lines = [line for _, line in faults]
        told = f"{counted(len(lines), 'mistake')} in the settings:\n" + "\n".join(lines)
        raise SettingsError(told, "each key, with its unit, default and an example: docs/reference/settings.md") from None


def _foreign(value: date | time) -> dict[str, str]:
    """What JSON does not know, as something that fits no setting: a date of TOML, which is not a text."""
    return {"date": value.isoformat()}


def overlays(environment: Mapping[str, str] | None = None) -> dict[str, tuple[str, ...]]:
    """The variables that lie over settings, each with the keys that it stands for."""
    found = os.environ if environment is None else environment
    return {name: tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__")) for name in found if name.startswith(ENVIRONMENT_PREFIX)}


def _lay_over(values: dict[str, Any], environment: Mapping[str, str]) -> set[tuple[str, ...]]:
    laid: set[tuple[str, ...]] = set()
    for variable, (*sections, key) in overlays(environment).items():
        table = values
        for section in sections:
            inner = table.setdefault(section, {})
            if not isinstance(inner, dict):
                break  # the file has no table there, which is a mistake of its own
            table = inner
        else:
            table[key] = _meant((*sections, key), environment[variable])
            laid.add((*sections, key))
    return laid


def _fault(text: str, name: str, overridden: set[tuple[str, ...]], location: Sequence[str | int], message: str, kind: str) -> tuple[int, str]:
    """The line of a fault (0 when it is not in the file), and the fault in words."""
    keys = tuple(str(part) for part in location)
    dotted = ".".join(keys)
    message = WORDS.get(kind, message.removeprefix("Value error, ").replace("Input should be", "must be"))
    if kind == "extra_forbidden" and (near := get_close_matches(keys[-1], _neighbours(keys[:-1]), 1)):
        message += f"; did you mean '{near[0]}'?"
    if keys in overridden:
        return 0, f"  environment {ENVIRONMENT_PREFIX}{'__'.join(keys).upper()}: {message}"
    line = next((found for length in range(len(keys), 0, -1) if (found := line_of(text, keys[:length]))), None)
    laid = next((variable for variable in sorted(overridden) if variable[: len(keys)] == keys), None)
    if laid is not None and line is None:  # a table that only the environment names
        return 0, f"  environment {ENVIRONMENT_PREFIX}{'__'.join(laid).upper()}: {dotted} {message}"
    return line or 0, f"  {name}:{line}: {dotted}: {message}" if line else f"  {name}: {dotted}: {message}"


def _meant(keys: Sequence[str], text: str) -> bool | int | float | str:
    """What the text of a variable, which knows no types, is for this setting: 2022 a number for a port, a text for a notice."""
    expected = _type_at(keys)
    kind = next((kind for kind in (bool, int, float) if kind in (expected, *get_args(expected))), str)
    try:
        return TypeAdapter[bool | int | float | str](kind).validate_python(text)
    except ValidationError:
        return text


def _neighbours(keys: Sequence[str]) -> list[str]:
    """The names that a table of the settings may hold."""
    return list(getattr(_type_at(keys), "model_fields", ()))


def _type_at(keys: Sequence[str]) -> Any:
    """What is expected under a dotted key; None where nothing is."""
    expected: Any = Settings
    for key in keys:
        if get_origin(expected) is dict:  # the names are the user's
            expected = get_args(expected)[1]
        elif get_origin(expected) is tuple:  # one of a list
            expected = get_args(expected)[0]
        else:
            field = getattr(expected, "model_fields", {}).get(key)
            expected = field.annotation if field else None
    return expected


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The line (from 1) on which a dotted key, or else its table, is written; None when it cannot be told. One of a list of tables has its number
    among the keys."""
    table: list[str] = []
    table_line: int | None = None
    lists: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if header := re.match(r"(\[\[?)\s*([^\[\]]+?)\s*\]", stripped):
            table = [part.strip().strip("\"'") for part in header[2].split(".")]
            if table == list(keys):
                table_line = table_line or number
            if header[1] == "[[":
                lists[header[2]] += 1
                table.append(str(lists[header[2]] - 1))
                if table == list(keys):
                    table_line = number
        elif assignment := re.match(r"([A-Za-z0-9_.\"'-]+)\s*=", stripped):
            written = [part.strip("\"'") for part in assignment[1].split(".")]
            if table + written == list(keys):
                return number
    return table_line
