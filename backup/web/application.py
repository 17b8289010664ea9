"""The pages: GET only, no scripts, nothing from elsewhere. A token, where one is asked for, is exchanged for a cookie."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, abort, redirect, render_template, request, session, url_for
from jinja2 import ChoiceLoader, FileSystemLoader
from werkzeug.wrappers import Response as AnyResponse
from werkzeug.wsgi import wrap_file

from backup.report.page import TEMPLATES, shown
from backup.status.line import age_words, human_seconds
from backup.web import facts
from backup.web.readings import Reading
from backup.web.visits import Visits
from config.console import human_bytes
from config.errors import NightsafeError
from config.loading import Installation
from config.words import noun

LOGIN_HOURS = 12
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")
MOST_FORM_BYTES = 4096
WORDS = {"green": "ok", "yellow": "note", "red": "bad"}
HEADERS = {
    # 'unsafe-inline' for the styles of evidence pages, which are whole in themselves; there are no scripts that could make use of it
    "Content-Security-Policy": "default-src 'none'; style-src 'self' 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
KINDS = {"html": "text/html; charset=utf-8", "json": "application/json", "sig": "text/plain; charset=us-ascii"}


def make_application(installation: Installation, token: str | None, visits: Visits | None = None) -> Flask:
    """The WSGI application. Without a token everybody who reaches it may look. `visits` is closed by the caller."""
    visits = visits or Visits(installation.folder.audit)
    app = Flask(__name__, static_url_path="/static")
    app.config.update(
        SECRET_KEY=hashlib.sha256(b"nightsafe web cookie\0" + (token or "").encode()).digest(),
        SESSION_COOKIE_NAME="nightsafe",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_SECURE=bool(installation.settings.web.public_host),
        PERMANENT_SESSION_LIFETIME=timedelta(hours=LOGIN_HOURS),
        MAX_CONTENT_LENGTH=MOST_FORM_BYTES,
    )
    app.jinja_loader = ChoiceLoader([FileSystemLoader(Path(__file__).parent / "templates"), FileSystemLoader(TEMPLATES)])
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(size=human_bytes, noun=noun, span=human_seconds, shown=shown, when=_when, ago=_ago)
    app.jinja_env.globals.update(WORDS=WORDS, evidence_names=facts.evidence_names, root=str(installation.folder.root), asks=token is not None)
    _guard(app, installation, token, visits)
    _add_pages(app, installation, visits)
    return app


def _guard(app: Flask, installation: Installation, token: str | None, visits: Visits) -> None:
    """Who may ask, and what every answer says to the browser."""
    settings = installation.settings.web
    names = {*LOOPBACK, settings.host, settings.public_host.lower()} - {"", *EVERYWHERE}

    @app.before_request
    def check() -> AnyResponse | None:
        # A page elsewhere could have its own name point to 127.0.0.1, and read what the browser gets from us.
        if _host_of(request.host) not in names:
            return Response("this page is not served under that name; the settings name it: web.public_host\n", 421, mimetype="text/plain")
        if token is None or request.endpoint in ("static", "login"):
            return None
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if session.get("in") or (given and hmac.compare_digest(given.encode(), token.encode())):
            return None
        if given:
            visits.refused(str(request.remote_addr))
        if given or not request.accept_mimetypes.accept_html:
            return Response("a token is needed\n", 401, mimetype="text/plain")
        return redirect(url_for("login"))

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.route("/login", methods=["GET", "POST"])
    def login() -> AnyResponse | str | tuple[str, int]:
        if token is None:
            return redirect(url_for("overview"))
        if request.method == "GET":
            return render_template("login.html", wrong=False)
        if not hmac.compare_digest(request.form.get("token", "").strip().encode(), token.encode()):
            visits.refused(str(request.remote_addr))
            return render_template("login.html", wrong=True), 403
        visits.entered(str(request.remote_addr))
        session.permanent = True
        session["in"] = True
        return redirect(url_for("overview"))

    @app.errorhandler(NightsafeError)
    def trouble(error: NightsafeError) -> tuple[str, int]:
        return render_template("trouble.html", message=error.message, hint=error.hint), 503

    @app.errorhandler(404)
    def missing(_error: Exception) -> tuple[str, int]:
        return render_template("trouble.html", message="There is no such page.", hint=""), 404


def _add_pages(app: Flask, installation: Installation, visits: Visits) -> None:
    def page(path: str, name: str, template: str, read: Callable[[Installation], object]) -> None:
        reading = Reading(lambda: read(installation))

        def show() -> str:
            moment, found = reading.now()
            if isinstance(found, facts.Refused):
                visits.looked_at_quarantine(str(request.remote_addr), len(found.papers))
            return render_template(template, page=name, now=moment, found=found)

        app.add_url_rule(path, name, show)

    page("/", "overview", "overview.html", facts.read_overview)
    page("/clients", "clients", "clients.html", facts.read_clients)
    page("/backups", "backups", "backups.html", facts.read_backups)
    page("/quarantine", "quarantine", "quarantine.html", facts.read_quarantine)
    page("/sessions", "sessions", "sessions.html", facts.read_sessions)

    @app.route("/evidence/<path:name>")
    def evidence(name: str) -> Response:
        file = facts.evidence_file(installation, name)
        if file is None:
            abort(404)
        return Response(wrap_file(request.environ, file), content_type=KINDS[name.rpartition(".")[2]], direct_passthrough=True)


def _host_of(host: str) -> str | None:
    """The name in a Host header, in lower case and without the port; None for nonsense."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _when(moment: datetime | None) -> str:
    return "never" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _ago(moment: datetime | None) -> str:
    return "never" if moment is None else f"{age_words(datetime.now(UTC) - moment)} ago"
