"""Trends of drills: what goes into the charts, and the forecast."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from backup.report.trends import BOTTOM, TOP, WIDTH, chart, forecast, history
from gateway.catalog import Run

START = datetime(2026, 1, 1, 3, tzinfo=UTC)


def drill(month: int, state: Any = "passed", kind: str = "full", copy: str = "", **detail: Any) -> Run:
    at = START + timedelta(days=30 * month)
    facts = {"kind": kind, "of": 100, "recovery_seconds": 60.0 + month, "recovery_point_seconds": 3600.0, **detail}
    facts |= {"copy": copy} if copy else {}
    return Run(month, "drill", state, at, at, None, None, facts)


def test_history_is_of_one_place_and_oldest_first() -> None:
    runs = [drill(3), drill(2, "running"), drill(1, copy="nas"), drill(0)]
    assert [one["run"] for one in history(runs, "")] == [0, 3]
    assert [one["run"] for one in history(runs, "nas")] == [1]
    assert len(history([drill(0)] * 500, "")) == 120


def test_a_chart_has_its_line_and_the_objective_within_the_drawing() -> None:
    drills = history([drill(2, "failed"), drill(1), drill(0)], "")
    found = chart(drills, "recovery_seconds", 120.0, ("full",))
    assert found is not None
    assert [dot.verdict for dot in found.dots] == ["passed", "passed", "failed"]
    assert (found.dots[0].x, found.dots[-1].x) == (10, WIDTH - 10)
    assert all(TOP <= dot.y <= BOTTOM for dot in found.dots)
    assert found.objective_y is not None and TOP <= found.objective_y < min(dot.y for dot in found.dots), "the objective lies above what was needed"
    assert (found.first, found.last) == ("2026-01-01", "2026-03-02")


def test_an_objective_that_lies_far_above_does_not_press_the_line_flat() -> None:
    drills = history([drill(2), drill(1, recovery_seconds=30.0), drill(0)], "")
    found = chart(drills, "recovery_seconds", 4 * 3600.0)
    assert found is not None and found.objective_y is None
    heights = [dot.y for dot in found.dots]
    assert max(heights) - min(heights) > 30, "what changed is seen"
    assert (found.most_seconds, found.most_y) == (62.0, min(heights))
    nothing = chart(history([drill(1, recovery_seconds=0.0), drill(0, recovery_seconds=0.0)], ""), "recovery_seconds", 60.0)
    assert nothing is not None and {dot.y for dot in nothing.dots} == {BOTTOM}


def test_a_clock_that_was_set_back_leaves_the_drawing_whole() -> None:
    ahead = history([drill(2), drill(1), drill(9), drill(0)], "")  # the second one, by its number, with the clock months ahead
    found = chart(ahead, "recovery_seconds", 120.0)
    assert found is not None
    assert [dot.x for dot in found.dots] == sorted(dot.x for dot in found.dots)
    assert (found.dots[0].x, found.dots[-1].x) == (10, WIDTH - 10)


def test_too_few_or_unknown_values_make_no_chart() -> None:
    assert chart(history([drill(0)], ""), "recovery_seconds", 1.0) is None
    assert chart(history([drill(1), drill(0, kind="sample")], ""), "recovery_seconds", 1.0, ("full",)) is None
    assert chart(history([drill(1, recovery_point_seconds=None), drill(0)], ""), "point_seconds", 1.0) is None
    same = chart(history([drill(0), drill(0)], ""), "point_seconds", 1.0)
    assert same is not None and [dot.x for dot in same.dots] == [10, 10]


def test_the_forecast_grows_with_the_papers() -> None:
    drills = history([drill(3, kind="sample"), drill(2, "failed"), drill(1), drill(0)], "")
    assert forecast(drills, 300) == {"seconds": 183.0, "by_run": 1, "papers": 300}
    assert forecast(history([drill(0, kind="sample")], ""), 300) is None
