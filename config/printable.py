"""Text of strangers on an operator's terminal: what would steer it, turn the writing around, or cannot be seen, is made visible. Pure."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

HARMFUL = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of Unicode: controls, formats, halves of pairs, separators of lines and paragraphs


def printable(text: str) -> str:
    """`text` for people: a line break as `\\x0a`, what turns the direction around as `\\u202e`."""
    return text.translate(_FOR_PEOPLE)


def json_line(value: Any, default: Any = None, **options: Any) -> str:
    """`value` as JSON that a terminal can show: the same text, with the same characters escaped as JSON escapes them."""
    return json.dumps(value, ensure_ascii=False, default=default, **options).translate(_FOR_JSON)


class _Shown(dict[int, str]):
    """A table for `str.translate`. Only the usual characters are kept in it: strangers choose which ones are met."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        super().__init__({code: self._of(code) for code in range(0x100)})

    def __missing__(self, code: int) -> str:
        return self._of(code)

    def _of(self, code: int) -> str:
        character = chr(code)
        harmful = unicodedata.category(character) in HARMFUL
        if self._as_json:  # what is below 0x20 is JSON's own by now: the breaks between its lines
            shown = json.dumps(character)[1:-1] if harmful and code >= 0x20 else character
        else:
            shown = (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}") if harmful else character
        return shown


_FOR_PEOPLE, _FOR_JSON = _Shown(False), _Shown(True)
