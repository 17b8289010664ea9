"""A narrow, typed door to the restic program, 0.14 to 0.19.

`arguments` builds command lines (pure), `runner` is the only place that starts the program, `messages` reads what it says, `errors` says what
can go wrong, `version` refuses programs that are too old, `repository` puts these together: one repository, with methods.
Nothing here knows of data folders, catalogs or buckets.
"""

from backup.restic.errors import (
    CredentialsRefused,
    Damaged,
    DiskFull,
    Interrupted,
    Locked,
    RepositoryMissing,
    ResticError,
    TimedOut,
    UnknownFailure,
    Unreachable,
    WrongPassword,
)
from backup.restic.messages import BackupResult, Fault, RestoreResult, Snapshot, Status
from backup.restic.repository import Restic
from backup.restic.runner import Limits

__all__ = [
    "BackupResult",
    "CredentialsRefused",
    "Damaged",
    "DiskFull",
    "Fault",
    "Interrupted",
    "Limits",
    "Locked",
    "RepositoryMissing",
    "Restic",
    "ResticError",
    "RestoreResult",
    "Snapshot",
    "Status",
    "TimedOut",
    "UnknownFailure",
    "Unreachable",
    "WrongPassword",
]
