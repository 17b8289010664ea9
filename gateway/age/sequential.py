"""Reading an age payload from the front to the end: for pipes and everything else that cannot be seeked."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.age.errors import HeaderError, PayloadError
from gateway.age.source import Source, fill, take
from gateway.age.stream import CHUNK, NONCE_SIZE, SEALED_CHUNK, TAG, ChunkCipher

BATCH = 16  # chunks at a time


def open_chunks(file: Source, file_key: bytes) -> Iterator[memoryview]:
    """The plaintext of the payload at which `file` stands, in pieces of up to 1 MiB, each authenticated; a piece is valid until the next.

    Raises HeaderError at once when the nonce is missing. The iterator raises PayloadError after the last piece that was right: only when it
    ends by itself was the file whole.
    """
    nonce = take(file, NONCE_SIZE)
    if len(nonce) < NONCE_SIZE:
        raise HeaderError("the age file ends before its payload")
    return _pieces(file, ChunkCipher(file_key, nonce))


def _pieces(file: Source, cipher: ChunkCipher) -> Iterator[memoryview]:
    sealed = memoryview(bytearray((BATCH + 1) * SEALED_CHUNK))
    plain = memoryview(bytearray(BATCH * CHUNK))
    number = held = 0
    while True:
        length = held + fill(file, sealed[held:])
        if length < len(sealed):
            yield from _tail(cipher, number, sealed[:length], plain)
            return
        # the last chunk read may be the last of the file: it waits for the next round
        opened = _open_run(cipher, number, sealed[: BATCH * SEALED_CHUNK], plain)
        yield plain[: opened * CHUNK]
        if opened < BATCH:
            yield from _diagnose(cipher, number + opened, sealed[opened * SEALED_CHUNK : (opened + 1) * SEALED_CHUNK], plain)
        number += BATCH
        held = SEALED_CHUNK
        sealed[:held] = sealed[BATCH * SEALED_CHUNK :]


def _open_run(cipher: ChunkCipher, number: int, sealed: memoryview, plain: memoryview) -> int:
    """Open whole chunks, none the last, until one does not open; how many did."""
    count = len(sealed) // SEALED_CHUNK
    for place in range(count):
        chunk = sealed[place * SEALED_CHUNK : (place + 1) * SEALED_CHUNK]
        if not cipher.open_into(number + place, False, chunk, plain[place * CHUNK : (place + 1) * CHUNK]):
            return place
    return count


def _tail(cipher: ChunkCipher, number: int, sealed: memoryview, plain: memoryview) -> Iterator[memoryview]:
    """The rest of the file, which ends with the last chunk."""
    before = max(0, len(sealed) - 1) // SEALED_CHUNK
    opened = _open_run(cipher, number, sealed[: before * SEALED_CHUNK], plain)
    if opened:
        yield plain[: opened * CHUNK]
    rest = sealed[opened * SEALED_CHUNK : (opened + 1) * SEALED_CHUNK]
    if opened < before:
        yield from _diagnose(cipher, number + opened, rest, plain)
    last = number + opened
    length = len(rest) - TAG
    if length < 0 or (length == 0 and last > 0):
        raise PayloadError("the age file is cut off")
    if not cipher.open_into(last, True, rest, plain[:length]):
        yield from _diagnose(cipher, last, rest, plain)
    yield plain[:length]


def _diagnose(cipher: ChunkCipher, number: int, sealed: memoryview, plain: memoryview) -> Iterator[memoryview]:
    """A chunk that is not what it should be here: when it is authentic with the other flag, release it and say what is wrong with the file."""
    target = plain[: max(0, len(sealed) - TAG)]
    if len(sealed) == SEALED_CHUNK and cipher.open_into(number, False, sealed, target):
        yield target
        raise PayloadError("the age file is cut off")
    if len(sealed) > TAG and cipher.open_into(number, True, sealed, target):
        yield target
        raise PayloadError("something stands behind the end of the age file")
    raise PayloadError(f"the age file is damaged, cut off or forged (64 KiB chunk {number})")
