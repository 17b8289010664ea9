"""The page for ops: what it shows, to whom, and that it can be read without eyes, mouse or network. The long test looks at it with Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backup.web import facts
from backup.web.application import make_application
from backup.web.readings import Reading
from backup.web.role import read_token, serve
from backup.web.visits import Visits
from config.errors import SettingsError
from config.loading import Installation, open_installation
from gateway.audit.read import read
from gateway.catalog import Catalog
from tests.integration.ingest_world import World

ROOT = Path(__file__).parents[2]
PAGES = ("/", "/clients", "/backups", "/quarantine", "/sessions")
TOKEN = "t" * 64
EVIL = "<script src=x>\u202e.txt"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    world = World(tmp_path_factory.mktemp("web"))
    world.land("one.txt", b"one")
    world.land(EVIL, b"two")
    world.ingest()
    for number in range(3):
        run = world.catalog.start_run("drill", {"kind": "full"})
        detail = {
            "kind": "full",
            "drawn": 2,
            "of": 2,
            "recovery_seconds": 5.0 + number,
            "recovery_point_seconds": 60.0,
            "evidence": f"evidence/2026/{run}.json",
        }
        world.catalog.finish_run(run, "failed" if number == 1 else "passed", detail=detail)
    (world.folder.evidence / "2026").mkdir(parents=True)
    (world.folder.evidence / "2026" / "1.html").write_text("<h1>the evidence</h1>")
    (world.folder.evidence / "2026" / "2.html").symlink_to(world.folder.catalog)
    return open_installation(world.folder.root)


@pytest.fixture(scope="module")
def client(installation: Installation) -> FlaskClient:
    return make_application(installation, None).test_client()


class Outline(HTMLParser):
    """What a screen reader has to go by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_can_be_read_without_eyes_and_without_the_internet(client: FlaskClient, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code == 200
    outline = Outline(answer.text)
    ids = {attributes["id"] for _, attributes in outline.tags if attributes.get("id")}
    assert outline.of("html") == [{"lang": "en"}]
    assert len(outline.of("h1")) == 1
    assert len(outline.of("main")) == 1
    assert outline.of("a")[0]["href"] == "#content"
    assert [link["href"] for link in outline.of("a") if link.get("aria-current") == "page"] == [page]
    assert all(head.get("scope") in ("col", "row") for head in outline.of("th"))
    assert all(table.get("aria-labelledby") in ids for table in outline.of("table") if "aria-labelledby" in table)
    assert all(image.get("role") == "img" and image.get("aria-label") for image in outline.of("svg"))
    assert not outline.of("script")
    sources = [attributes.get(name) or "" for _, attributes in outline.tags for name in ("src", "href")]
    assert not [source for source in sources if "//" in source]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_is_shown(installation: Installation, client: FlaskClient) -> None:
    with Catalog.open(installation.folder.catalog) as catalog:
        drilled = catalog.runs("drill")[0].started_at  # the month may be over since
    front = client.get("/").text
    assert "Something must be done" in front
    assert re.search(rf"{datetime.now(UTC).date()}: 2<|{(datetime.now(UTC) - timedelta(days=1)).date()}: 2<", front)
    assert re.search(r'<th scope="row">acme</th><td>active</td><td>managed</td>.*?<td class="number">2</td>', client.get("/clients").text, re.DOTALL)
    backups = client.get("/backups").text
    assert backups.count("<svg") == 2
    assert backups.count('class="cross"') == 2  # the one that failed, in both plots
    assert "/evidence/2026/1.html" in backups
    rows = [row for row in re.findall(r"<tr>.*?</tr>", backups, re.DOTALL) if f'"row">{drilled:%Y-%m}<' in row]
    month = [re.sub(r"<[^>]+>", " ", row).split() for row in rows]
    assert month == [[f"{drilled:%Y-%m}", "0", "0", "3", "1", "7.0", "s", "1", "min"]], "the worst of those that passed"
    assert re.search(r'<th scope="row">drill 2, .*?</th><td>failed</td><td class="number">6.0 s</td>', backups), "the plots as numbers"
    assert "does not run" in client.get("/sessions").text


def test_names_from_hell_are_harmless(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    papers = [paper for paper in _papers(installation) if paper.path.endswith(".txt") and "script" in paper.path]
    assert papers
    monkeypatch.setattr(facts, "read_quarantine", lambda _: facts.Refused(papers, len(papers)))
    text = make_application(installation, None).test_client().get("/quarantine").text
    assert "<script" not in text
    assert "\u202e" not in text
    assert "&lt;script src=x&gt;\\u202e.txt" in text


def test_a_full_quarantine_is_no_huge_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are shown, all that wait are counted, and what a person deleted is neither."""
    monkeypatch.setattr(facts, "MOST_QUARANTINED", 3)
    world = World(tmp_path)
    papers = [world.land(f"{number}.txt", b"x") for number in range(6)]
    world.ingest()
    page = make_application(open_installation(world.folder.root), None).test_client()
    monkeypatch.setattr("backup.web.readings.SHORTEST", 0.0)
    monkeypatch.setattr("backup.web.readings.SHARE", 0)
    assert "It is empty" in page.get("/quarantine").text
    for number, paper in enumerate(papers):
        world.catalog.change_verdict(paper, "refused", "A virus was found.", "deleted" if number == 5 else "virus")
    text = page.get("/quarantine").text
    assert re.findall(r"/inbox/(\d).txt", text) == ["4", "3", "2"]
    assert "The newest 3 of 5. All of them: <code>nightsafe quarantine list</code>" in text
    for paper in papers:
        world.catalog.change_verdict(paper, "refused", "It was deleted.", "deleted")
    assert "It is empty" in page.get("/quarantine").text


def _papers(installation: Installation) -> list[Any]:
    from gateway.catalog import Catalog

    with Catalog.open(installation.folder.catalog) as catalog:
        return list(catalog.papers())


@pytest.mark.parametrize(
    "name", ["2026/2.html", "../catalog.sqlite3", "2026/../../catalog.sqlite3", "2026/1.html/", "2026/1.txt", "%2e%2e/nightsafe.toml"]
)
def test_only_evidence_is_handed_out(client: FlaskClient, name: str) -> None:
    assert client.get("/evidence/2026/1.html").text == "<h1>the evidence</h1>"
    assert client.get(f"/evidence/{name}").status_code in (404, 308)


def test_it_only_reads(client: FlaskClient) -> None:
    assert {client.open(page, method=method).status_code for page in PAGES for method in ("POST", "PUT", "DELETE", "PATCH")} == {405}


def test_another_host_name_is_refused(client: FlaskClient) -> None:
    for host in ("rebound.example", "127.0.0.1.rebound.example", "localhost.rebound.example", "[::1", "", "0.0.0.0:8090"):
        assert client.get("/", headers={"Host": host}).status_code in (400, 421), host
    for host in ("localhost:8090", "LOCALHOST", "[::1]:8090", "127.0.0.1"):
        assert client.get("/", headers={"Host": host}).status_code == 200, host


def test_the_names_of_the_settings_are_taken(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSAFE_SET_WEB__HOST", "192.0.2.5")
    monkeypatch.setenv("NIGHTSAFE_SET_WEB__PUBLIC_HOST", "Files.Example.com")
    client = make_application(open_installation(installation.folder.root), None).test_client()
    for host in ("192.0.2.5:8090", "files.example.com"):
        assert client.get("/sessions", headers={"Host": host}).status_code == 200, host


def test_however_many_ask_the_catalog_is_read_by_one_and_seldom() -> None:
    times = iter([0.0, 2.0, 19.0, 23.0, 23.5, 24.0, 24.9])  # begun, ended: two seconds; asked; begun, ended: half a second; asked
    calls: list[int] = []
    reading = Reading(lambda: calls.append(1) or len(calls), clock=lambda: next(times))
    assert [reading.now()[1] for _ in range(4)] == [1, 1, 2, 2]
    asked: list[int] = []
    slow = Reading(lambda: time.sleep(0.05) or calls.append(1) or len(calls))
    threads = [threading.Thread(target=lambda: asked.append(slow.now()[1])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert asked == [3] * 8


def test_what_fails_is_kept_for_nobody() -> None:
    answers = iter([RuntimeError(), "fine"])

    def read() -> str:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    reading = Reading(read)
    with pytest.raises(RuntimeError):
        reading.now()
    assert reading.now()[1] == "fine"


def test_a_token_is_asked_for(installation: Installation) -> None:
    app = make_application(installation, TOKEN)
    for page in (*PAGES, "/evidence/2026/1.html"):
        answer = app.test_client().get(page, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/login")
        assert app.test_client().get(page, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert app.test_client().get(page, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    visitor = app.test_client()
    assert visitor.post("/login", data={"token": TOKEN[:-1]}).status_code == 403
    assert visitor.get("/", headers={"Accept": "text/html"}).status_code == 302
    entered = visitor.post("/login", data={"token": TOKEN})
    assert entered.status_code == 302
    assert {"HttpOnly", "SameSite=Strict"} <= set(entered.headers["Set-Cookie"].split("; "))
    assert TOKEN not in entered.headers["Set-Cookie"]
    assert visitor.get("/").status_code == 200
    other = make_application(installation, "u" * 64).test_client()  # a cookie of another token is worth nothing
    other.set_cookie("nightsafe", entered.headers["Set-Cookie"].partition("=")[2].partition(";")[0])
    assert other.get("/", headers={"Accept": "text/html"}).status_code == 302
    assert visitor.post("/login", data={"token": "x" * 10_000}).status_code == 413


def test_visitors_leave_their_lines(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    papers = _papers(installation)
    monkeypatch.setattr(facts, "read_quarantine", lambda _: facts.Refused(papers, len(papers)))
    clock = [0.0]
    with contextlib.closing(Visits(tmp_path / "audit", clock=lambda: clock[0])) as visits:
        app = make_application(installation, TOKEN, visits)
        visitor = app.test_client()
        for token in ("wrong", "wrong", TOKEN):
            visitor.post("/login", data={"token": token})
        for moment in (0.0, 3599.0, 3601.0):
            clock[0] = moment
            assert visitor.get("/quarantine").status_code == 200
        app.test_client().get("/", headers={"Authorization": "Bearer no"})
        assert visitor.get("/clients").status_code == 200
    lines = [line for line in read(tmp_path / "audit") if line["event"] != "segment.opened"]
    assert [(line["event"], line["address"], line.get("state"), line.get("suppressed")) for line in lines] == [
        ("page.refused", "127.0.0.1", None, 0),
        ("page.entered", "127.0.0.1", None, None),
        ("files.searched", "127.0.0.1", "refused", None),
        ("files.searched", "127.0.0.1", "refused", None),
        ("page.refused", "127.0.0.1", None, 1),
    ]
    (tmp_path / "file").write_text("")
    for folder, status in ((tmp_path / "file", 503), (tmp_path / "audit", 200)):
        with contextlib.closing(Visits(folder)) as visits:
            answer = make_application(installation, None, visits).test_client().get("/quarantine")
        assert answer.status_code == status, "what cannot be recorded is not shown"


def test_it_is_not_shown_to_a_network_without_a_token(installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSAFE_SET_WEB__HOST", "0.0.0.0")
    with pytest.raises(SettingsError, match=r"no web\.token_file"):
        serve(open_installation(installation.folder.root))
    token = tmp_path / "token"
    monkeypatch.setenv("NIGHTSAFE_SET_WEB__TOKEN_FILE", str(token))
    for content, mode, words in ((None, 0, "cannot be read"), (TOKEN, 0o644, "open to other users"), ("short", 0o600, "32 or more")):
        if content is not None:
            token.write_text(content)
            token.chmod(mode)
        with pytest.raises(SettingsError, match=words):
            read_token(open_installation(installation.folder.root))
    token.write_text(TOKEN + "\n")
    assert read_token(open_installation(installation.folder.root)) == TOKEN


@contextlib.contextmanager
def running(installation: Installation) -> Iterator[int]:
    command = [sys.executable, "-m", "nightsafe", "web", "--data", str(installation.folder.root)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "NIGHTSAFE_SET_WEB__PORT": "0"})
    state = installation.folder.run / "web.json"
    deadline = time.monotonic() + 240
    while not state.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    try:
        yield int(json.loads(state.read_text())["port"])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0
    assert not state.exists()


@pytest.mark.long
def test_in_a_browser(installation: Installation, tmp_path: Path) -> None:
    def chromium(*arguments: str) -> str:
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    with running(installation) as port:
        for page in PAGES:
            assert "</main>" in chromium("--dump-dom", f"http://127.0.0.1:{port}{page}")
        grounds = {}
        for mode, flags in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
            shot = tmp_path / f"{mode}.png"
            chromium(*flags, "--window-size=1000,1200", f"--screenshot={shot}", f"http://127.0.0.1:{port}/")
            assert shot.stat().st_size > 20_000  # an empty page of this size takes 5,000 bytes
            grounds[mode] = sum(first_pixel(shot))
        assert grounds["light"] > 700
        assert grounds["dark"] < 100


def first_pixel(path: Path) -> bytes:
    """Red, green and blue of the corner of a PNG with 8 bits a channel. No filter changes that pixel: there is nothing before it or above."""
    data, place, packed = path.read_bytes(), 8, b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += 12 + length
    return zlib.decompress(packed)[1:4]
