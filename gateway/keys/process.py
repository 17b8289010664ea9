"""What every role does to its own process before it touches a secret."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

from config.files import UMASK

PR_SET_DUMPABLE = 4  # linux/prctl.h
BACKGROUND_NICENESS = 5


def harden_process() -> None:
    """No core dumps, no tracing and no reading of /proc/PID/mem by other processes of this user; new files are for the owner only.

    Inherited by nothing: RLIMIT_CORE goes on to children, the dumpable flag is reset by execve. Call it in each role's process.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(UMASK)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"the process could not be made undumpable: {os.strerror(error)}")


def work_in_the_background() -> None:
    """Let others come first where the processors are short: this process, and those it starts, count a third of what others do."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, BACKGROUND_NICENESS)
    if os.getsid(0) == os.getpid():  # many kernels weigh sessions against each other; a role that `up` or a service manager starts has its own
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(BACKGROUND_NICENESS))
