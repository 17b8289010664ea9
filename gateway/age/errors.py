"""What can be wrong with an age file, told apart the way the public test vectors tell it apart."""

from __future__ import annotations

from config.errors import Exit, NightsafeError


class AgeError(NightsafeError):
    """Root of everything that `gateway.age` raises about a file or a key. OSError of the caller's own file passes through."""


class HeaderError(AgeError):
    """The header, or what must stand right behind it, does not follow the grammar: not an age file, or a damaged one."""


class ArmorError(HeaderError):
    """The ASCII armour around the file does not follow its grammar."""


class HmacError(AgeError):
    """The header opens with the key, but was changed afterwards."""


class NoMatchError(AgeError):
    """None of the given identities opens this file."""


class PayloadError(AgeError):
    """A chunk is forged, missing, moved, or the file is cut off or continued."""


class KeyTextError(AgeError):
    """A recipient or identity as text is not one."""

    exit_code = Exit.USAGE
