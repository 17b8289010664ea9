"""Strict base64 (RFC 4648 section 4): one text for each byte string, so that nothing in a header is malleable."""

from __future__ import annotations

import base64
import binascii

from gateway.age.errors import HeaderError


def encode(data: bytes) -> str:
    """`data` as base64 without padding."""
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str | bytes) -> bytes:
    """The bytes of canonical base64 without padding. Raises HeaderError for anything that `encode` would not have written."""
    raw = text.encode("ascii", "replace") if isinstance(text, str) else text
    try:
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise HeaderError("damaged age header: bad base64") from None
    if base64.b64encode(data).rstrip(b"=") != raw:
        raise HeaderError("damaged age header: base64 is not in its canonical form")
    return data
