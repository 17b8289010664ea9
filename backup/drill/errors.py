"""How a drill can end other than well."""

from __future__ import annotations

from config.errors import CheckFailed, OutOfReach

FREE_SCRATCH = "free some space there, or set drill.scratch to a folder on a larger disk"


class DrillFailed(CheckFailed):
    """The backup is bad: papers are missing or wrong, or the repository is. The run and its evidence are recorded."""


class DrillInconclusive(OutOfReach):
    """The drill could not come to a verdict, and that is not the backup's fault. The run is recorded."""


class ScratchFailed(OutOfReach):
    """The scratch folder's disk is full, or cannot be read or written."""
