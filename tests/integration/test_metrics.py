"""What the scheduler tells a monitor: numbers without names, and one word whether all is well."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backup.clock.metrics import health, metrics, serving
from backup.status.line import Line
from backup.status.overview import backup_lines
from config.loading import Installation
from config.settings import CopySettings
from gateway.catalog import Catalog
from tests.ports import quiet_port

DAY = timedelta(days=1)


@pytest.fixture
def told(new_installation: Callable[[str], Installation]) -> Installation:
    """With a good backup, a passed drill, a failed check, and a copy that was never made."""
    found = new_installation("")
    with Catalog.open(found.folder.catalog) as catalog:
        catalog.finish_run(catalog.start_run("backup"), "passed", snapshot="a" * 64, detail={"files": 3, "bytes": 500, "added_bytes": 20})
        catalog.finish_run(catalog.start_run("drill"), "passed", snapshot="a" * 64, detail={"drawn": 3, "recovery_seconds": 7.5})
        catalog.finish_run(catalog.start_run("check"), "passed", detail={"part": 1, "parts": 30})
        catalog.finish_run(catalog.start_run("check"), "failed", detail={"part": 2, "parts": 30, "cause": "bits"})
    settings = found.settings.model_copy(update={"copies": {"nas": CopySettings(url="/mnt/nas")}})
    return Installation(found.folder, settings)


def values(installation: Installation, now: datetime) -> dict[tuple[str, str], float]:
    """(name, labels) → value."""
    families = text_string_to_metric_families(metrics(installation, now).decode())
    return {(sample.name, ",".join(sample.labels.values())): sample.value for family in families for sample in family.samples}


def test_numbers_for_prometheus(told: Installation) -> None:
    now = datetime.now(UTC) + DAY
    found = values(told, now)
    assert found["nightsafe_backup_newest_age_seconds", "first"] == pytest.approx(86400, abs=60)
    assert found["nightsafe_backup_proven_age_seconds", "first"] == pytest.approx(86400, abs=60)
    assert ("nightsafe_backup_newest_age_seconds", "nas") not in found, "what never happened has no age"
    assert found["nightsafe_run_passed", "check,first"] == 0
    assert found["nightsafe_check_coverage_ratio", "first"] == 0, "what was read before a fault proves nothing"
    assert found["nightsafe_backup_bytes", "first"] == 500
    assert found["nightsafe_backup_added_bytes", "first"] == 20
    assert found["nightsafe_drill_recovery_seconds", "first"] == 7.5
    assert found["nightsafe_destructions_pending", ""] == 0
    assert found["nightsafe_status", "copy nas"] == 2


def test_a_copy_that_was_drilled_too_long_ago(told: Installation) -> None:
    with Catalog.open(told.folder.catalog) as catalog:
        catalog.add_repository("papers@nas", "/mnt/nas/papers", "b" * 64)
        catalog.finish_run(catalog.start_run("copy", {"copy": "nas"}), "passed", snapshot="b" * 64, detail={"copy": "nas", "files": 3})
    planned, unplanned = (
        Installation(told.folder, told.settings.model_copy(update={"copies": {"nas": CopySettings(url="/mnt/nas", max_age_hours=1e4, **more)}}))
        for more in ({}, {"drill_schedule": ""})
    )
    now, late = datetime.now(UTC) + DAY, datetime.now(UTC) + 9 * DAY
    assert copy_line(planned, now).colour == "yellow"
    never = copy_line(planned, late)
    assert (never.colour, never.todo) == ("red", "nightsafe drill run --full --from nas")
    assert "no drill has passed on it, and it is 9 days old" in never.text
    with Catalog.open(told.folder.catalog) as catalog:
        for kind, state in (("sample", "passed"), ("escrow", "passed"), ("full", "inconclusive")):
            catalog.finish_run(catalog.start_run("drill", {"copy": "nas", "kind": kind}), state, detail={"copy": "nas", "kind": kind})  # type: ignore[arg-type]
    assert "proven" in copy_line(planned, now).text
    assert copy_line(planned, now).colour == "yellow", "a folder is here"
    assert "its last passed drill is 9 days old; the limit is 8 days" in copy_line(planned, late).text
    assert copy_line(unplanned, late).colour == "yellow", "nobody said that it should be drilled"
    assert values(planned, late)["nightsafe_backup_proven_age_seconds", "nas"] == pytest.approx(9 * 86400, abs=60)


def copy_line(installation: Installation, now: datetime) -> Line:
    return next(line for line in backup_lines(installation, now) if line.name == "copy nas")


def test_over_http_on_loopback(told: Installation) -> None:
    port = quiet_port()
    settings = told.settings.model_copy(update={"metrics": told.settings.metrics.model_copy(update={"port": port}), "copies": {}})
    installation = Installation(told.folder, settings)
    with serving(installation) as where:
        assert where == port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=240) as answer:
            assert b"nightsafe_papers 0.0" in answer.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=240) as answer:
            assert json.load(answer)["colour"] == "yellow"
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/elsewhere", timeout=240)
        assert error.value.code == 404
        error.value.close()
        with serving(installation) as taken:
            assert taken == 0, "a port that is taken stops no backup"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    with serving(told) as off:
        assert off == 0


def test_what_is_red_is_not_healthy(told: Installation) -> None:
    good, body = health(told)
    assert not good
    assert json.loads(body)["colour"] == "red"
