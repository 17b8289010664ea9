"""`kit check`: a kit that is good, and every way in which a typed-in page can be wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.kit.kit import parse_kit
from backup.repositories.access import access
from backup.run import run_backup
from backup.status.overview import overview
from config.cli import run
from config.errors import UsageError
from config.loading import open_installation
from gateway.age import Identity
from gateway.audit.read import read
from gateway.keys.keyring import RESTIC_KIT
from gateway.keys.kit import KitValues, part_a, part_b
from gateway.keys.resealing import add_recovery
from nightsafe import cli
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import DrillHouse

RECOVERY = Identity.generate()
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[DrillHouse]:
    root = tmp_path_factory.mktemp("kit")
    with contextlib.closing(DrillHouse(make_installation(root, s3.settings(root, "kit-check")))) as made:
        add_recovery(made.keyring, RECOVERY.recipient, made.master, None)
        made.add_client("acme")
        made.keyring.add_deposit_client("deposits", None)
        made.catalog.add_client("deposits", custody="deposit-only", recipient=str(made.keyring.client_recipient("deposits").recipient))
        closed, outbox = made.keyring.add_deposit_client("closed", Identity.generate().recipient)
        besides = {outbox.generation: str(outbox.recipient)}
        made.catalog.add_client("closed", custody="deposit-only", recipient=str(closed.recipient), besides=besides)
        (made.folder.dump).mkdir(exist_ok=True)
        run_backup(made.installation)
        yield made


@pytest.fixture(scope="module")
def pages(house: DrillHouse) -> tuple[str, str]:
    bucket = access(house.installation, "reader")
    password = house.keyring.open_secret(RESTIC_KIT, house.master).decode()
    values = KitValues(bucket.url("papers"), bucket.url("keys"), password, bucket.access_key, bucket.secret_key, bucket.region)
    return part_a(RECOVERY, house.keyring), part_b(values, house.keyring)


@pytest.fixture
def ask(house: DrillHouse, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Ask:
    def asked(*texts: str) -> tuple[int, Any]:
        files = []
        for number, text in enumerate(texts):
            files.append(tmp_path / f"{number}.txt")
            files[-1].write_text(text)
        code = run(cli, ["kit", "check", *map(str, files), "--data", str(house.folder.root), "--json"])
        out, err = capfd.readouterr()
        return code, json.loads(out) if out else err

    return asked


def bad(result: Any) -> list[str]:
    return [one["name"] for one in result["checks"] if one["state"] != "good"]


def test_a_good_kit(house: DrillHouse, ask: Ask, pages: tuple[str, str]) -> None:
    before = {path for path in house.folder.root.rglob("*") if "audit" not in path.parts and "run" not in path.parts}
    code, result = ask(*pages)
    assert code == 0 and result["good"] and result["identity"] is True and result["access"] is True, result
    assert [one["name"] for one in result["checks"]] == [
        "identity", "clients' keys", "place", "credential", "repository of papers", "repository of keys",
    ]  # fmt: skip
    assert result["checks"][1]["text"].startswith("4 keys of 3 clients open; 1 client holds theirs alone")
    after = {path for path in house.folder.root.rglob("*") if "audit" not in path.parts and "run" not in path.parts}
    assert not {path for path in after - before if path.is_file() and "cache" not in path.parts and "sqlite3" not in path.name}
    for secret in (RECOVERY.encode(), house.keyring.open_secret(RESTIC_KIT, house.master).decode()):
        assert secret not in json.dumps(result)
        for path in house.folder.root.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), f"{path} holds a secret of the kit"
    assert [line["event"] for line in read(house.folder.audit)][-1] == "kit.checked"


def test_each_part_for_itself(house: DrillHouse, ask: Ask, pages: tuple[str, str]) -> None:
    code, result = ask(pages[0])
    assert code == 0 and (result["identity"], result["access"]) == (True, None) and bad(result) == ["access"]
    code, result = ask(pages[1])
    assert code == 0 and (result["identity"], result["access"]) == (None, True) and bad(result) == ["identity"]


def replaced(page: str, name: str, value: str) -> str:
    return "\n".join(f"export {name}={value}" if line.startswith(f"export {name}=") else line for line in page.splitlines())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RESTIC_PASSWORD", "wrong", ["repository of papers", "repository of keys"]),
        ("AWS_SECRET_ACCESS_KEY", "wrong", ["credential"]),
        ("NIGHTSAFE_KEYS", "s3:http://elsewhere/other/keys", ["place"]),
    ],
)
def test_what_is_mistyped_or_stale_is_named(house: DrillHouse, ask: Ask, pages: tuple[str, str], name: str, value: str, expected: list[str]) -> None:
    code, result = ask(pages[0], replaced(pages[1], name, value))
    assert code == 1 and bad(result) == expected and result["identity"] is True and result["access"] is False
    line = next(line for line in overview(house.installation) if line.name == "recovery kit")
    assert line.colour == "yellow" and "part B did not open" in line.text


def test_a_kit_of_another_installation(house: DrillHouse, ask: Ask, pages: tuple[str, str]) -> None:
    code, result = ask(part_a(Identity.generate(), house.keyring), pages[1])
    assert code == 1 and bad(result) == ["identity"]
    key = house.folder.client_keys("acme") / "1.age"
    whole = key.read_bytes()
    try:
        key.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        code, result = ask(pages[0])
        assert code == 1 and bad(result) == ["clients' keys", "access"] and "acme 1" in result["checks"][1]["text"]
    finally:
        key.write_bytes(whole)


def test_a_client_whose_keys_are_gone(house: DrillHouse, ask: Ask, pages: tuple[str, str]) -> None:
    house.catalog.add_client("lost", recipient=str(Identity.generate().recipient))
    code, result = ask(pages[0])
    assert code == 1 and "lost (its keys are gone)" in result["checks"][1]["text"]
    house.catalog.begin_destruction("lost", ordered_by="x", reason="y", keys=[])  # with a destruction that is how it should be
    assert ask(pages[0])[0] == 0


def test_a_bucket_that_is_away(house: DrillHouse, pages: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "kit.txt"
    page.write_text("\n".join(pages).replace(access(house.installation, "reader").endpoint, "http://127.0.0.1:1"))
    monkeypatch.setenv("NIGHTSAFE_SET_S3__ENDPOINT", "http://127.0.0.1:1")
    assert open_installation(house.folder.root).settings.s3.endpoint == "http://127.0.0.1:1"
    assert run(cli, ["kit", "check", str(page), "--data", str(house.folder.root)]) == 5


def test_the_status_remembers(house: DrillHouse, ask: Ask, pages: tuple[str, str]) -> None:
    ask(*pages)
    line = next(line for line in overview(house.installation) if line.name == "recovery kit")
    assert line.colour == "green" and "part A tried" in line.text and "part B tried" in line.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "AGE-SECRET-KEY-1QQQ",
        f"{Identity.generate().encode()}\n{Identity.generate().encode()}",
        "# values\nexport A=1\n# end of values",
    ],
    ids=["empty", "no kit", "mistyped", "two", "cut short"],
)
def test_what_is_no_kit(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_kit(text)
    assert "QQQ" not in str(caught.value)


def test_a_kit_tells_nothing_of_itself(pages: tuple[str, str]) -> None:
    kit = parse_kit("\n".join(pages))
    assert RECOVERY.encode() not in repr(kit) and "RESTIC" not in repr(kit)
