"""The layout of a spool file: header page, slots, footer. Pure encoding and decoding; no keys, no I/O.

    header page   4096 bytes: magic, version, paper, client, salt (see `paper_keys`), age header, zeros, MAC. What the processes that have a
                  partial open together must know (see `shared`) lies in SHARED_SIZE of the zeros; the MAC sees zeros there
    slot n        at HEADER_SIZE + n * STRIDE, so that random access is a multiplication:
                  head (nonce, length, prefix, tail), ciphertext of `length` bytes, tag, echo of the nonce
    footer        once finished: nonce, sealed JSON, tag, trailer (size, length of the sealed part, magic)

Block n holds the plaintext bytes [n * BLOCK, (n + 1) * BLOCK). A slot that was never written is a hole in the file: zeros, head included.
Of a block's `length` bytes those in [0, prefix) and [tail, length) were really written; between them may be gaps, which read as zeros. So the
gap-free prefix of a partial can be told without a key. The echo of the nonce is written last: a slot whose writing was cut short by a kill
is known by it, without a key too. In a finished file every slot but the last holds a whole block, and the last one ends where the paper does.

Every number is big-endian. Everything in a head is associated data of its block; the trailer is associated data of the footer.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import NamedTuple

from gateway.store.arrival import Arrival
from gateway.store.ids import is_paper_id

BLOCK = 64 * 1024
NONCE = 12
TAG = 16
HEADER_SIZE = 4096
MAC = 32
SALT = 32
SHARED = 2048
SHARED_SIZE = 1536
HEAD = 24
STRIDE = HEAD + BLOCK + TAG + NONCE
TRAILER = 20
FOOTER_MAX = 64 * 1024
MAX_SIZE = 1 << 40  # bytes of one paper: 1 TiB

_MAGIC = b"NSSPOOL1"
_VERSION = 2
_OLD_VERSION = 1  # without a salt; papers that were in the spool when the program was renewed
_HEADER = struct.Struct(">8sH16s32sH")
_AGE_MAX = SHARED - _HEADER.size - SALT
SLOT_HEAD = struct.Struct(">12sIII")
_TRAILER = struct.Struct(">QI8s")
_END_MAGIC = b"NSFOOT01"
_ASSOCIATED = struct.Struct(">8s16sQIII")
BLOCK_DATA = b"block\0\0\1"
ZERO_HEAD = bytes(HEAD)
_JSON = json.JSONEncoder(separators=(",", ":"))


class FormatError(ValueError):
    """These bytes are not what the layout says."""


@dataclass(frozen=True)
class SpoolHeader:
    """What the header page says. Nothing of it is proven before its MAC was checked with the paper's key. `salt` is empty in version 1."""

    paper: str
    client: str
    age_header: bytes
    salt: bytes = b""


def encode_header(header: SpoolHeader) -> bytes:
    """The page without its MAC, which the caller appends."""
    if len(header.age_header) > _AGE_MAX:
        raise FormatError("the age header does not fit into the header page")
    client = header.client.encode("ascii")
    version = _VERSION if header.salt else _OLD_VERSION
    fixed = _HEADER.pack(_MAGIC, version, bytes.fromhex(header.paper), client, len(header.age_header))
    return b"".join((fixed, header.salt, header.age_header)).ljust(HEADER_SIZE - MAC, b"\0")


def decode_header(page: bytes) -> SpoolHeader:
    """Raises FormatError."""
    if len(page) != HEADER_SIZE:
        raise FormatError("the header page is cut off")
    magic, version, paper, client, age_length = _HEADER.unpack_from(page)
    if magic != _MAGIC:
        raise FormatError("this is not a spool file")
    if version not in (_OLD_VERSION, _VERSION):
        raise FormatError(f"the spool file has version {version}; this program knows {_VERSION} and {_OLD_VERSION}")
    if age_length > _AGE_MAX:
        raise FormatError("the header page is damaged")
    try:
        name = client.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("the header page is damaged") from None
    start = _HEADER.size + (SALT if version == _VERSION else 0)
    return SpoolHeader(paper.hex(), name, page[start : start + age_length], page[_HEADER.size : start])


class SlotHead(NamedTuple):
    """The clear head of a slot; lengths in bytes of plaintext."""

    nonce: bytes
    length: int
    prefix: int
    tail: int


def slot_offset(block: int) -> int:
    """Where the slot of `block` begins in the file."""
    return HEADER_SIZE + block * STRIDE


def slot_size(length: int) -> int:
    """Bytes that a slot takes for `length` bytes of plaintext."""
    return HEAD + length + TAG + NONCE


def block_count(size: int) -> int:
    """Blocks of a paper of `size` bytes."""
    return -(-size // BLOCK)


def encode_head(into: memoryview, head: SlotHead) -> None:
    """Write `head` at the beginning of `into`."""
    SLOT_HEAD.pack_into(into, 0, *head)


def decode_head(data: bytes | memoryview) -> SlotHead | None:
    """The head, or None for a slot that was never written. Raises FormatError for lengths that no slot has."""
    head = SlotHead(*SLOT_HEAD.unpack_from(data))
    if 0 < head.length <= BLOCK and head.prefix <= head.tail <= head.length:
        return head
    if bytes(data[:HEAD]) == ZERO_HEAD:
        return None
    raise FormatError("the head of a block is damaged")


def block_data(paper: bytes, block: int, head: SlotHead) -> bytes:
    """The associated data of a block; `paper` is the id's 16 bytes."""
    return _ASSOCIATED.pack(BLOCK_DATA, paper, block, head.length, head.prefix, head.tail)


@dataclass(frozen=True)
class Trailer:
    """The clear end of a finished file: the paper's size, and the length of the footer's sealed part (nonce and tag included)."""

    size: int
    sealed: int

    def encode(self) -> bytes:
        """The last TRAILER bytes of the file."""
        return _TRAILER.pack(self.size, self.sealed, _END_MAGIC)

    @property
    def footer_size(self) -> int:
        """Bytes of the whole footer."""
        return self.sealed + TRAILER


def decode_trailer(data: bytes, file_size: int) -> Trailer | None:
    """The trailer in the last TRAILER bytes of a file of `file_size` bytes; None when the file is not a finished one."""
    if len(data) != TRAILER:
        return None
    size, sealed, magic = _TRAILER.unpack(data)
    if magic != _END_MAGIC or not NONCE + TAG < sealed <= FOOTER_MAX or size > MAX_SIZE or HEADER_SIZE + sealed + TRAILER > file_size:
        return None
    return Trailer(size, sealed)


@dataclass(frozen=True)
class Footer:
    """The sealed part of the footer: `end` is where the slots end in the file, `root` the digest over all slots (see `seals`)."""

    size: int
    end: int
    root: bytes
    arrival: Arrival

    def encode(self) -> bytes:
        """JSON."""
        values = {"size": self.size, "end": self.end, "root": self.root.hex(), "arrival": self.arrival.to_json()}
        return _JSON.encode(values).encode("ascii")


def decode_footer(data: bytes) -> Footer:
    """Raises FormatError."""
    try:
        values = json.loads(data)
        size, end, root = values["size"], values["end"], bytes.fromhex(values["root"])
        arrival = Arrival.from_json(values["arrival"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError("the footer is not one of ours") from error
    if not (isinstance(size, int) and isinstance(end, int) and is_paper_id(arrival.paper)):
        raise FormatError("the footer is not one of ours")
    return Footer(size, end, root, arrival)
