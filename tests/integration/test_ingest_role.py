"""The role `ingest` as a process of its own: ready, at work on events and sweeps, stopped in order, and killed again and again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.roles import role_state
from gateway.audit.events import Event
from gateway.audit.verify import verify
from gateway.ingest.receipts import receipt_path
from tests.integration.ingest_processes import SERVE, Lives, serving, wait_for
from tests.integration.ingest_world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.catalog.close()


def test_it_does_what_is_there_and_what_lands_and_stops_in_order(world: World) -> None:
    world.land("before.pdf", b"before")
    with serving(world) as process:
        wait_for(lambda: not world.spool.landed_papers())
        world.land("after.pdf", b"after")
        wait_for(lambda: not world.spool.landed_papers())
        process.terminate()
        assert process.wait(240) == 0
    assert role_state(world.folder, "ingest") is None
    world.check_all_safe()


def test_a_receipt_comes_at_once_by_the_event_alone(world: World) -> None:
    world.folder.settings.write_text("[ingest]\nsweep_seconds = 3600\n")
    folder = world.folder.jail("acme") / "receipts"
    with serving(world):
        for number in range(5):
            world.land(f"{number}.pdf", os.urandom(20_000))
            assert wait_for(lambda: len(list(folder.rglob("*.json"))) == number + 1) < 60  # noqa: B023
            time.sleep(0.05)
        wait_for(lambda: not world.spool.landed_papers())
    world.check_all_safe()


def test_a_second_one_is_refused_and_the_first_goes_on(world: World) -> None:
    with serving(world):
        second = subprocess.run([sys.executable, "-c", SERVE, str(world.folder.root), "1"], capture_output=True, text=True, check=False)
        assert "Busy" in second.stderr and second.returncode != 0
        world.land("a.pdf", b"a")
        wait_for(lambda: not world.spool.landed_papers())
    world.check_all_safe()


def test_a_large_paper_passes_through_and_small_ones_pass_by(world: World) -> None:
    world.folder.settings.write_text("[ingest]\nsweep_seconds = 3600\n")
    large = world.land("large.bin", os.urandom(70 * 1024 * 1024))
    small = world.land("small.pdf", b"small")
    newer = world.land("large.bin", b"a newer version, and small")
    with serving(world):
        wait_for(lambda: not world.spool.landed_papers(), 60)
    world.check_all_safe()
    assert [row.id for row in world.catalog.versions("acme", "/inbox/large.bin")] == [large, newer]
    sealed = [line["paper"] for line in world.events(Event.PAPER_SEALED)]
    assert sealed == [small, large, newer]


def test_killed_twenty_times_every_paper_ends_once(world: World) -> None:
    world.folder.settings.write_text("[ingest]\nsweep_seconds = 0.5\nbatch = 8\n")
    dice = random.Random(20)
    unfinished = 0
    with Lives(world) as lives:
        for life in range(20):
            for number in range(10):
                world.land(f"{life}-{number}.pdf", os.urandom(dice.randrange(0, 60_000)))
            lives.live_for(dice.uniform(0.0, 0.06))
            unfinished += bool(world.spool.landed_papers())
    assert unfinished >= 5, "the kills came too late to mean anything"
    with serving(world):
        wait_for(lambda: not world.spool.landed_papers())
        wait_for(lambda: not world.catalog.unreceipted())
    assert len(world.contents) == 200
    world.check_all_safe()
    heads = {str(receipt["audit_head"]) for receipt in world.receipts().values()}
    report = verify(world.folder.audit, [], anchors=heads)
    assert report.problems == []


def test_a_client_checks_its_receipt_as_the_guide_says(world: World, tmp_path: Path) -> None:
    """The commands are taken out of docs/how-to/check-a-receipt.md and run by a shell."""
    content = os.urandom(5000)
    paper = world.land("invoice.pdf", content)
    world.ingest()
    row = world.catalog.paper(paper)
    assert row is not None
    receipt = world.folder.jail("acme") / receipt_path(row)[1:]
    place = tmp_path / "client" / "receipts" / receipt.parent.name
    place.mkdir(parents=True)
    for name in (receipt.name, f"{receipt.name}.sig"):
        (place / name).write_bytes((receipt.parent / name).read_bytes())
    (place / "invoice.pdf").write_bytes(content)
    lines = world.keyring.allowed_signers.read_text().splitlines()
    (tmp_path / "client" / "allowed_signers").write_text(next(line for line in lines if line.startswith("receipts ")) + "\n")
    guide = (Path(__file__).parents[2] / "docs" / "how-to" / "check-a-receipt.md").read_text()
    blocks = [block.split("```")[0] for block in guide.split("```sh\n")[1:]]

    def run(words: str) -> subprocess.CompletedProcess[str]:
        (block,) = [block for block in blocks if words in block]
        script = block.replace("invoice.pdf.89abcdef0123.json", receipt.name).replace("cd receipts/2024-05-17", ":")
        return subprocess.run(["sh", "-c", script], cwd=place, capture_output=True, text=True, check=False)

    verified = run("ssh-keygen -Y verify -f ../../allowed_signers -I receipts -n receipt@nightsafe \\")
    assert verified.returncode == 0 and verified.stdout.startswith('Good "receipt@nightsafe" signature for receipts with ED25519 key SHA256:')
    assert run("sha256sum").stdout.split()[0] == json.loads(receipt.read_bytes())["sha256"]
    assert run("for receipt in").stdout == "" and run("grep -L").stdout == ""
    (place / receipt.name).write_bytes((place / receipt.name).read_bytes().replace(b"accepted", b"refused"))
    assert run("for receipt in").stdout == f"NOT GOOD: {receipt.name}\n"
    assert run("grep -L").stdout == f"{receipt.name}\n"


def test_it_comes_after_the_gateway_where_processors_are_short(world: World) -> None:
    with serving(world) as process:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
