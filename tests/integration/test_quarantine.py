"""The quarantine by the real command line, in process: what lies there, and the two ways out, with receipts that ingest writes."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import pytest

from config.cli import run
from gateway.audit.events import Event
from gateway.catalog import Catalog
from gateway.ingest.quarantine import Quarantine
from nightsafe import cli
from tests.integration.ingest_world import World

CONTENT = b"not a virus at all"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("quarantine"))


def refused(world: World, name: str) -> str:
    """A paper as ingest leaves it when a check refused it: sealed, in the quarantine."""
    paper = world.land(name, CONTENT)
    world.ingest()
    target = world.folder.quarantine / "acme" / paper[-2:] / f"{paper}.age"
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(world.vault.path("acme", paper), target)
    world.catalog.change_verdict(paper, "refused", "A virus was found in the paper: Test.", "virus")
    world.ingest()
    assert world.receipts()[paper]["verdict"] == "refused"
    return paper


@pytest.fixture
def ask(world: World, capfd: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, ["quarantine", *words, "--data", str(world.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def test_a_released_paper_is_in_the_vault_and_its_receipt_says_accepted(ask: Any, world: World) -> None:
    paper = refused(world, "release.pdf")
    assert ask("show", paper)[1]["code"] == "virus"
    assert ask("release", paper)[0] == 2, "a reason is asked for"
    code, told = ask("release", paper, "--reason", "false alarm")
    assert (code, told["state"], told["version"]) == (0, "accepted", 1)
    with world.vault.open("acme", paper, identities=world.keyring.client_identities("acme", world.master)) as sealed:
        assert sealed.read() == CONTENT
    assert paper not in [one["paper"] for one in ask("list")[1]]
    world.ingest()
    receipt = world.receipts()[paper]
    assert (receipt["verdict"], receipt["code"], receipt["sha256"]) == ("accepted", "released", hashlib.sha256(CONTENT).hexdigest())
    assert world.events(Event.QUARANTINE_RELEASED)[-1]["reason"] == "false alarm"
    assert ask("release", paper, "--reason", "again")[0] == 0, "twice is once"
    assert ask("delete", paper, "--reason", "x", "--yes")[0] == 2, "it is not there any more"


def test_a_deleted_paper_is_gone_and_its_receipt_says_so(ask: Any, world: World) -> None:
    paper = refused(world, "delete.pdf")
    assert [one["paper"] for one in ask("list", "acme")[1]] == [paper]
    assert ask("delete", paper, "--reason", "a virus", "--yes")[1]["deleted"]
    assert list(world.folder.quarantine.rglob("*.age")) == []
    assert world.events(Event.QUARANTINE_DELETED)[-1]["reason"] == "a virus"
    world.ingest()
    receipt = world.receipts()[paper]
    assert (receipt["verdict"], receipt["code"]) == ("refused", "deleted") and str(receipt["reason"]).endswith("It was deleted by a person.")
    assert ask("show", paper)[1]["kind"] == "gone"
    code, complaint = ask("release", paper, "--reason", "x")
    assert code == 2 and "was deleted" in complaint


def test_what_is_under_legal_hold_stays(ask: Any, world: World) -> None:
    paper = refused(world, "held.pdf")
    hold = world.catalog.set_hold("acme", reason="trial", ordered_by="court", paper=paper)
    code, complaint = ask("delete", paper, "--reason", "x", "--yes")
    assert code == 2 and "legal hold" in complaint
    world.catalog.release_hold(hold.id, reason="over", released_by="court")
    assert ask("delete", paper, "--reason", "x", "--yes")[0] == 0


def test_a_file_that_was_swapped_is_not_released(ask: Any, world: World) -> None:
    paper = refused(world, "swapped.pdf")
    path = world.folder.quarantine / "acme" / paper[-2:] / f"{paper}.age"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert ask("release", paper, "--reason", "x")[0] == 1
    assert not world.vault.exists("acme", paper)
    ask("delete", paper, "--reason", "x", "--yes")


def test_what_could_not_be_sealed_can_be_deleted_only(ask: Any, world: World) -> None:
    paper = world.land("damaged.pdf", os.urandom(1000))
    path = world.folder.spool_landed / paper
    path.write_bytes(path.read_bytes()[:-40])
    world.ingest()
    assert [(one["paper"], one["kind"]) for one in ask("list")[1]] == [(paper, "damaged")]
    assert ask("release", paper, "--reason", "x")[0] == 2
    assert ask("delete", paper, "--reason", "x", "--yes")[0] == 0
    assert ask("list") == (0, [])


@pytest.mark.parametrize("broken_off", ["change_verdict", "remove"])
def test_a_release_that_was_broken_off_is_finished_by_the_next(ask: Any, world: World, broken_off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = refused(world, f"{broken_off}.pdf")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*((Catalog, broken_off) if broken_off == "change_verdict" else (Quarantine, "_finish")), die)
        assert ask("release", paper, "--reason", "x")[0] == 130
    assert world.vault.exists("acme", paper)
    assert ask("release", paper, "--reason", "x")[0] == 0
    world.ingest()
    assert world.receipts()[paper]["verdict"] == "accepted" and list(world.folder.quarantine.rglob("*.age")) == []


def test_unknown_ids_and_clients(ask: Any) -> None:
    for words in (("show", "0" * 32), ("list", "nobody"), ("release", "../../x", "--reason", "x"), ("delete", "0" * 32, "--reason", "x", "--yes")):
        assert ask(*words)[0] == 2
