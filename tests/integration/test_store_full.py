"""A disk without space: on a real tmpfs of one mebibyte, in a mount namespace of its own that goes with the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
BEGINNING = """
import json, os, sys
from pathlib import Path
from gateway.store import *
from gateway.store.format import BLOCK
from tests.integration.store_parts import Place, arrival_of
root = Path(sys.argv[1])
data = b"".join(number.to_bytes(8, "big") for number in range(1 << 18))
place = Place(root)
def full(do):
    try:
        do()
    except StoreFull as error:
        return type(error).__name__
    return None
def fill():
    with open(root / "filler", "ab", buffering=0) as filler:
        for size in (65536, 4096, 512):
            try:
                while filler.write(bytes(size)):
                    pass
            except OSError:
                pass
def free():
    (root / "filler").unlink()
"""


def run_on_small_disk(tmp_path: Path, code: str) -> Any:
    """What `code` (after BEGINNING) leaves in `result`, run with `root` on a tmpfs of 1 MiB."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = BEGINNING + code + "\nprint(json.dumps(result))"
    command = ["unshare", "--mount", *as_root, "sh", "-c", MOUNT, "sh", "1m", str(mounted), sys.executable, "-c", script, str(mounted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_was_durable_stays(tmp_path: Path) -> None:
    code = """
file = place.new(data[:300_000])
file.sync()
offset = 300_000
error = None
while error is None:
    error = full(lambda: file.write(offset, data[offset:offset + 32768]))
    if error is None:
        offset += 32768
finish = full(lambda: file.finish(arrival_of(file.paper)))
file.close()
prefix = place.spool.prefix_size(file.paper)
again = place.reopen(file.paper)
result = [error, finish, offset, prefix, again.size, again.read(0, prefix) == data[:prefix], place.spool.finished_unlanded()]
"""
    error, finish, offset, prefix, size, right, finished = run_on_small_disk(tmp_path, code)
    assert (error, finish, right, finished) == ("SpoolFull", "SpoolFull", True, [])
    assert 300_000 <= prefix == size <= offset


def test_a_paper_goes_on_when_there_is_space_again(tmp_path: Path) -> None:
    code = """
file = place.new(data[:100_000])
fill()
errors = [full(lambda: file.write(100_000, data[100_000:200_000])), full(file.sync), full(lambda: file.finish(arrival_of(file.paper)))]
free()
file.write(100_000, data[100_000:200_000])
paper = place.land(file)
result = [errors, place.read(paper) == data[:200_000]]
"""
    errors, right = run_on_small_disk(tmp_path, code)
    assert errors == ["SpoolFull"] * 3
    assert right


@pytest.mark.parametrize("size", [0, 100, 65_536, 70_000])
def test_no_space_for_the_footer(tmp_path: Path, size: int) -> None:
    code = f"""
file = place.new(data[:{size}])
file.sync()
fill()
error = full(lambda: file.finish(arrival_of(file.paper)))
finished = place.spool.finished_unlanded()
left = file.read(0, 100_000) == data[:{size}]
free()
again = full(lambda: file.finish(arrival_of(file.paper)))
place.spool.land(file.paper)
result = [error, finished, left, again, place.read(file.paper) == data[:{size}]]
"""
    error, finished, left, again, right = run_on_small_disk(tmp_path, code)
    assert error in ("SpoolFull", None)  # a footer may still fit into the last page
    assert (finished, left, again, right) == ([], True, None, True)


def test_a_short_block_that_grows_has_its_space_first(tmp_path: Path) -> None:
    """The last block of a finished paper is short. Going on rewrites it in place: the old one must outlive a full disk."""
    code = """
file = place.new(data[:1000])
file.finish(arrival_of(file.paper))
file.continue_writing()
fill()
error = full(lambda: (file.write(1000, data[1000:60_000]), file.sync()))
place.crash(file)
again = place.reopen(file.paper)
result = [error, again.size, again.read(0, 70_000) == data[:1000]]
"""
    assert run_on_small_disk(tmp_path, code) == ["SpoolFull", 1000, True]


def test_what_a_failed_write_left_is_taken_away(tmp_path: Path) -> None:
    """Else the footer would not be the end of the file."""
    code = """
file = place.new(data[:BLOCK])
file.sync()
fill()
os.truncate(root / "filler", (root / "filler").stat().st_size - 16384)
error = full(lambda: file.write(BLOCK, data[BLOCK:2 * BLOCK]))
size = file.size
free()
result = [error, size, place.read(place.land(file)) == data[:BLOCK]]
"""
    assert run_on_small_disk(tmp_path, code) == ["SpoolFull", 65536, True]


def test_new_papers_on_a_full_disk(tmp_path: Path) -> None:
    code = """
fill()
file = place.new(b"x")
errors = [full(lambda: file.finish(arrival_of(file.paper)))]
file.close()
free()
sizes = [path.stat().st_size for path in place.partial.iterdir()]
again = place.new(b"second", file.paper)
result = [errors, sizes, place.read(place.land(again)) == b"second"]
"""
    assert run_on_small_disk(tmp_path, code) == [["SpoolFull"], [0], True]


def test_the_vault_leaves_nothing_behind(tmp_path: Path) -> None:
    code = """
vault = Vault(root / "vault")
writer = vault.writer("acme", new_paper_id(), place.identity.recipient)
def write():
    for offset in range(0, len(data), 65536):
        writer.write(data[offset:offset + 65536])
    writer.commit()
error = full(write)
writer.abandon()
fill()
second = full(lambda: vault.writer("acme", new_paper_id(), place.identity.recipient).commit())
result = [error, second, [str(path) for path in (root / "vault").rglob("*") if path.is_file()]]
"""
    assert run_on_small_disk(tmp_path, code) == ["VaultFull", "VaultFull", []]
