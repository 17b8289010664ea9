"""Every way of tampering with the audit log is planted, and found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.audit import AuditLog, Event
from gateway.audit.checkpoint import CheckpointsDamaged, sign_checkpoint
from gateway.audit.lines import NO_LINE, canonical, line_hash
from gateway.audit.segments import segment_path
from gateway.audit.signatures import CHECKPOINT, SigningKey, sign
from gateway.audit.verify import AuditReport, verify

KEY = SigningKey.generate("checkpoints")
FORGER = SigningKey.generate("checkpoints")


@dataclass(frozen=True)
class Scene:
    """A log of two roles with checkpoints in it: `signed` is all covered, `live` has one line more than the last checkpoint saw."""

    folder: Path
    signed: Path
    live: Path
    anchors: list[str]

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints.jsonl"

    def report(self) -> AuditReport:
        return verify(self.folder, [KEY.public], self.anchors)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    folder = tmp_path / "audit"
    with AuditLog(folder, "gateway") as gateway:
        for number in range(8):
            gateway.append(Event.PAPER_DEPOSITED, client="acme", number=number)
    with AuditLog(folder, "scheduler") as scheduler:
        for _ in range(3):
            scheduler.append(Event.BACKUP_STARTED)
            sign_checkpoint(folder, KEY, scheduler)
    return Scene(folder, segment_path(folder, gateway.segment), segment_path(folder, scheduler.segment), [])


def edit_lines(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def rechained(lines: list[bytes]) -> list[bytes]:
    """The lines with numbers and hashes made to fit: what a careful forger does."""
    made, prev = [], NO_LINE
    for number, line in enumerate(lines):
        made.append(canonical({**json.loads(line), "seq": number, "prev": prev}) + b"\n")
        prev = line_hash(made[-1][:-1])
    return made


def replaced(line: bytes, **values: object) -> bytes:
    return canonical({**json.loads(line), **values}) + b"\n"


def of_segment(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Scene], None]:
    return lambda scene: edit_lines(scene.signed, change)


def of_checkpoints(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Scene], None]:
    return lambda scene: edit_lines(scene.checkpoints, change)


def resigned(line: bytes, key: SigningKey, **values: object) -> bytes:
    content = {name: value for name, value in json.loads(line).items() if name != "signature"} | values
    return canonical({**content, "signature": sign(key, CHECKPOINT, canonical(content))}) + b"\n"


SEGMENT_VIOLATIONS = {
    "a value edited": of_segment(lambda lines: [*lines[:3], replaced(lines[3], client="bolt"), *lines[4:]]),
    "a byte edited": of_segment(lambda lines: [*lines[:3], lines[3].replace(b"acme", b"acne"), *lines[4:]]),
    "the last line edited": of_segment(lambda lines: [*lines[:-1], replaced(lines[-1], client="bolt")]),
    "the first line edited": of_segment(lambda lines: [replaced(lines[0], pid=1), *lines[1:]]),
    "a line removed": of_segment(lambda lines: lines[:3] + lines[4:]),
    "the first line removed": of_segment(lambda lines: lines[1:]),
    "the last line removed": of_segment(lambda lines: lines[:-1]),
    "most lines cut off": of_segment(lambda lines: lines[:1]),
    "cut off within a line": of_segment(lambda lines: [*lines[:-2], lines[-2][:20]]),
    "emptied": of_segment(lambda _: []),
    "two lines exchanged": of_segment(lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]]),
    "a line twice": of_segment(lambda lines: [*lines[:4], lines[3], *lines[4:]]),
    "a line inserted": of_segment(lambda lines: [*lines[:4], replaced(lines[3], client="bolt"), *lines[4:]]),
    "a line added by another hand": of_segment(lambda lines: [*lines, lines[-1]]),
    "edited, with all hashes made to fit": of_segment(lambda lines: rechained([*lines[:3], replaced(lines[3], client="bolt"), *lines[4:]])),
    "removed, with all hashes made to fit": of_segment(lambda lines: rechained(lines[:3] + lines[4:])),
    "written in another form": of_segment(lambda lines: [*lines[:3], lines[3].replace(b",", b", ", 1), *lines[4:]]),
    "garbage between lines": of_segment(lambda lines: [*lines[:3], b"\xff\x00\n", *lines[3:]]),
    "an endless line": of_segment(lambda lines: [*lines, b"x" * 100_000]),
    "two lines run together": of_segment(lambda lines: [*lines[:3], lines[3][:-1], *lines[4:]]),
    "of another role": of_segment(lambda lines: rechained([*lines[:3], replaced(lines[3], role="ingest"), *lines[4:]])),
}


@pytest.mark.parametrize("violation", SEGMENT_VIOLATIONS)
def test_tampering_with_a_segment_is_found(scene: Scene, violation: str) -> None:
    SEGMENT_VIOLATIONS[violation](scene)
    report = scene.report()
    assert report.problems, violation
    assert all(problem.startswith(scene.signed.stem) for problem in report.problems)
    assert len(report.problems) < 12


CHECKPOINT_VIOLATIONS = {
    "the last removed": of_checkpoints(lambda lines: lines[:-1]),
    "the first removed": of_checkpoints(lambda lines: lines[1:]),
    "one between removed": of_checkpoints(lambda lines: [lines[0], lines[2]]),
    "all removed": of_checkpoints(lambda _: []),
    "two exchanged": of_checkpoints(lambda lines: [lines[1], lines[0], lines[2]]),
    "edited": of_checkpoints(lambda lines: [replaced(lines[0], time="2001-01-01T00:00:00.000000Z"), *lines[1:]]),
    "the last signed by another key": of_checkpoints(lambda lines: [*lines[:-1], resigned(lines[-1], FORGER)]),
    "signature taken away": of_checkpoints(lambda lines: [*lines[:-1], canonical({**json.loads(lines[-1]), "signature": None}) + b"\n"]),
    "signature of another": of_checkpoints(lambda lines: [*lines[:-1], replaced(lines[-1], signature=json.loads(lines[0])["signature"])]),
    "garbage": of_checkpoints(lambda lines: [*lines, b"garbage\n"]),
    "two run together": of_checkpoints(lambda lines: [lines[0][:-1], *lines[1:]]),
    "NaN": of_checkpoints(lambda lines: [*lines, b'{"checkpoint":NaN}\n']),
}


@pytest.mark.parametrize("violation", CHECKPOINT_VIOLATIONS)
def test_tampering_with_checkpoints_is_found(scene: Scene, violation: str) -> None:
    CHECKPOINT_VIOLATIONS[violation](scene)
    report = scene.report()
    assert report.problems, violation
    assert all(problem.startswith("checkpoints") for problem in report.problems)


def test_an_untouched_log_has_no_problem(scene: Scene) -> None:
    report = scene.report()
    assert (report.problems, report.torn, report.ok) == ([], [], True)
    assert (report.segments, report.lines, report.checkpoints) == (2, 9 + 7, 3)


def test_one_removed_line_is_one_complaint_and_hides_nothing(tmp_path: Path) -> None:
    with AuditLog(tmp_path, "gateway") as log:
        for number in range(60):
            log.append(Event.PAPER_READ, number=number)
        sign_checkpoint(tmp_path, KEY)
    path = segment_path(tmp_path, log.segment)
    edit_lines(path, lambda lines: [*lines[:9], *lines[11:], replaced(lines[-1], seq=61, prev=line_hash(lines[-1][:-1]))])
    assert [problem.partition(": ")[2] for problem in verify(tmp_path, [KEY.public]).problems] == [
        "line 10 has the number 11 instead of 9: 2 lines are missing before it, removed or moved",
        "cut off: 61 lines were signed, 60 are left",
    ]
    edit_lines(path, lambda lines: [*lines[:9], *[line.replace(b'"number"', b'"other"') for line in lines[9:]], *lines[-1:]])
    problems = verify(tmp_path, [KEY.public]).problems
    assert len(problems) < 30 and "is not the one that was signed" in problems[-1], "told, however much else is wrong"


def test_a_log_that_was_taken_away_whole_is_found(scene: Scene) -> None:
    for path in scene.folder.iterdir():
        path.unlink()
    assert [problem.partition(":")[0] for problem in scene.report().problems] == ["there is no log at all"]


def test_a_missing_segment_is_found(scene: Scene) -> None:
    scene.signed.unlink()
    assert [problem for problem in scene.report().problems if problem.startswith(scene.signed.stem) and "missing" in problem]


def test_a_renamed_segment_is_found(scene: Scene) -> None:
    scene.signed.rename(scene.folder / "gateway-old.jsonl")
    assert {problem.split(":")[0] for problem in scene.report().problems} == {scene.signed.stem, "gateway-old.jsonl"}


def test_a_segment_under_another_segments_name_is_found(scene: Scene) -> None:
    other = scene.folder / scene.signed.name.replace("gateway", "ingest")
    other.write_bytes(scene.signed.read_bytes())
    assert {problem.split(":")[0] for problem in scene.report().problems} == {other.stem}


def test_a_segment_between_two_of_one_process_cannot_vanish_unsigned(tmp_path: Path) -> None:
    with AuditLog(tmp_path, "gateway", max_bytes=800) as log:
        for _ in range(20):
            log.append(Event.PAPER_READ)
    segments = sorted(tmp_path.iterdir())
    assert len(segments) > 3
    assert verify(tmp_path, []).problems == []
    edit_lines(segments[0], lambda lines: lines[:-1])
    segments[2].unlink()
    problems = verify(tmp_path, []).problems
    assert {problem.split(":")[0] for problem in problems} == {segments[0].stem, segments[2].stem}


def test_what_no_checkpoint_saw_is_found_by_an_anchor_elsewhere(scene: Scene) -> None:
    head = line_hash(scene.live.read_bytes().splitlines()[-1])
    edit_lines(scene.live, lambda lines: lines[:-1])
    edit_lines(scene.checkpoints, lambda lines: lines[:-1])
    assert verify(scene.folder, [KEY.public]).problems == [], "nothing inside the folder tells of it"
    assert any(head in problem for problem in verify(scene.folder, [KEY.public], [head]).problems)


def test_a_careful_forger_who_replaces_everything_is_found_by_the_key(scene: Scene) -> None:
    edit_lines(scene.signed, lambda lines: rechained(lines[:3] + lines[4:]))
    scene.checkpoints.unlink()
    scene.live.unlink()
    sign_checkpoint(scene.folder, FORGER)
    assert verify(scene.folder, [FORGER.public]).problems == []
    assert any("not signed" in problem for problem in verify(scene.folder, [KEY.public]).problems)


def test_a_torn_last_line_is_told_apart(scene: Scene) -> None:
    with scene.live.open("ab") as file:
        file.write(b'{"event":"backup.st')
    report = scene.report()
    assert (report.problems, report.torn) == ([], [scene.live.stem])


def test_a_line_under_way_is_not_torn(tmp_path: Path) -> None:
    with AuditLog(tmp_path, "gateway") as log:
        with segment_path(tmp_path, log.segment).open("ab") as file:
            file.write(b'{"event":"paper.re')
        assert verify(tmp_path, []).torn == []
    assert verify(tmp_path, []).torn == [log.segment]


def test_an_empty_segment_of_a_crashed_start_is_no_problem(scene: Scene) -> None:
    (scene.folder / scene.live.name.replace("scheduler", "keyd")).write_bytes(b"")
    assert scene.report().problems == []


def test_a_torn_checkpoint_is_told_apart_and_written_over(scene: Scene) -> None:
    whole = scene.checkpoints.read_bytes()
    scene.checkpoints.write_bytes(whole + whole.splitlines()[0][:100])
    report = scene.report()
    assert (report.problems, report.torn) == ([], ["checkpoints.jsonl"])
    sign_checkpoint(scene.folder, KEY)
    assert scene.checkpoints.read_bytes().startswith(whole)
    assert (scene.report().problems, scene.report().torn) == ([], [])


def test_nothing_is_signed_onto_damaged_checkpoints(scene: Scene) -> None:
    CHECKPOINT_VIOLATIONS["edited"](scene)
    before = scene.checkpoints.read_bytes()
    with pytest.raises(CheckpointsDamaged):
        sign_checkpoint(scene.folder, KEY)
    assert scene.checkpoints.read_bytes() == before


@pytest.mark.parametrize("violation", [name for name in SEGMENT_VIOLATIONS if "added" not in name])
def test_signing_again_does_not_whitewash(scene: Scene, violation: str) -> None:
    SEGMENT_VIOLATIONS[violation](scene)
    sign_checkpoint(scene.folder, KEY)
    assert any(problem.startswith(scene.signed.stem) for problem in scene.report().problems)


def test_signing_does_not_whitewash_what_was_edited_and_went_on(scene: Scene) -> None:
    edit_lines(scene.signed, lambda lines: rechained([*lines[:3], replaced(lines[3], client="bolt"), *lines[4:], lines[-1]]))
    sign_checkpoint(scene.folder, KEY)
    assert any(problem.startswith(scene.signed.stem) for problem in scene.report().problems)


def test_a_line_of_another_role_is_found_unsigned(scene: Scene) -> None:
    scene.checkpoints.unlink()
    scene.live.unlink()
    edit_lines(scene.signed, lambda lines: rechained([*lines[:3], replaced(lines[3], role="ingest"), *lines[4:]]))
    assert ["role" in problem for problem in scene.report().problems] == [True]


def test_a_checkpoint_of_nonsense_does_not_crash(scene: Scene) -> None:
    for heads in ({"../x": [1, "a"]}, {scene.signed.stem: "x"}, {scene.signed.stem: [1]}, ["x"], None):
        edit_lines(scene.checkpoints, lambda lines, heads=heads: [*lines[:-1], resigned(lines[-1], KEY, heads=heads)])
        assert scene.report().problems
