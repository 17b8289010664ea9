"""What a process takes: memory and open descriptors, from /proc."""

from __future__ import annotations

import os
from pathlib import Path


def resident(pid: int) -> int:
    """Megabytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def descriptors(pid: int) -> int:
    """How many are open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
