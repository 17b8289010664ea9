"""The life of a client by the real command line, in process: edit, suspend, resume, legal holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.cli import run
from config.loading import Installation
from gateway.audit.read import read
from gateway.catalog import Catalog
from nightsafe import cli
from tests.integration.conftest import make_installation
from tests.integration.drill_house import DrillHouse


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> DrillHouse:
    made = DrillHouse(make_installation(tmp_path_factory.mktemp("life")))
    made.add_client("acme")
    made.add_client("zeta")
    return made


@pytest.fixture
def ask(house: DrillHouse, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run a command with --json: (exit code, result or what it complained)."""

    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, [*words, "--data", str(house.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def events(installation: Installation, name: str) -> list[dict[str, Any]]:
    return [line for line in read(installation.folder.audit) if line["event"] == name]


def test_suspend_and_resume(house: DrillHouse, ask: Any) -> None:
    assert ask("client", "suspend", "acme", "--reason", "stolen laptop")[1]["active"] is False
    with Catalog.open(house.folder.catalog) as catalog:
        assert [(one.name, one.active) for one in catalog.clients()] == [("acme", False), ("zeta", True)]
    assert ask("client", "suspend", "acme")[0] == 0, "twice is once"
    assert ask("client", "resume", "acme")[1]["active"] is True
    (first, _) = events(house.installation, "client.suspended")
    assert first["client"] == "acme" and first["reason"] == "stolen laptop" and first["person"].startswith("ops:")
    code, complaint = ask("client", "suspend", "nobody")
    assert code == 2 and "there is no client 'nobody'" in complaint


def test_edit_sets_and_lifts_the_quota(ask: Any) -> None:
    assert ask("client", "edit", "acme", "--quota", "1.5GiB")[1]["quota_bytes"] == 3 * 2**29
    assert ask("client", "edit", "acme", "--quota", "none")[1]["quota_bytes"] is None
    for wrong in ("", "-1", "1e9", "5 XB", "99999999TiB", "ten", "1.GiB"):
        assert ask("client", "edit", "acme", f"--quota={wrong}")[0] == 2, wrong
    assert ask("client", "edit", "acme")[0] == 2


def test_holds(house: DrillHouse, ask: Any) -> None:
    inside = house.add_paper("acme", "/inbox/2026/a.pdf", b"a")
    beside = house.add_paper("acme", "/inbox/2026b/b.pdf", b"b")
    other = house.add_paper("zeta", "/inbox/2026/a.pdf", b"c")
    why = ("--reason", "audit of 2026", "--by", "R. Keller")
    code, by_path = ask("hold", "set", "acme", "--path", "/inbox/2026", *why)
    assert code == 0 and by_path["ordered_by"] == "R. Keller"
    by_paper = ask("hold", "set", "acme", "--paper", beside.id, *why)[1]["hold"]
    with Catalog.open(house.folder.catalog) as catalog:
        covered = {paper.id: [hold.id for hold in catalog.holds_on(paper)] for paper in (inside, beside, other)}
    assert covered == {inside.id: [by_path["hold"]], beside.id: [by_paper], other.id: []}
    everything = ask("hold", "set", "zeta", *why)[1]["hold"]
    with Catalog.open(house.folder.catalog) as catalog:
        assert [hold.id for hold in catalog.holds_on(other)] == [everything]
    assert {one["hold"] for one in ask("hold", "list", "acme")[1]} == {by_path["hold"], by_paper}
    assert ask("hold", "release", str(everything), "--reason", "over", "--by", "court")[1]["released_by"] == "court"
    assert ask("hold", "release", str(everything), "--reason", "over", "--by", "court")[0] == 2
    assert ask("hold", "list", "zeta")[1] == [] and len(ask("hold", "list", "zeta", "--all")[1]) == 1
    assert len(events(house.installation, "hold.set")) == 3 and len(events(house.installation, "hold.released")) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("nobody", "--reason", "x", "--by", "y"),
        ("acme", "--reason", " ", "--by", "y"),
        ("acme", "--reason", "x", "--by", ""),
        ("acme", "--reason", "x"),
        ("acme", "--paper", "0" * 32, "--reason", "x", "--by", "y"),
        ("acme", "--paper", "0" * 32, "--path", "/inbox", "--reason", "x", "--by", "y"),
    ],
    ids=["client", "reason", "by", "no by", "paper", "both"],
)
def test_a_hold_that_says_too_little_is_refused(ask: Any, words: tuple[str, ...]) -> None:
    code, complaint = ask("hold", "set", *words)
    assert code == 2 and "Traceback" not in complaint
