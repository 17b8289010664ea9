"""Virtual paths: what a client may name. Pure: no disk is touched, nothing of the host is known here.

`.` and `..` are resolved by text alone. That is sound because a jail holds no symbolic links; the tree refuses any it meets.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.jail.refused import Refused

MAX_NAME_BYTES = 255  # of one component, as on every common file system
MAX_DEPTH = 64  # components of one path
# Shorter than PATH_MAX (4096) on purpose: restic and the recovery kit open these paths joined to a folder of their own.
MAX_PATH_BYTES = 3072
_MAX_RAW_BYTES = 4096  # as sent, before `//`, `.` and `..` are resolved

INBOX = "inbox"
OUTBOX = "outbox"
RECEIPTS = "receipts"
TOP_FOLDERS = (INBOX, OUTBOX, RECEIPTS)


@dataclass(frozen=True, slots=True)
class VirtualPath:
    """An absolute, resolved path inside a jail; `parts` has no `.`, no `..`, nothing empty. Making one checks it: raises Refused("bad_message")."""

    parts: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.parts) > MAX_DEPTH:
            raise Refused("bad_message", f"folders may be nested {MAX_DEPTH} deep, no deeper")
        total = 0
        for part in self.parts:
            total += 1 + _check_part(part)
        if total > MAX_PATH_BYTES:
            raise Refused("bad_message", f"a path may have {MAX_PATH_BYTES} bytes, no more")

    def __str__(self) -> str:
        return "/" + "/".join(self.parts)

    @property
    def is_root(self) -> bool:
        """Whether this is `/`."""
        return not self.parts

    @property
    def name(self) -> str:
        """The last component; empty for the root."""
        return self.parts[-1] if self.parts else ""

    @property
    def parent(self) -> VirtualPath:
        """The folder that holds it; the root is its own parent."""
        return VirtualPath(self.parts[:-1])

    @property
    def folder(self) -> str:
        """The first component (`inbox`, `outbox`, `receipts`, or something that does not exist); empty for the root."""
        return self.parts[0] if self.parts else ""

    @property
    def size(self) -> int:
        """Bytes of the path as text; the root counts 0."""
        return sum(1 + len(part.encode()) for part in self.parts)

    def child(self, name: str) -> VirtualPath:
        """The path of `name` inside this folder. Raises Refused when `name` is no single component."""
        return VirtualPath((*self.parts, name))

    def is_within(self, other: VirtualPath) -> bool:
        """Whether this is `other` or lies below it."""
        return self.parts[: len(other.parts)] == other.parts


ROOT = VirtualPath(())


def parse(raw: bytes, cwd: VirtualPath | str = "/") -> VirtualPath:
    """The path that a client means by `raw`; a relative one starts at `cwd`, an empty one is `cwd`, and `..` at the root stays there.

    Raises Refused("bad_message") for anything but UTF-8, for NUL, and for what is too long or too deep.
    """
    if len(raw) > _MAX_RAW_BYTES:
        raise Refused("bad_message", f"a path may have {MAX_PATH_BYTES} bytes, no more")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused("bad_message", "names must be UTF-8") from error
    if text.startswith("/"):
        parts: list[str] = []
    else:
        parts = list((cwd if isinstance(cwd, VirtualPath) else parse(cwd.encode())).parts)
    for part in text.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    return VirtualPath(tuple(parts))


def path_of(text: str) -> VirtualPath:
    """`parse` for text of our own, such as the path in an arrival."""
    try:
        return parse(text.encode())
    except UnicodeEncodeError as error:
        raise Refused("bad_message", "names must be UTF-8") from error


def _check_part(part: str) -> int:
    """The bytes of one component. Raises Refused when it cannot be one."""
    if part in ("", ".", "..") or "/" in part or "\0" in part:
        raise Refused("bad_message", "the name cannot be used for a file or a folder")
    try:
        size = len(part.encode())
    except UnicodeEncodeError as error:
        raise Refused("bad_message", "names must be UTF-8") from error
    if size > MAX_NAME_BYTES:
        raise Refused("bad_message", f"a name may have {MAX_NAME_BYTES} bytes, no more")
    return size
