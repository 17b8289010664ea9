"""Every fault of a backup ends in the right verdict with the right names; an untouched one passes. Real restic, real S3, real age files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backup.report.page import render
from config.loading import Installation
from gateway.audit.events import Event
from tests.integration.drill_house import DrillHouse


@pytest.fixture
def house(installation: Installation) -> Iterator[DrillHouse]:
    made = DrillHouse(installation)
    yield made
    made.close()


def test_an_untouched_backup_passes_in_full(house: DrillHouse) -> None:
    papers = house.fill()
    house.save()
    run = house.drill()
    assert run.state == "passed", run.detail
    assert (run.detail["drawn"], run.detail["of"]) == (len(papers), len(papers))
    assert run.detail["bad"] == run.detail["missing"] == run.detail["surplus"] == []
    evidence = house.evidence(run)
    assert evidence["verdict"] == "passed"
    assert evidence["counts"]["keys_compared"] == 2
    assert len(evidence["repositories"]["papers"]["snapshot"]) == 64
    assert 0 < evidence["recovery"]["point_seconds"] < 60
    assert [event for event in house.events() if event.startswith("drill.")] == [Event.DRILL_STARTED, Event.DRILL_PASSED]
    assert "Passed" in render(evidence)
