"""Where papers lie: the spool while they arrive, the vault (and the quarantine) for ever after. Imports `config` and `gateway.age` only."""

from __future__ import annotations

from gateway.store.arrival import Arrival
from gateway.store.errors import (
    SpoolBusy,
    SpoolDamaged,
    SpoolFull,
    SpoolGone,
    SpoolTooLarge,
    SpoolTorn,
    StoreError,
    StoreFailed,
    StoreFull,
    VaultFull,
    VaultGone,
)
from gateway.store.ids import is_paper_id, new_paper_id
from gateway.store.landed import LandedPaper
from gateway.store.spool import Spool, SpoolFile
from gateway.store.vault import SealedPaper, Vault, VaultWriter

__all__ = [
    "Arrival",
    "LandedPaper",
    "SealedPaper",
    "Spool",
    "SpoolBusy",
    "SpoolDamaged",
    "SpoolFile",
    "SpoolFull",
    "SpoolGone",
    "SpoolTooLarge",
    "SpoolTorn",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "Vault",
    "VaultFull",
    "VaultGone",
    "VaultWriter",
    "is_paper_id",
    "new_paper_id",
]
