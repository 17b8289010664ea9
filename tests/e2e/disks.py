"""Disks of the tests' own: ext4 images on loop devices, and the search for plaintext on them, byte by byte. Needs root."""

from __future__ import annotations

import mmap
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted_image(image: Path, mount: Path, *, megabytes: int = 0) -> Iterator[Path]:
    """`image` mounted at `mount`; made anew as ext4 of so many MiB when `megabytes` is given."""
    if megabytes:
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    mount.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


@contextmanager
def tmpfs(mount: Path, size: str) -> Iterator[Path]:
    """A memory file system of `size` (such as 64m) at `mount`."""
    mount.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def contains(path: Path, needles: Iterable[bytes]) -> list[bytes]:
    """Which of `needles` occur in the raw bytes of `path`."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return [needle for needle in needles if content.find(needle) >= 0]


def search_folder(folder: Path, needles: Iterable[bytes], leave_out: Iterable[Path] = (), since: float = 0.0, most: int = 1 << 62) -> list[Path]:
    """Files below `folder` that hold one of `needles` and were changed at `since` or later (by ctime, which nobody can set back); the folders in
    `leave_out` are not entered, and files of more than `most` bytes not read."""
    needles, left_out, found = list(needles), {str(path) for path in leave_out}, []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if os.path.join(place, name) not in left_out]
        for name in files:
            path = Path(place, name)
            try:
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_size <= most and status.st_ctime >= since and contains(path, needles):
                    found.append(path)
            except OSError:  # gone meanwhile, or not ours to read
                continue
    return found
