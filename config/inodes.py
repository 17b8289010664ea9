"""Whether a file system can take more files: small papers use up its inodes long before its bytes, four for each."""

from __future__ import annotations

import os

RESERVE = 256  # for what runs: the catalog, the audit log, papers that are on their way


def lacks_inodes(state: os.statvfs_result) -> bool:
    """Whether there are too few left for new papers. Some file systems, such as btrfs, count none."""
    return state.f_files > 0 and state.f_favail < RESERVE
