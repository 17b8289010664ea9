"""How recovery time and recovery point went over the drills of the past, and what a full restore would take now. Pure; the page draws it as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.catalog import Run

MOST = 120  # drills in a chart
RECOVERIES = ("full", "clean-room")  # the others restore a part, so their time says nothing of a recovery
FAR = 8  # times what was needed
WIDTH, HEIGHT, TOP, BOTTOM = 640.0, 140.0, 10.0, 120.0  # of the drawing, in its own units


def history(runs: Iterable[Run], copy: str) -> list[dict[str, Any]]:
    """The ended drills of one place (newest first), as JSON values, oldest first."""
    found = [
        {
            "run": run.id,
            "at": run.started_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "drill": run.detail.get("kind", ""),
            "verdict": run.state,
            "papers": run.detail.get("of"),
            "recovery_seconds": run.detail.get("recovery_seconds"),
            "point_seconds": run.detail.get("recovery_point_seconds"),
        }
        for run in runs
        if run.state in ("passed", "failed", "inconclusive") and run.detail.get("copy", "") == copy
    ]
    return found[:MOST][::-1]


def forecast(drills: Sequence[Mapping[str, Any]], papers: int) -> dict[str, Any] | None:
    """What a full restore of `papers` papers would take, by the newest full drill that passed; None before there is one."""
    for one in reversed(drills):
        if one["drill"] == "full" and one["verdict"] == "passed" and one["papers"] and one["recovery_seconds"]:
            return {"seconds": round(one["recovery_seconds"] * max(papers, 1) / one["papers"], 1), "by_run": one["run"], "papers": papers}
    return None


@dataclass(frozen=True)
class Dot:
    """One drill in a chart; what it says is for people."""

    x: float
    y: float
    verdict: str
    title: str
    seconds: float


@dataclass(frozen=True)
class Chart:
    """A line over time, and the objective as another. Coordinates are those of a drawing of WIDTH times HEIGHT."""

    dots: tuple[Dot, ...]
    objective_y: float | None  # None where it lies so far above that the line would be flat
    most_seconds: float  # that was needed, and where that is in the drawing
    most_y: float
    objective_seconds: float
    newest_seconds: float
    first: str
    last: str

    @property
    def line(self) -> str:
        """The points of a polyline."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


def chart(drills: Sequence[Mapping[str, Any]], value: str, objective_seconds: float, kinds: Sequence[str] = ()) -> Chart | None:
    """The chart of one value (`recovery_seconds`, `point_seconds`) of the drills, of some kinds or of all; None for fewer than two."""
    told = [one for one in drills if one[value] is not None and one["verdict"] != "inconclusive" and (not kinds or one["drill"] in kinds)]
    told.sort(key=lambda one: str(one["at"]))  # by run they are in order already, unless the clock was set back
    if len(told) < 2:
        return None
    moments = [datetime.fromisoformat(one["at"]).timestamp() for one in told]
    first, span = moments[0], max(moments[-1] - moments[0], 1.0)
    most = max(float(one[value]) for one in told)
    far = objective_seconds > FAR * most
    edge = (most if far else max(objective_seconds, most)) * 1.1 or 1.0

    def height(seconds: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * seconds / edge

    dots = tuple(
        Dot(
            10 + (WIDTH - 20) * (moment - first) / span,
            height(float(one[value])),
            one["verdict"],
            f"drill {one['run']}, {one['at'][:10]}",
            float(one[value]),
        )
        for one, moment in zip(told, moments, strict=True)
    )
    days = (told[0]["at"][:10], told[-1]["at"][:10])
    return Chart(dots, None if far else height(objective_seconds), most, height(most), objective_seconds, float(told[-1][value]), *days)


def charts(drills: Sequence[Mapping[str, Any]], time_objective: float, point_objective: float) -> list[tuple[str, Chart]]:
    """The charts of a place, each with its title; objectives in seconds."""
    drawn = [
        ("Recovery time of full drills and clean rooms", chart(drills, "recovery_seconds", time_objective, RECOVERIES)),
        ("Recovery point: work that would have been lost", chart(drills, "point_seconds", point_objective)),
    ]
    return [(title, one) for title, one in drawn if one is not None]
