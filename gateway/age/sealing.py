"""The format put together: headers for recipients, file keys for identities, writers and readers."""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from config.errors import UsageError
from gateway.age import header as grammar
from gateway.age import identity as x25519
from gateway.age import scrypt
from gateway.age.errors import HeaderError, NoMatchError
from gateway.age.header import FILE_KEY_SIZE, Header, Source, Stanza
from gateway.age.reading import SealedReader
from gateway.age.writing import SealWriter, Sink

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


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
    raise NoMatchError("none of the given identities opens this age file")


def seal(sink: Sink, recipients: Sequence[AnyRecipient]) -> SealWriter:
    """A writer that seals to `recipients` into `sink`, which it never closes."""
    sealed = new_header(recipients)
    return SealWriter(sink, sealed.header, sealed.file_key)


def open_sealed(file: Source, identities: Sequence[AnyIdentity]) -> SealedReader:
    """The plaintext of `file` (seekable, standing at its header), as a seekable file of `.size` bytes. Closing it closes `file`.

    Raises HeaderError, NoMatchError, HmacError, PayloadError; `file` is then left open.
    """
    return SealedReader(file, unwrap(grammar.read_header(file), identities))


def open_payload(file: Source, file_key: bytes) -> SealedReader:
    """As `open_sealed`, with the file key known already; the header's MAC is checked with it."""
    if len(file_key) != FILE_KEY_SIZE:
        raise UsageError("an age file key has 16 bytes")
    parsed = grammar.parse(grammar.read_header(file))
    _check_stanzas(parsed)
    parsed.verify(file_key)
    return SealedReader(file, file_key)


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


def _check_stanzas(parsed: Header) -> None:
    """Every stanza of a kind that we know is well-formed, whomever it is for; a passphrase stands alone."""
    for stanza in parsed.stanzas:
        if stanza.kind == x25519.KIND:
            x25519.check_stanza(stanza)
        elif stanza.kind == scrypt.KIND:
            if len(parsed.stanzas) > 1:
                raise HeaderError("damaged age header: a passphrase is not the only recipient")
            scrypt.check_stanza(stanza)
