"""Pings against a real HTTP server, one that is down, and one that never answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backup.clock.pings import WAITING, Pinger
from tests.ports import quiet_port


class Watchdog:
    """What came: (path without the number, number, body)."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self.refusals = 0  # answers with 500 before it takes anything
        self.url = ""


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    dog = Watchdog()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            refused = dog.refusals > 0
            dog.refusals -= refused
            if not refused:
                path, _, rid = self.path.partition("?rid=")
                dog.heard.append((path, rid, body))
            self.send_response(500 if refused else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    dog.url = f"http://127.0.0.1:{server.server_port}/uuid"
    yield dog
    server.shutdown()
    server.server_close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_start_and_end_have_one_number_and_the_next_run_another(watchdog: Watchdog) -> None:
    pinger = Pinger({"backup": watchdog.url}, 20)
    for what, body in (("start", ""), ("log", "away"), ("success", "run 7: passed"), ("start", ""), ("fail", "x" * 5000)):
        pinger.tell("backup", what, body)  # type: ignore[arg-type]
    pinger.tell("drill", "fail", "no address: nobody is told")
    until(lambda: len(watchdog.heard) == 5)
    pinger.stop()
    assert [path for path, _, _ in watchdog.heard] == ["/uuid/start", "/uuid/log", "/uuid", "/uuid/start", "/uuid/fail"]
    rids = [rid for _, rid, _ in watchdog.heard]
    assert len(set(rids[:3])) == 1 and len(set(rids)) == 2 and len(rids[0]) == 36
    assert watchdog.heard[2][2] == "run 7: passed"
    assert len(watchdog.heard[4][2]) == 1000


def test_what_was_not_taken_is_tried_again_then_dropped(watchdog: Watchdog) -> None:
    watchdog.refusals = 2 + 3
    pinger = Pinger({"backup": watchdog.url}, 20, pause_seconds=0)
    for body in ("first", "second", "third"):
        pinger.tell("backup", "success", body)
    until(lambda: len(watchdog.heard) == 2)
    pinger.stop()
    assert [body for _, _, body in watchdog.heard] == ["second", "third"], "three tries each"


def test_one_that_never_answers_delays_nobody(watchdog: Watchdog) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, contextlib.ExitStack() as stack:
        pinger = Pinger({"backup": f"http://127.0.0.1:{silent.getsockname()[1]}", "drill": watchdog.url}, 30)
        stack.callback(pinger.stop)
        started = time.monotonic()
        for _ in range(WAITING + 50):
            pinger.tell("backup", "start")
        pinger.tell("drill", "start")
        assert time.monotonic() - started < 20
        until(lambda: len(watchdog.heard) == 1)


def test_one_that_is_down_is_given_up_quickly_and_its_address_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    pinger = Pinger({"backup": f"http://127.0.0.1:{quiet_port()}/secret-uuid"}, 5, pause_seconds=0)
    pinger.tell("backup", "start")
    pinger.stop()
    said = capsys.readouterr()
    assert "ping.not_sent" in said.out + said.err
    assert "secret-uuid" not in said.out + said.err
