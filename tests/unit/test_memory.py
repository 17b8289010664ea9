"""Memory that is freed stays with the process, but not a heap of it with every thread; or hardly any of it stays."""

from __future__ import annotations

import subprocess
import sys

from config.memory import HEAPS

ASK_AGAIN = """
import resource, sys
from config.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        paper = bytearray(256 * 1024)
        reply = bytes(paper)
        del paper
        bytes(bytearray(512 * 1024))
        del reply
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
usual = faults()
keep_freed_memory()
faults()
print(usual, faults())
"""

HEAPS_OF_THREADS = """
import sys, threading
from config.memory import hold_little_memory, keep_freed_memory

if sys.argv[1] == "few":
    keep_freed_memory()
if sys.argv[1] == "none":
    hold_little_memory()
everybody_has_one = threading.Barrier(8)

def work():
    buffer = bytearray(100_000)
    everybody_has_one.wait()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
maps = [line.split() for line in open("/proc/self/maps")]
print(sum(int(one[0].split("-")[0], 16) % (1 << 26) == 0 and one[1] == "rw-p" for one in maps))  # glibc puts each at a multiple of 64 MiB
"""

WITH_HOLES = """
from config.memory import give_back_freed_memory, keep_freed_memory

def own():
    return next(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Pss_Anon"))

keep_freed_memory()
buffers = [bytes([1]) * 100_000 for _ in range(400)]
kept = buffers[::8]
del buffers
full = own()
give_back_freed_memory()
print(full, own())
"""

BEHIND_SMALL_ONES = """
import sys
from config import memory

def own():
    return next(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Pss_Anon"))

getattr(memory, sys.argv[1])()
before, kept = own(), []
for _ in range(20):  # what is kept lies behind what is freed, as the rows of a paper behind its pieces
    piece = bytes([1]) * (1 << 20)
    kept.append(bytes([1]) * 10_000)
    del piece
pieces = [bytes([1]) * (1 << 20) for _ in range(20)]
kept.append(bytes([1]) * 10_000)
del pieces
print(own() - before)
"""


def test_threads_share_few_heaps() -> None:
    usual, few, none = (int(subprocess.check_output([sys.executable, "-c", HEAPS_OF_THREADS, how])) for how in ("usual", "few", "none"))
    assert none == 0 < few < HEAPS + 1 < usual, (usual, few, none)


def test_pieces_of_papers_leave_no_holes_where_little_is_held() -> None:
    keeping, holding = (
        int(subprocess.check_output([sys.executable, "-c", BEHIND_SMALL_ONES, how])) for how in ("keep_freed_memory", "hold_little_memory")
    )
    assert holding < 1024 < 15 * 1024 < keeping, (keeping, holding)  # KiB


def test_a_large_buffer_is_not_made_of_new_pages_each_time() -> None:
    done = subprocess.run([sys.executable, "-c", ASK_AGAIN], capture_output=True, text=True, check=True)
    usual, kept = map(int, done.stdout.split())
    assert kept < 100 < usual, (usual, kept)


def test_what_lies_between_buffers_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", WITH_HOLES], capture_output=True, text=True, check=True)
    full, left = map(int, done.stdout.split())  # KiB
    assert full - left > 0.7 * 400 * 100, (full, left)
