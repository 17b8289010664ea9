"""What somebody has to show to be let in: combinations of factors, written as in `publickey+totp`. Pure.

The code of a second factor never stands alone and never comes first: a guess at it must cost a key or a password.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from config.errors import UsageError

Factor = Literal["publickey", "password", "totp"]
FACTORS: tuple[Factor, ...] = get_args(Factor)
Combination = frozenset[Factor]


def parse_combination(text: str) -> str:
    """`text` in its usual form. Raises UsageError for unknown factors, and for `totp` alone."""
    wanted = [part.strip() for part in text.split("+")]
    if not set(wanted) <= set(FACTORS) or len(set(wanted)) != len(wanted):
        raise UsageError(f"'{text[:60]}' is no combination of factors", f"join some of {', '.join(FACTORS)} by +, as in publickey+totp")
    if wanted == ["totp"]:
        raise UsageError("a second factor does not stand alone", "write publickey+totp or password+totp")
    return "+".join(factor for factor in FACTORS if factor in wanted)


def combinations(person: Sequence[str], role: Sequence[str], *, totp: bool) -> tuple[Combination, ...]:
    """What suffices for somebody: their own list, else their role's, else a key or a password, with the second factor when they have one."""
    chosen = person or role or (("publickey+totp", "password+totp") if totp else ("publickey", "password"))
    return tuple(frozenset(factor for factor in FACTORS if factor in text.split("+")) for text in chosen)


def suffices(wanted: Iterable[Combination], shown: Combination) -> bool:
    """Whether what was shown is enough."""
    return any(combination <= shown for combination in wanted)


def following(wanted: Iterable[Combination], shown: Combination) -> Combination:
    """Which factors lead on from what was shown: empty when none does. The second factor only after another."""
    found: set[Factor] = set()
    for combination in wanted:
        if shown <= combination:
            left = combination - shown
            found |= left - {"totp"} if left - {"totp"} else left
    return frozenset(found)
