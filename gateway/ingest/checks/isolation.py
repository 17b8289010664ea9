"""What a worker process takes from itself before it sees a stranger's bytes: memory, files, core dumps, privileges."""

from __future__ import annotations

import ctypes
import resource

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
SPARE_SECONDS = 2  # of processor time beyond the wall time that the parent gives: a backstop for a parent that died


def confine(memory_bytes: int) -> None:
    """No more memory than `memory_bytes` of address space, not one more open file, not one byte written to a file, no core dump, no new process.

    Everything that is needed must have been imported. Irrevocable. A worker whose parent dies reads the end of its pipe, and ends; one that
    hangs then is ended by `allow_seconds`. (The kernel's signal for it is bound to the parent's thread, which may end long before.)
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),  # the standard ones; every other open fails
        (resource.RLIMIT_AS, memory_bytes),
    ):
        resource.setrlimit(what, (limit, limit))


def allow_seconds(seconds: float) -> None:
    """Let this process use the processor for so long from now; then the kernel ends it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime + seconds) + SPARE_SECONDS
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
