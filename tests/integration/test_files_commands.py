"""`nightsafe files find` and `history` by the real command line, in process, on papers that ingest sealed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from config.cli import run
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from nightsafe import cli
from tests.integration.ingest_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("files"))
    made.add_client("zeta")
    with AuditLog(made.folder.audit, "gateway") as log:
        first = made.land("invoice.pdf", b"first")
        log.append(Event.PAPER_DEPOSITED, client="acme", person="ann", address="192.0.2.1", path="/inbox/upload.filepart", paper=first)
        log.append(Event.NAME_RENAMED, client="acme", person="ann", path="/inbox/upload.filepart", target="/inbox/invoice.pdf")
        made.land("invoice.pdf", b"second")
        made.land("other.txt", b"other")
        made.land("invoice.pdf", b"of zeta", client="zeta")
        made.ingest()
        log.append(Event.NAME_RENAMED, client="acme", person="ann", path="/inbox", target="/inbox-old")
        log.append(Event.PAPER_READ, client="zeta", person="zeta", path="/inbox/invoice.pdf", paper="0" * 32)
        log.append(Event.NAME_REMOVED, client="acme", person="bob", path="/inbox/invoice.pdf")
    return made


@pytest.fixture
def ask(world: World, capfd: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, [*words, "--data", str(world.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def test_find_by_name_client_hash_and_type(ask: Any) -> None:
    assert [(p["client"], p["version"]) for p in ask("files", "find", "INVOICE")[1]] == [("zeta", 1), ("acme", 2), ("acme", 1)]
    assert [p["path"] for p in ask("files", "find", "--client", "acme", "--type", "txt")[1]] == ["/inbox/other.txt"]
    ((found,),) = [ask("files", "find", "--sha256", hashlib.sha256(b"first").hexdigest().upper())[1]]
    assert (found["path"], found["version"], found["person"]) == ("/inbox/invoice.pdf", 1, "acme")
    assert ask("files", "find", "--since", "2999-01-01") == (0, [])
    assert len(ask("files", "find", "--limit", "1")[1]) == 1


def test_a_search_is_recorded_with_what_was_asked(ask: Any, world: World) -> None:
    ask("files", "find", "*.pdf", "--client", "zeta", "--person", "zeta")
    told = world.events(Event.FILES_SEARCHED)[-1]
    assert (told["name"], told["client"], told["by"], told["found"]) == ("*.pdf", "zeta", "zeta", 1)
    assert str(told["person"]).startswith("ops:")


def test_wrong_questions_are_refused(ask: Any) -> None:
    for words in (("--sha256", "12"), ("--client", "nobody"), ("--since", "soon"), ("--state", "lost")):
        assert ask("files", "find", *words)[0] == 2
    assert ask("files", "history", "nobody", "/inbox/a")[0] == 2


def test_history_tells_of_every_paper_that_had_the_name(ask: Any) -> None:
    code, found = ask("files", "history", "acme", "/inbox/invoice.pdf")
    events = [line["event"] for line in found]
    assert code == 0
    assert events[:2] == ["paper.deposited", "name.renamed"], "under the name that the upload began with"
    assert events.count("paper.sealed") == events.count("receipt.written") == 2
    assert events[-2:] == ["name.renamed", "name.removed"] and [line["person"] for line in found[-2:]] == ["ann", "bob"]
    assert all(line["client"] == "acme" for line in found)
    assert "other.txt" not in json.dumps(found)
    assert ask("files", "history", "acme", "/inbox/invoice.pdf", "--limit", "1")[1][0]["event"] == "files.searched", "looking is told as well"


def test_lines_for_people(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["files", "find", "other", "--data", str(world.folder.root)]) == 0
    assert "/inbox/other.txt" in capfd.readouterr().out
    assert run(cli, ["files", "history", "acme", "/outbox/never.pdf", "--data", str(world.folder.root)]) == 2
