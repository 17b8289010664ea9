"""`audit show` and `audit export`: filters, following, and a bundle that ssh-keygen and sha256sum accept and that cannot be edited."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from gateway.audit import AuditLog, Event
from gateway.audit.bundle import bundling
from gateway.audit.export import write_events
from gateway.audit.lines import canonical, line_hash
from gateway.audit.read import Filter, read
from gateway.commands.audit import show_record
from gateway.keys.keyring import Keyring
from nightsafe import cli
from tests.integration.conftest import make_installation

START = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = "/inbox/<script>alert(1)</script>\x1b[2J\u202e.pdf"


class House:
    """An installation with a log of known times."""

    def __init__(self, root: Path) -> None:
        self.installation = make_installation(root)
        self.folder = self.installation.folder
        self.moment = START

    def clock(self) -> datetime:
        self.moment += timedelta(minutes=1)
        return self.moment

    def write(self) -> None:
        with AuditLog(self.folder.audit, "gateway", clock=self.clock) as gateway, AuditLog(self.folder.audit, "ops", clock=self.clock) as ops:
            for number in range(5):
                gateway.append(Event.PAPER_READ, client="acme", person="ann", path=f"/inbox/{number}.pdf", address="192.0.2.7")
                gateway.append(Event.NAME_RENAMED, client="zeta", person="zoe", path=HOSTILE, target="/inbox/b", address="2001:db8::1")
                ops.append(Event.PERSON_SUSPENDED, person="ann", by="ops:root")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Shared: what tests add to its log is of another time, or of other events, than what they ask for."""
    made = House(tmp_path_factory.mktemp("house"))
    made.write()
    return made


@pytest.fixture
def ask(house: House, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def asked(*words: str) -> tuple[int, str]:
        code = run(cli, ["audit", *words, "--data", str(house.folder.root)])
        out, err = capsys.readouterr()
        return code, out or err

    return asked


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (("--event", "paper.*"), 5),
        (("--person", "ann"), 10),
        (("--person", "ops:root"), 5),
        (("--client", "zeta"), 5),
        (("--path", "/inbox"), 10),
        (("--path", "/inbox/3.pdf"), 1),
        (("--path", "/inb"), 0),
        (("--address", "192.0.2.0/24"), 5),
        (("--address", "2001:db8::1"), 5),
        (("--since", "2026-03-01T00:10:00Z", "--until", "2026-03-01T00:15:00Z"), 5),
        (("--event", "segment.opened"), 2),
        ((), 17),
    ],
)
def test_show_narrows(ask: Callable[..., tuple[int, str]], words: tuple[str, ...], count: int) -> None:
    code, out = ask("show", "--until", "2026-03-02", *words, "--json")
    found = json.loads(out)
    assert code == 0 and len(found) == count
    assert [line["time"] for line in found] == sorted(line["time"] for line in found)


def test_what_can_match_nothing_is_refused(ask: Callable[..., tuple[int, str]]) -> None:
    for words in (("--event", "paper.eaten"), ("--address", "home"), ("--since", "2026-03-02", "--until", "2026-03-01")):
        assert ask("show", *words)[0] == 2
    assert ask("show", "--client", "zeta")[1].count("\x1b") == 0


def test_following_prints_what_is_written_from_now_on(house: House) -> None:
    command = [sys.executable, "-m", "nightsafe", "audit", "show", "--event", "kit.shown", "--follow", "--json", "--data", str(house.folder.root)]
    stop = threading.Event()

    def write() -> None:
        with AuditLog(house.folder.audit, "ops") as log:
            while not stop.is_set():
                log.append(Event.KIT_SHOWN, person="ops:me")
                log.append(Event.FILES_SEARCHED, person="ops:me")
                time.sleep(0.1)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        writer = threading.Thread(target=write)
        writer.start()
        try:
            lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        finally:
            stop.set()
            process.kill()
            writer.join()
    assert [line["event"] for line in lines] == ["kit.shown"] * 3
    assert [later["seq"] - earlier["seq"] for earlier, later in pairwise(lines)] == [2, 2], "each once, in order"


def test_a_line_that_follows_has_the_columns_of_those_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"time": "2026-01-31T08:00:00.000000Z", "role": "ops", "event": "kit.shown", "person": "a\tb", "client": "acme"}
    show_record(record, as_json=False)
    assert capsys.readouterr().out == "2026-01-31T08:00:00.000\tops\tkit.shown\ta\\x09b\tacme\t\n"


def verified(bundle: Path, signers: Path) -> bool:
    command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "audit", "-n", "audit@nightsafe", "-s", bundle / "manifest.json.sig"]
    return subprocess.run(command, input=(bundle / "manifest.json").read_bytes(), capture_output=True, check=False).returncode == 0


def test_a_bundle_is_verified_by_standard_tools_and_by_the_chain(house: House, ask: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    code, text = ask("export", "--from", "2026-03-01T00:05:00Z", "--to", "2026-03-02", "--out", str(out), "--json")
    assert code == 0, text
    assert verified(out, Keyring(house.folder).allowed_signers)
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=False).returncode == 0
    manifest = json.loads((out / "manifest.json").read_bytes())
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert manifest["events"] == len(lines) == json.loads(text)["events"] == 15 and manifest["log"]["holds"] is True
    assert manifest["audit_head"] in {line_hash(path) for file in house.folder.audit.glob("ops-*") for path in file.read_bytes().splitlines()}
    by_segment: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_segment.setdefault(line.pop("segment"), []).append(line)
    for segment, mine in by_segment.items():
        assert [later["prev"] for later in mine[1:]] == [line_hash(canonical(line)) for line in mine[:-1]], "the chain goes on inside the bundle"
        assert manifest["segments"][segment] == {"first": mine[0]["seq"], "last": mine[-1]["seq"], "head": line_hash(canonical(mine[-1]))}
    page = (out / "page.html").read_text()
    assert "<script" not in page and "\x1b" not in page and "\u202e" not in page and "&lt;script&gt;" in page
    assert stranger_says(out, Keyring(house.folder).allowed_signers) == (True, True, "the chain holds")
    (out / "manifest.json").write_bytes((out / "manifest.json").read_bytes().replace(b"acme", b"acne"))
    assert not verified(out, Keyring(house.folder).allowed_signers)
    assert ask("export", "--from", "2026-03-01", "--out", str(out))[0] == 2, "never over one that is there"
    assert [line["since"] for line in read(house.folder.audit, event="audit.exported")] == ["2026-03-01T00:05:00Z"]


def stranger_says(bundle: Path, signers: Path) -> tuple[bool, bool, str]:
    """What the three steps of CHECK.txt find, as they stand there, with `signers` in the place of what lies in the bundle."""
    text = (bundle / "CHECK.txt").read_text()
    commands = [line.strip() for line in text.splitlines() if line.startswith("     ")]
    script = text[text.index("python3 -") : text.index("END\n\n") + 4]
    steps = (commands[0].replace("-f allowed_signers", f"-f {signers}"), commands[1], script)
    done = [subprocess.run(["sh", "-c", step], cwd=bundle, capture_output=True, text=True, check=False) for step in steps]
    return done[0].returncode == 0, done[1].returncode == 0, done[2].stdout.strip()


def test_a_stranger_finds_every_change(tmp_path: Path) -> None:
    """With CHECK.txt, ssh-keygen, sha256sum and Python alone; the log has segments that hold their first line alone."""
    house = House(tmp_path)
    house.write()
    AuditLog(house.folder.audit, "ingest", clock=house.clock).close()
    command = ["audit", "export", "--from", "2026-03-01", "--to", "2026-03-02", "--out", str(tmp_path / "out"), "--data", str(house.folder.root)]
    assert run(cli, command) == 0
    signers = Keyring(house.folder).allowed_signers

    def changed(*names: str, sums: bool = False, dropped: int | None = None) -> tuple[bool, bool, str]:
        bundle = tmp_path / "changed"
        shutil.copytree(tmp_path / "out", bundle)
        for name in names:
            (bundle / name).write_bytes((bundle / name).read_bytes().replace(b"/inbox/3.pdf", b"/inbox/9.pdf"))
        if dropped is not None:
            lines = (bundle / "events.jsonl").read_bytes().splitlines(keepends=True)
            (bundle / "events.jsonl").write_bytes(b"".join([*lines[:dropped], *lines[dropped + 1 :]]))
        if sums:
            listed = [line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()]
            (bundle / "SHA256SUMS").write_bytes(subprocess.run(["sha256sum", *listed], cwd=bundle, capture_output=True, check=True).stdout)
        found = stranger_says(bundle, signers)
        shutil.rmtree(bundle)
        return found

    assert changed() == (True, True, "the chain holds")
    assert changed(dropped=4) == (True, False, "the chain holds, but has gaps: 1")
    assert changed("page.html") == (True, False, "the chain holds")
    assert changed("events.jsonl") == (True, False, "THE CHAIN DOES NOT HOLD")
    assert changed("events.jsonl", sums=True) == (False, True, "THE CHAIN DOES NOT HOLD"), "sums that were made to fit are not the signed ones"


def test_a_bundle_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), bundling(tmp_path / "x") as bundle, bundle.file("a") as stream:
        stream.write("a")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_long_log_takes_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"seq": 0, "time": "2026-03-01T00:00:00.000000Z", "role": "gateway", "event": "paper.read", "prev": "0" * 64, "segment": "s"}

    monkeypatch.setattr("gateway.audit.export.ON_THE_PAGE", 50)

    def export(count: int) -> int:
        with bundling(tmp_path / str(count)) as bundle:
            totals = write_events(bundle, ({**record, "seq": n, "person": f"p{n}", "path": "/x" * 2000} for n in range(count)), "t", {})
        assert totals.events == count
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    small = export(500)
    assert export(10_000) - small < 16 * 1024, "in KiB: what is kept does not grow with the log, which has 40 MB"
    assert len((tmp_path / "10000" / "page.html").read_text().splitlines()) < 50 + 2000


def test_a_filter_of_time_decodes_nothing_older(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.audit import read as module

    decoded = []
    decode = module.decode_line
    monkeypatch.setattr(module, "decode_line", lambda line: decoded.append(line) or decode(line))
    since = START + timedelta(minutes=15)
    assert len(list(read(house.folder.audit, Filter(since=since, until=START + timedelta(hours=1))))) == 5
    assert min(json.loads(line)["time"] for line in decoded) >= since.isoformat()[:19], "the older ones were passed over as bytes"
