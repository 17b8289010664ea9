"""Passwords: argon2id (RFC 9106). Blocking, and dear on purpose: 64 MiB and a tenth of a second each, so callers bound how many run at once."""

from __future__ import annotations

import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from config.errors import UsageError

SHORTEST, LONGEST = 12, 256  # characters
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1, hash_len=32, salt_len=16, type=Type.ID)
# Of a password that nobody has: what is checked for a name without one, so that the answer takes as long.
NOBODYS = "$argon2id$v=19$m=65536,t=3,p=1$bm9ib2R5c3NhbHR4eHh4eA$K0nJg0ZsB7m5Y4oMqPqk1nDOnmJZ2Zb1sZ0lq3sQx0A"


def hash_password(password: str) -> str:
    """The hash to keep. Raises UsageError for a password that is too short, too long, or cannot be typed everywhere."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageError(f"a password has {SHORTEST} to {LONGEST} characters", "several words make a good one")
    if not password.isprintable():
        raise UsageError("the password has characters that cannot be typed everywhere", "use letters, digits, signs and spaces")
    return _HASHER.hash(_plain(password))


def check_password(kept: str | None, password: str) -> bool:
    """Whether `password` is the one of the hash `kept`. Takes as long for None, for a wrong one and for a right one."""
    try:
        right = _HASHER.verify(kept or NOBODYS, _plain(password[:LONGEST]))
    except (VerificationError, InvalidHashError):
        return False
    return right and kept is not None and len(password) <= LONGEST


def _plain(password: str) -> str:
    return unicodedata.normalize("NFKC", password)
