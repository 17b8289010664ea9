"""Custody by the real command line: with everything on the machine, the master included, no sealed paper of a deposit-only client opens."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from gateway.age import Identity, NoMatchError, open_bytes, parse_identities, unwrap
from gateway.age.errors import AgeError
from gateway.audit.read import read
from gateway.catalog import Paper
from gateway.commands.welcome import Language, welcome_sheet
from gateway.keys.errors import KeyRefused
from gateway.keys.secrets import INGEST_IDENTITIES, ROLES, secrets_for
from gateway.store import Arrival, Spool, new_paper_id
from nightsafe import cli
from tests.integration.conftest import make_installation
from tests.integration.drill_house import DrillHouse

THEIRS = Identity.generate()


class Firm(DrillHouse):
    """A house whose clients were added by the command line."""

    papers: dict[str, Paper]

    def own_everything(self) -> list[Identity]:
        """Every identity that the master opens, anywhere below the data folder, with the master itself: what a thief of the whole machine has."""
        found = [self.master]
        for path in self.folder.root.rglob("*.age"):
            if self.folder.vault in path.parents:
                continue
            try:
                found += parse_identities(open_bytes(path.read_bytes(), [self.master]).decode("ascii", errors="replace"))
            except AgeError:
                continue  # sealed to others, or a secret that is no identity
        for role in ROLES:
            for name, secret in secrets_for(role, self.keyring, self.master).items():
                if name == INGEST_IDENTITIES:
                    found += parse_identities(secret.decode())
        return found


@pytest.fixture(scope="module")
def firm(tmp_path_factory: pytest.TempPathFactory) -> Firm:
    made = Firm(make_installation(tmp_path_factory.mktemp("custody")))
    data = ("--data", str(made.folder.root))
    assert run(cli, ["client", "add", "acme", *data]) == 0
    assert run(cli, ["client", "add", "deposits", "--custody", "deposit-only", *data]) == 0
    assert run(cli, ["client", "add", "closed", "--custody", "deposit-only", "--recipient", str(THEIRS.recipient), *data]) == 0
    made.papers = {name: made.add_paper(name, "/inbox/a.pdf", b"of " + name.encode()) for name in ("acme", "deposits", "closed")}
    made.papers["outbox"] = made.add_paper("closed", "/outbox/b.pdf", b"left by the firm")
    return made


@pytest.fixture
def ask(firm: Firm, capfd: pytest.CaptureFixture[str]) -> Any:
    def asked(*words: str) -> tuple[int, Any]:
        code = run(cli, [*words, "--data", str(firm.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def opens(firm: Firm, paper: Paper, identities: list[Identity]) -> bool:
    try:
        unwrap(firm.vault.header(paper.client, paper.id), identities)
    except NoMatchError:
        return False
    return True


def test_with_everything_on_the_machine_no_deposited_paper_opens(firm: Firm) -> None:
    everything = firm.own_everything()
    assert len(everything) >= 5
    assert {name: opens(firm, paper, everything) for name, paper in firm.papers.items()} == {
        "acme": True,  # the search itself works
        "outbox": True,
        "deposits": False,
        "closed": False,
    }
    assert opens(firm, firm.papers["closed"], [THEIRS])


def test_the_agent_says_no_and_says_why(firm: Firm) -> None:
    with firm.agent() as agent:
        for name in ("deposits", "closed"):
            with pytest.raises(KeyRefused, match="deposited, not read"):
                agent.paper_key(name, firm.papers[name].id, "vault", "ops:me", "look")
        assert agent.paper_key("closed", firm.papers["outbox"].id, "vault", "ops:me", "look")


def test_before_it_is_sealed_the_rule_holds_too(firm: Firm) -> None:
    landed, partial = new_paper_id(), new_paper_id()
    with (
        firm.agent() as agent,
        Spool(firm.folder.spool_partial, firm.folder.spool_landed, firm.keyring.ingest_recipient) as spool,
    ):
        for paper in (landed, partial):
            file = spool.create(paper, "closed")
            file.write(0, b"x" * 70000)
            if paper == landed:
                file.finish(Arrival(paper, "closed", "closed", "/inbox/z", datetime.now(UTC), None, "s", "127.0.0.1", "test"))
            file.close()
        spool.land(landed)
        with pytest.raises(KeyRefused, match="deposited, not read"):
            agent.paper_key("closed", landed, "spool", "ops:me", "look")
        assert agent.paper_key("closed", partial, "spool", "ops:me", "resume"), "a broken upload can go on"


def test_the_age_file_is_handed_out(firm: Firm, ask: Any, tmp_path: Path) -> None:
    out = tmp_path / "a.pdf.age"
    code, result = ask("files", "get", "closed", "/inbox/a.pdf", "--out", str(out))
    assert code == 0 and result["sealed"] is True
    assert [line["path"] for line in read(firm.folder.audit, event="file.fetched")] == ["/inbox/a.pdf"]
    assert open_bytes(out.read_bytes(), [THEIRS]) == b"of closed"
    code, result = ask("files", "get", "closed", "/outbox/b.pdf", "--out", str(tmp_path / "b.pdf"))
    assert code == 0 and result["sealed"] is False and (tmp_path / "b.pdf").read_bytes() == b"left by the firm"
    assert run(cli, ["files", "get", "closed", "/inbox/a.pdf", "--data", str(firm.folder.root)]) == 2, "sealed bytes are not for the terminal"
    file = firm.vault_file(firm.papers["closed"])
    whole = file.read_bytes()
    try:
        file.write_bytes(firm.vault_file(firm.papers["outbox"]).read_bytes())
        code, complaint = ask("files", "get", "closed", "/inbox/a.pdf", "--out", str(tmp_path / "swapped"))
        assert code == 1 and "not the one that was catalogued" in complaint and not (tmp_path / "swapped").exists()
    finally:
        file.write_bytes(whole)


def test_custody_is_shown(firm: Firm, ask: Any) -> None:
    assert {one["name"]: one["custody"] for one in ask("client", "list")[1]} == {
        "acme": "managed",
        "closed": "deposit-only",
        "deposits": "deposit-only",
    }
    keys = {name: [key["kind"] for key in ask("client", "show", name)[1]["keys"]] for name in ("acme", "deposits", "closed")}
    assert keys == {"acme": ["managed"], "deposits": ["recovery", "managed"], "closed": ["external", "managed"]}
    assert ask("client", "show", "closed")[1]["keys"][0]["opened_by"] == "its holder alone"


REFUSED = {"en": "What you put into inbox cannot be read back", "zh": "放进 inbox 的文件不能读回"}
OWN_KEY = {"en": "your own age key alone", "zh": "您自己的 age 密钥"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_welcome_sheet_says_that_nothing_can_be_read_back(firm: Firm, language: Language) -> None:
    people = {client: firm.catalog.add_person(f"{client}-{language}", client=client) for client in ("acme", "deposits", "closed")}
    sheets = {client: "\n".join(welcome_sheet(firm.installation, person, language)) for client, person in people.items()}
    assert {client: (REFUSED[language] in sheet, OWN_KEY[language] in sheet) for client, sheet in sheets.items()} == {
        "acme": (False, False),
        "deposits": (True, False),
        "closed": (True, True),
    }
    for profile, outbox, put in (("drop", False, True), ("read-only", True, False)):
        firm.catalog.edit_client("deposits", profile=profile)
        sheet = "\n".join(welcome_sheet(firm.installation, people["deposits"], language))
        assert ("outbox" in sheet, "put letter.pdf" in sheet) == (outbox, put), profile
    firm.catalog.edit_client("deposits", profile="exchange")
    staff = firm.catalog.add_person(f"sue-{language}", role="staff", clients=["acme", "closed"])
    assert any(line.endswith((": closed", "：closed")) for line in welcome_sheet(firm.installation, staff, language))


@pytest.mark.parametrize(
    "words",
    [
        ("--recipient", str(Identity.generate().recipient)),
        ("--custody", "deposit-only", "--recipient", "age1nonsense"),
        ("--custody", "deposit-only", "--recipient", THEIRS.encode()),
        ("--custody", "escrow"),
    ],
    ids=["recipient without custody", "no recipient", "a secret", "unknown custody"],
)
def test_what_does_not_go_together_is_refused(firm: Firm, ask: Any, words: tuple[str, ...]) -> None:
    code, complaint = ask("client", "add", "other", *words)
    assert code == 2 and THEIRS.encode() not in complaint
    assert not firm.folder.client_keys("other").exists()
    assert ask("client", "show", "other")[0] == 2


def test_a_key_is_rotated_for_new_papers(firm: Firm, ask: Any, tmp_path: Path) -> None:
    assert ask("client", "rotate-key", "acme")[1]["made"] == [2]
    firm.add_paper("acme", "/inbox/new.pdf", b"new")
    for name, content in (("a.pdf", b"of acme"), ("new.pdf", b"new")):
        assert ask("files", "get", "acme", f"/inbox/{name}", "--out", str(tmp_path / name))[0] == 0
        assert (tmp_path / name).read_bytes() == content
    firm.keyring.rotate_client("acme")  # as a run that was killed before it told the catalog
    assert ask("client", "rotate-key", "acme")[1]["made"] == [3], "what it made is taken over"
    assert ask("client", "rotate-key", "acme", "--outbox")[0] == 2
    assert ask("client", "rotate-key", "closed")[0] == 2
    theirs = Identity.generate()
    assert ask("client", "rotate-key", "closed", "--recipient", str(theirs.recipient))[1]["made"] == [3]
    assert ask("client", "rotate-key", "closed", "--outbox")[1]["made"] == [4]
    paper = firm.add_paper("closed", "/inbox/c.pdf", b"c")
    assert paper.generation == 3 and opens(firm, paper, [theirs]) and not opens(firm, paper, firm.own_everything())
    told = [(line["client"], line["generation"], line["kind"]) for line in read(firm.folder.audit) if line["event"] == "key.created"]
    assert [one for one in told if one[0] == "closed"] == [
        ("closed", 1, "external"),
        ("closed", 2, "managed"),
        ("closed", 3, "external"),
        ("closed", 4, "managed"),
    ]
    assert [one[1:] for one in told if one[0] == "acme"] == [(1, "managed"), (2, "managed"), (3, "managed")]
    with firm.catalog as catalog:
        assert [key.generation for key in catalog.client("acme").keys] == [1, 2, 3]  # type: ignore[union-attr]
