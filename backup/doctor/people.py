"""Who can log in, and with how little."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from backup.doctor.finding import Finding, named
from config.loading import Installation
from config.settings import GatewaySettings
from gateway.audit.events import Event
from gateway.audit.read import read
from gateway.catalog import Catalog, Person
from gateway.review.traces import traces

UNUSED_DAYS = 90


def check_people(installation: Installation, now: datetime) -> Iterator[Finding]:
    """Logins without an end, with a single factor, and those with which nobody can come in."""
    with Catalog.open(installation.folder.catalog) as catalog:
        certified = {one.person for one in catalog.certificates() if not one.revoked and one.valid_before > now}
        active = [person for person in catalog.people() if person.active and not person.off_boarded_at]
    active = [person for person in active if person.expires_at is None or person.expires_at > now]
    staff, clients = [one for one in active if one.role != "client"], [one for one in active if one.role == "client"]
    yield from _endless(staff, clients, now)
    yield from _single_factor(installation.settings.gateway, staff, clients)
    yield from _unused(installation, active, now)
    shut_out = [one.name for one in active if one.name not in certified and not one.password_hash and not _has_good_key(one, now)]
    if shut_out:
        yield Finding(
            "note", "logins", f"no key, certificate or password that is good: {named(shut_out)}", "they cannot log in",
            f"nightsafe person edit {shut_out[0]} --public-key FILE; or nightsafe person off-board {shut_out[0]}",
        )  # fmt: skip


def _has_good_key(person: Person, now: datetime) -> bool:
    return any(key.expires_at is None or key.expires_at > now for key in person.keys)


def _endless(staff: list[Person], clients: list[Person], now: datetime) -> Iterator[Finding]:
    a_year_on = f"{now + timedelta(days=365):%Y-%m-%d}"
    for people, severity in ((staff, "warning"), (clients, "note")):
        endless = [one.name for one in people if one.expires_at is None]
        if endless:
            whose = "staff and auditors" if people is staff else "clients' people"
            yield Finding(
                severity, "expiry", f"{whose} without an end: {named(endless)}",  # type: ignore[arg-type]
                "a login that nobody ends outlives the reason for it", f"nightsafe person edit {endless[0]} --expires {a_year_on}",
            )  # fmt: skip


def _single_factor(settings: GatewaySettings, staff: list[Person], clients: list[Person]) -> Iterator[Finding]:
    by_role = {"client": settings.require_client, "staff": settings.require_staff, "auditor": settings.require_auditor}
    for people, severity in ((staff, "warning"), (clients, "note")):
        single = [one.name for one in people if not _needs_two(one.require or by_role[one.role])]
        if single:
            whose = "staff and auditors" if people is staff else "clients' people"
            yield Finding(
                severity, "second factor", f"{whose} who log in with one factor: {named(single)}",  # type: ignore[arg-type]
                "one stolen key is enough",
                f"nightsafe person edit {single[0]} --totp --require publickey+totp; for all: see docs/how-to/ask-for-a-second-factor.md",
            )  # fmt: skip


def _unused(installation: Installation, people: list[Person], now: datetime) -> Iterator[Finding]:
    """Logins that nobody has used for a while, by the audit log, which is read through."""
    logins = traces(read(installation.folder.audit, only=(Event.LOGIN_ACCEPTED,))).logins
    since = now - timedelta(days=UNUSED_DAYS)
    unused = [
        one.name for one in people if one.created_at < since and ((last := logins.get(one.name)) is None or datetime.fromisoformat(last) < since)
    ]
    if unused:
        yield Finding(
            "warning", "unused logins", f"not used for {UNUSED_DAYS} days: {named(unused)}", "nobody would notice if a stranger used it",
            f"nightsafe person suspend {unused[0]}; who else there is: nightsafe access-review",
        )  # fmt: skip


def _needs_two(combinations: tuple[str, ...]) -> bool:
    return bool(combinations) and all("+" in one for one in combinations)
