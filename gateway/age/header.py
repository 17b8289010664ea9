"""The textual header of an age file: its grammar, to the letter, and its MAC. No keys and no recipient types live here.

Source: the ABNF of c2sp.org/age ("ABNF definition of file header"). For every header that `parse` takes, `Header.encode()` gives the same
bytes again: there is one way to write a header.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.age import encoding
from gateway.age.errors import HeaderError, HmacError
from gateway.age.source import Source

MAGIC = b"age-encryption.org/"
VERSION_LINE = MAGIC + b"v1\n"
STANZA_MARK = b"-> "
END_MARK = b"---"
COLUMNS = 64
MAC_SIZE = 32
FILE_KEY_SIZE = 16
HEADER_MAX = 64 * 1024  # bytes; some 600 recipients, and a bound for what a hostile file makes us hold

_FIRST_LINE_MAX = 256
_ARGUMENTS = re.compile(rb"-> ([!-~]+(?: [!-~]+)*)\n")
_BODY_LINE = re.compile(rb"[A-Za-z0-9+/]{0,64}\n")
_END_LINE = re.compile(rb"--- ([A-Za-z0-9+/]{43})\n")


@dataclass(frozen=True)
class Stanza:
    """One recipient stanza: the file key, wrapped. `kind` is its first argument; `arguments` are those after it."""

    kind: str
    arguments: tuple[str, ...]
    body: bytes

    def encode(self) -> bytes:
        """The stanza as it stands in the header, with its line ends."""
        lines = ["-> " + " ".join((self.kind, *self.arguments))]
        text = encoding.encode(self.body)
        lines += [text[start : start + COLUMNS] for start in range(0, len(text), COLUMNS)]
        if len(text) % COLUMNS == 0:
            lines.append("")  # the body ends with a line shorter than 64 columns, even an empty one
        return ("\n".join(lines) + "\n").encode("ascii")


@dataclass(frozen=True)
class Header:
    """A header that follows the grammar. Its MAC has not been checked."""

    stanzas: tuple[Stanza, ...]
    mac: bytes

    def encode(self) -> bytes:
        """The header's bytes, through the newline of the MAC line."""
        return b"%s %s\n" % (_signed_part(self.stanzas), encoding.encode(self.mac).encode("ascii"))

    def verify(self, file_key: bytes) -> None:
        """Raises HmacError unless the MAC was made with `file_key` over this header."""
        if not hmac.compare_digest(self.mac, _mac(_signed_part(self.stanzas), file_key)):
            raise HmacError("the header of this age file was changed after it was sealed")


def sign(stanzas: tuple[Stanza, ...], file_key: bytes) -> Header:
    """The header of these stanzas, with its MAC."""
    return Header(stanzas, _mac(_signed_part(stanzas), file_key))


def parse(raw: bytes) -> Header:
    """The header in `raw`, which must hold nothing else. Raises HeaderError."""
    if len(raw) > HEADER_MAX:
        raise _too_long()
    lines = _Lines(raw)
    _check_version(lines.take())
    stanzas = []
    while (line := lines.take())[:3] != END_MARK:
        stanzas.append(_stanza(line, lines))
    if not stanzas:
        raise HeaderError("damaged age header: it names no recipient")
    end = _END_LINE.fullmatch(line)
    if end is None or lines.rest():
        raise HeaderError("damaged age header: its last line is not a MAC")
    return Header(tuple(stanzas), encoding.decode(end[1]))


def read_header(file: Source) -> bytes:
    """The raw header from the file's position through the newline of the MAC line; the file then stands at the payload.

    Reads no byte more. Bounded by HEADER_MAX. Raises HeaderError when no header's end is found; the grammar is `parse`'s to check.
    """
    line = file.readline(_FIRST_LINE_MAX)
    _check_version(line)
    lines = [line]
    left = HEADER_MAX - len(line)
    while not line.startswith(END_MARK):
        line = file.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            raise _too_long() if left <= 0 else HeaderError("damaged age header: the file ends inside it")
        lines.append(line)
    return b"".join(lines)


def header_mac(raw: bytes) -> bytes:
    """The 32 bytes of the MAC as written in the header `raw`. Raises HeaderError."""
    return parse(raw).mac


class _Lines:
    """Lines of a header, one after another."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._place = 0

    def take(self) -> bytes:
        """The next line with its line feed."""
        end = self._raw.find(b"\n", self._place) + 1
        if end == 0:
            raise HeaderError("damaged age header: it ends too early")
        line = self._raw[self._place : end]
        self._place = end
        return line

    def rest(self) -> bool:
        """Whether anything is left."""
        return self._place < len(self._raw)


def _stanza(line: bytes, lines: _Lines) -> Stanza:
    found = _ARGUMENTS.fullmatch(line)
    if found is None:
        raise HeaderError("damaged age header: a recipient's line is malformed")
    kind, *arguments = found[1].decode("ascii").split(" ")
    body = bytearray()
    while True:
        text = lines.take()
        if _BODY_LINE.fullmatch(text) is None:
            raise HeaderError("damaged age header: a recipient's body is malformed")
        body += encoding.decode(text[:-1])
        if len(text) <= COLUMNS:
            return Stanza(kind, tuple(arguments), bytes(body))


def _check_version(line: bytes) -> None:
    if line == VERSION_LINE:
        return
    if line.startswith(MAGIC) and line.endswith(b"\n"):
        raise HeaderError("this age file has a version other than v1", "it was made by another version of age; only v1 can be read")
    raise HeaderError("this is not an age file")


def _too_long() -> HeaderError:
    return HeaderError(f"the age header is longer than {HEADER_MAX} bytes")


def _signed_part(stanzas: tuple[Stanza, ...]) -> bytes:
    return b"".join((VERSION_LINE, *(stanza.encode() for stanza in stanzas), END_MARK))


def _mac(signed: bytes, file_key: bytes) -> bytes:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"header").derive(file_key)
    return hmac.digest(key, signed, "sha256")
