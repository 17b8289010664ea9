"""Does a recovery kit that somebody typed or scanned back in still open what this installation keeps? Nothing of it is stored.

Part A (the identity) and part B (where the backups are, and what opens them for reading) may be looked at together or apart, because they are
kept apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from backup.bucket import BucketMissing, BucketRefused, check_bucket
from backup.drill.scratch import scratch_folder
from backup.kit.kit import Kit
from backup.repositories.access import RepositoryName, S3Access, access
from backup.restic import Limits, RepositoryMissing, Restic, WrongPassword
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from config.errors import Exit, NightsafeError, OutOfReach
from config.loading import Installation
from config.words import counted
from gateway.age import Identity
from gateway.catalog import Catalog
from gateway.keys.errors import KeyDamaged
from gateway.keys.generations import generations, open_generation
from gateway.keys.keyring import Keyring

State = Literal["good", "bad", "unreachable", "absent"]
NAMED = 10
PRINT_AGAIN = "print part B again: nightsafe kit show"


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    part: Literal["A", "B"]
    name: str
    state: State
    text: str


def check_kit(installation: Installation, kit: Kit) -> list[Check]:
    """Try the kit against the live keyring, bucket and repositories. Raises SettingsError, CatalogError."""
    checks = [Check("A", "identity", "absent", "part A was not given")] if kit.identity is None else list(_check_identity(installation, kit.identity))
    if kit.values is None:
        return [*checks, Check("B", "access", "absent", "part B was not given")]
    return [*checks, *_check_access(installation, kit.values)]


def verdict(checks: Sequence[Check]) -> Exit:
    """Bad before unreachable before good."""
    states = {check.state for check in checks}
    return Exit.BAD if "bad" in states else Exit.OUT_OF_REACH if "unreachable" in states else Exit.DONE


def part_states(checks: Sequence[Check]) -> dict[str, bool | None]:
    """Whether part A (`identity`) and part B (`access`) are good; None for one that could not be judged, or was not given."""
    judged: dict[str, bool | None] = {}
    for name, part in (("identity", "A"), ("access", "B")):
        states = {check.state for check in checks if check.part == part}
        judged[name] = False if "bad" in states else None if states & {"unreachable", "absent"} else True
    return judged


def _check_identity(installation: Installation, identity: Identity) -> Iterator[Check]:
    keyring = Keyring(installation.folder)
    if identity.recipient not in keyring.recovery_recipients:
        yield Check("A", "identity", "bad", "it is no recovery identity of this installation, or one no more: it opens none of its keys")
        return
    yield Check("A", "identity", "good", str(identity.recipient))
    with Catalog.open(installation.folder.catalog) as catalog:
        destroyed = {one.client for one in catalog.destructions()}
        names = [client.name for client in catalog.clients() if client.name not in destroyed]
    opened, closed, external = 0, [], 0
    for name in names:
        found = {generation.kind: generation for generation in reversed(generations(installation.folder.client_keys(name)))}
        if not found:
            closed.append(f"{name} (its keys are gone)")
        external += found.pop("external", None) is not None
        for generation in found.values():
            try:
                open_generation(installation.folder.client_keys(name), generation, identity)
                opened += 1
            except (KeyDamaged, NightsafeError):
                closed.append(f"{name} {generation.number}")
    if closed:
        more = f" and {len(closed) - NAMED} more" if len(closed) > NAMED else ""
        yield Check("A", "clients' keys", "bad", f"{opened} open, these do not: {', '.join(closed[:NAMED])}{more}")
    else:
        besides = f"; {counted(external, 'client holds', 'clients hold')} theirs alone" if external else ""
        yield Check("A", "clients' keys", "good", f"{counted(opened, 'key')} of {counted(len(names), 'client')} open{besides}")


def _check_access(installation: Installation, values: Mapping[str, str]) -> Iterator[Check]:
    try:
        live = access(installation, "reader")
    except OutOfReach as error:
        yield Check("B", "bucket", "unreachable", error.message)
        return
    kit = replace(live, access_key=values["AWS_ACCESS_KEY_ID"], secret_key=values["AWS_SECRET_ACCESS_KEY"], region=values["AWS_DEFAULT_REGION"])
    yield _check_place(live, values)
    try:
        check_bucket(kit)
    except (BucketRefused, BucketMissing) as error:
        yield Check("B", "credential", "bad", f"{error.message}; {PRINT_AGAIN}")
        return
    except OutOfReach as error:
        yield Check("B", "credential", "unreachable", error.message)
        return
    yield Check("B", "credential", "good", "it reads the bucket")
    with scratch_folder(installation, "kit") as scratch, Catalog.open(installation.folder.catalog) as catalog:
        for name in ("papers", "keys"):
            yield _check_repository(installation, kit, values["RESTIC_PASSWORD"], name, scratch, catalog)


def _check_place(live: S3Access, values: Mapping[str, str]) -> Check:
    """The embedded server's port may be another one since the page was printed."""
    told = [values["NIGHTSAFE_PAPERS"], values["NIGHTSAFE_KEYS"]]
    now = [live.url("papers"), live.url("keys")]
    if live.embedded:
        told, now = ([url.partition("://")[2].partition("/")[2] for url in urls] for urls in (told, now))
    if told != now:
        return Check("B", "place", "bad", f"it names other repositories than the settings do; {PRINT_AGAIN}")
    return Check("B", "place", "good", "it names the repositories that are in use")


def _check_repository(installation: Installation, kit: S3Access, password: str, name: RepositoryName, scratch: Path, catalog: Catalog) -> Check:
    recorded = catalog.repository(name)
    what = f"repository of {name}"
    if recorded is None:
        return Check("B", what, "absent", "there is no backup yet")
    settings = installation.settings.backup
    runner = Runner(settings.restic, scratch / "temporary", Limits(settings.timeout_seconds, settings.stall_seconds))
    restic = Restic(runner, Repository(kit.url(name), scratch / "cache"), Secrets(password.encode(), kit.environment()))
    try:
        found = restic.config()
    except (WrongPassword, RepositoryMissing) as error:
        return Check("B", what, "bad", f"{error.message}; {PRINT_AGAIN}")
    except OutOfReach as error:
        return Check("B", what, "unreachable", error.message)
    except NightsafeError as error:
        return Check("B", what, "bad", error.message)
    if found != recorded.restic_id:
        return Check("B", what, "bad", "the bucket holds another repository in its place")
    return Check("B", what, "good", "the kit's restic key opens it")


def as_values(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """As JSON values."""
    return [{"part": check.part, "name": check.name, "state": check.state, "text": check.text} for check in checks]
