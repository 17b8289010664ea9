"""An HTTP proxy in front of the S3 server that does what networks and services do: refuse, say SlowDown, cut, delay, flip a bit, lose an answer.

It knows nothing of S3. Headers pass as they are, so that signatures hold. One rule says which requests are hit, and how often.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Harm = Literal["refuse", "slow down", "cut", "delay", "flip", "lose the answer"]
SLOW_DOWN = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


@dataclass
class Rule:
    """Which requests: `method`, a `part` of the path, after `spared` of those; `times` of them. `after` is in bytes of the body, or seconds."""

    harm: Harm
    method: str = ""
    part: str = ""
    times: int = 1_000_000
    spared: int = 0
    after: float = 0
    hit: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is hit; counted."""
        if (self.method and method != self.method) or self.part not in path:
            return False
        with self._lock:
            if self.spared > 0:
                self.spared -= 1
                return False
            if self.hit >= self.times:
                return False
            self.hit += 1
            return True


@dataclass
class FaultProxy:
    """`endpoint` stands for the server's; `rule` may be changed at any time. `requests` are (method, path), as they came."""

    endpoint: str
    rule: Rule | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def fault_proxy(target: str, rule: Rule | None = None) -> Iterator[FaultProxy]:
    """A proxy to the server at `target` for a while."""
    host, port = str(urlsplit(target).hostname), int(urlsplit(target).port or 80)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            found.requests.append((self.command, self.path))
            struck = found.rule if found.rule is not None and found.rule.strikes(self.command, self.path) else None
            harm = struck.harm if struck else None
            if harm == "refuse":
                self.close_connection = True
                return
            if harm == "slow down":
                self.answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
                return
            if struck and harm == "delay":
                time.sleep(struck.after)
            status, headers, data = self.ask(body)
            if harm == "lose the answer":
                self.close_connection = True
            elif harm == "flip" and data and struck:
                changed = bytearray(data)
                changed[int(struck.after) % len(changed)] ^= 1
                self.answer(status, headers, bytes(changed))
            elif harm == "cut" and struck:
                self.answer(status, headers, data, int(struck.after))
            else:
                self.answer(status, headers, data)

        def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(host, port, timeout=60)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body or None)
                got = connection.getresponse()
                return got.status, {name: value for name, value in got.getheaders() if name.lower() not in HOP}, got.read()
            finally:
                connection.close()

        def answer(self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data if cut is None else data[:cut])
            self.close_connection |= cut is not None

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # whoever was cut off hangs up
                super().handle()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    found = FaultProxy(f"http://127.0.0.1:{server.server_port}", rule)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
