"""One digest over all slots of a file, kept while it is written and checked when it is read, with bounded memory.

The seal of a slot is its nonce, tag and length; of a hole, zeros. 1024 seals make a group; the digest of a group is the SHA-256 of its seals
without the holes at its end; the root is the SHA-256 of the digests of all groups, in order. So a file of 1 TiB costs 512 KiB of memory, and
a changed group is computed again from the disk alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import sha256

SEAL = 32
GROUP = 1024
HOT = 8  # groups whose seals are held
_HOLE = bytes(SEAL)
EMPTY = sha256(b"").digest()

ReadGroup = Callable[[int, int], bytes]  # (group, blocks): the seals of a group from the disk, of those of its slots below block `blocks`


def seal_of(nonce: bytes, tag: bytes, length: int) -> bytes:
    """What stands for a slot in the digest."""
    return nonce + tag + length.to_bytes(4, "big")


def group_digest(seals: bytes | bytearray) -> bytes:
    """The digest of one group."""
    end = len(seals)
    while end and seals[end - SEAL : end] == _HOLE:
        end -= SEAL
    return sha256(memoryview(seals)[:end]).digest()


def root_of(groups: Iterable[bytes]) -> bytes:
    """The root over the digests of all groups, in order."""
    return sha256(b"".join(groups)).digest()


def group_count(blocks: int) -> int:
    """Groups of a file of `blocks` blocks."""
    return -(-blocks // GROUP)


class SealTree:
    """The seals of a file that is being written. A group is held whole, or known by its digest, or must be read again, or is empty."""

    def __init__(self, read_group: ReadGroup, on_disk: int = 0) -> None:
        """`on_disk`: blocks that the file has already, whose seals are not known."""
        self._read_group = read_group
        self._hot: OrderedDict[int, bytearray] = OrderedDict()
        self._digests: dict[int, bytes] = {}
        self._unknown = set(range(group_count(on_disk)))

    def set(self, block: int, seal: bytes) -> None:
        """Slot `block` was written."""
        number, index = divmod(block, GROUP)
        seals = self._hot.get(number)
        if seals is None:
            if number in self._unknown:
                return
            if self._digests.pop(number, None) is not None:
                self._unknown.add(number)
                return
            seals = self._new_group(number)
        place = index * SEAL
        if place > len(seals):
            seals.extend(bytes(place - len(seals)))
        seals[place : place + SEAL] = seal

    def cut(self, blocks: int) -> None:
        """Slots from `blocks` on are gone."""
        edge, kept = divmod(blocks, GROUP)
        for number in [number for number in self._hot if number >= edge]:
            if number == edge and kept:
                del self._hot[number][kept * SEAL :]
            else:
                del self._hot[number]
        for number in [number for number in self._digests if number >= edge]:
            del self._digests[number]
            if number == edge and kept:
                self._unknown.add(number)
        self._unknown = {number for number in self._unknown if number < edge or (number == edge and kept)}

    def set_last(self, block: int, seal: bytes) -> None:
        """Slot `block`, behind which there is none, is about to be written: what is on the disk of it does not count."""
        number = block // GROUP
        if number not in self._hot and (number in self._unknown or number in self._digests):
            seals = self._read_group(number, block)
            self._unknown.discard(number)
            self._digests.pop(number, None)
            self._new_group(number).extend(seals)
        self.set(block, seal)

    def root(self, blocks: int) -> bytes:
        """The digest over a file of `blocks` blocks."""
        for number in sorted(self._unknown):
            self._digests[number] = group_digest(self._read_group(number, blocks))
        self._unknown.clear()
        whole = sha256()
        for number in range(group_count(blocks)):
            seals = self._hot.get(number)
            whole.update(self._digests.get(number, EMPTY) if seals is None else group_digest(seals))
        return whole.digest()

    def _new_group(self, number: int) -> bytearray:
        if len(self._hot) >= HOT:
            old, seals = self._hot.popitem(last=False)
            self._digests[old] = group_digest(seals)
        seals = self._hot[number] = bytearray()
        return seals
