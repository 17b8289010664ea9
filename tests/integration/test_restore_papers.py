"""A client's papers come back under their own names, or are reported; nothing leads outside the target. Real restic, S3 and age files."""

from __future__ import annotations

import os
import re
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.restore.errand import RestoreReport
from backup.restore.everybody import restore_everybody
from backup.restore.inplace import restore_in_place
from backup.restore.papers import restore_papers
from backup.restore.returned import parse_pointer
from backup.restore.target import MARK, Target
from config.errors import Busy, CheckFailed, Exit, OutOfReach, UsageError
from gateway.age import Identity, open_bytes
from gateway.audit.events import Event
from gateway.catalog import Paper
from gateway.jail.pointers import Pointer
from gateway.jail.tree import Tree
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import SETS, DrillHouse

pytestmark = pytest.mark.xdist_group("restore")
CANARY = b"canary-of-restores-" + secrets.token_hex(8).encode()


@pytest.fixture(scope="module")
def house(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillHouse]:
    root = tmp_path_factory.mktemp("restores")
    made = DrillHouse(make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}")))
    made.fill(9)
    made.add_paper("acme", "/inbox/secret", CANARY * 1000)
    made.add_paper("acme", "/inbox/twice", b"first")
    made.save()
    made.add_paper("acme", "/inbox/twice", b"second, later")
    made.save()
    yield made
    made.close()


def restore(house: DrillHouse, target: Path, *paths: str, client: str = "acme", at: datetime | None = None) -> RestoreReport:
    with house.agent() as agent:
        report = restore_papers(house.installation, client, paths, at, target, agent)
    assert list(house.installation.path(house.installation.settings.drill.scratch).iterdir()) == []
    return report


def newest(house: DrillHouse, client: str) -> dict[str, Paper]:
    return {paper.path: paper for paper in house.catalog.papers(client=client, state="accepted")}


def below(target: Path) -> dict[str, bytes]:
    found = {}
    for folder, _, names in os.walk(target):
        for name in set(names) - {MARK}:
            path = Path(folder) / name
            found["/" + path.relative_to(target).as_posix()] = path.read_bytes()
    return found


@pytest.mark.parametrize("client", ["acme", "zeta"])
def test_every_paper_comes_back_under_its_own_name(house: DrillHouse, tmp_path: Path, client: str) -> None:
    report = restore(house, tmp_path / "back", client=client)
    assert report.exit_code == Exit.DONE
    expected = {path: house.contents[paper.id] for path, paper in newest(house, client).items()}
    assert below(tmp_path / "back") == expected
    assert (report.restored, report.restored_bytes) == (len(expected), sum(map(len, expected.values())))
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o700
    assert {path.stat().st_mtime for path in (tmp_path / "back" / "inbox").iterdir() if path.is_file()} == {1_700_000_000.0}


def test_a_name_of_two_lines_with_all_that_patterns_mean_something_in(house: DrillHouse, tmp_path: Path) -> None:
    paper = house.add_paper("zeta", "/inbox/two\nlines [ab]*\\.txt", b"odd")
    house.save()
    assert restore(house, tmp_path / "back", paper.path, client="zeta").exit_code == Exit.DONE
    assert below(tmp_path / "back") == {paper.path: b"odd"}


def test_chosen_papers_and_folders_only(house: DrillHouse, tmp_path: Path) -> None:
    report = restore(house, tmp_path / "back", "/inbox/a b/it's [1]*?.txt", "inbox/secret/")
    assert report.exit_code == Exit.DONE
    assert set(below(tmp_path / "back")) == {"/inbox/a b/it's [1]*?.txt", "/inbox/secret"}
    assert restore(house, tmp_path / "folder", "/inbox/a b").restored == 1


def test_as_it_was_at_a_time(house: DrillHouse, tmp_path: Path) -> None:
    first = house.repository("papers").snapshots()[0]
    report = restore(house, tmp_path / "then", "/inbox/twice", at=first.time + timedelta(milliseconds=1))
    assert report.snapshot == first.id
    assert below(tmp_path / "then") == {"/inbox/twice": b"first"}
    assert below_after(house, tmp_path) == {"/inbox/twice": b"second, later"}
    with pytest.raises(UsageError, match="no snapshot of that time"):
        restore(house, tmp_path / "never", at=datetime(2020, 1, 1, tzinfo=UTC))


def below_after(house: DrillHouse, tmp_path: Path) -> dict[str, bytes]:
    restore(house, tmp_path / "now", "/inbox/twice")
    return below(tmp_path / "now")


def test_a_newest_snapshot_that_is_not_what_it_says_is_refused_and_one_asked_for_comes_with_a_warning(house: DrillHouse, tmp_path: Path) -> None:
    """Old content saved again under an old number; then the newest one gone. With the time that the refusal names it goes on."""
    known = house.save()
    assert known is not None
    papers = house.repository("papers")
    papers.backup(SETS["papers"], cwd=house.folder.root, host="nightsafe", tags=["nightsafe", f"run:{known.id}"])
    forged = papers.snapshots()[-1]
    try:
        with pytest.raises(CheckFailed, match="is not to be trusted: bears the number of backup") as refused:
            restore(house, tmp_path / "refused", "/inbox/twice")
        with house.agent() as agent, pytest.raises(CheckFailed):
            restore_everybody(house.installation, None, tmp_path / "refused", agent)
        with pytest.raises(CheckFailed):
            restore_in_place(house.installation, "acme", (), None)
        warned = restore(house, tmp_path / "warned", "/inbox/twice", at=forged.time + timedelta(seconds=1))
    finally:
        house.forget_snapshots("papers", forged.id)
    assert not (tmp_path / "refused").exists()
    (time,) = re.findall(r"--at (\S+Z)", refused.value.hint)
    named = restore(house, tmp_path / "named", "/inbox/twice", at=datetime.fromisoformat(time))
    assert (warned.snapshot, len(warned.warnings)) == (forged.id, 1)
    assert str(known.snapshot) in named.snapshot and named.warnings == []
    house.forget_snapshots("papers", str(known.snapshot))
    command = [sys.executable, "-m", "nightsafe", "restore", "acme", "/inbox/twice", "--to", str(tmp_path / "gone"), "--data", str(house.folder.root)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == Exit.BAD and "the newest snapshots are gone" in done.stderr, done.stderr
        (time,) = re.findall(r"--at (\S+Z)", done.stderr)
        assert subprocess.run([*command, "--at", time], capture_output=True).returncode == Exit.DONE
    finally:
        house.save()
    assert restore(house, tmp_path / "again", "/inbox/twice").warnings == []


def test_what_cannot_come_is_reported_and_the_rest_comes(house: DrillHouse, tmp_path: Path) -> None:
    house.add_partial("zeta", "/inbox/on its way")
    lost = house.add_paper("zeta", "/inbox/lost", b"lost")
    wrong = house.add_paper("zeta", "/inbox/wrong", b"wrong")
    sealed = house.vault_file(lost).read_bytes()
    house.vault_file(lost).unlink()
    (house.folder.jail("zeta") / "inbox" / "torn").write_bytes(b"{")
    (house.folder.jail("zeta") / "inbox" / "link").symlink_to("/etc/passwd")
    house.save(lambda dump: house.alter(dump, wrong.id, sha256="0" * 64))
    report = restore(house, tmp_path / "back", "/inbox", "/inbox/never there", client="zeta")
    house.vault_file(lost).write_bytes(sealed)
    for name in ("torn", "link"):
        (house.folder.jail("zeta") / "inbox" / name).unlink()
    house.save()
    assert report.exit_code == Exit.PARTLY
    assert sorted(line.partition(":")[0] for line in report.unsealed) == ["/inbox/on its way", "/inbox/torn"]
    assert sorted(line.partition(":")[0] for line in report.problems) == ["/inbox/lost", "/inbox/never there", "/inbox/wrong"]
    assert report.not_restored == 5
    back = below(tmp_path / "back")
    assert not {"/inbox/lost", "/inbox/wrong", "/inbox/torn", "/inbox/link"} & set(back)
    assert len(back) == report.restored > 0
    assert not [name for name in back if ".tmp-" in name]
    run = house.catalog.runs("restore")[0]
    assert (run.state, run.detail["not_restored"]) == ("partial", 5)


def test_a_target_that_is_not_ours_alone_is_refused(house: DrillHouse, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").write_text("theirs")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    for target in (full, link, house.folder.root / "back", full / "something"):
        with pytest.raises(UsageError):
            restore(house, target)
    assert below(full) == {"/something": b"theirs"}
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("path", ["/inbox/../../etc", "/receipts/x", "/etc/passwd", "/inbox/./a", "/inbox/a\0b"])
def test_paths_that_lead_elsewhere_are_refused(house: DrillHouse, tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError):
        restore(house, tmp_path / "back", path)
    assert not (tmp_path / "back").exists()


def test_no_plaintext_touches_the_scratch_folder(house: DrillHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def look_and_remove(folder: Path) -> None:
        seen.extend(path.read_bytes() for path in folder.rglob("*") if path.is_file())
        remove(folder)

    from backup.drill import scratch

    remove = scratch.remove_tree
    monkeypatch.setattr(scratch, "remove_tree", look_and_remove)
    restore(house, tmp_path / "back", "/inbox/secret")
    assert CANARY in below(tmp_path / "back")["/inbox/secret"]
    assert seen
    assert not [data for data in seen if CANARY in data]


def test_events_and_unknown_clients(house: DrillHouse, tmp_path: Path) -> None:
    restore(house, tmp_path / "back", "/inbox/secret")
    assert [event for event in house.events() if event.startswith("restore.")][-2:] == [Event.RESTORE_STARTED, Event.RESTORE_FINISHED]
    with pytest.raises(UsageError, match="no client 'nobody'"):
        restore(house, tmp_path / "none", client="nobody")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UsageError):
        restore(house, tmp_path / "bad", client="../acme")


def test_deposit_only_papers_come_back_sealed_and_their_outbox_open(house: DrillHouse, tmp_path: Path) -> None:
    theirs = Identity.generate()
    external, outbox = house.keyring.add_deposit_client("closed", theirs.recipient)
    besides = {outbox.generation: str(outbox.recipient)}
    house.catalog.add_client("closed", custody="deposit-only", recipient=str(external.recipient), besides=besides)
    Tree.create(house.folder.jail("closed")).close()
    house.add_paper("closed", "/inbox/a.pdf", b"deposited")
    house.add_paper("closed", "/inbox/" + "n" * 255, b"its sealed name would be too long")
    house.add_paper("closed", "/outbox/b.pdf", b"left by the firm")
    assert house.save()
    report = restore(house, tmp_path / "back", client="closed")
    assert (report.restored, report.sealed, report.not_restored) == (1, 1, 1)
    found = below(tmp_path / "back")
    assert found["/outbox/b.pdf"] == b"left by the firm"
    assert open_bytes(found["/inbox/a.pdf.age"], [theirs]) == b"deposited"
    assert set(found) == {"/outbox/b.pdf", "/inbox/a.pdf.age"}
    assert house.drill().state == "passed", "the drill compares the ciphertext of what it cannot open"


def test_a_dump_that_is_rubbish_and_an_s3_that_is_away(house: DrillHouse, tmp_path: Path) -> None:
    house.save(lambda dump: dump.write_bytes(b"no database") and None)  # type: ignore[arg-type, return-value]
    with pytest.raises(CheckFailed):
        restore(house, tmp_path / "back")
    house.save()
    settings = house.installation.settings
    away = type(house.installation)(
        house.folder, settings.model_copy(update={"s3": settings.s3.model_copy(update={"endpoint": "http://127.0.0.1:9"})})
    )
    with house.agent() as agent, pytest.raises(OutOfReach):
        restore_papers(away, "acme", (), None, tmp_path / "away", agent)


def everything(house: DrillHouse, target: Path, at: datetime | None = None) -> RestoreReport:
    with house.agent() as agent:
        report = restore_everybody(house.installation, at, target, agent)
    assert list(house.installation.path(house.installation.settings.drill.scratch).iterdir()) == []
    return report


def test_everybody_comes_back_below_a_folder_each_and_a_second_run_compares(house: DrillHouse, tmp_path: Path) -> None:
    house.catalog.add_client("empty", recipient=str(house.keyring.add_client("empty").recipient))
    house.save()
    report = everything(house, tmp_path / "back")
    expected = {
        f"/{client.name}{path}{'.age' if client.custody == 'deposit-only' and not path.startswith('/outbox') else ''}": paper
        for client in house.catalog.clients()
        for path, paper in newest(house, client.name).items()
    }
    found = below(tmp_path / "back")
    missed = {"/" + line.split(": ")[0].replace(" ", "", 1) for line in [*report.problems, *report.unsealed]}
    assert set(found) >= {path for path in expected if path.removesuffix(".age") not in missed} and found
    assert all(data == house.contents[expected[path].id] for path, data in found.items() if not path.endswith(".age"))
    # stopped, meddled with, and run again
    names = sorted(path for path in found if path.startswith("/acme/"))
    (tmp_path / "back" / names[0][1:]).unlink()
    (tmp_path / "back" / names[1][1:]).write_bytes(b"something else")
    (tmp_path / "back" / f"{MARK}-0123456789abcdef").write_bytes(b"half")
    again = everything(house, tmp_path / "back")
    assert (again.restored, again.verified) == (1, report.restored + report.sealed - 2)
    assert [line for line in again.problems if "left alone" in line] == [
        f"acme {names[1].removeprefix('/acme')}: something else is in its place; it was left alone"
    ]
    assert below(tmp_path / "back") == found | {names[1]: b"something else"}
    run = house.catalog.runs("restore")[0]
    assert (run.detail["client"], run.detail["there_already"]) == ("*", again.verified)


def test_what_was_stopped_goes_on_with_the_snapshot_it_began_with(house: DrillHouse, tmp_path: Path) -> None:
    house.save()
    first = restore(house, tmp_path / "back", "/inbox/twice", "/inbox/secret")
    (tmp_path / "back" / "inbox" / "secret").unlink()
    house.add_paper("acme", "/inbox/twice", b"third, later still")
    house.save()
    again = restore(house, tmp_path / "back", "/inbox/twice", "/inbox/secret")
    assert (again.snapshot, again.restored, again.verified) == (first.snapshot, 1, 1)
    assert below(tmp_path / "back")["/inbox/twice"] == b"second, later"
    for other in (("/inbox/twice",), ()):
        with pytest.raises(UsageError, match="another restore"):
            restore(house, tmp_path / "back", *other)
    with pytest.raises(UsageError, match="another restore"):
        everything(house, tmp_path / "back")


def test_only_what_is_missing_is_fetched_again(house: DrillHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restore(house, tmp_path / "back", "/inbox/secret", "/inbox/a b")
    fetched: list[str] = []
    monkeypatch.setattr("backup.restore.returned.Returned.fetch_papers", lambda _self, papers: fetched.extend(papers))
    assert restore(house, tmp_path / "back", "/inbox/secret", "/inbox/a b").exit_code == Exit.DONE
    assert fetched == []


def test_links_in_a_target_that_was_begun_lead_nowhere(house: DrillHouse, tmp_path: Path) -> None:
    restore(house, tmp_path / "back", "/inbox/secret", "/inbox/a b")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "back" / "inbox" / "secret").unlink()
    (tmp_path / "back" / "inbox" / "secret").symlink_to(outside / "x")
    (tmp_path / "back" / "inbox" / "a b").rename(tmp_path / "moved")
    (tmp_path / "back" / "inbox" / "a b").symlink_to(outside)
    again = restore(house, tmp_path / "back", "/inbox/secret", "/inbox/a b")
    assert (again.restored, again.verified, again.not_restored) == (0, 0, 2)
    assert list(outside.iterdir()) == []


def test_a_target_is_one_restores_at_a_time(tmp_path: Path) -> None:
    with Target(tmp_path / "back", {"client": "acme"}), pytest.raises(Busy):
        Target(tmp_path / "back", {"client": "acme"})
    with Target(tmp_path / "back", {"client": "acme"}) as target:
        for parts in (("..", "x"), ("a", "..", "x"), ("", "x"), ("a/b",), (MARK,), (f"{MARK}-x",)):
            with pytest.raises(ValueError), target.file(parts, 0):
                pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "back"]


@pytest.mark.parametrize("mark", [b"", b"{", b"[]", b"null", b'{"nightsafe": 1}', b'{"nightsafe": 1, "client": "acme", "snapshot": "../x"}'])
def test_a_mark_that_is_none_is_no_mark(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / MARK).write_bytes(mark)
    with pytest.raises(UsageError):
        Target(tmp_path, {"client": "acme"})


@pytest.mark.long
def test_killed_again_and_again_a_restore_ends_whole(house: DrillHouse, tmp_path: Path) -> None:
    for number in range(40):
        house.add_paper("zeta", f"/inbox/many/{number}", os.urandom(300_000))
    house.save()
    imports = "import sys; from pathlib import Path; from config.loading import open_installation as o"
    agent = "from backup.restore.everybody import restore_everybody as r; from gateway.keys.agent import key_agent as k"
    code = f"{imports}; {agent}; i = o(sys.argv[1]); r(i, None, Path(sys.argv[2]), k(i))"
    target, kills, seen = tmp_path / "back", 0, 0
    for _ in range(60):
        process = subprocess.Popen([sys.executable, "-c", code, str(house.folder.root), str(target)], stderr=subprocess.PIPE)
        while process.poll() is None and sum(len(names) for _, _, names in os.walk(target)) < seen + 8:
            time.sleep(0.005)
        kills += process.poll() is None
        process.kill()
        process.communicate()
        seen = len(below(target))
        if process.returncode == 0:
            break
    assert kills >= 3
    with house.agent() as keys:
        report = restore_everybody(house.installation, None, target, keys)  # what was killed left scratch folders too young to go
    assert report.restored == 0 and report.verified >= 40
    assert not [name for name in os.listdir(target) if name.startswith(f"{MARK}-")]
    assert {path: data for path, data in below(target).items() if path.startswith("/zeta/inbox/many/")} == {
        f"/zeta{path}": house.contents[paper.id] for path, paper in newest(house, "zeta").items() if path.startswith("/inbox/many/")
    }


def test_pointers_are_read_as_the_gateway_writes_them() -> None:
    for pointer in (Pointer("0" * 32, 0, "whole"), Pointer("f" * 32, 2**63 - 1, "partial")):
        assert parse_pointer(pointer.encode()) == (pointer.paper, pointer.state)
    for raw in (b"", b"{", Pointer("0" * 32, 1, "whole").encode()[:-1], Pointer("0" * 32, 1, "whole").encode() + b" "):
        assert parse_pointer(raw) is None
