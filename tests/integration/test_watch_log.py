"""The watch on a real log: what is new is judged once, over restarts; what is told, and whom it suspends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.loading import Installation
from gateway.audit import AuditLog, Event
from gateway.audit.lines import canonical
from gateway.audit.read import read
from gateway.catalog import Catalog
from gateway.notify.notices import text_of
from gateway.watch.store import Store
from gateway.watch.watcher import Watcher, watch_by_the_clock
from tests.integration.conftest import make_installation

SETTINGS = '[watch]\nevery_seconds = 0.05\ndownloads_per_hour = 20\nsuspend = ["mass_download"]\n'


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    made = make_installation(tmp_path, SETTINGS)
    with Catalog.open(made.folder.catalog) as catalog:
        catalog.add_client("acme", recipient="age1x")
        for name in ("ann", "bob"):
            catalog.add_person(name, client="acme")
    return made


def download(installation: Installation, person: str, count: int, at: datetime | None = None) -> None:
    with AuditLog(installation.folder.audit, "gateway", **({"clock": lambda: at} if at else {})) as log:  # type: ignore[arg-type]
        for number in range(count):
            log.append(Event.PAPER_READ, person=person, person_role="client", client="acme", path=f"/inbox/{number}", address="192.0.2.1")


@pytest.fixture
def store(installation: Installation) -> Iterator[Store]:
    made = Store(installation.folder.watch)
    yield made
    made.close()


def found(installation: Installation) -> list[tuple[Any, ...]]:
    return [(line["kind"], line["person"], line["count"], line["suspended"]) for line in read(installation.folder.audit, event="anomaly.found")]


def is_active(installation: Installation, person: str) -> bool:
    with Catalog.open(installation.folder.catalog) as catalog:
        return catalog.existing_person(person).active


def test_it_learns_first_then_tells_and_suspends_once(installation: Installation, store: Store) -> None:
    download(installation, "ann", 50)
    watcher = Watcher(installation, store)
    watcher.learn()
    assert watcher.watch() == [] and is_active(installation, "ann"), "what was there before is learnt"
    download(installation, "bob", 19)
    assert watcher.watch() == []
    watcher = Watcher(installation, store)
    watcher.learn()
    download(installation, "bob", 2)
    assert [one.kind for one in watcher.watch()] == ["mass_download"], "counted on over a restart"
    assert found(installation) == [("mass_download", "bob", 20, True)]
    assert not is_active(installation, "bob") and is_active(installation, "ann")
    assert [line["by"] for line in read(installation.folder.audit, event="person.suspended")] == ["watch"]
    download(installation, "bob", 30)
    assert watcher.watch() == [] and Watcher(installation, store).watch() == [], "once a day"
    told = text_of(next(iter(read(installation.folder.audit, event="anomaly.found"))))
    assert "person: bob" in told and "20 papers" in told and "192.0.2.1" not in told, "a notice leaves the house"


def test_what_is_long_past_suspends_nobody(installation: Installation, store: Store) -> None:
    watcher = Watcher(installation, store, clock=lambda: datetime.now(UTC) + timedelta(days=3))
    download(installation, "ann", 1)
    watcher.learn()
    download(installation, "bob", 30)
    download(installation, "nobody-here", 30)
    watcher.watch()
    assert [(person, suspended) for _, person, _, suspended in found(installation)] == [("bob", False), ("nobody-here", False)]
    assert is_active(installation, "bob")


def test_the_thread_outlives_what_fails(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, calls = threading.Event(), []
    watch = Watcher.watch

    def failing(self: Watcher) -> list[Any]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a defect")
        return watch(self)

    monkeypatch.setattr(Watcher, "watch", failing)
    download(installation, "ann", 1)
    thread = threading.Thread(target=watch_by_the_clock, args=(installation, stop))
    thread.start()
    try:
        deadline = time.monotonic() + 240
        while len(calls) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        download(installation, "bob", 30)
        while not found(installation):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        stop.set()
        thread.join(240)
    assert not thread.is_alive() and not is_active(installation, "bob")


def test_a_line_that_lies_blinds_nobody(installation: Installation, store: Store) -> None:
    watcher = Watcher(installation, store)
    watcher.learn()
    download(installation, "ann", 1)
    segment = next(installation.folder.audit.glob("gateway-*.jsonl"))
    lie = {"event": "paper.read", "role": "gateway", "person": "ann", "time": "2026-01-01T00:00:00.000000Z"}
    with segment.open("ab") as file:
        file.writelines(canonical(lie | change) + b"\n" for change in ({"person": "a\ud800"}, {"time": "9999-12-31T23:59:59-12:00"}))
    assert watcher.watch() == []
    download(installation, "bob", 21)
    assert [one.person for one in watcher.watch()] == ["bob"]
