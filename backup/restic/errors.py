"""What restic's failures mean, and how they are told apart.

restic 0.14 ends nearly every failure with exit code 1, so its words on standard error decide; from 0.17 on the codes 10, 11, 12 are used too.
The words are those of restic 0.14 against SeaweedFS, and of restic's documentation for newer versions; what is not recognised is
`UnknownFailure` and carries the end of the output.
"""

from __future__ import annotations

import re

from backup.restic.messages import Failure, parse_line
from config.errors import Away, Busy, CheckFailed, Exit, NightsafeError, OutOfReach


class ResticError(NightsafeError):
    """restic failed. `detail` is the end of its standard error, bounded."""

    exit_code = Exit.OUT_OF_REACH

    def __init__(self, message: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint)
        self.detail = detail


class RepositoryMissing(ResticError):
    """There is no repository at that place. Never a reason to make one."""

    exit_code = Exit.BAD


class WrongPassword(ResticError):
    """The repository does not open with our password."""

    exit_code = Exit.USAGE


class Locked(ResticError, Busy):
    """Another restic holds a lock that excludes ours."""

    exit_code = Exit.BUSY


class CredentialsRefused(ResticError):
    """The S3 service does not accept the access key, its secret, or what we want to do with them."""

    exit_code = Exit.USAGE


class Unreachable(ResticError, Away):
    """The bucket cannot be reached, or the service stopped answering."""


class Damaged(ResticError, CheckFailed):
    """Something in the repository is missing or not what it was."""

    exit_code = Exit.BAD


class DiskFull(ResticError, OutOfReach):
    """A disk has no space left: the target of a restore, the cache, or the server's."""


class TimedOut(Unreachable):
    """restic did not end in the time it was given."""


class Interrupted(ResticError):
    """restic was stopped because we were asked to stop."""


class UnknownFailure(ResticError):
    """restic failed in a way that is not known here."""

    exit_code = Exit.BAD


_WAIT = "wait for it to end; a lock of a process that died goes away by itself at the next backup"

# The first rule whose words are found decides; so the more certain ones stand first.
_RULES: tuple[tuple[type[ResticError], str, str, str], ...] = (
    (
        CredentialsRefused,
        r"access key id you provided does not exist|invalidaccesskeyid|signature we calculated does not match|signaturedoesnotmatch"
        r"|access ?denied|403 forbidden|invalid token",
        "the S3 service refuses the credentials",
        "check access_key and secret_key in the credentials file, and what they are allowed to do",
    ),
    (
        Unreachable,
        r"requesttimetooskewed|difference between the request time",
        "the S3 service finds the time wrong that requests of this machine bear",
        "set the clock of this machine: timedatectl status",
    ),
    (DiskFull, r"no space left on device|disk quota exceeded|insufficient storage", "a disk is full", "make space, then try again"),
    (
        WrongPassword,
        r"wrong password or no key found",
        "the repository does not open with this installation's password",
        "is this the right bucket and prefix? the passwords lie sealed in keys/secrets of the data folder",
    ),
    (Locked, r"repository is already locked", "the repository is in use by another restic", _WAIT),
    (
        RepositoryMissing,
        r"unable to open config file: .*(?:key does not exist|no such file|not found|bucket does not exist)|repository does not exist"
        r"|specified bucket does not exist|nosuchbucket",
        "there is no repository at the place where one should be",
        "check endpoint, bucket and prefix; nothing was created",
    ),
    (
        Damaged,
        r"ciphertext verification failed|pack id does not match|repository contains errors|does not match id|hash mismatch"
        r"|invalid data returned|specified key does not exist|not found in (?:index|repository)|no such file or directory.*/data/"
        r"|unable to load index|could not load index",
        "the repository is damaged",
        "delete nothing; learn what is affected with: nightsafe drill run --full",
    ),
    (
        Unreachable,
        r"connection refused|connection reset|no such host|i/o timeout|network is unreachable|no route to host|tls handshake|deadline exceeded"
        r"|server misbehaving|dial tcp|\b503\b|service unavailable|internal error|slow ?down|reduce your request rate|broken pipe|x509|\beof\b",
        "the S3 service cannot be reached",
        "check the endpoint in the settings and the network, then try again",
    ),
)
_COMPILED = tuple((kind, re.compile(words, re.IGNORECASE | re.MULTILINE), message, hint) for kind, words, message, hint in _RULES)
_PLACE = re.compile(r"[\w./-]+(?:\.[\w()*{}\[\]-]+)+")  # a function, in the trace that follows an error which restic did not expect
_CODES: dict[int, type[ResticError]] = {10: RepositoryMissing, 11: Locked, 12: WrongPassword}


def classify(doing: str, code: int, stderr: str) -> ResticError:
    """The error for a failed restic; `doing` says what was tried ('backing up'), `stderr` is the end of what it printed."""
    kind = _CODES.get(code)
    for candidate, words, message, hint in _COMPILED:
        if candidate is kind or (kind is None and words.search(stderr)):
            return candidate(f"{doing}: {message}", hint, stderr)
    last = _last_words(stderr) or "it printed nothing"
    return UnknownFailure(f"{doing}: restic ended with code {code}: {last[:300]}", "nothing was deleted; look at the log, then try again", stderr)


def _last_words(stderr: str) -> str:
    """Why it ended, in one line: of a message (0.18 and newer) its text, else the last line that is no place in restic's source."""
    for line in reversed([line for line in stderr.splitlines() if line.strip()]):
        message = parse_line(line.encode())
        if isinstance(message, Failure):
            return _last_words(message.message)
        if not line[0].isspace() and not _PLACE.fullmatch(line):
            return line.strip()
    return ""
