"""Ways to a paper's key: one suite for keyd over its socket and for the master at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.age import new_header, unwrap
from gateway.keys.client import KeyAgent, KeyDamaged, KeydClient, KeydUnavailable, KeyGone, KeyRefused, MasterAgent
from gateway.store import Vault, new_paper_id
from tests.integration.catalog_rows import accepted_row
from tests.integration.keyd_house import KEY_BYTES, House, build, served


@pytest.fixture
def house(tmp_path: Path) -> House:
    return build(tmp_path)


@pytest.fixture(params=["keyd", "master"])
def agent(request: pytest.FixtureRequest, house: House) -> Iterator[KeyAgent]:
    if request.param == "keyd":
        with served(house) as client:
            yield client
    else:
        with MasterAgent(house.installation, house.keyring, house.master) as at_hand:
            yield at_hand


def test_a_paper_in_the_vault_opens_and_is_recorded(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    key = agent.paper_key("acme", paper, "vault", "acme", "download")
    with Vault(house.folder.vault).open("acme", paper, file_key=key) as reader:
        assert reader.read() == b"content"
    (event,) = house.audited()
    asked = {"client": "acme", "paper": paper, "where": "vault", "person": "acme", "reason": "download"}
    assert event["event"] == "key.granted"
    assert asked.items() <= event.items()


def test_a_paper_in_the_spool_opens_partial_and_landed(agent: KeyAgent, house: House) -> None:
    landed = house.land("acme", b"landed")
    key = agent.paper_key("acme", landed, "spool", "acme", "read")
    with house.spool() as spool:
        assert spool.open_landed(landed, file_key=key).read() == b"landed"
        partial = new_paper_id()
        file = spool.create(partial, "acme")
        file.write(0, b"half")
        file.close()
    with house.spool() as spool:
        file = spool.reopen(partial, agent.paper_key("acme", partial, "spool", "acme", "resume"))
        assert file.read(0, 4) == b"half"
        file.close()


def test_older_generations_open_too(agent: KeyAgent, house: House) -> None:
    old, _ = house.seal("acme", b"old")
    assert len(agent.paper_key("acme", old, "vault", "acme", "r")) == KEY_BYTES
    house.keyring.rotate_client("acme")
    new, _ = house.seal("acme", b"new")
    for paper in (old, new):
        assert len(agent.paper_key("acme", paper, "vault", "acme", "r")) == KEY_BYTES


@pytest.mark.parametrize(
    ("person", "why"),
    [
        ("zeta", "does not belong to this client"),
        ("nobody", "unknown person"),
        ("staff", "does not belong to this client"),
        ("keyd", "unknown person"),
    ],
)
def test_the_wrong_person_is_refused_and_recorded(agent: KeyAgent, house: House, person: str, why: str) -> None:
    paper, _ = house.seal("acme", b"content")
    landed = house.land("acme", b"content")
    for where, one in (("vault", paper), ("spool", landed)):
        with pytest.raises(KeyRefused, match=why):
            agent.paper_key("acme", one, where, person, "r")  # type: ignore[arg-type]
    events = house.audited()
    assert [event["event"] for event in events] == ["key.refused"] * 2
    assert all(event["person"] == person and why in event["why"] for event in events)


def test_staff_read_what_was_accepted_and_nothing_before(agent: KeyAgent, house: House) -> None:
    with house.catalog() as catalog:
        catalog.add_person("sue", role="staff", clients=["acme"])
    paper, _ = house.seal("acme", b"content")
    assert len(agent.paper_key("acme", paper, "vault", "sue", "download")) == KEY_BYTES
    with pytest.raises(KeyRefused, match="not accepted yet"):
        agent.paper_key("acme", house.land("acme", b"content"), "spool", "sue", "download")


def test_naming_ones_own_client_does_not_open_anothers_paper(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    landed = house.land("acme", b"content")
    with pytest.raises(KeyGone):
        agent.paper_key("zeta", paper, "vault", "zeta", "r")
    with pytest.raises(KeyRefused, match="another client"):
        agent.paper_key("zeta", landed, "spool", "zeta", "r")
    stolen = Vault(house.folder.vault).path("zeta", paper)  # and not by moving the file either
    stolen.parent.mkdir(parents=True)
    os.link(Vault(house.folder.vault).path("acme", paper), stolen)
    with pytest.raises(KeyRefused, match="no key on this machine"):
        agent.paper_key("zeta", paper, "vault", "zeta", "r")


def test_a_deactivated_person_is_refused_at_once(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    agent.paper_key("acme", paper, "vault", "acme", "r")
    house.alter("update people set active = 0 where name = 'acme'")
    with pytest.raises(KeyRefused, match="not active"):
        agent.paper_key("acme", paper, "vault", "acme", "r")
    house.alter("update people set active = 1 where name = 'acme'")
    agent.paper_key("acme", paper, "vault", "acme", "r")
    house.alter("update clients set active = 0 where name = 'acme'")
    with pytest.raises(KeyRefused, match="suspended"):
        agent.paper_key("acme", paper, "vault", "acme", "r")
    agent.paper_key("acme", paper, "vault", "ops:anna", "r")


def test_an_expired_person_is_refused(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    with house.catalog() as catalog:
        catalog.add_person("past", client="acme", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        catalog.add_person("future", client="acme", expires_at=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(KeyRefused, match="not active"):
        agent.paper_key("acme", paper, "vault", "past", "r")
    agent.paper_key("acme", paper, "vault", "future", "r")


def test_the_quarantine_is_for_ops(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"held", house.folder.quarantine)
    with pytest.raises(KeyRefused, match="only ops"):
        agent.paper_key("acme", paper, "quarantine", "acme", "r")
    assert len(agent.paper_key("acme", paper, "quarantine", "ops:anna", "look at it")) == KEY_BYTES


@pytest.mark.parametrize("where", ["spool", "vault", "quarantine"])
def test_a_paper_that_is_not_there_is_gone(agent: KeyAgent, where: Any) -> None:
    with pytest.raises(KeyGone):
        agent.paper_key("acme", new_paper_id(), where, "ops:anna", "r")


def test_a_destroyed_key_is_gone_at_once(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    agent.paper_key("acme", paper, "vault", "acme", "r")
    for path in house.folder.client_keys("acme").iterdir():
        path.unlink()
    with pytest.raises(KeyRefused, match="no key on this machine"):
        agent.paper_key("acme", paper, "vault", "acme", "r")
    house.folder.client_keys("acme").rmdir()
    with pytest.raises(KeyRefused, match="no key on this machine"):
        agent.paper_key("acme", paper, "vault", "acme", "r")


def test_two_swapped_vault_files_are_noticed(agent: KeyAgent, house: House) -> None:
    """Both are whole age files of this client: only the catalog knows that they are not the right ones."""
    vault = Vault(house.folder.vault)
    papers = []
    for content in (b"the real one", b"another one."):
        paper, sealed = house.seal("acme", content)
        with house.catalog() as catalog:
            catalog.record([accepted_row(paper, sealed, client="acme", path=f"/inbox/{paper}")])
        papers.append(vault.path("acme", paper))
        agent.paper_key("acme", paper, "vault", "acme", "r")
    one, other = papers
    one.rename(one.with_suffix(".swap"))
    other.rename(one)
    one.with_suffix(".swap").rename(other)
    for path in papers:
        with pytest.raises(KeyRefused, match="not the one that was catalogued"):
            agent.paper_key("acme", path.stem, "vault", "acme", "r")


def test_damaged_files_are_refused(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    path = Vault(house.folder.vault).path("acme", paper)
    good = path.read_bytes()
    for bad in (b"", b"garbage", good[:50], good[:120] + bytes([good[120] ^ 1]) + good[121:]):
        path.write_bytes(bad)
        with pytest.raises(KeyRefused):
            agent.paper_key("acme", paper, "vault", "acme", "r")
    landed = house.folder.spool_landed / house.land("acme", b"content")
    landed.write_bytes(b"garbage")
    with pytest.raises(KeyRefused, match="damaged"):
        agent.paper_key("acme", landed.name, "spool", "acme", "r")


def test_a_damaged_client_key_is_said_to_be_so(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    path = house.folder.client_keys("acme") / "1.age"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises((KeyDamaged, KeydUnavailable), match="does not open"):
        agent.paper_key("acme", paper, "vault", "acme", "r")


def test_headers_of_restored_papers(agent: KeyAgent, house: House) -> None:
    sealed = [house.seal("acme", b"%d" % number)[0] for number in range(3)]
    foreign, _ = house.seal("zeta", b"foreign")
    headers = [(paper, house.header("acme", paper)) for paper in sealed]
    headers[1:1] = [(foreign, house.header("zeta", foreign)), (new_paper_id(), b"garbage")]
    if isinstance(agent, KeydClient):
        headers += [(new_paper_id(), b""), (new_paper_id(), bytes(100_000))]  # too long for a message: answered here
    keys = agent.header_keys("acme", headers, "ops:drill", "drill 7")
    identities = house.keyring.client_identities("acme", house.recovery)
    opened = [unwrap(header, identities) if paper in sealed else None for paper, header in headers]
    assert keys == opened
    granted = [event["paper"] for event in house.audited() if event["event"] == "key.granted"]
    assert granted == sealed
    assert agent.header_keys("acme", [], "ops:drill", "r") == []


def test_headers_are_for_ops(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    with pytest.raises(KeyRefused, match="only ops"):
        agent.header_keys("acme", [(paper, house.header("acme", paper))], "acme", "r")


def test_a_thousand_headers_come_back_in_order(agent: KeyAgent, house: House) -> None:
    recipient = house.keyring.client_recipient("acme").recipient
    sealed = [new_header([recipient]) for _ in range(1000)]
    keys = agent.header_keys("acme", [(new_paper_id(), one.header) for one in sealed], "ops:drill", "r")
    assert keys == [one.file_key for one in sealed]


def test_nothing_secret_is_recorded(agent: KeyAgent, house: House) -> None:
    paper, _ = house.seal("acme", b"content")
    key = agent.paper_key("acme", paper, "vault", "acme", "r")
    written = house.everything_written()
    for secret in (key.hex(), house.master.encode(), house.keyring.client_identities("acme", house.master)[0].encode()):
        assert secret not in written
    assert key.hex() not in repr(agent)
    assert house.master.encode() not in repr(agent)
