"""Options and fixtures of all three tiers."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from config.files import UMASK

os.umask(UMASK)  # as every process of ours has it

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts this in the background has its children ignore it

os.environ.setdefault("NIGHTSAFE_SET_DRILL__SELF_TEST", "false")  # five seconds with every full drill; test_drill_selftest.py has it

# The machine may be busy with other tests: a slow example is no fault.
settings.register_profile("nightsafe", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI")))
settings.load_profile("nightsafe")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", default=bool(os.environ.get("CI")), help="run the long tables too (default where CI is set)")
    parser.addoption("--fuzz-seconds", type=float, default=4.0, help="how long each fuzzer speaks at a server (an hour: 3600, with --timeout 0)")
    parser.addoption("--soak-seconds", type=float, default=200.0, help="how long the soak's weather lasts (an hour: 3600, with --timeout 0)")
    parser.addoption("--write-clients", action="store_true", help="write the table in docs/reference/clients.md from what happened")


@pytest.fixture
def fuzz_seconds(pytestconfig: pytest.Config) -> float:
    """How long a fuzzer works."""
    return float(pytestconfig.getoption("--fuzz-seconds"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests are deselected, not skipped: a skip always means that something is missing."""
    if config.getoption("--full"):
        return
    kept = [item for item in items if "long" not in item.keywords]
    config.hook.pytest_deselected(items=[item for item in items if "long" in item.keywords])
    items[:] = kept
