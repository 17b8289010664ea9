"""Options and fixtures of all three tiers."""

from __future__ import annotations

import gc
import os
import random
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from config.files import UMASK

os.umask(UMASK)  # as every process of ours has it

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts this in the background has its children ignore it

os.environ.setdefault("NIGHTSAFE_SET_DRILL__SELF_TEST", "false")  # five seconds with every full drill; test_drill_selftest.py has it

FUZZ_SECONDS = 20.0  # at a server, without --fuzz-seconds

# The machine may be busy with other tests: a slow example is no fault.
settings.register_profile("nightsafe", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI")))
settings.load_profile("nightsafe")


gc.disable()  # until everything is collected: nothing of that is garbage


def pytest_collection_finish() -> None:
    """Thousands of tests and what they import stay to the end: the collector need not look at them again and again."""
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", default=bool(os.environ.get("CI")), help="run the long tables too (default where CI is set)")
    parser.addoption("--fuzz-seconds", type=float, default=FUZZ_SECONDS, help="how long each fuzzer works (an hour: 3600, with --timeout 0)")
    parser.addoption("--soak-seconds", type=float, default=200.0, help="how long the soak's weather lasts (an hour: 3600, with --timeout 0)")
    parser.addoption("--write-clients", action="store_true", help="write the table in docs/reference/clients.md from what happened")


class Together(LoadFileScheduling):
    """A file for a worker; and the files of a package, which share what is expensive, for one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        folder = Path(__file__).parents[1] / Path(file).parent
        return str(Path(file).parent) if (folder / "__init__.py").exists() else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """For scripts/test, which gives each worker whole files."""
    return Together(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture
def fuzz_seconds(pytestconfig: pytest.Config) -> float:
    """How long a fuzzer works."""
    return float(pytestconfig.getoption("--fuzz-seconds"))


@pytest.fixture
def fuzz_seed() -> int:
    """What a fuzzer begins with: another one each time, and printed; always the same where CI is set."""
    seed = 4 if os.environ.get("CI") else random.SystemRandom().getrandbits(32)
    print(f"fuzz seed {seed}")
    return seed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests are deselected, not skipped: a skip always means that something is missing. The soak comes first: at the end, where its folder would
    have it, the other workers had nothing left to do meanwhile."""
    if config.getoption("--full"):
        items.sort(key=lambda item: item.path.parent.name != "soak")
        return
    kept = [item for item in items if "long" not in item.keywords]
    config.hook.pytest_deselected(items=[item for item in items if "long" in item.keywords])
    items[:] = kept
