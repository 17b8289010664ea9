"""What people have to do now and then, and have to have ready before the day on which it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from backup.doctor.finding import Finding
from config.advice import setting
from config.loading import Installation
from gateway.catalog import Catalog
from gateway.review.kept import last_review

REVIEW_DAYS = 366  # once a year is what auditors ask for at the least


def check_review(installation: Installation, now: datetime) -> Iterator[Finding]:
    """Whether somebody has looked at who can reach what, within a year; an installation that is younger has time."""
    why, mend = (
        "rights that nobody needs any more are found by looking",
        'nightsafe access-review; then: nightsafe access-review done --by "YOUR NAME"',
    )
    last = last_review(installation.folder)
    if last is None:
        with Catalog.open(installation.folder.catalog) as catalog:
            since = min((person.created_at for person in catalog.people()), default=now)
        if now - since > timedelta(days=REVIEW_DAYS):
            yield Finding("warning", "access review", "nobody has reviewed who can reach what", why, mend)
        return
    reviewed = datetime.fromisoformat(str(last.values.get("reviewed_at", "")))
    if now - reviewed > timedelta(days=REVIEW_DAYS):
        yield Finding("warning", "access review", f"overdue: the last one was on {reviewed:%Y-%m-%d}", why, mend)
    else:
        yield Finding("good", "access review", f"the last one was on {reviewed:%Y-%m-%d}")


def check_contacts(installation: Installation) -> Iterator[Finding]:
    """Whether it is written down whom to inform of an incident."""
    if installation.settings.incident.contacts:
        yield Finding("good", "incidents", "it is written down whom to inform")
    else:
        yield Finding(
            "note", "incidents", "nobody is named who is to be informed of one",
            "on that day there is no time to look for them, and laws give 72 hours or less",
            f"{setting('incident', 'contacts', ['data protection officer: dpo@example.com'])}; see docs/how-to/handle-an-incident.md",
        )  # fmt: skip
