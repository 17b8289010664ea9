"""The few pieces of SSH's wire format (RFC 4251, section 5) that keys and signatures are made of. Pure."""

from __future__ import annotations

ED25519 = b"ssh-ed25519"


class WireError(ValueError):
    """The bytes are not of the form that was expected."""


def pack(*strings: bytes) -> bytes:
    """Each of `strings` with its length before it."""
    return b"".join(len(item).to_bytes(4, "big") + item for item in strings)


class Reader:
    """Reads `data` from the start; every overrun is a WireError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise WireError("cut short")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def number(self) -> int:
        """A uint32."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """A string with its length before it."""
        return self.take(self.number())

    def rest(self) -> bytes:
        """Whatever is left."""
        return self.take(len(self._data) - self._at)

    def expect(self, wanted: bytes) -> None:
        """The next bytes must be `wanted`."""
        if self.take(len(wanted)) != wanted:
            raise WireError("not what was expected")

    def end(self) -> None:
        """Nothing may be left."""
        if self.rest():
            raise WireError("something follows")
