"""`nightsafe web`: the page, served by waitress until SIGTERM."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog
from waitress.server import MultiSocketServer, create_server

from backup.web import CREDENTIAL
from backup.web.application import LOOPBACK, make_application
from backup.web.visits import Visits
from config.errors import OutOfReach, SettingsError
from config.loading import Installation, credential_file
from config.roles import running_role

THREADS = 4
MOST_CONNECTIONS = 100
MOST_TOKEN_BYTES = 4096
SHORTEST_TOKEN = 32  # characters; nobody guesses that, so guesses need not be counted
log = structlog.get_logger()


def serve(installation: Installation) -> None:
    """Serve until SIGTERM or SIGINT. Raises Busy when it runs already, OutOfReach when the port is taken, SettingsError."""
    settings = installation.settings.web
    token = read_token(installation)
    if token is None and settings.host not in LOOPBACK:
        raise SettingsError(
            f"web.host is {settings.host}, which others can reach, and there is no web.token_file",
            "leave it on 127.0.0.1 and put a proxy before it, or write a token: openssl rand -hex 32 > FILE; chmod 600 FILE",
        )
    with running_role(installation.folder, "web") as role, closing(Visits(installation.folder.audit)) as visits:
        try:
            server = create_server(
                make_application(installation, token, visits),
                host=settings.host,
                port=settings.port,
                threads=THREADS,
                connection_limit=MOST_CONNECTIONS,
                channel_timeout=30,
                max_request_header_size=16 * 1024,
                max_request_body_size=16 * 1024,
                ident=None,
                clear_untrusted_proxy_headers=True,
            )
        except OSError as error:
            raise OutOfReach(f"the page cannot listen on {settings.host}:{settings.port}: {error.strerror}", "set web.port") from error
        role.stop_on_signals()
        port = _port_of(server)
        role.announce(host=settings.host, port=port)
        log.info("web.ready", host=settings.host, port=port, guarded=token is not None)
        threading.Thread(target=server.run, name="web", daemon=True).start()
        role.wait()
        log.info("web.stopping")
        server.close()


def _port_of(server: Any) -> int:
    """The port that waitress took; of a name with several addresses, that of the first."""
    return int(server.effective_listen[0][1] if isinstance(server, MultiSocketServer) else server.effective_port)


def read_token(installation: Installation) -> str | None:
    """The token that is asked for; None when none is set. Raises SettingsError when its file is missing, open to others, or too short."""
    named = installation.settings.web.token_file
    if named is None:
        return None
    given = credential_file(CREDENTIAL)
    path = given or installation.path(named)
    try:
        text = _read_private(path, own=given is None)
    except OSError as error:
        raise SettingsError(
            f"the token file {path} cannot be read: {error.strerror}", "make it: openssl rand -hex 32 > FILE; chmod 600 FILE"
        ) from error
    if len(text) < SHORTEST_TOKEN or not text.isascii() or not text.isprintable():
        raise SettingsError(f"the token in {path} is no line of {SHORTEST_TOKEN} or more plain characters", "make another: openssl rand -hex 32")
    return text


def _read_private(path: Path, *, own: bool) -> str:
    with path.open("rb") as file:
        if own and os.fstat(file.fileno()).st_mode & 0o077:
            raise SettingsError(f"the token file {path} is open to other users", f"close it: chmod 600 {path}")
        return file.read(MOST_TOKEN_BYTES).decode(errors="replace").strip()
