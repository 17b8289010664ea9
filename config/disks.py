"""Many files made durable at once: one `syncfs` for a batch instead of an fsync for each file and each folder.

`syncfs` tells of bytes that could not be written only since Linux 5.8, and only what failed after its descriptor was opened. So the
descriptors are opened before anything is written, and on older kernels nothing is put together.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

TELLS_ERRORS = (5, 8)  # Linux


class Disks:
    """The file systems that hold `folders`, each once. Open it before the batch is written."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._descriptors: dict[int, int] = {}
        if not _is_to_be_trusted():
            return
        try:
            for folder in folders:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                if self._descriptors.setdefault(os.fstat(descriptor).st_dev, descriptor) != descriptor:
                    os.close(descriptor)
        except BaseException:
            self.close()
            raise

    @property
    def together(self) -> bool:
        """Whether `sync` will do it; if not, each file is to be synced by itself."""
        return bool(self._descriptors)

    def sync(self) -> None:
        """Return once all that was written so far is on the disk. Raises OSError when something written since the opening could not be."""
        for descriptor in self._descriptors.values():
            if _syncfs()(descriptor):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Let go of the descriptors."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@cache
def _is_to_be_trusted() -> bool:
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if platform.system() != "Linux" or release is None or (int(release[1]), int(release[2])) < TELLS_ERRORS:
        return False
    try:
        _syncfs()
    except (AttributeError, OSError):
        return False
    return True


@cache
def _syncfs() -> ctypes._NamedFuncPointer:
    call = ctypes.CDLL(None, use_errno=True).syncfs
    call.argtypes = [ctypes.c_int]
    call.restype = ctypes.c_int
    return call
