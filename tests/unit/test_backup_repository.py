"""When a place may be used for a new repository. (What really happens there is tested with restic and S3.)"""

from __future__ import annotations

import pytest

from backup.repository import is_broken_init

KEY = "p/papers/keys/" + "a" * 64


@pytest.mark.parametrize(
    ("names", "broken"),
    [
        ([], False),
        ([KEY], True),
        ([KEY, "p/papers/keys/" + "b" * 64], True),
        ([KEY, "p/papers/config"], False),
        ([KEY, "p/papers/data/aa/" + "a" * 64], False),
        (["p/papers/keys/short"], False),
        (["p/papers/snapshots/" + "a" * 64], False),
        (["p/papers/holiday.jpg"], False),
        (["p/papers/keys/" + "a" * 64 + "\n"], False),
    ],
)
def test_only_key_files_alone_are_the_leftover_of_a_broken_init(names: list[str], broken: bool) -> None:
    assert is_broken_init("p/papers/", names) is broken
