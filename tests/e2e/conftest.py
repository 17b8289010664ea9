"""A house that is up, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.house import House, running_house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One installation for a whole module."""
    with running_house(tmp_path_factory.mktemp("house")) as running:
        yield running
