"""Every example of `--help` is typed as it stands, in a shell, on one installation that has what they speak of."""

from __future__ import annotations

import io
import re
import secrets
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pyzipper

from gateway.catalog import Catalog
from gateway.catalog.search import Search
from tests.e2e.house import CLIENT, ROOT, House
from tests.unit.test_command_help import ALL, example_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("examples")]

SETTINGS = """
[gateway]
port = 0

[[checks.rules]]
archives = true
forbidden_names = ["*.exe"]

[copies.cellar]
url = "../cellar"

[web]
port = 0
"""


class Desk:
    """A folder with what the examples name, and a shell in it."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.folder = house.home / "desk"
        self.memory = Path(f"/dev/shm/nightsafe-examples-{secrets.token_hex(8)}")
        self.folder.mkdir()
        tools = house.home / "tools"
        tools.mkdir()
        (tools / "nightsafe").write_text(f'#!/bin/sh\nexec {sys.executable} -m nightsafe "$@"\n')
        (tools / "nightsafe").chmod(stat.S_IRWXU)
        house.environment |= {"PATH": f"{tools}:{house.environment['PATH']}", "NIGHTSAFE_DATA": str(house.data), "PYTHONPATH": str(ROOT)}

    def type(self, line: str, *, answers: str = "", stdin: str = "", until: str = "") -> tuple[int, str]:
        """Exit code and output of a line in a shell, or at a terminal on which `answers` are typed. With `until` it is stopped as by Ctrl-C once it
        has said that (then: 0)."""
        shell = ["script", "-qec", line, "/dev/null"] if answers else ["bash", "-c", line]
        told = self.house.home / "told"

        def said() -> bool:
            return until in told.read_text(errors="replace") or (until == "s3" and self.house.pid(until) is not None)  # which says nothing

        with told.open("wb") as out, subprocess.Popen(
            shell, cwd=self.folder, env=self.house.environment | {"SHELL": "/bin/bash"}, stdin=subprocess.PIPE, stdout=out, stderr=out,
            start_new_session=True,
        ) as process:  # fmt: skip
            if until:
                self.house.wait(lambda: said() or process.poll() is not None, 120, f"{line} does not say {until}")
                assert process.poll() is None, f"it ended: {line}\n{told.read_text()}"
                subprocess.run(["kill", "-INT", "--", f"-{process.pid}"], check=True)
                process.communicate(timeout=120)
                return 0, told.read_text()
            process.communicate((answers or stdin).encode(), timeout=240)
        return process.returncode, told.read_text(errors="replace")

    def catalog(self) -> Catalog:
        return Catalog.open(self.house.data / "catalog.sqlite3")

    def upload(self, folder: str, **papers: bytes) -> None:
        """Into a folder of the inbox, until each has its verdict; an underline in a name stands for a dot."""
        source = self.house.home / "source"
        source.mkdir(exist_ok=True)
        names = {name.replace("_", "."): content for name, content in papers.items()}
        for name, content in names.items():
            (source / name).write_bytes(content)
        self.house.sftp(f"-mkdir /inbox/{folder}", *(f'put "{source / name}" /inbox/{folder}/' for name in names))
        wanted = {f"/inbox/{folder}/{name}" for name in names}

        def judged() -> bool:
            with self.catalog() as catalog:
                return wanted <= {paper.path for paper in catalog.papers(CLIENT) if paper.receipted}

        self.house.wait(judged, 240, f"no verdicts on {wanted}")

    def paper(self, state: str) -> str:
        """The id of a paper in this state."""
        with self.catalog() as catalog:
            return catalog.find(Search(state=state))[0].id  # type: ignore[arg-type]


def archive(password: bytes = b"") -> bytes:
    """A zip that is refused for what is in it; with a password, one that is held because nobody can look."""
    made = io.BytesIO()
    if password:
        with pyzipper.AESZipFile(made, "w", encryption=pyzipper.WZ_AES) as locked:
            locked.setpassword(password)
            locked.writestr("letter.txt", b"fine")
    else:
        with zipfile.ZipFile(made, "w") as opened:
            opened.writestr("letter.exe", b"not fine")
    return made.getvalue()


@dataclass(frozen=True)
class Typed:
    """How an example is typed: `before` sees to what it needs, `instead` gives what stands here for its made-up words, `answers` are typed where it
    asks. What does not end by itself is ended `until` it says that. `code`: what it must end with."""

    words: str
    code: int = 0
    before: Callable[[Desk], object] | None = None
    instead: Callable[[Desk], dict[str, str]] = field(default=lambda _: {})
    answers: str = ""
    stdin: str = ""
    until: str = ""
    shows: str = ""


def start(desk: Desk) -> None:
    (desk.house.data / "nightsafe.toml").write_text(SETTINGS)
    desk.house.start()


def papers(desk: Desk) -> None:
    shutil.copy(desk.house.key, desk.folder / "acme")
    desk.upload("2026", invoice_pdf=b"%PDF-1.7 one", second_pdf=b"%PDF-1.7 two")
    (desk.folder / "balance-2026.pdf").write_bytes(b"%PDF-1.7 balance")


def refused(desk: Desk) -> None:
    desk.upload("odd", **{f"bad{time.monotonic_ns()}_zip": archive()})


def held(desk: Desk) -> None:
    desk.upload("odd", **{f"locked{time.monotonic_ns()}_zip": archive(b"agreed")})


def kits(desk: Desk) -> None:
    shutil.copy(desk.house.kit, desk.folder / "part-a.txt")


def stopped(desk: Desk) -> None:
    desk.house.stop()


def lost_catalog(desk: Desk) -> None:
    (desk.house.data / "catalog.sqlite3").rename(desk.folder / "lost.sqlite3")


def lost(desk: Desk) -> None:
    """The bucket."""
    desk.house.stop()
    (desk.house.home / "offsite").rename(desk.house.home / "lost")
    desk.house.start()


def cellar(desk: Desk) -> None:
    (desk.house.home / "cellar").mkdir()


def no_master(desk: Desk) -> None:
    (desk.house.home / "master.key").rename(desk.folder / "lost.key")


def elsewhere(desk: Desk) -> dict[str, str]:
    return {"/srv/nightsafe/data": str(desk.house.home / "elsewhere")}


def here(desk: Desk) -> dict[str, str]:
    return {"/srv/nightsafe/data": str(desk.house.data)}


def number_of(kind: str) -> Callable[[Desk], dict[str, str]]:
    def number(desk: Desk) -> dict[str, str]:
        with desk.catalog() as catalog:
            return {"12": str(catalog.runs(kind, 1)[0].id)}  # type: ignore[arg-type]

    return number


def of_state(state: str) -> Callable[[Desk], dict[str, str]]:
    return lambda desk: {"018f88b0c5e10123456789abcdef0123": desk.paper(state)}


def listed(*words: str, old: str, key: str) -> Callable[[Desk], dict[str, str]]:
    """The first thing that a list has, for the one that the example made up."""
    return lambda desk: {old: str(desk.house.json(*words)[-1][key])}


def receipts(desk: Desk) -> dict[str, str]:
    shutil.copytree(desk.house.data / "jails" / CLIENT / "receipts", desk.folder / "receipts", dirs_exist_ok=True)
    return {"/mnt/auditor/receipts": str(desk.folder / "receipts")}


def new_recipient(desk: Desk) -> dict[str, str]:
    done = subprocess.run(["age-keygen", "-o", desk.folder / "second-kit.txt"], capture_output=True, text=True, check=True)
    return {"age1…": done.stderr.split()[-1]}


PLAN = [
    Typed("init", instead=lambda desk: {**elsewhere(desk), "kit.txt": "other-kit.txt"}),
    Typed("client add", before=start),
    Typed("client list"), Typed("client show"), Typed("client edit"), Typed("client rotate-key"), Typed("client suspend"), Typed("client resume"),
    Typed("person add"), Typed("person edit"), Typed("person list"),
    Typed("person add", instead=lambda _: {"ann --client acme --public-key ann.pub": "zoe --staff acme --public-key ann2.pub"}),
    Typed("person show"), Typed("person suspend"), Typed("person resume"),
    Typed("ca show"), Typed("ca sign"), Typed("ca list"), Typed("ca revoke", instead=listed("ca", "list", old="7", key="serial")),
    Typed("config check", before=lambda desk: (desk.folder / "new.toml").write_text(SETTINGS)),
    Typed("config show"), Typed("config schema", instead=here),
    Typed("host-key"),
    Typed("files list", before=papers), Typed("files find"), Typed("files get"), Typed("files history"), Typed("files versions"),
    Typed("files put"), Typed("files export"),
    Typed("sessions"), Typed("sessions list"), Typed("sessions kill", code=2, shows="nobody is logged in"),
    Typed("defender ban"), Typed("defender list"), Typed("defender unban"),
    Typed("hold set"), Typed("hold list"), Typed("hold release", instead=listed("hold", "list", old="3", key="hold")),
    Typed("quarantine show", before=refused, instead=of_state("refused")), Typed("quarantine list"),
    Typed("quarantine release", instead=of_state("refused")), Typed("quarantine delete", before=refused, instead=of_state("refused"), answers="y\n"),
    Typed("held list", before=held), Typed("held again", instead=of_state("held")), Typed("held release", instead=of_state("held")),
    Typed("held refuse", before=held, instead=of_state("held")),
    Typed("client archive-password", instead=lambda _: {"password acme": "password acme --password-stdin"}, stdin="agreed\n"),
    Typed("incident open"), Typed("incident list"), Typed("incident show", instead=lambda _: {" 3": " 1"}),
    Typed("incident collect", instead=lambda _: {" 3": " 1"}), Typed("incident close", instead=lambda _: {" 3": " 1"}),
    Typed("person sheet"),
    Typed("person off-board"),
    Typed("retention report"), Typed("retention run"), Typed("notify list"), Typed("notify test", code=2, shows="notify"),
    Typed("backup run", instead=here), Typed("backup copy", before=cellar), Typed("backup check"), Typed("backup forget"), Typed("backup repair"),
    Typed("backup snapshots"), Typed("backup status", code=1),
    Typed("kit show"), Typed("kit check", before=kits), Typed("drill run"), Typed("drill list"),
    Typed("drill show", instead=number_of("drill")), Typed("drill proof"),
    Typed("restore"), Typed("access-review"), Typed("access-review done"),
    Typed("audit show", until="paper.", instead=lambda _: {"ann": "acme"}), Typed("audit export"), Typed("audit verify", instead=receipts),
    Typed("keys report"), Typed("keys add-recovery", instead=new_recipient),
    Typed("status", until="disk"), Typed("doctor"),
    Typed("completion", instead=lambda _: {'bash)"': 'bash)"; complete -p nightsafe'}, shows="nightsafe"),
    Typed("web", instead=here, until="ready"), Typed("permissions show"), Typed("permissions check", code=2, shows="user"),
    Typed("permissions apply", code=2, shows="user"),
    Typed("kit restore", instead=lambda desk: {"/srv/nightsafe/data": str(desk.house.home / "third")}),
    Typed("backup begin-anew", before=lost),
    Typed("client destroy", before=lambda desk: desk.house.json("backup", "run"), answers="acme\n"),
    Typed("keys rotate-ingest", before=stopped), Typed("keys rotate-master"), Typed("keys replace-master", before=no_master),
    Typed("keys to-kms", code=2, shows="kms"), Typed("catalog upgrade"),
    Typed("up", instead=lambda desk: {**here(desk), "2022": "0", "/run/nightsafe.json": "ready.json"}, until="gateway.ready"),
    Typed("gateway", instead=here, until="gateway.ready"), Typed("keyd", instead=here, until="ready"), Typed("ingest", instead=here, until="ready"),
    Typed("scheduler", instead=here, until="ready"), Typed("s3", instead=here, until="s3"),
    Typed("credentials", instead=lambda desk: {"/run/nightsafe": str(desk.memory)}),
    # the one client there was has been destroyed above, and says so
    Typed("catalog rebuild", code=3, shows="client acme", before=lost_catalog),
]  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    house = House(tmp_path_factory.mktemp("examples"))
    made = Desk(house)
    house.json("init", "--recovery-kit", str(house.kit))
    for name in ("acme", "ann", "ann2"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made.folder / name], check=True)
    shutil.copy(made.folder / "acme", house.key)
    try:
        yield made
    finally:
        house.stop()
        shutil.rmtree(made.memory, ignore_errors=True)


def test_no_example_is_forgotten() -> None:
    assert {one.words for one in PLAN} == set(ALL)


@pytest.mark.parametrize("typed", PLAN, ids=lambda one: one.words.replace(" ", "-"))
def test_the_example_is_typed(desk: Desk, typed: Typed) -> None:
    if typed.before is not None:
        typed.before(desk)
    line = example_of(typed.words)
    for theirs, ours in typed.instead(desk).items():
        assert theirs in line, f"the example does not say {theirs!r} any more: {line}"
        line = line.replace(theirs, ours)
    code, told = desk.type(line, answers=typed.answers, stdin=typed.stdin, until=typed.until)
    assert code == typed.code, f"{line}: {code}\n{told}\n{desk.house.tail()}"
    assert typed.shows in told, told
    assert "Traceback" not in told and "a defect" not in told, told
    assert re.search(r"\S", told) or typed.words in ("s3", "files get") or ">" in line, f"{line} says nothing"
