"""Evidence is whole, signed so that ssh-keygen agrees, and shown without letting a file name do anything."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from backup.drill.conclusion import point_seconds
from backup.report.evidence import LISTED, BadPaper, Counts, DrawFacts, Evidence, Recovery, RepositoryFacts, Stage, YoungFacts, write_evidence
from backup.report.page import render, render_client
from backup.status.line import human_seconds
from config.errors import OutOfReach
from gateway.audit.signatures import EVIDENCE, SigningKey, allowed_signers_line

START = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOSTILE = '/inbox/<script>alert("x")</script>\x1b[2J\u202e{{ 7*7 }}.pdf'
GOOD = Evidence(
    run=7,
    drill="sample",
    verdict="passed",
    started_at=START,
    ended_at=START + timedelta(seconds=75),
    installation={"host": "nightsafe"},
    papers=RepositoryFacts("r1", "s1", "2026-05-04T11:00:00.000000Z"),
    keys=RepositoryFacts("r2", "s2", "2026-05-04T11:00:01.000000Z"),
    causes=(),
    counts=Counts(of=1000, drawn=300, verified=300, verified_bytes=123_456),
    bad=(),
    bad_total=0,
    by_cause={},
    draw=DrawFacts("seed", "d" * 64, [{"group": "new", "size": 1000, "drawn": 300}], ["0" * 32] * 300),
    statement={"text": "300 of 1000 papers were drawn and none is bad."},
    stages=[Stage("restore", 60.0), Stage("verify", 15.0)],
    recovery=Recovery(75.0, 3600.0, 1800.0, 3600.0),
    tools={"restic": "0.14.0"},
    audit_head="a" * 64,
)
BAD = replace(
    GOOD,
    verdict="failed",
    causes=("the newest snapshots were deleted",),
    bad=(BadPaper("1" * 32, "acme", HOSTILE, 3, "missing", "gone"),),
    bad_total=1,
)


def test_the_signature_is_one_that_ssh_keygen_accepts(tmp_path: Path) -> None:
    key = SigningKey.generate("evidence of nightsafe")
    path = write_evidence(tmp_path / "evidence", BAD, key)
    assert path == tmp_path / "evidence" / "2026" / "7.json"
    signers = tmp_path / "allowed_signers"
    signers.write_text(allowed_signers_line("evidence", EVIDENCE, key.public).strip() + "\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "evidence", "-n", EVIDENCE, "-s", f"{path}.sig"]
    assert subprocess.run(command, input=path.read_bytes(), capture_output=True).returncode == 0
    edited = path.read_bytes().replace(b'"failed"', b'"passed"')
    assert subprocess.run(command, input=edited, capture_output=True).returncode != 0


def test_the_json_has_what_an_auditor_asks_for(tmp_path: Path) -> None:
    values = json.loads(write_evidence(tmp_path, GOOD, SigningKey.generate("e")).read_bytes())
    assert values["nightsafe_evidence"] == 1
    assert values["verdict"] == "passed"
    assert values["draw"]["papers"] == ["0" * 32] * 300
    assert values["recovery"]["time_met"]
    assert values["recovery"]["point_met"]
    assert values["repositories"]["papers"]["snapshot"] == "s1"


def test_long_lists_are_cut_and_counted() -> None:
    many = replace(GOOD, bad=[BadPaper("1" * 32, "acme", "/a", 1, "missing", "gone")] * (LISTED + 5), bad_total=LISTED + 5)
    assert GOOD.draw is not None
    values = replace(many, draw=replace(GOOD.draw, papers=["0" * 32] * (LISTED + 1))).values()
    assert len(values["bad"]) == LISTED
    assert values["bad_total"] == LISTED + 5
    assert values["draw"]["papers"] is None
    assert values["draw"]["digest"] == "d" * 64


def test_an_unknown_recovery_point_is_not_met() -> None:
    assert not Recovery(1.0, 2.0, None, 3.0).point_met
    assert Recovery(2.0, 2.0, 3.0, 3.0).point_met
    assert not Recovery(2.1, 2.0, 3.1, 3.0).time_met
    page = render(replace(GOOD, recovery=Recovery(1.0, 2.0, None, 86400.0)).values())
    assert "<b>unknown</b> how old the backup was (the objective is 24 h)" in page and "(over" not in page


def test_a_backup_that_was_made_while_the_drill_tested_itself_lost_nothing() -> None:
    assert point_seconds(START - timedelta(hours=1), START, START + timedelta(minutes=1)) == 3600
    assert point_seconds(START + timedelta(seconds=9), START, START + timedelta(minutes=1)) == 0
    assert point_seconds(START + timedelta(minutes=2), START, START + timedelta(minutes=1)) is None
    assert point_seconds(None, START, START) is None


def test_young_papers_are_listed_or_lie_beside_it(tmp_path: Path) -> None:
    full = replace(GOOD, drill="full", draw=None, young=YoungFacts("d" * 64, ["1" * 32]))
    assert full.values()["young"] == {"digest": "d" * 64, "papers": ["1" * 32]}
    path = write_evidence(tmp_path, replace(full, young=YoungFacts("d" * 64, ["1" * 32] * (LISTED + 1))), SigningKey.generate("e"))
    assert json.loads(path.read_bytes())["young"]["papers"] is None
    assert len(path.with_suffix(".draw").read_text().split()) == LISTED + 1


class Page(HTMLParser):
    """Collects tags, attributes and text, and insists on closed tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("evidence", [GOOD, BAD, replace(GOOD, verdict="inconclusive", draw=None, stages=[])])
def test_the_page_is_self_contained_and_well_formed(evidence: Evidence) -> None:
    page = Page(render(evidence.values()))
    assert page.open == []
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href", "onclick") or (value and "://" in value)]
    assert ("lang", "en") in page.attributes


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    text = render(BAD.values())
    assert "<script" not in text
    assert "\x1b" not in text
    assert "{{ 7*7 }}" in text
    shown = "".join(Page(text).words)
    assert '<script>alert("x")</script>\\x1b[2J\\u202e' in shown
    assert "\u202e" not in text
    assert "The newest snapshots were deleted." in shown


def test_a_disk_that_refuses_is_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "2026").write_text("a file where the folder should be")
    with pytest.raises(OutOfReach):
        write_evidence(tmp_path, GOOD, SigningKey.generate("e"))


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "unknown"), (0.04, "0.0 s"), (75, "1 min 15 s"), (1800, "30 min"), (7260, "2 h 1 min"), (200_000, "2 d 7 h")]
)
def test_durations_for_people(seconds: float | None, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(("proven", "verdict"), [(2, "All proven"), (1, "Not all proven"), (0, "Not all proven")])
def test_the_page_of_a_client_begins_with_what_is_proven(proven: int, verdict: str) -> None:
    at = "2026-05-04T12:00:00.000000Z"
    paper = {"path": HOSTILE, "sha256": "a" * 64, "version": 1, "size": 5, "received_at": at}
    facts = {
        "client": "acme",
        "made_at": at,
        "installation": {"host": "nightsafe"},
        "custody": "managed",
        "counts": {"papers": 2, "proven": proven},
        "papers": [{**paper, "proven_by": 7 if number < proven else None} for number in range(2)],
        "drills": [{"run": 7, "drill": "full", "at": at, "snapshot": "b" * 64, "evidence_sha256": "c" * 64}] if proven else [],
    }
    text = "".join(Page(render_client(facts, "1.json")).words)
    assert text.index(verdict) < text.index(f"{proven} of 2 papers came back") < text.index("accepted and kept")
