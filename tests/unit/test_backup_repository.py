"""When a place may be used for a new repository. (What really happens there is tested with restic and S3.)"""

from __future__ import annotations

import pytest

from backup.repository import is_broken_init

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
