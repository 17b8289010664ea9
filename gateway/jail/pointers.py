"""Pointers: the small files that give papers their names. Pure.

Format, version 1: one line of ASCII, at most 512 bytes, in exactly this form, so that `sed` can read it too:

    {"nightsafe":1,"paper":"<32 hex>","size":<plaintext bytes>,"state":"partial"|"whole"}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from config.errors import NightsafeError

MAX_POINTER_BYTES = 512
MAX_SIZE = 2**63 - 1  # bytes of a paper, as in SFTP and in SQL
State = Literal["partial", "whole"]

_FORM = re.compile(rb'\{"nightsafe":1,"paper":"([0-9a-f]{32})","size":(0|[1-9][0-9]{0,18}),"state":"(partial|whole)"\}\n')
_PAPER = re.compile(r"[0-9a-f]{32}")


class PointerDamaged(NightsafeError):
    """The bytes are no pointer: cut by a crash, altered, or of a version that this program does not know."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a name stands for: the `paper`'s id, its plaintext `size` in bytes, and whether all of it has arrived. Raises ValueError when unfit."""

    paper: str
    size: int
    state: State

    def __post_init__(self) -> None:
        if not _PAPER.fullmatch(self.paper) or not 0 <= self.size <= MAX_SIZE or self.state not in ("partial", "whole"):
            raise ValueError("not the values of a pointer")

    def encode(self) -> bytes:
        """The one form in which this pointer is stored."""
        return f'{{"nightsafe":1,"paper":"{self.paper}","size":{self.size},"state":"{self.state}"}}\n'.encode("ascii")


def decode(raw: bytes) -> Pointer:
    """The pointer that `raw` holds. Raises PointerDamaged for anything that `Pointer.encode` would not have written."""
    found = _FORM.fullmatch(raw) if len(raw) <= MAX_POINTER_BYTES else None
    if found is None or int(found[2]) > MAX_SIZE:
        raise PointerDamaged("the name's pointer is damaged", "the paper itself is not: look for it with 'nightsafe files list'")
    return Pointer(found[1].decode("ascii"), int(found[2]), cast(State, found[3].decode("ascii")))
