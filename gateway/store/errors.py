"""What can go wrong in spool and vault. No message tells a client of the host: these are for people who run it."""

from __future__ import annotations

import errno

from config.errors import Busy, Exit, NightsafeError, OutOfReach

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
SPACE_HINT = "free some space on the disk of the data folder; nothing that was acknowledged is lost"


class StoreError(NightsafeError):
    """Root of what spool and vault raise about one paper."""


class StoreFull(OutOfReach):
    """The disk of the store is full."""


class StoreFailed(OutOfReach):
    """The disk of the store answered with an error other than a lack of space."""


class SpoolFull(StoreFull):
    """No space for a paper that arrives. What was durable still is."""


class SpoolGone(StoreError):
    """The spool does not have this paper, has it no longer, or has nothing of it but its name."""

    exit_code = Exit.USAGE


class SpoolDamaged(StoreError):
    """A spool file was cut off, changed, or does not belong to this paper or key."""


class SpoolTorn(StoreError):
    """The end of a partial was torn when its writer died. It has been cut back to what is sound; look at its size again and go on from there."""


class SpoolBusy(Busy):
    """Another process holds this partial, or it is not in a state for what was asked."""


class SpoolTooLarge(StoreError):
    """An offset or size beyond what a paper may have."""

    exit_code = Exit.USAGE


class VaultFull(StoreFull):
    """No space for a sealed paper."""


class VaultTooNarrow(VaultFull):
    """There is room for others, though not for a paper of this size."""


class VaultGone(StoreError):
    """The vault does not have this paper."""

    exit_code = Exit.USAGE


def spool_failure(error: OSError, doing: str) -> StoreFull | StoreFailed:
    """The error of ours for an OSError of a spool file."""
    if error.errno in NO_SPACE:
        return SpoolFull(f"no space left in the spool while {doing}", SPACE_HINT)
    return StoreFailed(f"the spool's disk failed while {doing}: {error.strerror}", "look at the system's log for errors of the disk")


def vault_failure(error: OSError, doing: str) -> StoreFull | StoreFailed:
    """The error of ours for an OSError of a vault file."""
    if error.errno in NO_SPACE:
        return VaultFull(f"no space left in the vault while {doing}", SPACE_HINT)
    return StoreFailed(f"the vault's disk failed while {doing}: {error.strerror}", "look at the system's log for errors of the disk")
