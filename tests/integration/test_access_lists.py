"""The monthly list of accesses: complete, only that client's, signed, written anew only when there is more to tell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.ingest import access_lists, accesses
from gateway.ingest.access_lists import tell_accesses
from tests.integration.ingest_world import World

MONTH = date(2026, 10, 1)


class Month:
    """A world whose log has known times in October 2026."""

    def __init__(self, root: Path) -> None:
        self.world = World(root)
        self.world.add_client("zeta")
        self.moment = datetime(2026, 10, 1, tzinfo=UTC)
        with self.world.catalog._database.writing() as connection:
            connection.exec_driver_sql("UPDATE clients SET created_at = 0")

    def write(self, day: int, role: str, event: Event, month: int = 10, **fields: Any) -> None:
        with AuditLog(self.world.folder.audit, role, clock=lambda: datetime(2026, month, day, 12, tzinfo=UTC)) as log:
            log.append(event, **fields)

    def tell(self, today: date) -> int:
        with AuditLog(self.world.folder.audit, "ingest") as audit:
            return tell_accesses(self.world.folder.audit, self.world.parts(audit), today)

    def lying(self, client: str = "acme", month: str = "2026-10") -> dict[str, Any]:
        path = self.world.folder.jail(client) / "receipts" / "access" / f"{month}.json"
        assert self.world.ssh_keygen_verifies(path)
        facts: dict[str, Any] = json.loads(path.read_bytes())
        return facts


@pytest.fixture
def month(tmp_path: Path) -> Iterator[Month]:
    made = Month(tmp_path)
    own = {"client": "acme", "person": "acme", "person_role": "client", "address": "192.0.2.7"}
    staff = {"client": "acme", "person": "zoe", "person_role": "staff", "address": "198.51.100.9"}
    made.write(2, "gateway", Event.PAPER_READ, **own, path="/inbox/a", paper="1")
    made.write(2, "gateway", Event.PAPER_DEPOSITED, **own, path="/inbox/a", paper="1")
    made.write(3, "gateway", Event.PAPER_READ, **staff, path="/inbox/a", paper="1")
    made.write(3, "keyd", Event.KEY_GRANTED, client="acme", person="zoe", paper="1", reason="read /inbox/a")
    made.write(4, "ops", Event.FILES_EXPORTED, client="acme", person="ops:root", paths=["/inbox"], papers=7)
    made.write(5, "keyd", Event.KEY_GRANTED, client="acme", person="ops:drill", paper="1", reason="drill 4")
    made.write(5, "keyd", Event.KEY_GRANTED, client="acme", person="ops:drill", paper="2", reason="drill 4")
    made.write(6, "ops", Event.FILES_SEARCHED, person="ops:root", name="a secret of zeta", found=31)
    made.write(7, "restore", Event.RESTORE_FINISHED, person="ops:root", client="*", state="passed", papers=31)
    made.write(9, "gateway", Event.PAPER_READ, **(staff | {"client": "zeta"}), path="/inbox/secret", paper="9")
    made.write(1, "gateway", Event.PAPER_READ, month=11, **staff, path="/inbox/a", paper="1")
    yield made
    made.world.catalog.close()


def test_everybody_is_told_of_and_the_client_s_own_stand_apart(month: Month) -> None:
    assert month.tell(date(2026, 11, 3)) == 4, "two clients, the month that is over and the running one"
    told = month.lying()
    assert [(one["who"], one["what"]) for one in told["others"]] == [
        ("zoe", "read"),
        ("ops:root", "exported"),
        ("ops:root", "names looked at"),
        ("ops:root", "restored"),
    ]
    assert told["others"][3] == {
        "time": "2026-10-07T12:00:00.000000Z",
        "who": "ops:root",
        "what": "restored",
        "state": "passed",
        "all_clients": True,
    }, "how many papers the others have is not told"
    assert told["others"][0]["role"] == "staff" and "address" not in told["others"][0] and told["others"][1]["papers"] == 7
    assert [(one["who"], one["path"], one["address"]) for one in told["own_downloads"]] == [("acme", "/inbox/a", "192.0.2.7")]
    assert told["drills"] == [{"drill": "drill 4", "time": "2026-10-05T12:00:00.000000Z", "papers_opened": 2}]
    assert told["keys"] == {"ops:drill": 2, "zoe": 1} and (told["through"], told["complete"]) == ("2026-10-31", True)
    assert not any(word in json.dumps(told) for word in ("secret", "zeta", "31,"))
    assert [one.get("path") for one in month.lying("zeta")["others"]] == [None, None, "/inbox/secret"]
    assert month.lying(month="2026-11")["others_total"] == 1
    assert month.tell(date(2026, 11, 3)) == 0, "nothing has changed"
    assert len(month.world.events(Event.ACCESS_LISTED)) == 4


def test_the_running_month_is_told_up_to_yesterday_and_grows(month: Month) -> None:
    assert month.tell(date(2026, 10, 1)) == 2, "September, which is over; of October no day is"
    month.tell(date(2026, 10, 3))
    assert (month.lying()["others_total"], month.lying()["own_downloads_total"], month.lying()["complete"]) == (0, 1, False)
    month.tell(date(2026, 10, 5))
    assert month.lying()["others_total"] == 2
    assert month.lying(month="2026-09")["complete"] and month.lying(month="2026-09")["others"] == []


def test_few_at_a_time_and_bounded(month: Month, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_lists, "AT_ONCE", 1)
    monkeypatch.setattr(accesses, "MOST_LISTED", 1)
    month.tell(date(2026, 11, 1))
    told = month.lying()
    assert (len(told["others"]), told["others_total"]) == (1, 4)
    assert month.lying("zeta")["others_total"] == 3


def test_a_segment_that_cannot_be_read_is_not_left_out(month: Month) -> None:
    (month.world.folder.audit / "keyd-20261001T000000000000Z-00000000.jsonl").symlink_to("nowhere")
    with pytest.raises(OSError, match="No such file"):
        month.tell(date(2026, 11, 1))
    assert not list(month.world.folder.jail("acme").rglob("access/*"))


def test_a_jail_that_cannot_be_written_stops_nobody(month: Month) -> None:
    receipts = month.world.folder.jail("acme") / "receipts"
    receipts.rmdir()
    receipts.write_text("in the way")
    assert month.tell(date(2026, 11, 1)) == 1
    assert month.lying("zeta")["complete"]
