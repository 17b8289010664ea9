"""One root for every error that a person may be shown.

Each carries a message of one or two lines, what to do next, and the exit code of the command line. A foreign exception is turned into one
of these where it enters, with its cause kept (`raise … from`).
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    BAD = 1  # the thing checked is bad: a drill failed, a backup is stale
    USAGE = 2  # wrong use or settings
    PARTLY = 3
    BUSY = 4  # someone else holds the lock
    OUT_OF_REACH = 5  # a needed service is out of reach


class NightsafeError(Exception):
    """`message` says what is wrong, `hint` what to do; neither ever holds a secret."""

    exit_code: Exit = Exit.BAD

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class CheckFailed(NightsafeError):
    """The thing that was checked is bad."""


class UsageError(NightsafeError):
    """Wrong use of a command, or something named that does not exist."""

    exit_code = Exit.USAGE


class SettingsError(UsageError):
    """The settings, or the data folder they describe, cannot be used."""


class Partial(NightsafeError):
    """Some of the work was done; the message says what was not."""

    exit_code = Exit.PARTLY


class Busy(NightsafeError):
    """Someone else holds the lock."""

    exit_code = Exit.BUSY


class OutOfReach(NightsafeError):
    """A needed service or resource (S3, keyd, restic, disk space, a port) is not available."""

    exit_code = Exit.OUT_OF_REACH


class Away(OutOfReach):
    """A service did not answer, or said that it cannot now. The same may work some minutes later, without anybody's doing."""
