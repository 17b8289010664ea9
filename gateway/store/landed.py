"""LandedPaper: a finished spool file, read and verified.

Opening checks header, footer, the length of the file and the digest over all slots; reading checks every block against that digest and opens
it. So whatever was flipped, swapped, taken out, put back from an earlier state, cut off or appended is refused: at opening, or when read.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from gateway.store.arrival import Arrival
from gateway.store.blocks import PaperCipher
from gateway.store.errors import SpoolDamaged, spool_failure
from gateway.store.format import (
    BLOCK,
    HEAD,
    HEADER_SIZE,
    NONCE,
    SLOT_HEAD,
    STRIDE,
    Footer,
    FormatError,
    block_count,
    slot_offset,
    slot_size,
)
from gateway.store.scan import read_group, read_trailer
from gateway.store.seals import GROUP, HOT, SEAL, group_count, group_digest

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

RUN = 4  # slots per read: enough to spare system calls, few enough for the processor's cache
_HOLE = bytes(SEAL)
_ZEROS = bytes(STRIDE)


def read_footer(descriptor: int, cipher: PaperCipher) -> Footer | None:
    """The footer of a spool file; None when it is unfinished. Raises FormatError for one that is forged or at the wrong place, OSError."""
    size = os.fstat(descriptor).st_size
    trailer = read_trailer(descriptor, size)
    if trailer is None:
        return None
    place = size - trailer.footer_size
    footer = cipher.open_footer(os.pread(descriptor, trailer.sealed, place), trailer)
    if footer.end != place or not HEADER_SIZE <= place <= slot_offset(block_count(footer.size)):
        raise FormatError("the file was cut or extended")
    return footer


class LandedPaper(io.RawIOBase):
    """The plaintext of a finished paper of `.size` bytes, with `.arrival`. Readable, seekable; not thread-safe. Closing closes the descriptor."""

    def __init__(self, descriptor: int, cipher: PaperCipher) -> None:
        """Takes `descriptor` over, also when it raises: SpoolDamaged, StoreFailed."""
        super().__init__()
        self._descriptor = descriptor
        self._cipher = cipher
        self._position = 0
        self._plain = memoryview(bytearray())
        self._cached = -1
        self._seals: OrderedDict[int, bytes] = OrderedDict()
        try:
            footer = self._footer()
            self.size = footer.size
            self.arrival: Arrival = footer.arrival
            self._end = footer.end
            self._digests = self._verify(footer)
            self._plain = memoryview(bytearray(min(BLOCK, footer.size)))
            self._sealed = memoryview(bytearray(min(RUN * STRIDE, footer.end - HEADER_SIZE)))
        except BaseException:
            self.close()
            raise

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in plaintext bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, which may lie behind the end. ValueError for one before the start."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise ValueError("not a position in the paper")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer only at the end; all that is left for None or a negative size. Raises SpoolDamaged, StoreFailed."""
        left = max(0, self.size - self._position)
        data = bytearray(left if size is None or size < 0 else min(size, left))
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as the paper reaches; whole blocks are opened straight into it. Raises as `read`; nothing that failed to open is
        ever in the buffer."""
        target = memoryview(buffer).cast("B")
        done = 0
        place = self._position
        wanted = max(0, min(len(target), self.size - place))
        while done < wanted:
            number, inside = divmod(place + done, BLOCK)
            whole = min((wanted - done) // BLOCK, RUN)
            if inside == 0 and whole:
                self._load(number, whole, target[done:])
                done += whole * BLOCK
                continue
            count = min(self._length(number) - inside, wanted - done)
            self._cache(number)
            target[done : done + count] = self._plain[inside : inside + count]
            done += count
        self._position = place + done
        return done

    def blocks(self) -> Iterator[memoryview]:
        """The whole paper from its start in pieces of 64 KiB, each valid until the next is asked for. Raises as `read`."""
        for number in range(block_count(self.size)):
            self._cache(number)
            yield self._plain[: self._length(number)]

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
            self._plain[:] = bytes(len(self._plain))
            self._cached = -1
        super().close()

    def __repr__(self) -> str:
        return "<LandedPaper>"

    def _footer(self) -> Footer:
        try:
            if not self._cipher.header_is_ours(os.pread(self._descriptor, HEADER_SIZE, 0)):
                raise SpoolDamaged("a paper in the spool is damaged: its header was changed, or belongs to another key")
            footer = read_footer(self._descriptor, self._cipher)
        except OSError as error:
            raise spool_failure(error, "reading a paper") from error
        except FormatError as error:
            raise _damaged(str(error)) from error
        if footer is None:
            raise _damaged("its end is missing")
        return footer

    def _verify(self, footer: Footer) -> list[bytes]:
        """The digests of all groups of slots, once they were found to be those of the footer."""
        digests = []
        for group in range(group_count(block_count(footer.size))):
            seals = self._read_group(group)
            digests.append(group_digest(seals))
            if group < HOT:
                self._seals[group] = seals
        if sha256(b"".join(digests)).digest() != footer.root:
            raise _damaged("blocks were changed, taken out or put back")
        return digests

    def _seal_of(self, number: int) -> bytes:
        group, index = divmod(number, GROUP)
        seals = self._seals.get(group)
        if seals is None:
            seals = self._read_group(group)
            if group_digest(seals) != self._digests[group]:
                raise _damaged("it changed while it was read")
            if len(self._seals) >= HOT:
                self._seals.popitem(last=False)
            self._seals[group] = seals
        return seals[index * SEAL : (index + 1) * SEAL] or _HOLE

    def _read_group(self, group: int) -> bytes:
        try:
            return read_group(self._descriptor, group, self._end)
        except OSError as error:
            raise spool_failure(error, "reading a paper") from error
        except FormatError as error:
            raise _damaged(str(error)) from error

    def _length(self, number: int) -> int:
        return min(BLOCK, self.size - number * BLOCK)

    def _cache(self, number: int) -> None:
        if number != self._cached:
            self._cached = -1
            self._load(number, 1, self._plain)
            self._cached = number

    def _load(self, number: int, count: int, into: memoryview) -> None:
        """Open `count` blocks from `number` on, only the last of which may be short, into the beginning of `into`."""
        start = slot_offset(number)
        wanted = max(0, min(count * STRIDE, self._end - start))
        sealed = self._sealed[:wanted]
        try:
            got = os.preadv(self._descriptor, [sealed], start) if wanted else 0
        except OSError as error:
            raise spool_failure(error, "reading a paper") from error
        for index in range(count):
            slot = sealed[index * STRIDE : min((index + 1) * STRIDE, got)]
            length = self._length(number + index)
            self._open(number + index, slot, max(0, min(STRIDE, wanted - index * STRIDE)), into[index * BLOCK : index * BLOCK + length])

    def _open(self, number: int, slot: memoryview, wanted: int, into: memoryview) -> None:
        """Open one slot, of which the file should have `wanted` bytes, into `into`, which is as long as the block."""
        seal = self._seal_of(number)
        length = len(into)
        if seal == _HOLE:
            if len(slot) < wanted or not _ZEROS.startswith(bytes(slot)):
                raise _damaged(f"block {number} should be a gap")
            into[:] = _ZEROS[:length]
            return
        size = slot_size(length)
        if len(slot) >= size:
            slot = slot[:size]
            nonce, told, _, _ = SLOT_HEAD.unpack_from(slot)
            if (
                told == length
                and nonce == seal[:NONCE]
                and slot[HEAD + length :] == seal[NONCE:-4] + nonce
                and self._cipher.open_slot(number, slot, into)
            ):
                return
        raise _damaged(f"block {number} does not open")


def _damaged(why: str) -> SpoolDamaged:
    return SpoolDamaged(f"a paper in the spool is damaged: {why}", "it is refused; if the disk is sound, someone changed the file")
