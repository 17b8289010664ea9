"""When a place may be used for a new repository. (What really happens there is tested with restic and S3.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.repositories.locks import KINDS, at_place, quiet, still_place
from backup.repositories.repository import is_broken_init
from config.errors import Busy
from config.folder import DataFolder

KEY = "keys/" + "a" * 64


@pytest.mark.parametrize(
    ("names", "broken"),
    [
        ([], False),
        ([KEY], True),
        ([KEY, "keys/" + "b" * 64], True),
        ([KEY, "config"], False),
        ([KEY, "data/aa/" + "a" * 64], False),
        (["keys/short"], False),
        (["snapshots/" + "a" * 64], False),
        (["holiday.jpg"], False),
        (["keys/" + "a" * 64 + "\n"], False),
    ],
)
def test_only_key_files_alone_are_the_leftover_of_a_broken_init(names: list[str], broken: bool) -> None:
    assert is_broken_init(names) is broken


@pytest.mark.parametrize("other", KINDS)
def test_while_a_repository_is_cleaned_nobody_else_works_on_it(tmp_path: Path, other: str) -> None:
    folder = DataFolder(tmp_path)
    for held in ("", "nas"):
        with at_place(folder, other, held, "it runs", ""):
            for still in (quiet(folder, ""), still_place(folder, held, ""), at_place(folder, other, held, "", "")):
                with pytest.raises(Busy), still:
                    pass
            with still_place(folder, "another", ""):
                pass
    for still in (quiet(folder, ""), still_place(folder, "nas", "")):
        with still, pytest.raises(Busy), at_place(folder, other, "nas", "it runs", ""):
            pass
