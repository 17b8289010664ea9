"""The format put together: headers for recipients, file keys for identities, writers and readers."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from config.errors import UsageError
from gateway.age import armor, scrypt
from gateway.age import header as grammar
from gateway.age import identity as x25519
from gateway.age.errors import HeaderError, NoMatchError
from gateway.age.header import FILE_KEY_SIZE, Header, Stanza
from gateway.age.reading import SealedReader
from gateway.age.sequential import open_chunks
from gateway.age.source import Source
from gateway.age.writing import SealWriter, Sink

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
BUFFER = 64 * 1024  # bytes read ahead of armoured and unbuffered files


class AnyRecipient(Protocol):
    """Something a file key can be wrapped for."""

    def wrap(self, file_key: bytes) -> Stanza:
        """The stanza for `file_key`."""


class AnyIdentity(Protocol):
    """Something that may unwrap a file key."""

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """The file key, or None when the stanza is not for this identity."""


@dataclass(frozen=True)
class SealedKey:
    """A fresh 16-byte file key and the header that wraps it."""

    header: bytes
    file_key: bytes = field(repr=False)


def new_header(recipients: Sequence[AnyRecipient]) -> SealedKey:
    """A new file key, wrapped for each of `recipients` (at least one; a passphrase only alone)."""
    if not recipients:
        raise UsageError("an age file needs at least one recipient")
    file_key = secrets.token_bytes(FILE_KEY_SIZE)
    stanzas = tuple(recipient.wrap(file_key) for recipient in recipients)
    if len(stanzas) > 1 and any(stanza.kind == scrypt.KIND for stanza in stanzas):
        raise UsageError("a passphrase must be the only recipient of an age file")
    raw = grammar.sign(stanzas, file_key).encode()
    if len(raw) > grammar.HEADER_MAX:
        raise UsageError("these are too many recipients for one age file")
    return SealedKey(raw, file_key)


def unwrap(header: bytes, identities: Sequence[AnyIdentity]) -> bytes:
    """The 16-byte file key of `header`, whose MAC is right. Raises HeaderError, NoMatchError, HmacError."""
    parsed = grammar.parse(header)
    _check_stanzas(parsed)
    for identity in identities:
        for stanza in parsed.stanzas:
            file_key = identity.unwrap(stanza)
            if file_key is not None:
                parsed.verify(file_key)
                return file_key
    raise NoMatchError("none of the given identities opens this age file", _advice(parsed))


def seal(sink: Sink, recipients: Sequence[AnyRecipient]) -> SealWriter:
    """A writer that seals to `recipients` into `sink`, which it never closes."""
    sealed = new_header(recipients)
    return SealWriter(sink, sealed.header, sealed.file_key)


def open_sealed(file: Source, identities: Sequence[AnyIdentity]) -> SealedReader:
    """The plaintext of `file` (seekable, standing at its header), as a seekable file of `.size` bytes. Closing it closes `file`.

    Raises HeaderError, NoMatchError, HmacError, PayloadError; `file` is then left open.
    """
    inside = _without_armor(file)
    return SealedReader(inside, unwrap(grammar.read_header(inside), identities), file)


def open_payload(file: Source, file_key: bytes) -> SealedReader:
    """As `open_sealed`, with the file key known already; the header's MAC is checked with it."""
    if len(file_key) != FILE_KEY_SIZE:
        raise UsageError("an age file key has 16 bytes")
    inside = _without_armor(file)
    parsed = grammar.parse(grammar.read_header(inside))
    _check_stanzas(parsed)
    parsed.verify(file_key)
    return SealedReader(inside, file_key, file)


def open_stream(file: Source, identities: Sequence[AnyIdentity]) -> Iterator[memoryview]:
    """The plaintext of `file`, which need not be seekable, in authenticated pieces of up to 1 MiB, each valid until the next.

    Raises HeaderError, NoMatchError and HmacError at once; the iterator raises PayloadError behind the last piece that was right, so only an
    iterator that ends by itself has given the whole file.
    """
    buffered: Any = file if hasattr(file, "peek") else _Borrowed(cast(io.RawIOBase, file), BUFFER)
    if armor.looks_armored(buffered.peek(1)):
        buffered = _Borrowed(armor.ArmoredStream(buffered), BUFFER)
    return open_chunks(buffered, unwrap(grammar.read_header(buffered), identities))


def seal_bytes(data: ReadableBuffer, recipients: Sequence[AnyRecipient]) -> bytes:
    """`data` as a whole age file."""
    sink = io.BytesIO()
    with seal(sink, recipients) as writer:
        writer.write(data)
    return sink.getvalue()


def open_bytes(data: bytes, identities: Sequence[AnyIdentity]) -> bytes:
    """The plaintext of a whole age file. Raises as `open_sealed`."""
    with open_sealed(io.BytesIO(data), identities) as reader:
        return reader.read()


class _Borrowed(io.BufferedReader):
    """Buffering for a file that belongs to the caller: neither `close` nor the garbage collector closes it."""

    def close(self) -> None:
        """Leave the file open."""


def _without_armor(file: Source) -> Source:
    """`file`, or what its ASCII armour holds."""
    start = file.tell()
    first = file.read(1) or b""
    file.seek(start)
    return _Borrowed(armor.ArmoredFile(file), BUFFER) if armor.looks_armored(first) else file


def _advice(parsed: Header) -> str:
    """What the kinds of the header's recipients tell of an identity that would open it."""
    kinds = {stanza.kind for stanza in parsed.stanzas}
    if scrypt.KIND in kinds:
        return "it is sealed to a passphrase"
    if kinds <= {x25519.KIND}:
        return ""
    return "some of its recipients are of kinds that are not supported here (only X25519 and passphrases are)"


def _check_stanzas(parsed: Header) -> None:
    """Every stanza of a kind that we know is well-formed, whomever it is for; a passphrase stands alone."""
    for stanza in parsed.stanzas:
        if stanza.kind == x25519.KIND:
            x25519.check_stanza(stanza)
        elif stanza.kind == scrypt.KIND:
            if len(parsed.stanzas) > 1:
                raise HeaderError("damaged age header: a passphrase is not the only recipient")
            scrypt.check_stanza(stanza)
