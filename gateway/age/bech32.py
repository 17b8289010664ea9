"""Bech32 as in BIP 173, without its limit on the length of the data: the text form of age keys.

Each text is either all lower or all upper case; `decode` gives the human-readable part in the case it was written in, because age tells
recipients (lower) and identities (upper) apart by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.age.errors import KeyTextError

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
VALUES = {character: value for value, character in enumerate(ALPHABET)}
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
CHECKSUM_LENGTH = 6
TEXT_MAX = 4096  # far above any age key, post-quantum ones included


def encode(prefix: str, data: bytes) -> str:
    """`data` behind the human-readable `prefix`, in lower case."""
    values = _regroup(data, 8, 5, pad=True)
    expanded = _expand(prefix)
    residue = _polymod([*expanded, *values, *([0] * CHECKSUM_LENGTH)]) ^ 1
    checksum = [(residue >> 5 * (CHECKSUM_LENGTH - 1 - place)) & 31 for place in range(CHECKSUM_LENGTH)]
    return prefix + "1" + "".join(ALPHABET[value] for value in (*values, *checksum))


def decode(text: str) -> tuple[str, bytes]:
    """The human-readable part and the data. Raises KeyTextError; the message never holds the text, which may be a secret."""
    if len(text) > TEXT_MAX or not text.isascii() or any(not 33 <= ord(character) <= 126 for character in text):
        raise KeyTextError("this is not a key: it has characters that no key has")
    if text not in (text.lower(), text.upper()):
        raise KeyTextError("this is not a key: upper and lower case are mixed")
    split = text.rfind("1")
    if split < 1 or split + 1 + CHECKSUM_LENGTH > len(text):
        raise KeyTextError("this is not a key: it has no separator, or is too short")
    prefix, body = text[:split], text[split + 1 :].lower()
    try:
        values = [VALUES[character] for character in body]
    except KeyError:
        raise KeyTextError("this is not a key: it has characters that no key has") from None
    if _polymod([*_expand(prefix.lower()), *values]) != 1:
        raise KeyTextError("this key has a typing error: its checksum is wrong")
    return prefix, bytes(_regroup(values[:-CHECKSUM_LENGTH], 5, 8, pad=False))


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode("ascii")
    return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]


def _polymod(values: Iterable[int]) -> int:
    residue = 1
    for value in values:
        top = residue >> 25
        residue = (residue & 0x1FFFFFF) << 5 ^ value
        for place, constant in enumerate(GENERATOR):
            if top >> place & 1:
                residue ^= constant
    return residue


def _regroup(values: Sequence[int] | bytes, width: int, target: int, *, pad: bool) -> list[int]:
    """Bits in groups of `width` as groups of `target`; left-over bits are padded with zeros, or must be such padding."""
    accumulator = bits = 0
    groups = []
    for value in values:
        accumulator = (accumulator << width | value) & 0xFFF
        bits += width
        while bits >= target:
            bits -= target
            groups.append(accumulator >> bits & ((1 << target) - 1))
    rest = accumulator << (target - bits) & ((1 << target) - 1) if bits else 0
    if pad:
        return [*groups, rest] if bits else groups
    if bits >= width or rest:
        raise KeyTextError("this is not a key: its padding is not zero")
    return groups
