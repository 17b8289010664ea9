"""The defender in a real gateway of two workers, what other guards can read of it, who is logged in, and that a name tells nothing."""

from __future__ import annotations

import json
import re
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from click.testing import CliRunner

from nightsafe import cli
from tests.integration.sftp_rig import CLIENT, Server, running_server

SETTINGS = 'workers = 2\nban_after = 5\nban_seconds = 4\nmax_auth_attempts = 4\ntrusted_networks = ["127.0.0.1/32"]\n'
ROOT = Path(__file__).parents[2]
HOSTILE = 'x", "address": "198.51.100.1", "event": "login.failed'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("defence"), SETTINGS) as running:
        yield running


def command(server: Server, *arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(cli, [*arguments, "--data", str(server.folder.root), "--json"])
    assert (done.exit_code == 0) == (code == 0), done.output
    return json.loads(done.stdout) if code == 0 else done.exception


def connect(server: Server, source: str) -> paramiko.Transport:
    opened = paramiko.Transport(socket.create_connection(("127.0.0.1", server.port), timeout=240, source_address=(source, 0)))
    opened.start_client(timeout=240)
    return opened


def fail(server: Server, source: str, name: str, times: int = 1) -> None:
    opened = connect(server, source)
    for _ in range(times):
        with pytest.raises(paramiko.SSHException):
            opened.auth_publickey(name, paramiko.ECDSAKey.generate())
    opened.close()


def turned_away(server: Server, source: str) -> bool:
    with socket.create_connection(("127.0.0.1", server.port), timeout=240, source_address=(source, 0)) as opened:
        try:
            return opened.recv(4) == b""
        except ConnectionResetError:
            return True


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def logged_in(server: Server, source: str = "127.0.0.1") -> paramiko.Transport:
    opened = connect(server, source)
    opened.auth_publickey(CLIENT, paramiko.Ed25519Key.from_private_key_file(str(server.key)))
    return opened


def test_an_address_is_banned_and_nobodys_name_is(server: Server) -> None:
    for _ in range(2):
        fail(server, "127.0.0.2", CLIENT, 3)
    until(lambda: turned_away(server, "127.0.0.2"))
    until(lambda: server.events("address.banned"))
    ban = server.events("address.banned")[0]
    assert (ban["address"], ban["level"]) == ("127.0.0.2", 1)
    logged_in(server, "127.0.0.3").close()  # under the very name, from elsewhere
    until(lambda: not turned_away(server, "127.0.0.2"))
    for _ in range(4):
        fail(server, "127.0.0.1", CLIENT, 3)  # trusted
    logged_in(server).close()


def test_one_guess_for_each_of_many_names_is_counted_together(server: Server) -> None:
    """Spraying: no name fails twice, their address does."""
    assert not turned_away(server, "127.0.0.8")
    for number in range(5):  # five points, and a little of them is forgiven every second
        fail(server, "127.0.0.8", f"name-{number}")
    fail(server, "127.0.0.8", "one-more")
    until(lambda: turned_away(server, "127.0.0.8"))


def test_guesses_at_another_name_count_for_somebody_who_gets_in_under_their_own(server: Server) -> None:
    """Else whoever has a login could guess at everybody else's, unseen and without end."""
    assert not turned_away(server, "127.0.0.10")

    def guess() -> None:
        opened = connect(server, "127.0.0.10")
        for _ in range(2):
            with pytest.raises(paramiko.SSHException):
                opened.auth_publickey("victim", paramiko.ECDSAKey.generate())
        opened.auth_publickey(CLIENT, paramiko.Ed25519Key.from_private_key_file(str(server.key)))
        opened.close()

    for _ in range(2):
        guess()
    told = [event for event in server.events("login.failed") if event["address"] == "127.0.0.10"]
    assert [(event["person"], event["attempts"]) for event in told] == [("victim", 2)] * 2
    guess()
    until(lambda: turned_away(server, "127.0.0.10"))


def test_a_ban_by_hand_counts_within_a_second_or_so(server: Server) -> None:
    assert not turned_away(server, "127.0.0.9")
    command(server, "defender", "ban", "127.0.0.9", "--for", "1h")
    until(lambda: turned_away(server, "127.0.0.9"), 5)
    assert "127.0.0.9" in {one["address"] for one in command(server, "defender", "list")}
    command(server, "defender", "unban", "127.0.0.9")
    until(lambda: not turned_away(server, "127.0.0.9"), 5)
    assert command(server, "defender", "unban", "127.0.0.9")["was_banned"] is False
    command(server, "defender", "ban", "example.org", code=2)


def test_fail2ban_can_read_the_lines_and_is_not_led_astray(server: Server) -> None:
    fail(server, "127.0.0.5", HOSTILE)
    fail(server, "127.0.0.6", "pat")
    filter_file = (ROOT / "config/fail2ban/filter.d/nightsafe.conf").read_text()
    pattern = re.search(r"^failregex = (.*)$", filter_file, re.MULTILINE)
    assert pattern is not None
    # what fail2ban puts in the place of <HOST>, for addresses
    expression = re.compile(pattern[1].replace("<HOST>", r"(?:::f{4,6}:)?(?P<host>[\w\-.^_:]*\w)"))

    def hosts() -> list[str]:
        return [match["host"] for line in server.log().splitlines() if (match := expression.search(f"Nov 21 22:00:00 host nightsafe[7]: {line}"))]

    until(lambda: {"127.0.0.5", "127.0.0.6"} <= set(hosts()))
    assert "198.51.100.1" not in hosts()
    lines = [line for line in map(json.loads, server.log().splitlines()) if line["event"] == "login.failed"]
    assert HOSTILE[:64] in {line["person"] for line in lines}
    parser = (ROOT / "config/crowdsec/parsers/s01-parse/nightsafe.yaml").read_text()
    for name in ("event", "address", "person", "timestamp"):
        assert f"JsonExtract(evt.Parsed.message, '{name}')" in parser, "evt.Line.Raw has syslog's words before it"
        assert all(name in line for line in lines)


def test_sessions_are_listed_and_ended(server: Server) -> None:
    first, second = logged_in(server), logged_in(server, "127.0.0.4")
    assert paramiko.SFTPClient.from_transport(second) is not None
    until(lambda: len(command(server, "sessions")) == 2)
    shown = {one["address"]: one for one in command(server, "sessions", "list")}
    assert shown["127.0.0.4"]["person"] == CLIENT
    assert (shown["127.0.0.4"]["sessions"], shown["127.0.0.4"]["factors"]) == (1, ["publickey"])
    command(server, "sessions", "kill", shown["127.0.0.4"]["id"])
    until(lambda: not second.is_active(), 5)
    assert first.is_active()
    assert "nobody" in str(command(server, "sessions", "kill", shown["127.0.0.4"]["id"], code=2))
    assert server.events("session.killed")[0]["by"].startswith("ops:")
    first.close()
    assert [path.stat().st_mode & 0o777 for path in server.folder.run.glob("gateway-*.sock")] == [0o600, 0o600]


def test_the_time_of_a_refusal_tells_nothing_of_a_name(server: Server) -> None:
    """Medians of known and unknown names, asked in turn, differ by less than what one of them varies."""
    times: dict[str, list[float]] = {CLIENT: [], "nobody": []}
    key = paramiko.Ed25519Key.from_private_key_file(str(server.key))
    wrong = paramiko.ECDSAKey.generate()
    assert key.get_base64() != wrong.get_base64()
    for _ in range(8):
        for name, found in times.items():
            opened = connect(server, "127.0.0.1")
            for _ in range(3):
                began = time.perf_counter()
                with pytest.raises(paramiko.SSHException):
                    opened.auth_publickey(name, wrong)
                found.append(time.perf_counter() - began)
            opened.close()
    known, unknown = times.values()
    assert min(known + unknown) >= 0.029  # no answer comes before its time
    spread = statistics.quantiles(known + unknown, n=10)
    assert abs(statistics.median(known) - statistics.median(unknown)) <= max(spread[-1] - spread[0], 0.004)
