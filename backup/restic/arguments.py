"""restic's command lines, as pure functions: lists of words, without the program's name.

Passwords and credentials never stand here; the runner hands them over by descriptor and environment. Whatever could be mistaken for an option
is kept behind `--` or has a fixed first character.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Repository:
    """Where a repository is (empty: the environment says it), and its cache (None: no cache at all, as a drill wants it)."""

    url: str
    cache: Path | None = None


def common(repository: Repository, password_file: str) -> list[str]:
    """What every command begins with."""
    cache = ["--no-cache"] if repository.cache is None else ["--cache-dir", str(repository.cache)]
    where = ["--repo", repository.url] if repository.url else []
    return [*where, "--password-file", password_file, *cache]


def version() -> list[str]:
    """Print the version."""
    return ["version"]


def init() -> list[str]:
    """Make a repository, of the second format (which knows compression)."""
    return ["init", "--repository-version", "2"]


def cat_config() -> list[str]:
    """Print the repository's config as JSON: opens it, and changes nothing."""
    return ["cat", "config", "--no-lock", "--quiet"]


def backup(
    sources: Sequence[str],
    *,
    host: str,
    tags: Sequence[str],
    excludes: Sequence[str] = (),
    compression: str = "off",
    limit_upload: int | None = None,
) -> list[str]:
    """Save `sources`, paths relative to the working directory, sending `limit_upload` KiB a second at the most.

    Sealed things do not compress: the default saves the attempt.
    """
    words = ["backup", "--json", "--host", host, "--compression", compression]
    if limit_upload is not None:
        words += ["--limit-upload", str(limit_upload)]
    for tag in tags:
        if "," in tag:
            raise ValueError("a comma separates tags")
        words += ["--tag", tag]
    for pattern in excludes:
        words += ["--exclude", pattern]
    return [*words, "--", *sources]


def snapshots(*, host: str | None = None, tags: Sequence[str] = ()) -> list[str]:
    """List snapshots as JSON."""
    words = ["snapshots", "--json", "--no-lock"]
    if host is not None:
        words += ["--host", host]
    for tag in tags:
        words += ["--tag", tag]
    return words


def restore(snapshot: str, target: Path, *, includes: Sequence[str] = (), verify: bool = False) -> list[str]:
    """Restore a snapshot below `target`. `includes` are patterns (see `literal`); one that matches nothing is no error to restic: count files."""
    words = ["restore", "--no-lock", "--target", str(target)]
    for pattern in includes:
        words += ["--include", pattern]
    if verify:
        words.append("--verify")
    return [*words, "--", snapshot]


def ls(snapshot: str) -> list[str]:
    """List a snapshot's entries, one JSON object a line."""
    return ["ls", "--json", "--no-lock", "--", snapshot]


def list_blobs() -> list[str]:
    """List the blobs that the index knows: `data ID` and `tree ID`."""
    return ["list", "blobs", "--no-lock"]


def forget_snapshots(snapshots: Sequence[str]) -> list[str]:
    """Remove these snapshots; what they alone held stays until `prune_all`."""
    return ["forget", "--", *snapshots]


def prune() -> list[str]:
    """Remove what no snapshot holds, as far as it pays: restic leaves some of it inside packs that are still used."""
    return ["prune"]


def prune_all() -> list[str]:
    """Remove everything that no snapshot holds, to the last blob. By default restic leaves some of it inside packs that are still used."""
    return ["prune", "--max-unused", "0"]


def check(*, read_data: bool = False, subset: str | None = None, lock: bool = True) -> list[str]:
    """Check the repository's structure; with `read_data` every pack, with `subset` ('3/10') a part of them."""
    words = ["check"]
    if read_data:
        words.append("--read-data")
    if subset is not None:
        words += ["--read-data-subset", subset]
    if not lock:
        words.append("--no-lock")
    return words


def rebuild_index() -> list[str]:
    """Make the index anew from the packs that are there; `repair index` since 0.16, which knows this name, too."""
    return ["rebuild-index"]


def key_add(new_password_file: str, *, host: str, user: str) -> list[str]:
    """Let another password open the repository."""
    return ["key", "add", "--new-password-file", new_password_file, "--host", host, "--user", user]


def unlock() -> list[str]:
    """Remove the locks of processes that are dead; those of live ones stay."""
    return ["unlock"]


def list_locks() -> list[str]:
    """List the ids of the locks that are there."""
    return ["list", "locks", "--no-lock"]


def dump(snapshot: str, path: str) -> list[str]:
    """Print one file of a snapshot."""
    return ["dump", "--no-lock", "--", snapshot, path]


def literal(path: str) -> str:
    """A path as a pattern that matches nothing else: restic's patterns are Go's filepath.Match."""
    return "".join("\\" + character if character in "\\*?[]" else character for character in path)
