"""How long a bystander waits while one person floods the gateway, and how long one turn of its event loop takes meanwhile.

A turn is counted in the time of a processor, so other programs on the machine do not matter. What the bystander waits is counted by the clock,
quiet and flood in turn, round after round; on a busy machine it says little. So that what the gateway does to a bystander can be told from what the
machine does, the same flood also goes to another gateway, of which the bystander has only the processors in common. The floods are those of
tests/integration/test_hostile_bystander.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benches.frame import Page, Table, folder

ROUNDS = 3
SECONDS = 1.2  # of each quiet time and each flood
BEFORE = 0.5  # until a flood has logged in and is in full force
MOST = 2.0  # times its quiet 99th percentile may a bystander's be
COLUMNS = (
    *("flood", "turn: median", "turn: 99th", "turn: longest"),
    *("bystander, quiet", "bystander, flood elsewhere", "bystander, flood", "ratio", "goal", "reached"),
)
NOTE = (
    "Somebody else asks for one STAT after the other, in a session of their own, while a process at the lowest priority does its worst. "
    "Milliseconds; the bystander's are 99th percentiles by the clock, medians of {rounds} rounds in which quiet and flood take turns. "
    "A flood elsewhere goes to another gateway on these processors: what the bystander waits longer then is the machine's doing, and a gateway of "
    "its own for each person would not spare it. A turn of the event loop is what the bystander may have to wait for; it is counted in processor "
    "time. What each flood does stands in [the test of them](../../tests/integration/test_hostile_bystander.py)."
)
COUNTING = """
import asyncio, json, signal, sys, time
once, turns = asyncio.base_events.BaseEventLoop._run_once, []
def counted(loop):
    began = time.thread_time()
    try:
        once(loop)
    finally:
        turns.append(time.thread_time() - began)
def tell(*_):
    with open(sys.argv[1] + "/turns.json", "w") as file:
        json.dump(sorted(turns), file)
    turns.clear()
asyncio.base_events.BaseEventLoop._run_once = counted
signal.signal(signal.SIGUSR1, tell)
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(arguments: argparse.Namespace) -> Page:
    """Every flood."""
    return Page("turns", "What one person can do to the others.", [floods(arguments.rounds)])


def floods(rounds: int) -> Table:
    """A row for every flood."""
    from tests.integration import sftp_rig
    from tests.integration import test_hostile_bystander as hostile

    table = Table("A bystander during attacks", COLUMNS, note=NOTE.format(rounds=rounds))
    serve = sftp_rig.SERVE
    sftp_rig.SERVE = COUNTING + serve
    try:
        with folder() as home, folder() as elsewhere, hostile.running_server(home) as server, hostile.running_server(elsewhere) as other:
            hostile.prepare(server)
            hostile.prepare(other)
            for attack in hostile.ATTACKS:
                print(time.strftime("%H:%M:%S"), f"bystander: {attack.__name__}", file=sys.stderr, flush=True)
                _add(table, hostile, (server, other), attack, rounds)
    finally:
        sftp_rig.SERVE = serve
    return table


def _add(table: Table, hostile: Any, servers: tuple[Any, Any], attack: Callable[[int, str], None], rounds: int) -> None:
    server, other = servers
    told = server.folder.root / "turns.json"
    waits: dict[str, list[float]] = {"quiet": [], "elsewhere": [], "here": []}
    turns: list[float] = []
    for _ in range(rounds):
        waits["quiet"].append(_percentile(hostile, server))
        with hostile.attacked(attack, other):
            time.sleep(BEFORE)
            waits["elsewhere"].append(_percentile(hostile, server))
        with hostile.attacked(attack, server):
            time.sleep(BEFORE)
            _turns(server.pid(), told)
            waits["here"].append(_percentile(hostile, server))
            turns += _turns(server.pid(), told)
    before, elsewhere, during = (statistics.median(waits[when]) for when in ("quiet", "elsewhere", "here"))
    turns.sort()
    of_turns = [turns[min(len(turns) - 1, int(len(turns) * part))] * 1000 for part in (0.5, 0.99, 1.0)]
    numbers = [f"{each:.2f}" for each in (*of_turns, before, elsewhere, during, during / before)]
    table.add(attack.__name__, *numbers, f"≤ {MOST:g}", reached=during <= MOST * before)


def _percentile(hostile: Any, server: Any) -> float:
    """In milliseconds."""
    return float(asyncio.run(hostile.percentile(server, SECONDS))) * 1000


def _turns(pid: int, told: Path) -> list[float]:
    """Seconds of the turns since the last time, in order of length."""
    told.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 20
    while True:
        try:
            found = json.loads(told.read_text())
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        return [float(seconds) for seconds in found]
