"""Names and versions come back into the jail, never over something newer without being asked. Real restic, S3, vault, jail and catalog."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from backup.restore.errand import RestoreReport
from backup.restore.inplace import restore_in_place
from config.errors import Busy, Exit, UsageError
from config.roles import exclusive
from gateway.catalog import Paper
from gateway.jail.paths import path_of
from gateway.jail.refused import Refused
from gateway.jail.tree import Tree
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import DrillHouse

pytestmark = pytest.mark.xdist_group("in-place")


@pytest.fixture(scope="module")
def house(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillHouse]:
    """Two clients; `/inbox/book` of acme has two versions in the one snapshot that all tests share."""
    root = tmp_path_factory.mktemp("in-place")
    made = DrillHouse(make_installation(root, s3.settings(root, f"t-{secrets.token_hex(6)}")))
    made.fill(9)
    made.add_paper("acme", "/inbox/book", b"first")
    made.add_paper("acme", "/inbox/book", b"second", age=timedelta(days=1))
    made.save()
    yield made
    made.close()


def restore(house: DrillHouse, *paths: str, overwrite: bool = False) -> RestoreReport:
    return restore_in_place(house.installation, "acme", paths, None, lambda _: overwrite)


def named(house: DrillHouse, path: str) -> str | None:
    """The paper that a name stands for."""
    with Tree(house.folder.jail("acme")) as tree:
        try:
            pointer = tree.stat(path_of(path)).pointer
        except Refused:
            return None
        return pointer and pointer.paper


def remove(house: DrillHouse, *paths: str) -> None:
    with Tree(house.folder.jail("acme")) as tree:
        for path in paths:
            tree.remove(path_of(path))


def versions(house: DrillHouse, path: str = "/inbox/book") -> list[Paper]:
    return house.catalog.versions("acme", path)


def test_lost_names_folders_files_and_rows_come_back(house: DrillHouse) -> None:
    first, second = versions(house)
    odd = "/inbox/a b/it's [1]*?.txt"
    odd_paper = named(house, odd)
    kept = {paper.id: house.vault_file(paper).read_bytes() for paper in (first, second)}
    receipts = sorted((house.folder.jail("acme") / "receipts").rglob("*.json*"))
    remove(house, "/inbox/book", odd)
    with Tree(house.folder.jail("acme")) as tree:
        tree.remove_folder(path_of("/inbox/a b"))
    house.vault_file(first).unlink()
    house.vault_file(second).write_bytes(kept[first.id])  # swapped
    for receipt in receipts:
        receipt.unlink()
    house.forget(second.id)
    report = restore(house)
    assert report.exit_code == Exit.DONE, report.problems
    assert named(house, "/inbox/book") == second.id
    assert named(house, odd) == odd_paper
    assert {paper.id: house.vault_file(paper).read_bytes() for paper in (first, second)} == kept
    assert [(paper.id, paper.version) for paper in versions(house)] == [(first.id, 1), (second.id, 2)]
    assert sorted((house.folder.jail("acme") / "receipts").rglob("*.json*")) == receipts
    assert house.catalog.runs("restore")[0].detail["in_place"] is True
    assert restore(house).restored == report.restored, "again, with nothing to do"


def test_something_newer_is_left_and_stays_a_version_when_replaced(house: DrillHouse) -> None:
    second = versions(house)[-1]
    newer = house.add_paper("acme", "/inbox/book", b"encrypted by somebody's malware", age=timedelta())
    report = restore(house, "/inbox/book")
    assert (report.exit_code, report.not_restored) == (Exit.PARTLY, 1)
    assert "something newer" in report.problems[0]
    assert named(house, "/inbox/book") == newer.id
    assert restore(house, "/inbox/book", overwrite=True).exit_code == Exit.DONE
    assert named(house, "/inbox/book") == second.id
    assert versions(house)[-1].id == newer.id
    assert house.vault_file(newer).exists()


def test_an_older_paper_under_the_name_gives_way(house: DrillHouse) -> None:
    first, second = versions(house)[:2]
    with Tree(house.folder.jail("acme")) as tree:
        from gateway.jail.pointers import Pointer

        tree.put(path_of("/inbox/book"), Pointer(first.id, first.size, "whole"), mtime=None, durable=False)
    assert restore(house, "/inbox/book").exit_code == Exit.DONE
    assert named(house, "/inbox/book") == second.id


def test_an_upload_under_way_and_a_folder_in_the_way_are_left(house: DrillHouse) -> None:
    remove(house, "/inbox/book", "/inbox/-rf")
    house.add_partial("acme", "/inbox/book")
    uploading = named(house, "/inbox/book")
    with Tree(house.folder.jail("acme")) as tree:
        tree.make_folder(path_of("/inbox/-rf"))
    report = restore(house, "/inbox/book", "/inbox/-rf")
    assert report.not_restored == 2
    assert named(house, "/inbox/book") == uploading
    with Tree(house.folder.jail("acme")) as tree:
        tree.remove_folder(path_of("/inbox/-rf"))
    assert restore(house, overwrite=True).exit_code == Exit.DONE


def test_a_file_that_is_not_what_the_catalog_says_is_not_put_back(house: DrillHouse) -> None:
    first = versions(house)[0]
    house.alter(house.folder.catalog, first.id, sealed_sha256="0" * 64)
    report = restore(house, "/inbox/book", overwrite=True)
    house.alter(house.folder.catalog, first.id, sealed_sha256=first.sealed_sha256)
    assert "contradict each other" in report.problems[0]
    with closing(house.vault_file(first).open("rb")) as file:
        assert not house.vault.put_back("acme", first.id, file, "0" * 64)
    assert restore(house).exit_code == Exit.DONE


def test_what_was_destroyed_stays_so(house: DrillHouse) -> None:
    first = versions(house)[0]
    house.alter(house.folder.catalog, first.id, state="refused")
    sealed = house.vault_file(first).read_bytes()
    house.vault_file(first).unlink()
    report = restore(house, "/inbox/book", overwrite=True)
    assert not house.vault_file(first).exists()
    assert "it is refused now" in report.problems[0]
    house.vault_file(first).write_bytes(sealed)
    house.alter(house.folder.catalog, first.id, state="accepted")


def test_wrong_use(house: DrillHouse) -> None:
    with pytest.raises(UsageError, match="no client"):
        restore_in_place(house.installation, "nobody", (), None)
    with pytest.raises(UsageError):
        restore(house, "/receipts/x")
    with exclusive(house.folder, "restore", "x"), pytest.raises(Busy):
        restore(house)
