"""Files, receipts and rows of any kind give findings, never exceptions; what differs is named. Real age files, a made-up catalog."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backup.drill.errors import ScratchFailed
from backup.drill.judge import Cause, Finding, Receipt, Record
from backup.drill.ledger import Ledger
from backup.drill.sources import Row, receipts, records
from backup.drill.verify import Question, Tally, find_surplus, measure, name_swaps, vault_files, vault_path, verify_papers
from config.console import Silent
from gateway.age import Identity, NoMatchError, header_mac, read_header, seal, unwrap
from gateway.audit.signatures import RECEIPT, SigningKey, sign

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


class House:
    """A restored vault with its records, made by hand."""

    def __init__(self, root: Path) -> None:
        self.identity = Identity.generate()
        self.vault = root / "vault"
        self.ledger = Ledger(root / "ledger")
        self.rows: dict[str, Record] = {}
        self.tally = Tally()

    def add(self, number: int, content: bytes, client: str = "acme") -> str:
        paper = f"{number:032x}"
        path = self.vault / vault_path(client, paper)
        path.parent.mkdir(parents=True, exist_ok=True)
        sink = io.BytesIO()
        with seal(sink, [self.identity.recipient]) as writer:
            writer.write(content)
        sealed = sink.getvalue()
        path.write_bytes(sealed)
        mac = header_mac(read_header(io.BytesIO(sealed))).hex()
        size, digest = len(content), hashlib.sha256(content).hexdigest()
        self.rows[paper] = Record(
            client, f"/inbox/{number}", 1, size, digest, len(sealed), hashlib.sha256(sealed).hexdigest(), mac, 1, NOON, NOON, False
        )
        return paper

    def file(self, paper: str) -> Path:
        return self.vault / vault_path(self.rows[paper].client, paper)

    def header_keys(self, client: str, headers: Sequence[tuple[str, bytes]], person: str, reason: str) -> list[bytes | None]:
        assert (person, reason) == ("ops:drill", "drill 7")
        keys: list[bytes | None] = []
        for _, header in headers:
            try:
                keys.append(unwrap(header, [self.identity]))
            except NoMatchError:
                keys.append(None)
        return keys

    def enter(self, **live: Record) -> None:
        self.ledger.add_records("dump", sorted(self.rows.items()))
        self.ledger.add_records("live", sorted({**self.rows, **live}.items()))

    def verify(self, chosen_only: bool = False, managed: bool = True) -> list[tuple[str, Cause]]:
        question = Question(self.vault, NOON, self, "7", lambda _client, _generation: managed)
        verify_papers(question, self.ledger, self.tally, Silent(), chosen_only=chosen_only)
        name_swaps(self.ledger, self.tally)
        find_surplus(vault_files(self.vault), self.ledger, self.tally)
        return [(finding.paper, finding.cause) for finding in self.tally.findings]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.ledger.close()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3_000_000])
def test_papers_of_every_size_verify(house: House, size: int) -> None:
    house.add(1, os.urandom(size))
    house.enter()
    assert house.verify() == []
    assert (house.tally.verified, house.tally.verified_bytes) == (1, size)


def test_many_papers_in_several_batches(house: House) -> None:
    for number in range(600):
        house.add(number, b"%d" % number, client=f"client{number % 3}")
    house.enter()
    assert house.verify() == []
    assert house.tally.verified == 600


def test_every_bit_counts(house: House) -> None:
    paper = house.add(1, b"x" * 1000)
    sealed = house.file(paper).read_bytes()
    house.enter()
    for place in (0, 30, len(sealed) // 2, len(sealed) - 1):
        altered = bytearray(sealed)
        altered[place] ^= 1
        house.file(paper).write_bytes(altered)
        house.tally = Tally()
        assert house.verify() == [(paper, Cause.DAMAGED)]
    for cut in (0, 10, len(sealed) - 1):
        house.file(paper).write_bytes(sealed[:cut])
        house.tally = Tally()
        assert house.verify() == [(paper, Cause.DAMAGED)]


def test_two_swapped_files_name_each_other(house: House) -> None:
    one, two = house.add(1, b"same size 1"), house.add(2, b"same size 2")
    house.enter()
    a, b = house.file(one).read_bytes(), house.file(two).read_bytes()
    house.file(one).write_bytes(b)
    house.file(two).write_bytes(a)
    assert house.verify() == [(one, Cause.SWAPPED), (two, Cause.SWAPPED)]
    assert "/inbox/2" in house.tally.findings[0].text
    assert house.tally.by_cause[Cause.DAMAGED] == 0


def test_missing_surplus_misplaced_and_unfinished_files(house: House) -> None:
    one, two = house.add(1, b"1"), house.add(2, b"2")
    house.enter()
    house.file(one).unlink()
    (house.vault / "acme" / "05").mkdir()
    (house.vault / "acme" / "05" / ("5" * 31 + "x.age")).write_bytes(b"?")
    (house.vault / "acme" / "05" / ("0" * 30 + "05.age")).write_bytes(b"?")
    (house.vault / "acme" / "05" / f"{two}.age").write_bytes(b"?")  # a known paper in the wrong place
    (house.vault / "acme" / "05" / ".tmp-0011").write_bytes(b"?")
    (house.vault / os.fsdecode(b"\xff")).write_bytes(b"?")
    found = house.verify()
    assert found[0] == (one, Cause.MISSING)
    assert [cause for _, cause in found[1:]] == [Cause.SURPLUS] * 4
    assert house.tally.unfinished == 1


def test_another_key_and_another_thing_in_a_papers_place(house: House) -> None:
    one, two, three = house.add(1, b"1"), house.add(2, b"2"), house.add(3, b"3")
    house.enter()
    house.file(two).unlink()
    house.file(two).symlink_to(house.file(one))
    house.file(three).unlink()
    os.mkfifo(house.file(three))
    house.identity = Identity.generate()
    assert house.verify() == [(one, Cause.NO_KEY), (two, Cause.MISSING), (three, Cause.MISSING)]


def test_what_nobody_here_can_open_is_verified_by_its_ciphertext(house: House) -> None:
    paper = house.add(1, b"1")
    house.enter()
    assert house.verify(managed=False) == []
    assert (house.tally.verified, house.tally.by_ciphertext) == (1, 1)
    house.file(paper).write_bytes(b"x")
    assert house.verify(managed=False) == [(paper, Cause.DAMAGED)]


def test_an_altered_live_hash_and_an_altered_dump_are_told_apart(house: House) -> None:
    paper = house.add(1, b"1")
    house.ledger.add_records("live", [(paper, replace(house.rows[paper], sha256="0" * 64))])
    house.ledger.add_records("dump", [(paper, house.rows[paper])])
    assert house.verify() == [(paper, Cause.LIVE_DIFFERS)]


def test_newer_papers_are_neither_missing_nor_verified(house: House) -> None:
    old, new = house.add(1, b"1"), house.add(2, b"2")
    house.file(new).unlink()
    house.ledger.add_records("dump", [(old, house.rows[old])])
    house.ledger.add_records("live", [(old, house.rows[old]), (new, replace(house.rows[new], sealed_at=NOON + timedelta(hours=1)))])
    assert house.verify() == []
    assert (house.tally.verified, house.tally.newer) == (1, 1)


def test_only_what_was_drawn_is_judged(house: House) -> None:
    one, two = house.add(1, b"1"), house.add(2, b"2")
    house.enter()
    house.file(two).unlink()
    house.ledger.choose([one])
    assert house.verify(chosen_only=True) == []
    assert house.tally.verified == 1


def test_an_unreadable_scratch_disk_is_not_the_backups_fault(tmp_path: Path) -> None:
    with pytest.raises(ScratchFailed):
        measure(tmp_path / ("x" * 300), None)


def receipt(**changes: object) -> bytes:
    facts = {"client": "acme", "paper": "0" * 32, "path": "/inbox/a", "version": 1, "size": 3, "sha256": "a" * 64, "verdict": "accepted", **changes}
    return json.dumps(facts).encode()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (receipt(), False),
        (receipt(size="3"), True),
        (receipt(size=2**70), True),
        (receipt(path="\ud800"), True),
        (receipt(client="zeta"), True),
        (receipt(version=True), True),
    ],
)
def test_receipts_are_believed_in_form_and_under_signature_only(tmp_path: Path, body: bytes, fault: bool) -> None:
    key = SigningKey.generate("receipts")
    day = tmp_path / "acme" / "receipts" / "2026-05-04"
    day.mkdir(parents=True)
    (day / "a.json").write_bytes(body)
    (day / "a.json.sig").write_text(sign(key, RECEIPT, body))
    ((paper, found),) = receipts(tmp_path, key.public)
    assert paper == "0" * 32
    assert bool(found.fault) is fault
    (day / "a.json").write_bytes(body + b" ")
    ((_, found),) = receipts(tmp_path, key.public)
    assert found.fault


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, receipt(paper="x"), receipt(paper=5), b"\xff" * 10, b"0" * 100_000])
def test_what_is_no_receipt_is_left_out(tmp_path: Path, body: bytes) -> None:
    day = tmp_path / "acme" / "receipts" / "2026-05-04"
    day.mkdir(parents=True)
    (day / "a.json").write_bytes(body)
    (day / "b.json").symlink_to(day / "a.json")
    (tmp_path / "acme" / "receipts" / "stray").write_bytes(b"")
    (tmp_path / "Not a client").mkdir()
    assert list(receipts(tmp_path, None)) == []


def test_a_second_receipt_makes_both_unbelievable(house: House) -> None:
    paper = house.add(1, b"1")
    house.enter()
    row = house.rows[paper]
    said = Receipt(row.client, row.path, row.version, row.size, row.sha256, "accepted")
    house.ledger.add_receipts([(paper, said), (paper, said)])
    assert house.verify() == [(paper, Cause.RECEIPT_BAD)]


def paper_row(**changes: object) -> Row:
    row = Row("0" * 32, "acme", "/inbox/a", 1, 1, "a" * 64, 200, "c" * 64, "b" * 64, 1, NOON, NOON, True)
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"client": "../etc"},
        {"client": None},
        {"path": "inbox"},
        {"path": 7},
        {"size": "many"},
        {"size": -1},
        {"size": 1.5},
        {"sha256": "A" * 64},
        {"sha256": None},
        {"header_mac": b"b" * 64},
        {"sealed_at": None},
        {"version": 2**64},
        {"id": "0" * 31 + "Z"},
    ],
)
def test_a_row_that_cannot_be_a_papers_is_reported(changes: dict[str, object]) -> None:
    reported: list[Finding] = []
    assert list(records([paper_row(**changes)], "the dump", reported.append)) == []
    assert [finding.cause for finding in reported] == [Cause.ROW_BAD]


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        list(records([paper_row(id="1" * 32), paper_row()], "the dump", lambda _: None))


def test_a_full_scratch_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScratchFailed):
        Ledger(tmp_path / "missing" / "ledger")
