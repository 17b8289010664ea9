"""Folders of papers to deposit, and their hashes for comparison."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK = 65536
PIECE = MIB = 1 << 20
GIB = 1 << 30

SIZES = {"empty": 0, "one": 1, "block-less-one": BLOCK - 1, "block": BLOCK, "block-and-one": BLOCK + 1}

NAMES = [
    "发票 2026年一月.pdf",
    "with spaces  and  more.txt",
    "single'quote.txt",
    'double"quote.txt',
    "brackets [1] {2} (3).txt",
    "star*and?question.txt",
    "back\\slash.txt",
    "-leading-dash.txt",
    "$HOME `id` ;&|.txt",
    "new\nline.txt",
    "ü" * 127 + "x",  # 255 bytes
    "文" * 85,  # 255 bytes
]


def write_pattern(path: Path, size: int, seed: str) -> None:
    """`size` bytes that differ in every MiB and compress badly enough."""
    base = hashlib.shake_256(seed.encode()).digest(PIECE)
    with path.open("wb") as file:
        for number in range((size + PIECE - 1) // PIECE):
            head = hashlib.sha256(f"{seed}{number}".encode()).digest()
            file.write((head + base[len(head) :])[: min(PIECE, size - number * PIECE)])


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by its relative name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def make_tree(folder: Path, *, big: int = 0) -> dict[str, str]:
    """All sizes and all names, in folders with names of their own; with `big`, a file of that many bytes too. Returns the hashes."""
    (folder / "sizes").mkdir(parents=True)
    for name, size in SIZES.items():
        write_pattern(folder / "sizes" / name, size, name)
    awkward = folder / "名 [names] 'x'"
    awkward.mkdir()
    for number, name in enumerate(NAMES):
        (awkward / name).write_bytes(f"paper {number}: {name}".encode())
    if big:
        write_pattern(folder / "sizes" / "big", big, "big")
    return hashes(folder)
