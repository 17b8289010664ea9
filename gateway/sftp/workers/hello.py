"""Hello: what the worker that has a connection tells the one that is home to its client. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

FIRST_BYTE_SECONDS = 30.0  # for a home to answer anything: it may be being started again
HELLO_BYTES = 4096


@dataclass(frozen=True)
class Hello:
    """Who comes through a door, as the worker that let them in found it. `session` and `number`: of a session that is in several clients'
    folders at once, and of the handles that are to be given out."""

    person: str
    client: str
    address: str
    software: str
    session: str = ""
    number: int = 0

    def encode(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """Raises ValueError for anything else."""
        values = json.loads(line)
        if not isinstance(values, dict) or set(values) != set(cls.__dataclass_fields__):
            raise ValueError("not a hello")
        number = values.pop("number")
        if not isinstance(number, int) or not all(isinstance(text, str) for text in values.values()):
            raise ValueError("not a hello")
        return cls(**values, number=number)
