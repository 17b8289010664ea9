"""When a lost repository may be let go of, and what of it is kept. (What begins anew then is tested with restic and S3.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backup.repositories import anew
from backup.repositories.locks import at_place
from backup.restic import RepositoryMissing, Unreachable, WrongPassword
from config.errors import Busy, NightsafeError, UsageError
from config.folder import DataFolder
from config.loading import Installation
from config.settings import Settings
from gateway.audit.read import read
from gateway.catalog import Catalog

IDS = {"papers@nas": "a" * 64, "keys@nas": "b" * 64, "papers": "c" * 64}
Found = Callable[[str], str]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """With repositories at two places."""
    folder = DataFolder(tmp_path)
    folder.audit.mkdir()
    with Catalog.create(folder.catalog) as catalog:
        for name, restic_id in IDS.items():
            catalog.add_repository(name, f"sftp:{name}", restic_id)
    yield Installation(folder, Settings())


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> Callable[[Found], None]:
    """What restic finds at the place, by repository."""

    def find(found: Found) -> None:
        writer = SimpleNamespace(place=SimpleNamespace(check=lambda: None), restic=lambda name: SimpleNamespace(config=lambda: found(name)))
        monkeypatch.setattr(anew, "role_secrets", lambda *_: {})
        monkeypatch.setattr(anew.Writer, "create", lambda *_, copy: writer if copy == "nas" else None)

    return find


def known(installation: Installation) -> tuple[set[str], list[str]]:
    """Repositories in use, and the ids of those that were given up."""
    with Catalog.open(installation.folder.catalog) as catalog:
        return {one.name for one in catalog.repositories()}, sorted(one.restic_id for one in catalog.repositories_given_up())


def raising(error: NightsafeError) -> Found:
    def found(_: str) -> str:
        raise error

    return found


@pytest.mark.parametrize(
    "found", [raising(RepositoryMissing("gone")), raising(WrongPassword("another's")), lambda _: "d" * 64], ids=["empty", "a stranger's", "another"]
)
def test_what_is_lost_is_remembered_as_lost_and_on_record(installation: Installation, at_hand: Callable[[Found], None], found: Found) -> None:
    at_hand(found)
    anew.give_up(installation, "nas", "the disk was stolen", "ops:anna")
    assert known(installation) == ({"papers"}, ["a" * 64, "b" * 64])
    told = list(read(installation.folder.audit, event="repository.given_up"))
    assert {(line["repository"], line["restic_id"], line["person"], line["reason"]) for line in told} == {
        (name, IDS[name], "ops:anna", "the disk was stolen") for name in ("papers@nas", "keys@nas")
    }


@pytest.mark.parametrize("there", ["papers", "keys"])
def test_nothing_is_given_up_when_one_of_them_is_there(installation: Installation, at_hand: Callable[[Found], None], there: str) -> None:
    at_hand(lambda name: IDS[f"{name}@nas"] if name == there else "d" * 64)
    with pytest.raises(UsageError, match=f"the repository of the {there} is there"):
        anew.give_up(installation, "nas", "by mistake", "ops:anna")
    assert known(installation) == (set(IDS), [])
    assert not list(read(installation.folder.audit, event="repository.given_up"))


def test_nor_when_the_place_does_not_answer_or_somebody_works_there(installation: Installation, at_hand: Callable[[Found], None]) -> None:
    at_hand(raising(Unreachable("no answer")))
    with pytest.raises(Unreachable):
        anew.give_up(installation, "nas", "by mistake", "ops:anna")
    at_hand(lambda _: "d" * 64)
    with at_place(installation.folder, "backup", "nas", "it runs", ""), pytest.raises(Busy):
        anew.give_up(installation, "nas", "by mistake", "ops:anna")
    assert known(installation) == (set(IDS), [])
