"""The how-tos of ingestion, followed: the very commands and settings of each page, where all roles run, with clamd, sftp, ssh-keygen and 7z."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import pyzipper

from gateway.catalog import Catalog, Paper
from gateway.ingest.checks.scanner import PROBE
from gateway.ingest.receipts import receipt_path
from tests.e2e.house import CLIENT, ROOT, House
from tests.integration.scanner_parts import clamd

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("howtos")]
PAGES = ROOT / "docs" / "how-to"
SOME_ID = "018f88b0c5e10123456789abcdef0123"  # as the pages write a paper's id
SECRET = b"agreed-secret"


def blocks(page: str, language: str = "sh") -> list[str]:
    """The blocks of a page in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", (PAGES / f"{page}.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


class Hook:
    """A webhook that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))) | {"path": self.path})
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Firm:
    """A house with the settings of all the pages, and a shell in which their commands are given."""

    def __init__(self, house: House, hook: Hook) -> None:
        self.house = house
        self.hook = hook
        self.desk = house.home / "desk"
        self.desk.mkdir()
        tools = house.home / "tools"
        tools.mkdir()
        scripts = {
            "nightsafe": f'exec {sys.executable} -m nightsafe "$@"',
            "sftp": f'exec /usr/bin/sftp {" ".join(house.ssh_options())} "$@"',  # the key and the host key, which a client has in its settings
        }
        for name, script in scripts.items():
            (tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (tools / name).chmod(stat.S_IRWXU)
        self.environment = house.environment | {
            "PATH": f"{tools}:{os.environ['PATH']}", "NIGHTSAFE_DATA": str(house.data), "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def follow(self, script: str, *, instead: dict[str, str] | None = None, at: Path | None = None, stdin: bytes = b"", code: int = 0) -> str:
        """What a shell prints that is given `script`, with `instead` of the names that the page made up; it must end with `code`."""
        for theirs, ours in (instead or {}).items():
            assert theirs in script, f"the page does not say {theirs!r} any more: {script}"
            script = script.replace(theirs, ours)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=at or self.desk, env=self.environment, input=stdin, capture_output=True)
        assert done.returncode == code, f"{script}\n{done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}\n{self.house.tail()}"
        return done.stdout.decode()

    def send(self, **papers: bytes) -> dict[str, str]:
        """Upload papers by sftp, their ids by name once they have verdicts; an underline in a name stands for a dot."""
        names = {name.replace("_", "."): content for name, content in papers.items()}
        for name, content in names.items():
            (self.desk / name).write_bytes(content)
        before = {paper.id for paper in self.papers().values()}
        self.house.sftp(*(f'put "{self.desk / name}" inbox/' for name in names))
        self.house.wait(
            lambda: set(names) <= {path.removeprefix("/inbox/") for path, paper in self.papers().items() if paper.id not in before},
            240,
            "no verdicts",
        )
        return {name: self.papers()[f"/inbox/{name}"].id for name in names}

    def papers(self) -> dict[str, Paper]:
        """The newest of each name that has its receipt."""
        with Catalog.open(self.house.data / "catalog.sqlite3") as catalog:
            return {paper.path: paper for paper in catalog.papers(CLIENT) if paper.receipted}

    def state(self, name: str) -> str:
        found = self.papers().get(f"/inbox/{name}")
        return found.state if found else ""


@pytest.fixture(scope="module")
def firm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firm]:
    house, hook = House(tmp_path_factory.mktemp("firm")), Hook()
    (conf,) = (block for block in blocks("scan-for-viruses", "") if "LocalSocket" in block)
    lines = [line for line in conf.splitlines() if not line.startswith(("LocalSocket", "TemporaryDirectory"))]
    with clamd("\n".join(lines) + "\n") as scanner:
        house.init()
        (scan, _), (archives,), (retention,) = (blocks(page, "toml") for page in ("scan-for-viruses", "look-into-archives", "keep-and-expire-papers"))
        notify, receivers = blocks("be-told", "toml")
        scan = scan.replace("/run/clamav/clamd.ctl", str(scanner.socket)).replace("/etc/clamav/clamd.conf", str(scanner.config))
        scan += "signatures_hours = 0\n"  # the one signature here has no date
        (house.data / "nightsafe.toml").write_text("\n".join([scan, archives, retention, notify]))
        (house.home / "notify.toml").write_text(re.sub(r"(?:mailtos|jsons)://[^\"]*", f"json://{hook.place}/told", receivers))
        house.start()
        try:
            yield Firm(house, hook)
        finally:
            house.stop()
            hook.server.shutdown()
            hook.server.server_close()


def locked(password: bytes) -> bytes:
    held = io.BytesIO()
    with pyzipper.AESZipFile(held, "w", encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(password)
        archive.writestr("letter.txt", b"fine")
    return held.getvalue()


def test_be_told(firm: Firm) -> None:
    prepare, listing = blocks("be-told")
    firm.follow(prepare, at=firm.house.home)
    assert len(firm.hook.told) == 2
    assert "ops" in firm.follow(listing)


def test_scan_and_decide_about_refused_papers(firm: Firm) -> None:
    papers = firm.send(one_com=PROBE, two_com=PROBE, letter_pdf=b"%PDF-1.7 a letter")
    assert firm.state("letter.pdf") == "accepted"
    status, _ = blocks("scan-for-viruses")
    assert re.search(r"virus scan\W+.*(clamd|ready|ClamAV)", firm.follow(f"{status.strip()} || true"))
    look, release, delete = blocks("decide-about-refused-papers")
    told = firm.follow(look, instead={SOME_ID: papers["one.com"]})
    assert papers["two.com"] in told and "Eicar" in told
    firm.follow(release, instead={SOME_ID: papers["one.com"]})
    firm.follow(delete, instead={SOME_ID: papers["two.com"]}, stdin=b"y\n")
    firm.house.wait(lambda: [firm.state(name) for name in ("one.com", "two.com")] == ["accepted", "refused"], 240, "nothing was decided")
    firm.house.wait(lambda: any("paper.refused" in told["message"] for told in firm.hook.told), 240, "nobody was told")


def test_archives_and_held_papers(firm: Firm) -> None:
    papers = firm.send(a_zip=locked(SECRET), b_zip=locked(b"another"), c_zip=locked(b"another"))
    assert {firm.state(name) for name in papers} == {"held"}
    (password,) = (block for block in blocks("look-into-archives") if "archive-password" in block)
    firm.follow(password.strip() + " --password-stdin", stdin=SECRET + b"\n")
    firm.house.wait(lambda: firm.state("a.zip") == "accepted", 240, "the password was not used")
    (decide,) = (block for block in blocks("scan-for-viruses") if "held release" in block)
    listing, release, refuse, again = decide.splitlines()
    assert papers["b.zip"] in firm.follow(listing)
    firm.follow(again, instead={"PAPER": papers["b.zip"]})
    firm.follow(release, instead={"PAPER": papers["b.zip"]})
    firm.follow(refuse, instead={"PAPER": papers["c.zip"]})
    firm.house.wait(lambda: [firm.state(name) for name in ("b.zip", "c.zip")] == ["accepted", "refused"], 240, "nothing was decided")


def test_a_manifest_and_receipts(firm: Firm) -> None:
    """The client's side: with what a client has, in a folder of its own."""
    place = firm.desk / "client"
    place.mkdir()
    signers = (firm.house.data / "keys" / "allowed_signers").read_text().splitlines()
    (place / "allowed_signers").write_text(next(line for line in signers if line.startswith("receipts ")) + "\n")
    for name in ("invoice.pdf", "second.pdf"):
        (place / name).write_bytes(b"%PDF-" + name.encode())
    (manifest,) = blocks("send-a-manifest")
    firm.follow(manifest, at=place)
    firm.house.sftp(*(f'put "{place / name}" inbox/' for name in ("SHA256SUMS", "invoice.pdf", "second.pdf")))
    firm.house.wait(lambda: firm.state("second.pdf") == firm.state("invoice.pdf") == "accepted", 240, "not sealed")
    day = receipt_path(firm.papers()["/inbox/invoice.pdf"]).split("/")[2]
    fetch, verify, compare, summary, everything, refused = blocks("check-a-receipt")
    fetched = place / "receipts" / day

    def all_told() -> bool:
        subprocess.run(["rm", "-rf", str(place / "receipts")], check=True)
        firm.follow(fetch, instead={"2024-05-17": day, "-P 2022 acme@files.example.com": f"-P {firm.house.sftp_port} acme@127.0.0.1"}, at=place)
        (told,) = (json.loads(path.read_text()) for path in fetched.glob("SHA256SUMS.*.json"))
        return bool(told["manifest"]["matches"] == 2)

    firm.house.wait(all_told, 240, "the manifest was not compared")
    (receipt,) = (path.name for path in fetched.glob("invoice.pdf.*.json"))
    ours = {"receipts/2024-05-17": f"receipts/{day}", "invoice.pdf.89abcdef0123.json": receipt}
    assert firm.follow(verify, instead=ours, at=place).startswith('Good "receipt@nightsafe" signature')
    told = json.loads((fetched / receipt).read_text())
    assert firm.follow(compare, at=place).split()[0] == told["sha256"]
    assert firm.follow(everything, at=fetched) == ""
    assert len(firm.follow(refused, at=fetched).split()) >= 1, "some were refused on this day"
    assert re.findall(r"-I receipts -n receipt@nightsafe", summary), "the summary of a day is there when the day is over"


def test_coming_from_openssh(firm: Firm) -> None:
    """The host key, the logins and the papers of an older server."""
    old = firm.desk / "old"
    (old / "globex/.ssh").mkdir(parents=True)
    (old / "globex/inbox/2025").mkdir(parents=True)
    papers = {f"2025/{number}.txt": os.urandom(1000 + number) for number in range(5)}
    for name, content in papers.items():
        (old / "globex/inbox" / name).write_bytes(content)
    for name in ("ssh_host_ed25519_key", "first", "second"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(firm.desk / name)], check=True)
    first, second = ((firm.desk / f"{name}.pub").read_text() for name in ("first", "second"))
    (old / "globex/.ssh/authorized_keys").write_text(f'# from the office\n{first}\ncommand="internal-sftp",restrict {second}')
    host_key, logins, _, move, look = blocks("come-from-another-server")
    assert "ssh-ed25519" in firm.follow(host_key, instead={"/etc/ssh/ssh_host_ed25519_key": "ssh_host_ed25519_key"})
    ours = (firm.house.data / "keys/host/ssh_host_ed25519_key.pub").read_text().split()[1]
    assert ours == (firm.desk / "ssh_host_ed25519_key.pub").read_text().split()[1]
    firm.follow(logins, instead={"/srv/sftp": str(old)})
    assert "Your login to our file exchange" in (firm.desk / "welcome-globex.txt").read_text()
    assert len(firm.house.json("person", "show", "globex")["keys"]) == 2
    firm.follow(move, instead={"/srv/sftp/acme": f"{old}/globex", "acme": "globex", "port=2022": f"port={firm.house.sftp_port}"})
    assert "state     off-boarded" in (firm.desk / "moved-globex.txt").read_text()

    def sealed() -> dict[str, str]:
        with Catalog.open(firm.house.data / "catalog.sqlite3") as catalog:
            return {paper.path.removeprefix("/inbox/"): paper.sha256 for paper in catalog.papers("globex") if paper.receipted}

    firm.house.wait(lambda: len(sealed()) == len(papers), 240, "not all of them are sealed")
    assert sealed() == {name: hashlib.sha256(content).hexdigest() for name, content in papers.items()}
    assert "2025/3.txt" in firm.follow(look.splitlines()[1], instead={"acme": "globex"})


def test_holds_and_suspension(firm: Firm) -> None:
    set_, listing_and_release, suspend = blocks("hold-and-suspend")
    firm.follow(set_)
    listing, release = listing_and_release.splitlines()
    assert "tax audit" in firm.follow(listing)
    (hold,) = firm.house.json("hold", "list")
    firm.follow(release, instead={"release 3": f"release {hold['hold']}"})
    stop, resume = suspend.splitlines()
    firm.follow(stop)
    assert firm.house.sftp("ls", check=False).returncode != 0
    firm.follow(resume)
    assert firm.house.sftp("ls").returncode == 0


def test_retention(firm: Firm) -> None:
    assert blocks("keep-and-expire-papers")
    for block in blocks("keep-and-expire-papers"):
        firm.follow(block)
    firm.send(letter_pdf=b"%PDF-1.7 a newer letter")
    later = firm.follow("nightsafe retention report acme --at 2099-01-01")
    assert "expires" in later and "stays" in later
    firm.follow("nightsafe retention run")


def test_papers_are_handed_over(firm: Firm) -> None:
    export, put = blocks("hand-papers-over")
    firm.send(contract_pdf=b"%PDF-1.7 the contract")
    for name in ("balance-2026.pdf", "notes.pdf"):
        (firm.desk / name).write_bytes(b"%PDF-1.7 of the firm")
    firm.follow(put)
    told = firm.follow(export)
    (passphrase,) = re.findall(r"^passphrase\s+(\S+)", told, re.MULTILINE)
    listed = subprocess.run(["7z", "t", f"-p{passphrase}", str(firm.desk / "acme-2026.zip")], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Files: 3", listed)
    away = firm.desk / "away"
    away.mkdir()
    for inline in re.findall(r"`(nightsafe files [^`]*contract\.pdf[^`]*)`", (PAGES / "hand-papers-over.md").read_text()):
        firm.follow(inline, at=away)


def test_a_lost_catalog_is_rebuilt(firm: Firm) -> None:
    before = {(row["path"], row["paper"], row["state"], row["sha256"]) for row in firm.house.json("files", "list", CLIENT)}
    firm.house.stop()
    for path in firm.house.data.glob("catalog.sqlite3*"):
        path.unlink()
    (rebuild,) = blocks("rebuild-the-catalog")
    assert CLIENT in firm.follow(rebuild)
    firm.house.start()
    assert {(row["path"], row["paper"], row["state"], row["sha256"]) for row in firm.house.json("files", "list", CLIENT)} == before
    for inline in re.findall(r"`(nightsafe (?:backup|drill) run[^`]*)`", (PAGES / "rebuild-the-catalog.md").read_text()):
        firm.follow(inline)
