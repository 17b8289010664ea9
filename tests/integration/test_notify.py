"""Notices from the audit log to a real SMTP server and a real webhook, both in process."""

from __future__ import annotations

import asyncio
import email
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email import policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from config.errors import SettingsError
from gateway.audit.events import Event, near
from gateway.audit.lines import canonical
from gateway.audit.log import AuditLog
from gateway.notify import outbox as outboxes
from gateway.notify.collecting import Collector
from gateway.notify.notices import Bundle, Notice, message, text_of
from gateway.notify.notifier import Notifier, Pace, deliver
from gateway.notify.outbox import Allowance, Outbox
from gateway.notify.receivers import Receiver, receivers
from gateway.notify.sending import NotTaken, send
from nightsafe import cli
from tests.integration.ingest_world import World
from tests.ports import quiet_port

SECRET = "hunter2-of-the-mail-server"


class Hook:
    """A webhook that keeps what it was sent, and can be ill."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refused = 0
        self.ill = False
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.ill:
                    hook.refused += 1
                else:
                    hook.taken.append(json.loads(body))
                self.send_response(503 if hook.ill else 200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://person:{SECRET}@127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def text(self) -> str:
        return "\n".join(message["message"] for message in self.taken)


@contextmanager
def mail_server() -> Iterator[tuple[int, list[bytes]]]:
    """A small SMTP server: (port, the mails it took)."""
    mails: list[bytes] = []
    loop = asyncio.new_event_loop()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            word = line[:4].upper()
            if word == b"DATA":
                writer.write(b"354 go on\r\n")
                mails.append(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                break
        await writer.drain()
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(talk, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], mails
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("notify"))


def settle(world: World, **urls: str) -> None:
    """Settings in which each receiver of `urls` is told of failed drills and holds."""
    events = ", ".join(f'{name} = ["drill.failed", "hold.*"]' for name in urls)
    world.folder.settings.write_text(f"[notify]\nevents = {{ {events} }}\nevery_seconds = 0.05\n")
    file = world.folder.root.parent / "notify.toml"
    file.write_text("".join(f'[{name}]\nurls = ["{url}"]\n' for name, url in urls.items()))
    file.chmod(0o600)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    with AuditLog(tmp_path / "audit", "drill") as made:
        yield made


def notifier(tmp_path: Path, *known: Receiver) -> Notifier:
    return Notifier(tmp_path / "audit", tmp_path / "notify.sqlite3", known, every_seconds=0.05, most_per_hour=100, first_seconds=0.1)


def test_a_receiver_that_was_down_misses_nothing_and_delays_nobody(tmp_path: Path, log: AuditLog, hook: Hook) -> None:
    well = Hook()
    hook.ill = True
    log.append(Event.DRILL_FAILED, run=1, cause="before the first start")
    telling = notifier(tmp_path, Receiver("ill", hook.url, ("drill.*",)), Receiver("well", well.url, ("drill.*",)))
    telling.start()
    for number in range(3):
        log.append(Event.DRILL_FAILED, run=100 + number)
        log.append(Event.BACKUP_FAILED, run=200 + number)
    wait_for(lambda: "run: 102" in well.text and hook.refused > 1)
    assert hook.taken == []
    telling.stop()
    log.append(Event.DRILL_FAILED, run=103)  # while nothing runs
    hook.ill = False
    again = notifier(tmp_path, Receiver("ill", hook.url, ("drill.*",)), Receiver("well", well.url, ("drill.*",)))
    again.start()
    wait_for(lambda: "run: 103" in hook.text and "run: 103" in well.text)
    again.stop()
    well.server.shutdown()
    well.server.server_close()
    for told in (hook.text, well.text):
        assert [told.count(f"run: {number}\n") for number in range(100, 104)] == [1, 1, 1, 1]
        assert "run: 1\n" not in told and "run: 200" not in told
    assert log.head in hook.text, "the head of the audit log is anchored outside"


def test_mail_arrives_and_names_no_paper(tmp_path: Path, log: AuditLog) -> None:
    with mail_server() as (port, mails):
        to = Receiver("ops", f"mailto://127.0.0.1:{port}?from=safe@example.com&to=ops@example.com&mode=insecure", ("paper.refused",))
        outbox = Outbox(tmp_path / "o")
        collector = Collector(tmp_path / "audit", outbox, [to])
        log.append(Event.PAPER_REFUSED, client="acme", paper="0" * 32, path="/inbox/divorce.pdf", sha256="ab" * 32, reason="A virus was found.")
        assert collector.collect() == 1 and deliver(outbox, to, Pace(10)) == 1
        wait_for(lambda: bool(mails))
        mail = email.message_from_bytes(mails[0], policy=policy.default)
        body = mail.get_body()
        assert body is not None
        text = body.get_content()
        assert mail["Subject"] == "Nightsafe: paper.refused" and "ops@example.com" in mail["To"]
        assert "A virus was found" in text and "acme" in text
        assert "divorce" not in text and "abab" not in text
        outbox.close()


@pytest.mark.parametrize("form", ["", "&format=html"])
def test_what_a_client_named_something_is_no_html_in_a_mail(form: str) -> None:
    with mail_server() as (port, mails):
        url = f"mailto://127.0.0.1:{port}?from=safe@example.com&to=ops@example.com&mode=insecure{form}"
        send(url, "Nightsafe: paper.refused", "reason: the entry '<a href=//evil.example>open</a>' has a name that leads out of its folder")
        wait_for(lambda: bool(mails))
        mail = email.message_from_bytes(mails[0], policy=policy.default)
        kinds = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        assert "<a href=//evil.example>open</a>" in kinds["text/plain"]
        assert "<a " not in kinds.get("text/html", "") and ("text/html" in kinds) == bool(form)


def test_what_waits_survives_and_is_bounded(tmp_path: Path, log: AuditLog, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "MOST_WAITING", 60)
    to = Receiver("ops", hook.url, ("hold.set",))
    outbox = Outbox(tmp_path / "o")
    collector = Collector(tmp_path / "audit", outbox, [to])
    for number in range(70):
        log.append(Event.HOLD_SET, hold=number)
    collector.collect()
    assert (outbox.standing("ops").waiting, outbox.standing("ops").dropped) == (60, 10)
    hook.ill = True
    with pytest.raises(NotTaken):
        deliver(outbox, to, Pace(10))
    outbox.close()
    outbox = Outbox(tmp_path / "o")
    assert (outbox.standing("ops").waiting, outbox.standing("ops").failures) == (60, 1)
    assert Collector(tmp_path / "audit", outbox, [to]).collect() == 0, "no line is read twice"
    hook.ill = False
    assert deliver(outbox, to, Pace(10)) == 60
    assert [one["title"] for one in hook.taken] == ["Nightsafe: 50 events", "Nightsafe: 20 events"]
    assert "10 more events were not kept" in hook.text
    assert outbox.standing("ops").waiting == outbox.standing("ops").dropped == outbox.standing("ops").failures == 0
    outbox.forget([])
    assert outbox.standing("ops").sent_at == ""
    outbox.close()


def test_a_storm_is_told_in_a_few_messages_and_drowns_nothing(tmp_path: Path, log: AuditLog, hook: Hook) -> None:
    to = Receiver("ops", hook.url, ("*",))
    outbox = Outbox(tmp_path / "o")
    collector = Collector(tmp_path / "audit", outbox, [to])
    now = [1e9]
    pace = Pace(12, lambda: now[0])
    for number in range(5_000):
        log.append(Event.PAPER_REFUSED, client="acme", paper=f"{number:032x}", reason="Papers with this ending are not accepted here.")
        if number == 3_000:
            log.append(Event.BACKUP_FAILED, run=77)
        if number % 1_000 == 999:
            collector.collect()
    while pace.left():
        deliver(outbox, to, pace)
    assert len(hook.taken) == 12 and outbox.standing("ops").waiting == 0, "all is told, the last of it in short"
    digest = hook.taken[-1]["message"]
    assert "backup.failed" in digest and "run: 77" in digest, "a flood of one event hides no other"
    assert "1450 × paper.refused  client: acme" in digest and "3000 more events" in digest and log.head not in digest
    with closing(Outbox(tmp_path / "o")) as later:
        pace = Pace(12, lambda: now[0], later.allowance("ops"))  # a restart gives no more
    assert pace.left() == 0
    for _ in range(3):  # the storm goes on
        log.append(Event.PAPER_REFUSED, client="acme", paper="f" * 32, reason="x")
        collector.collect()
        assert deliver(outbox, to, pace) == 0 and 0 < pace.seconds() <= 300
        now[0] += 90
    assert pace.left() == 0
    now[0] -= 3600  # a clock that is stepped back takes nothing and gives nothing
    assert pace.left() == 0
    now[0] += 40
    assert deliver(outbox, to, pace) == 3
    assert len(hook.taken) == 13 and log.head in hook.taken[-1]["message"]
    outbox.close()


def test_an_outbox_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "o")) as earlier:
        earlier.execute(
            "CREATE TABLE receivers (name TEXT PRIMARY KEY, dropped INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, "
            "error TEXT NOT NULL DEFAULT '', sent_at TEXT NOT NULL DEFAULT '')"
        )
        earlier.execute("INSERT INTO receivers (name, dropped) VALUES ('ops', 3)")
        earlier.commit()
    outbox = Outbox(tmp_path / "o")
    assert outbox.standing("ops").dropped == 3 and outbox.allowance("ops") is None
    outbox.sent("ops", 0, 3, "2024-05-17T09:30:00+00:00", Allowance(2.5, 1e9))
    assert outbox.allowance("ops") == Allowance(2.5, 1e9)
    outbox.close()


def test_a_line_under_way_is_told_when_it_is_whole(tmp_path: Path, log: AuditLog) -> None:
    to = Receiver("ops", "json://127.0.0.1/", ("hold.set",))
    outbox = Outbox(tmp_path / "o")
    collector = Collector(tmp_path / "audit", outbox, [to])
    log.append(Event.HOLD_SET, hold=1)
    path = tmp_path / "audit" / f"{log.segment}.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert collector.collect() == 0
    path.write_bytes(whole)
    assert (collector.collect(), collector.collect()) == (1, 0)
    outbox.close()


def test_list_and_test_by_the_command_line(world: World, hook: Hook, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    settle(world, ops=hook.url, down=f"json://person:{SECRET}@127.0.0.1:{quiet_port()}/hook")
    arguments = ["--data", str(world.folder.root)]
    with caplog.at_level(logging.DEBUG):
        assert run(cli, ["notify", "test", "ops", *arguments]) == 0
        assert run(cli, ["notify", "test", *arguments]) == 5
        assert run(cli, ["notify", "list", *arguments]) == 0
        assert run(cli, ["notify", "test", "nobody", *arguments]) == 2
    assert len(hook.taken) == 2
    out, err = capfd.readouterr()
    assert "down: it did not take the message" in out and "drill.failed, hold.*" in out
    assert SECRET not in out + err + caplog.text
    assert SECRET not in repr(receivers(world.installation))


@pytest.mark.parametrize("spoil", ["open", "missing", "toml", "table", "event", "address"])
def test_wrong_settings_are_told_without_addresses(world: World, hook: Hook, spoil: str, capfd: pytest.CaptureFixture[str]) -> None:
    settle(world, ops=hook.url)
    file = world.folder.root.parent / "notify.toml"
    if spoil == "open":
        file.chmod(0o644)
    elif spoil == "missing":
        file.unlink()
    elif spoil == "event":
        world.folder.settings.write_text('[notify]\nevents = { ops = ["drill.fialed"] }\n')
    else:
        file.write_text({"toml": f'[ops\nurls = "{hook.url}"', "table": "[others]\n", "address": f'[ops]\nurls = ["nosuch://{SECRET}@x"]'}[spoil])
    if spoil != "address":
        with pytest.raises(SettingsError) as error:
            receivers(world.installation)
        assert SECRET not in error.value.message + (error.value.hint or "")
    assert run(cli, ["notify", "test", "--data", str(world.folder.root)]) == (5 if spoil == "address" else 2)
    assert SECRET not in "".join(capfd.readouterr())


def test_sizes_are_told_as_people_say_them() -> None:
    assert text_of({"event": "disk.short", "free": 59_211_776, "reserve": 83_886_080}) == "free: 56.5 MiB\nreserve: 80.0 MiB"


@pytest.mark.parametrize(("wrong", "meant"), [("paper.lost", "paper.landed"), ("drlil.failed", "drill.failed"), ("space.*", "events.md")])
def test_who_names_no_event_is_told_what_comes_near(wrong: str, meant: str) -> None:
    assert meant in near(wrong) and len(near(wrong)) < 250


def test_messages() -> None:
    one = Notice(1, "hold.set", "2026-01-01T00:00:00Z", text_of({"client": "acme\nx: y", "path": "/a", "reason": "r" * 1000, "run": 0}), "ab")
    assert one.text.splitlines()[0] == "client: acme x: y" and len(one.text) < 400 and "run: 0" in one.text
    assert message(Bundle((one,)))[0] == "Nightsafe: hold.set" and message(Bundle((one, one), dropped=3))[0] == "Nightsafe: 5 events"


def test_a_line_that_lies_silences_nobody(tmp_path: Path, log: AuditLog, hook: Hook) -> None:
    """Each role writes its own segment: one that was taken over can write there what it likes."""
    told = notifier(tmp_path, Receiver("ops", hook.url, ("*",)))
    told.start()
    try:
        segment = next((tmp_path / "audit").glob("drill-*.jsonl"))
        lies = [
            {"event": "space.short", "free": 10**400},
            {"event": "space.short", "free": -(10**400), "reserve": True},
            {"event": "a\ud800b", "time": "c\ud800d"},
            {"event": "x\r\nBcc: everybody@example.com", "time": "\r\n\x9b2J" + "y" * 9000},
        ]
        with segment.open("ab") as file:
            file.writelines(canonical({"time": "2026-01-01T00:00:00.000000Z", **lie}) + b"\n" for lie in lies)
        wait_for(lambda: "Bcc" in hook.text)
        with AuditLog(tmp_path / "audit", "ingest") as another:
            another.append(Event.DRILL_FAILED, error="no bucket")
        wait_for(lambda: "no bucket" in hook.text)
    finally:
        told.stop()
    assert not any(letter in title for title in (one["title"] for one in hook.taken) for letter in "\r\n\x9b")
    assert "\x9b" not in hook.text and "y" * 400 not in hook.text
