"""Finding papers in a real catalog."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.catalog import Catalog, NewPaper, search
from gateway.catalog.search import Newest, Search, like_pattern, pieces_of, rarest_word, telling_pieces, two_runs
from tests.unit.test_catalog_migrations import catalog_of

START = datetime(2026, 1, 1, tzinfo=UTC)
PATHS = (
    "/inbox/2026/Invoice-001.pdf",
    "/inbox/2026/invoice-002.PDF",
    "/inbox/100%_sure.txt",
    "/inbox/合同 2026.docx",
    '/inbox/a"b.txt',
    "/inbox/back\\slash.txt",
    "/inbox/x.y",
)


def paper(number: int, path: str, client: str = "acme") -> NewPaper:
    when = START + timedelta(hours=number)
    return NewPaper(
        id=f"{number:032x}", client=client, path=path, person="alice", state="accepted", reason="", size=1, sha256=f"{number:064x}",
        received_at=when, sealed_at=when, modified_at=None, generation=1, header_mac="", sealed_sha256="", sealed_size=1, session="", address="",
        class_name="tax" if number % 2 else "",
    )  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    made = Catalog.create(tmp_path_factory.mktemp("search") / "catalog.sqlite3")
    for client in ("acme", "zeta"):
        made.add_client(client, recipient="age1x")
    made.record([paper(number, path) for number, path in enumerate(PATHS)])
    made.record([paper(90, PATHS[0], "zeta")])
    return made


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("invoice", [1, 0]),
        ("INVOICE-00?.pdf", [1, 0]),
        ("*.pdf", [1, 0]),
        ("/inbox/2026/*1.pdf", [0]),
        ("nvoice-00?.pdf", []),  # with wildcards the whole name counts
        ("%_s", [2]),
        ("100%", [2]),
        ("合同", [3]),  # shorter than what the index knows
        ('a"b', [4]),
        ("k\\s", [5]),
        (".y", [6]),
        ("x.y", [6]),
        ("missing", []),
        ("*", [6, 5, 4, 3, 2, 1, 0]),
        ("", [6, 5, 4, 3, 2, 1, 0]),
    ],
)
@pytest.mark.parametrize(("many", "too_many"), [(0, 0), (100, 2), (100, 5000), (2, 5000)])
def test_names(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, name: str, found: list[int], many: int, too_many: int) -> None:
    """The same is found whether the index is used, or the name too common for it."""
    monkeypatch.setattr(search, "MANY", many)
    monkeypatch.setattr(search, "TOO_MANY", too_many)
    assert [int(paper.sha256, 16) for paper in catalog.find(Search(client="acme", name=name))] == found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Search(), [90, 6, 5, 4, 3, 2, 1, 0]),
        (Search(clients=("zeta",)), [90]),
        (Search(clients=()), []),
        (Search(since=START + timedelta(hours=5)), [90, 6, 5]),
        (Search(client="acme", since=START + timedelta(hours=2), until=START + timedelta(hours=4)), [3, 2]),
        (Search(sha256=f"{3:064X}"), [3]),
        (Search(class_name="tax", ending=".PDF"), [1]),
        (Search(ending="txt", person="alice"), [5, 4, 2]),
        (Search(state="held"), []),
        (Search(name="invoice", class_name="tax"), [1]),
    ],
)
def test_what_else_is_known(catalog: Catalog, wanted: Search, found: list[int]) -> None:
    assert [int(paper.sha256, 16) for paper in catalog.find(wanted)] == found


def test_no_more_than_asked_and_the_newest(catalog: Catalog) -> None:
    assert [int(paper.sha256, 16) for paper in catalog.find(Search(client="acme"), limit=2)] == [6, 5]


def test_papers_of_an_older_catalog_are_found(tmp_path: Path) -> None:
    catalog_of("0001", tmp_path / "catalog.sqlite3")
    with Catalog.create(tmp_path / "catalog.sqlite3") as catalog:
        assert [paper.path for paper in catalog.find(Search(name="a.pdf"))] == ["/inbox/a.pdf"]


def test_a_dump_can_be_searched(catalog: Catalog, tmp_path: Path) -> None:
    catalog.dump(tmp_path / "dump")
    with Catalog.open(tmp_path / "dump") as dump:
        assert len(dump.find(Search(name="invoice"))) == 3
        dump.record([replace(paper(91, "/inbox/later.txt"), client="zeta")])
        assert len(dump.find(Search(name="later"))) == 1


def test_patterns() -> None:
    assert [like_pattern(name) for name in ("a", "a*", "/a?b", "50%")] == ["%a%", "%/a%", "/a_b", r"%50\%%"]


NEWEST = Newest([f"/inbox/2026/invoice-{number:04}.pdf" for number in range(9000, 9200)])


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("invoice-0815.pdf", ["e-0815."]),  # "5.p" has every tenth of the newest
        ("Letter", ["letter"]),
        ("letter-*-0815", ["/letter-", "-0815"]),
        ("invoice-9003.pdf", ["003."]),
        ("abcd", ["abcd"]),
    ],
)
def test_what_is_looked_up(name: str, pieces: list[str]) -> None:
    assert telling_pieces(pieces_of(name), NEWEST) == pieces


@pytest.mark.parametrize(
    ("name", "has"), [("/inbox/2026/invoice-9*", True), ("box/202", True), ("invoice-90?9.pdf", True), ("invoice-9003.pdf", False)]
)
def test_whether_many_of_the_newest_have_it(name: str, has: bool) -> None:
    assert NEWEST.has_many(pieces_of(name)) is has


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("invoice-0815.pdf", "0815"),  # whether "invoice" and "pdf" begin and end there nobody knows
        ("invoice-*.pdf", None),  # all of the newest have it
        ("letter-*-0815.pdf", "letter"),  # neither is in the newest: the longest
        ("letter-*-9003.pdf", "letter"),
        ("*0815*", None),
        ("0815", None),
        ("/2026/9003.", "9003"),
        ("合同-0815-合同", "0815"),
        ("合同0815.pdf", None),
        ("x-\u212aelvin-y", None),  # the sign of Kelvin: no ASCII
        ("x-\u0130-y", None),
        ("a b_c(1789).pdf", "1789"),
    ],
)
def test_a_word_that_is_whole_and_rare(name: str, word: str | None) -> None:
    assert rarest_word(pieces_of(name), NEWEST) == word


@pytest.mark.parametrize(
    ("pieces", "runs"),
    [
        (["481/433481."], ["481", "433"]),
        (["e-0815."], []),  # a single one
        (["rechnung"], ["ung", "chn"]),
        (["letter", "0815"], ["815", "ter"]),
        (["abcabc"], []),
        (["-./-./"], []),
    ],
)
def test_two_runs_that_are_apart(pieces: list[str], runs: list[str]) -> None:
    assert two_runs(pieces) == runs


def test_where_all_is_common_the_whole_piece_is_looked_up() -> None:
    assert telling_pieces(["abcd"], Newest(["/abc"] * 100 + ["/bcd"] * 100)) == ["abcd"]


def test_the_index_finds_what_a_plain_look_finds(tmp_path: Path) -> None:
    """Thousands of names that are much alike: every kind of piece, by the index and without it."""
    names = [f"/inbox/{number % 7}/Rechnung-{number * 37 % 2000:04}.pdf" for number in range(2000)]
    with Catalog.create(tmp_path / "catalog.sqlite3") as made:
        made.add_client("acme", recipient="age1x")
        made.record([paper(number, name) for number, name in enumerate(names)])
        pieces = ("0815", "rechnung-0815", "nung-08", "6/rechnung-0815.pdf", "3/Rechnung-1", "815.PDF", "5.pdf", "g-19", "nothing")
        for piece in (*pieces, "/inbox/3/", "x/6/rech", "77"):
            wanted = [number for number in reversed(range(2000)) if piece.lower() in names[number].lower()]
            assert [int(one.sha256, 16) for one in made.find(Search(name=piece), limit=3000)] == wanted, piece


@pytest.mark.parametrize(
    "piece",
    [
        "x-\u212aelvin-2026",
        "\u13a0\u13b1-\u1c90",  # capitals that have a small letter since a later Unicode than SQLite's
        "\u0130stanbul-2026",
        "-\u0130-",
        "Stra\u00dfe-17.",
        "CAFE\u0301-2026-",
        "caf\u00e9_2026.",
        "合同-2026-合",
        "a\nb-17.",
        "x'y-17.",
    ],
)
def test_strange_letters_are_found_by_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: str) -> None:
    """Whatever tokenizers and we make of them: the name itself is always found, and others with the same plain words are not."""
    monkeypatch.setattr(search, "MANY", 100)
    monkeypatch.setattr(search, "COMMON", 100)
    with Catalog.create(tmp_path / "catalog.sqlite3") as made:
        made.add_client("acme", recipient="age1x")
        made.record([paper(0, f"/inbox/a{piece}z.pdf"), paper(1, "/inbox/kelvin-2026-17.pdf")])
        assert [int(one.sha256, 16) for one in made.find(Search(name=piece))] == [0]
