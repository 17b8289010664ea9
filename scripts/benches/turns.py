"""How long one turn of the gateway's event loop takes while one person floods it: what a bystander waits for on a machine that is otherwise idle.

Counted is the time of a processor, turn by turn, so other programs on the machine do not matter. The floods are those of
tests/integration/test_hostile_bystander.py; a bystander asks meanwhile, and what it waited by the clock is shown, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from pathlib import Path

from benches.frame import Page, Table, folder

SECONDS = 4.0  # of each flood
LONGEST_P99 = 10.0  # milliseconds
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


def run(_arguments: argparse.Namespace) -> Page:
    """Every flood once."""
    from tests.integration import sftp_rig
    from tests.integration import test_hostile_bystander as floods

    sftp_rig.SERVE = COUNTING + sftp_rig.SERVE
    table = Table(
        "Turns of the event loop", ("flood", "turns", "median ms", "99th percentile ms", "longest ms", "bystander's 99th ms (quiet)", "reached")
    )
    with folder() as home, floods.running_server(home) as server:
        floods.prepare(server)
        told = server.folder.root / "turns.json"
        for attack in floods.ATTACKS:
            quiet = asyncio.run(floods.percentile(server, SECONDS / 2))
            with floods.attacked(attack, server):
                time.sleep(0.5)
                _turns(server.pid(), told)
                loud = asyncio.run(floods.percentile(server, SECONDS))
                turns = _turns(server.pid(), told)
            median, most, longest = (turns[min(len(turns) - 1, int(len(turns) * part))] * 1000 for part in (0.5, 0.99, 1.0))
            waited = f"{loud * 1000:.1f} ({quiet * 1000:.1f})"
            numbers = (str(len(turns)), f"{median:.2f}", f"{most:.1f}", f"{longest:.1f}", waited)
            table.add(attack.__name__, *numbers, reached=most <= LONGEST_P99)
    return Page("turns", f"Reached: the 99th percentile of turns is at most {LONGEST_P99:.0f} ms of a processor.", [table])


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
