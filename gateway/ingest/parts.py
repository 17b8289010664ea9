"""What a pipeline works with, put together once by the role (or by a test)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from gateway.age import Identity
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog
from gateway.ingest.checks.services import Checks, Way
from gateway.jail.tree import Tree
from gateway.keys.keyring import Keyring
from gateway.store import Arrival, Spool, Vault


def _utc_now() -> datetime:
    return datetime.now(UTC)


def go_on() -> None:
    """What long work asks between two pieces; another one raises Stopping."""


def ignore(_paper: str) -> None:
    """Nobody takes over papers whose checks are slow."""


def plenty(_size: int) -> None:
    """There is room for a paper of so many bytes; another one raises VaultFull."""


def never(_arrival: Arrival) -> bool:
    """No paper has to wait for another one."""
    return False


@dataclass(frozen=True)
class Parts:
    """The stores, keys and clocks of ingest. `tree` gives a client's jail; `claims` is the file of the claims' locks."""

    spool: Spool
    vault: Vault
    quarantine: Path
    landed: Path
    claims: Path
    catalog: Catalog
    audit: AuditLog
    keyring: Keyring
    tree: Callable[[str], Tree]
    identities: Sequence[Identity] = field(repr=False)
    signing: SigningKey = field(repr=False)
    now: Callable[[], datetime] = _utc_now
    between_pieces: Callable[[], None] = go_on
    must_wait: Callable[[Arrival], bool] = never
    check_room: Callable[[int], None] = plenty
    sync_together: Sequence[Path] = ()  # folders whose disks are synced once for a batch; without any, each file is synced by itself
    checks: Checks = field(default_factory=Checks)
    way: Way = "quick"
    quick_bytes: int = 2**63  # a larger paper is handed over to the slow ones, however small it looked in the spool
    is_slow: Callable[[Arrival], bool] = never  # whether the checks of a paper belong on the thorough way from the start
    hand_over: Callable[[str], None] = ignore  # takes a paper over whose checks are slow
