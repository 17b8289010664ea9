"""The page of a drill for people: one HTML file without scripts or outside resources, for screen (light and dark) and paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backup.report.trends import charts
from backup.status.line import human_seconds
from config.console import human_bytes
from config.printable import printable
from config.words import noun

WORDS = {
    "passed": ("✓", "Passed", "What was restored from the backup is what arrived."),
    "failed": ("✗", "Failed", "The backup is bad. Delete nothing from it, mend what is named below, back up and drill again."),
    "inconclusive": ("?", "Inconclusive", "The drill could not come to a verdict. That is not the backup's fault; remove the cause and drill again."),
}


ABOUT = {
    "full": "every paper, restored and compared",
    "sample": "a sample of the papers, restored and compared",
    "clean-room": "from the recovery kit to papers fetched over SFTP",
    "escrow": "what the recovery kit opens",
}


TEMPLATES = Path(__file__).parent
LISTED = 2000  # papers on a page


def render(evidence: Mapping[str, Any]) -> str:
    """The page for the values of an Evidence. Everything that comes from clients is escaped, control characters made visible."""
    mark, word, meaning = WORDS[str(evidence["verdict"])]
    slowest = max((stage["seconds"] for stage in evidence["stages"]), default=0) or 1
    recovery = evidence["recovery"]
    drawn = charts(evidence["trend"], recovery["time_objective_seconds"], recovery["point_objective_seconds"])
    return (
        _environment()
        .get_template("page.html")
        .render(e=evidence, about=ABOUT[str(evidence["drill"])], mark=mark, word=word, meaning=meaning, slowest=slowest, charts=drawn)
    )


def render_client(evidence: Mapping[str, Any], name: str) -> str:
    """The page for one client's evidence, whose `papers` are the newest; `name` is that of the JSON beside it, which has them all."""
    listed = evidence["papers"][::-1][:LISTED]
    return _environment().get_template("client.html").render(e=evidence, name=name, listed=listed)


def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(size=human_bytes, noun=noun, span=human_seconds, shown=shown, when=_when)
    return environment


def shown(text: object) -> str:
    """`text` with everything visible that would steer a terminal or turn the direction of writing around."""
    return printable(str(text))


def _when(moment: str) -> str:
    """`2026-05-17T09:30:00.123456Z` → `2026-05-17 09:30:00 UTC`."""
    return f"{moment[:10]} {moment[11:19]} UTC" if moment else "unknown"
