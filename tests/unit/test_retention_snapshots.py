"""When the last snapshot of a paper goes: beside the rules of forgetting themselves, day by day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backup.restic import Snapshot
from backup.upkeep.retention import superfluous
from config.settings import ForgetSettings
from gateway.retention.snapshots import Leaving

START = datetime(2026, 1, 1, 3, tzinfo=UTC)
CRON = "0 3 * * *"
POLICIES = {
    "daily": ForgetSettings(keep_last=1, keep_within_days=0, keep_daily=7, keep_weekly=0, keep_monthly=0, keep_yearly=0),
    "last": ForgetSettings(keep_last=5, keep_within_days=0, keep_daily=0, keep_weekly=0, keep_monthly=0, keep_yearly=0),
    "within": ForgetSettings(keep_last=1, keep_within_days=20, keep_daily=0, keep_weekly=0, keep_monthly=0, keep_yearly=0),
    "all": ForgetSettings(keep_last=2, keep_within_days=3, keep_daily=5, keep_weekly=4, keep_monthly=3, keep_yearly=1),
}


def snapshot(moment: datetime) -> Snapshot:
    return Snapshot(id=moment.isoformat(), time=moment, host="", tags=(), paths=())


def goes_in_truth(known: list[datetime], since: datetime, policy: ForgetSettings) -> datetime | None:
    """The backup after which nothing is left, found by forgetting after each."""
    kept, moment = [snapshot(one) for one in known], known[-1]
    while any(since <= one.time <= known[-1] for one in kept):
        moment += timedelta(days=1)
        kept.append(snapshot(moment))
        gone = {one.id for one in superfluous(kept, policy, "UTC")}
        kept = [one for one in kept if one.id not in gone]
    return moment


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("days", [1, 9, 31, 64])
@pytest.mark.parametrize("sealed", [0, 5, 30])
def test_it_is_never_sooner_than_in_truth_and_not_much_later(policy: ForgetSettings, days: int, sealed: int) -> None:
    known = [START + timedelta(days=day) for day in range(days)]
    since = START + timedelta(days=sealed)
    found = Leaving(known, policy, CRON, "UTC").last_holding(since)
    if sealed >= days:
        assert found is None
        return
    assert found is not None and found[1] is not None
    truth = goes_in_truth(known, since, policy)
    assert truth is not None and truth <= found[1]
    slack = max(32 * bool(policy.keep_monthly) * policy.keep_monthly, 366 * policy.keep_yearly)  # the newest of now counts as that of its year
    assert found[1] - truth <= timedelta(days=slack)


def test_without_backups_there_is_none() -> None:
    assert Leaving([], ForgetSettings(), CRON, "UTC").last_holding(START) is None


def test_hourly_backups_of_the_default_rules_have_an_end() -> None:
    known = [START + timedelta(hours=hour) for hour in range(2000)]
    found = Leaving(known, ForgetSettings(), "15 * * * *", "UTC").last_holding(START)
    assert found is not None and found[1] is not None
    assert START + timedelta(days=11 * 365) < found[1] < START + timedelta(days=13 * 366)
