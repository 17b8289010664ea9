"""Each finding of the doctor and each line of the status: it is brought about, the advice is followed as it was printed, and it goes.

What needs the roles, a bucket or restic is in `tests/e2e/test_advice_followed.py`. Nothing is forgotten: the code is read for what it can say.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.doctor import Finding, door, duties, people, places, possessions
from backup.doctor.examination import _guarded
from backup.status import premises
from backup.status.line import Line
from config.cli import run
from config.errors import OutOfReach
from config.loading import Installation, open_installation
from gateway.audit.signatures import SigningKey
from gateway.catalog import Catalog
from gateway.review.kept import keep_review
from gateway.store.ids import new_paper_id
from gateway.store.vault import SealedPaper
from nightsafe import cli
from tests.e2e.test_advice_followed import CASES as IN_EARNEST
from tests.integration.advice_parts import ROOT, change_settings, check_pages, follow
from tests.integration.catalog_rows import accepted_row

NOW = datetime.now(UTC)
LATER, LONG_AGO = NOW + timedelta(days=400), NOW - timedelta(days=400)
OLD = (NOW - timedelta(days=731)).timestamp()
SAID = {"HOST": "sftp.example.com", "YOUR NAME": "ann", "FILE": "FILE.pub"}

# What only the machine itself can be, and what a person does about it.
BY_HAND = {
    "machine.check_swap": "swap is the machine's; the checks are in tests/unit/test_doctor.py",
    "machine.check_core_dumps": "each role forbids itself core dumps, and nobody can allow them again; the check is in tests/unit/test_doctor.py",
    "machine.check_clock": "as swap",
    "machine.check_restic": "a restic that is newer than all that were tried",
    "door.check_algorithms": "an algorithm that ssh-audit fails would be a defect; its other two are followed in earnest",
    "premises.disk": "a file system without inodes",
}


class Place:
    """A data folder in which something is wrong, and what is beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.data = home, home / "data"

    @property
    def installation(self) -> Installation:
        return open_installation(self.data)

    def catalog(self) -> Catalog:
        return Catalog.open(self.installation.folder.catalog)

    def set(self, section: str, key: str, value: str) -> None:
        change_settings(self.data, section, key, value)

    def credentials(self, path: Path, mode: int = 0o600, *, same: bool = False, endpoint: str = "http://127.0.0.1:9") -> None:
        roles = ("writer", "reader", "pruner")
        path.write_text("".join(f'[{role}]\naccess_key = "{"x" if same else role}"\nsecret_key = "b"\n' for role in roles))
        path.chmod(mode)
        self.set("s3", "endpoint", json.dumps(endpoint))
        self.set("s3", "credentials_file", json.dumps(str(path)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSAFE_SET_KEYS__MASTER_FILE", str(home / "master.key"))
        assert run(cli, ["init", "--data", str(home / "data"), "--recovery-kit", str(home / "kit")]) == 0
        for words in (["client", "add", "acme"], ["client", "add", "sealed", "--custody", "deposit-only"]):
            assert run(cli, [*words, "--data", str(home / "data")]) == 0
    (home / "data" / "nightsafe.toml").write_text("")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "FILE")], check=True)
    return home


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    shutil.copytree(made, tmp_path / "home")
    monkeypatch.setenv("NIGHTSAFE_SET_KEYS__MASTER_FILE", str(tmp_path / "home" / "master.key"))
    monkeypatch.setenv("NIGHTSAFE_DATA", str(tmp_path / "home" / "data"))
    monkeypatch.chdir(tmp_path / "home")
    return Place(tmp_path / "home")


Seen = Iterable[Finding | Line]
Look = Callable[[Installation], Seen]
Plant = Callable[[Place], object]


@dataclass(frozen=True)
class Case:
    """`site`: the function that says it. `plant` brings it about, `look` gives what there is. What is not good then, and named `subject`, goes when
    its advice is followed; `stays` when that only tells more, and the page that it names says the rest."""

    site: str
    subject: str
    plant: Plant
    look: Look
    stays: bool = False


def of(name: str, *arguments: object) -> Look:
    """What a function of `premises` says; "i" and "c" stand for the installation and its catalog."""

    def look(installation: Installation) -> Seen:
        with Catalog.open(installation.folder.catalog) as catalog:
            given = [{"i": installation, "c": catalog}.get(one, one) if isinstance(one, str) else one for one in arguments]
            found = getattr(premises, name)(*given)
            return [found] if isinstance(found, Line) else list(found)

    return look


def person(*words: str) -> Plant:
    return lambda _: run(cli, ["person", "add", "zoe", *words])


def old(pattern: str) -> Plant:
    def plant(place: Place) -> None:
        for path in place.data.glob(pattern):
            os.utime(path, (OLD, OLD))

    return plant


def setting(section: str, key: str, value: str) -> Plant:
    return lambda place: place.set(section, key, value)


def reviewed(place: Place) -> None:
    person(*KEY, *YEARS)(place)
    keep_review(place.installation.folder, {"reviewed_at": LONG_AGO.isoformat(), "entries": []}, "", SigningKey.generate("audit"))


def with_master(mode: int) -> Plant:
    return lambda place: (place.home / "master.key").chmod(mode)


def linked(place: Place) -> None:
    (place.data / "keys" / "a b").symlink_to("/etc/passwd")


def opened(count: int) -> Plant:
    def plant(place: Place) -> None:
        for number in range(count):
            path = place.data / "evidence" / f"it's {number}"
            path.write_text("")
            path.chmod(0o644)

    return plant


def strange(place: Place) -> None:
    os.chown(place.data / "VERSION", 4711, 4711)


def landed(place: Place) -> None:
    path = place.installation.folder.spool_landed / new_paper_id()
    path.write_text("")
    os.utime(path, (OLD, OLD))


def paper(state: str, code: str) -> Plant:
    def plant(place: Place) -> None:
        row = accepted_row(new_paper_id(), SealedPaper(3, 3, "0" * 64, "0" * 64), client="acme", path="/inbox/a")
        with place.catalog() as catalog:
            catalog.record([replace(row, state=state, code=code, reason="It was so.")])

    return plant


def scanner(state: dict[str, object]) -> Plant:
    def plant(place: Place) -> None:
        place.set("scan", "scanner", '"clamd"')
        if state:
            (place.data / "run").mkdir(exist_ok=True)
            (place.data / "run" / premises.SCAN_STATE).write_text(json.dumps({"ready": True, "fault": "", "notes": [], "engine": "x"} | state))

    return plant


def without_bans(place: Place) -> None:
    place.installation.folder.defender.write_bytes(b"not a database" * 100)


def failing(error: Exception) -> Look:
    def check(_: Installation) -> Iterable[Finding]:
        raise error

    return lambda installation: _guarded("it", check, installation)


def nothing(_: Place) -> None:
    """It is so from the beginning."""


def credentials(name: str, mode: int = 0o600, **how: Any) -> Plant:
    return lambda place: place.credentials(place.home / name, mode, **how)


def undrilled(place: Place) -> None:
    place.set("copies.cellar", "url", '"../cellar"')
    place.set("copies.cellar", "drill_schedule", '""')


def today(installation: Installation) -> Seen:
    return people.check_people(installation, NOW)


def later(installation: Installation) -> Seen:
    return people.check_people(installation, LATER)


def unencrypted(installation: Installation) -> Seen:
    """The finding alone: nothing that does not exist is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "_answers", lambda *_: [])
        return list(places.check_bucket(installation))


def reviews(installation: Installation) -> Seen:
    return duties.check_review(installation, LATER - timedelta(days=30))


KEY = ("--staff", "acme", "--public-key", "FILE.pub")
YEARS = ("--expires", "2099-01-01")
DENIED = PermissionError(13, "denied", "/some/file")
KEYS = of("keys", "i", "c", NOW)
FILES = possessions.check_private_files

CASES = [
    Case("door.check_settings", "trusted networks", setting("gateway", "trusted_networks", '["10.1.0.0/16", "0.0.0.0/0"]'), door.check_settings),
    Case("door.check_settings", "public host", nothing, door.check_settings),
    Case("duties.check_review", "access review", person(*KEY, *YEARS), reviews),
    Case("duties.check_review", "access review", reviewed, lambda installation: duties.check_review(installation, NOW)),
    Case("duties.check_contacts", "incidents", nothing, duties.check_contacts),
    Case("examination._guarded", "it", nothing, failing(OutOfReach("no answer", "nightsafe config check")), stays=True),
    Case("examination._guarded", "it", nothing, failing(DENIED), stays=True),
    Case("people._endless", "expiry", person(*KEY), today),
    Case("people._single_factor", "second factor", person(*KEY, *YEARS), today),
    Case("people._unused", "unused logins", person(*KEY, *YEARS), later),
    Case("people.check_people", "logins", person("--staff", "acme", *YEARS), today),
    Case("places.check_bucket", "offsite", nothing, places.check_bucket, stays=True),
    Case("places.check_bucket", "offsite", credentials("s3.toml"), places.check_bucket, stays=True),
    Case("places.check_bucket", "bucket", credentials("s3.toml", endpoint="http://s3.example.invalid"), unencrypted),
    Case("places.check_bucket", "credentials", credentials("s3.toml", same=True), places.check_bucket, stays=True),
    Case("places.check_bucket", "region", credentials("s3.toml"), places.check_bucket),
    Case("places.check_copies", "copies", undrilled, places.check_copies),
    Case("places.check_copies", "copies", nothing, places.check_copies, stays=True),
    Case("places.check_notices", "notices", nothing, places.check_notices, stays=True),
    Case("possessions.check_folder", "modes", opened(2), possessions.check_folder),
    Case("possessions.check_folder", "modes", opened(30), possessions.check_folder),
    Case("possessions.check_folder", "owners", strange, possessions.check_folder),
    Case("possessions.check_folder", "links", linked, possessions.check_folder),
    Case("possessions.check_master", "master", with_master(0o644), possessions.check_master),
    Case("possessions.check_master", "master", nothing, possessions.check_master, stays=True),
    Case("possessions.check_private_files", "credentials", credentials("it's.toml", 0o644), FILES),
    Case("possessions.check_private_files", "credentials", credentials("data/s3.toml"), FILES),
    Case("premises.papers", "refused", paper("refused", "virus"), of("papers", "c", NOW), stays=True),
    Case("premises.held", "held", paper("held", "virus"), of("held", "c"), stays=True),
    Case("premises.scan", "virus scan", nothing, of("scan", "i"), stays=True),
    Case("premises.scan", "virus scan", scanner({"ready": False, "fault": "clamd is away"}), of("scan", "i"), stays=True),
    Case("premises.scan", "virus scan", scanner({"notes": ["old signatures"]}), of("scan", "i"), stays=True),
    Case("premises.bans", "bans", without_bans, of("bans", "i", NOW), stays=True),
    Case("premises.keys", "keys", old("keys/clients/acme/*"), KEYS),
    Case("premises.keys", "keys", old("keys/clients/sealed/1.*"), KEYS),
    Case("premises.keys", "keys", old("keys/clients/sealed/2.*"), KEYS),
    Case("premises.keys", "keys", old("keys/master.recipient"), KEYS),
    Case("premises.keys", "keys", old("ingest-keys/*"), KEYS),
    Case("premises.disk", "disk", setting("gateway", "reserve_bytes", str(2**60)), of("disk", "i"), stays=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.site} {case.subject}")
def test_advice_that_is_followed_mends(case: Case, place: Place) -> None:
    case.plant(place)
    found = wrong(case, place.installation)
    assert found, "it was not found"
    mend = advice(found[0])
    assert mend, f"no advice: {found[0]}"
    codes = follow(mend, place.data, SAID, only=1 if " or " in mend else None)
    assert set(codes) <= {0, 1}, codes
    if case.stays:
        return
    assert found[0] not in wrong(case, place.installation), f"it is still there after: {mend}"


def wrong(case: Case, installation: Installation) -> list[Finding | Line]:
    """What is said of the subject, and not good."""
    return [one for one in case.look(installation) if subject(one) == case.subject and not is_good(one)]


def subject(one: Finding | Line) -> str:
    return one.subject if isinstance(one, Finding) else one.name


def is_good(one: Finding | Line) -> bool:
    return one.severity == "good" if isinstance(one, Finding) else one.colour == "green"


def advice(one: Finding | Line) -> str:
    return one.mend if isinstance(one, Finding) else one.todo


def test_nothing_is_forgotten() -> None:
    """Each place in the code that finds something amiss is in a table, as often as it can say so."""
    followed = Counter([*(case.site for case in CASES), *(site for site, *_ in IN_EARNEST)])
    said = Counter(said_by_the_code())
    assert len(said) > 20
    missing = {site: count for site, count in said.items() if followed[site] < count and site not in BY_HAND}
    assert not missing, "bring it about in a table, and follow its advice"


def said_by_the_code() -> Iterable[str]:
    """`module.function`, once for each finding or line that is not good for certain. Those that pass lines on are left out."""
    for path in [*(ROOT / "backup" / "doctor").glob("*.py"), *(ROOT / "backup" / "status" / name for name in ("overview.py", "premises.py"))]:
        for function in [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]:
            for call in [node for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]:
                place = {"Finding": 0, "Line": 1}.get(call.func.id)  # type: ignore[attr-defined]
                if place is None or function.name == "_from_status":
                    continue
                how = call.args[place]
                if not (isinstance(how, ast.Constant) and how.value in ("good", "green")):
                    yield f"{path.stem}.{function.name}"


def test_every_page_that_advice_names_is_there() -> None:
    named = sum(check_pages(path.read_text()) for path in (ROOT / "backup").rglob("*.py"))
    assert named > 10
