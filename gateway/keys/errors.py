"""What goes wrong with keys, in words for a person. No message ever holds a key."""

from __future__ import annotations

from config.errors import CheckFailed, Exit, NightsafeError, OutOfReach


class KeyDamaged(CheckFailed):
    """A key file is there but is not what it should be: cut short, altered, or sealed to somebody else."""


class KeyMismatch(KeyDamaged):
    """A key file is sealed to others than the identity at hand: most likely it is the wrong master."""

    exit_code = Exit.USAGE


class KeydUnavailable(OutOfReach):
    """The key agent does not answer. Temporary: uploads and listings go on, reads work again once it runs."""


class KeyRefused(NightsafeError):
    """The key agent answered, and its answer is no."""


class KeyLimited(KeyRefused):
    """Refused for now: too many keys in too short a time. `retry_seconds` says when to come again."""

    def __init__(self, message: str, hint: str = "", *, retry_seconds: float) -> None:
        super().__init__(message, hint)
        self.retry_seconds = retry_seconds


class KeyGone(NightsafeError):
    """The paper is not (or no longer) where it was looked for; it may have moved from the spool to the vault meanwhile."""
