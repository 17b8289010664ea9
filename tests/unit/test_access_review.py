"""Who can reach what: put together from the catalog and the audit log, and compared with what it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.catalog import Client, ClientKey, Person, PublicKey
from gateway.catalog.limits import Limits
from gateway.review.access import Entry, Known, differences, entries, remarks
from gateway.review.record import difference_rows, render
from gateway.review.traces import traces

NOW = datetime(2026, 11, 1, tzinfo=UTC)
OLD = NOW - timedelta(days=1000)
KEY = PublicKey("ssh-ed25519 AAAA", "SHA256:aaaa")


def client(name: str, **limits: Any) -> Client:
    return Client(name, "managed", None, True, OLD, (ClientKey(1, "age1x", OLD),), Limits(**limits))


def person(name: str, role: Any = "client", of: str | None = None, *clients: str, **more: Any) -> Person:
    return Person(name, role, of, more.pop("active", True), OLD, more.pop("expires_at", None), (KEY,), clients=clients, **more)


PEOPLE = [
    person("acme", of="acme"),
    person("zoe", "staff", None, "acme", "beta", totp=True, expires_at=NOW + timedelta(days=9)),
    person("audra", "auditor"),
    person("gone", "staff", None, off_boarded_at=OLD, active=False),
]
CLIENTS = [client("acme"), client("beta", profile="drop")]


def line(event: str, person: str, day: int, **fields: Any) -> dict[str, Any]:
    return {"event": event, "person": person, "time": f"2026-10-{day:02}T00:00:00.000000Z", "role": "gateway", **fields}


LOG = [
    line("person.added", "zoe", 1, clients=["acme"], by="ops:ann", role="ops"),
    line("person.edited", "zoe", 5, changed={"clients": [["acme"], ["acme", "beta"]]}, by="ops:bob", role="ops"),
    line("login.accepted", "zoe", 6, address="192.0.2.7", fingerprint="SHA256:aaaa"),
    line("paper.read", "zoe", 7, client="beta"),
    line("paper.deposited", "acme", 8, client="acme"),
]


def known(people: list[Person] = PEOPLE, clients: list[Client] = CLIENTS, **required: Any) -> Known:
    return Known(people, clients, {("zoe", "SHA256:aaaa"): OLD}, required)


def reviewed(people: list[Person] = PEOPLE, clients: list[Client] = CLIENTS, **required: Any) -> list[Entry]:
    return entries(known(people, clients, **required), traces(LOG), NOW)


def test_everybody_who_can_reach_a_client_is_there() -> None:
    found = {(entry["client"], entry["person"]): entry for entry in reviewed()}
    assert list(found) == [("acme", "acme"), ("acme", "audra"), ("acme", "zoe"), ("beta", "audra"), ("beta", "zoe")]
    zoe = found["beta", "zoe"]
    assert (zoe["since"], zoe["granted_by"], zoe["last_used"]) == ("2026-10-05T00:00:00.000000Z", "ops:bob", "2026-10-07T00:00:00.000000Z")
    assert found["acme", "zoe"]["granted_by"] == "ops:ann" and found["acme", "zoe"]["last_used"] is None
    assert zoe["keys"][0]["age_days"] == 1000 and zoe["keys"][0]["last_used"] == "2026-10-06T00:00:00.000000Z"
    assert zoe["second_factor"] and zoe["required"] == ["password+totp", "publickey+totp"]
    assert zoe["rights"] == {"inbox": "read", "outbox": "read, write", "receipts": "read"}
    assert found["acme", "audra"]["rights"] == {"receipts": "read"}
    assert not found["acme", "acme"]["second_factor"] and found["acme", "acme"]["granted_by"] == ""


def test_a_profile_and_a_role_s_factors_count() -> None:
    found = {(entry["client"], entry["person"]): entry for entry in reviewed([person("beta", of="beta"), *PEOPLE], auditor=("publickey+totp",))}
    assert found["beta", "beta"]["rights"] == {"inbox": "deposit", "receipts": "read"}
    assert found["acme", "audra"]["second_factor"]


def test_what_to_look_at_twice() -> None:
    found = {entry["person"]: remarks(entry, NOW) for entry in reviewed()}
    assert found["audra"] == ["no end", "one factor", "unused for 90 days", "key of 1000 days"]
    assert found["zoe"] == ["key of 1000 days"]


def test_differences_are_found_and_time_alone_is_none() -> None:
    before = reviewed()
    later = entries(known(), traces([*LOG, line("paper.read", "zoe", 30, client="acme")]), NOW + timedelta(days=5))
    assert len(differences(before, later)) == 0
    zoe = replace(PEOPLE[1], clients=("acme",), keys=(replace(KEY, fingerprint="SHA256:bbbb"),))
    found = differences(before, reviewed([PEOPLE[0], zoe, person("new", "staff", None, "beta")]))
    assert [entry["person"] for entry in found.came] == ["new"]
    assert {(entry["client"], entry["person"]) for entry in found.went} == {("acme", "audra"), ("beta", "audra"), ("beta", "zoe")}
    assert [(entry["person"], list(fields)) for entry, fields in found.changed] == [("zoe", ["keys"])]
    assert ("changed", "acme", "zoe", "keys: SHA256:aaaa → SHA256:bbbb") in difference_rows(found)
    suspended = differences(before, reviewed([replace(PEOPLE[0], active=False), *PEOPLE[1:]]))
    assert [fields for _, fields in suspended.changed] == [{"state": ["active", "suspended"]}]


def test_a_hostile_log_breaks_nothing_and_the_page_is_escaped() -> None:
    hostile = [line("person.edited", "zoe", 1, changed=[1]), line("person.added", "zoe", 2, clients="acme"), {"event": "login.accepted", "person": 3}]
    found = entries(known([person("<b>", of="acme")]), traces(hostile), NOW)
    page = render(found, None, None, {"made by": "<i>"}, NOW)
    assert "<b>" not in page and "&lt;b&gt;" in page and "<i>" not in page
