"""What a recovery kit says that somebody typed or scanned in, and the repositories as it opens them. Nothing of it is stored.

Part A (the identity) and part B (where the backups are, and what opens them for reading) may come together or apart, because they are kept
apart.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from backup.bucket import check_bucket
from backup.repositories.access import RepositoryName, S3Access
from backup.restic import Restic
from backup.restic.arguments import Repository
from backup.restic.runner import Runner, Secrets
from config.errors import UsageError
from gateway.age import AgeError, Identity, parse_identities
from gateway.keys.kit import VALUES_BEGIN, VALUES_END

MAX_KIT_BYTES = 1024 * 1024
EXPORT = re.compile(r"export ([A-Z_]{1,40})=(.{0,4096})")
URLS: Mapping[RepositoryName, str] = {"papers": "NIGHTSAFE_PAPERS", "keys": "NIGHTSAFE_KEYS"}
NEWEST = "NIGHTSAFE_NEWEST"
NAMES = (*URLS.values(), "RESTIC_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


@dataclass(frozen=True)
class Kit:
    """What was found in the text of a kit. `repr` hides it all."""

    identity: Identity | None = field(repr=False)
    values: Mapping[str, str] | None = field(repr=False)


@dataclass(frozen=True)
class WholeKit:
    """Both parts. `repr` hides it all."""

    identity: Identity = field(repr=False)
    values: Mapping[str, str] = field(repr=False)

    def probe(self) -> None:
        """Ask the bucket, in seconds, where it is one. Raises OutOfReach, BucketMissing, BucketRefused."""
        if access := self.access():
            check_bucket(access)

    @property
    def newest(self) -> datetime | None:
        """When the newest backup began that the page knows of; None when it does not tell."""
        try:
            found = datetime.fromisoformat(self.values.get(NEWEST, ""))
        except ValueError:
            return None
        return found if found.tzinfo else None

    def access(self) -> S3Access | None:
        """The bucket and the credential; None for a repository that is in none."""
        kind, _, rest = self.values[URLS["papers"]].partition(":")
        parts = urlsplit(rest)
        bucket, _, folder = parts.path.strip("/").partition("/")
        if kind != "s3" or not parts.netloc or not bucket:
            return None
        prefix = folder.rpartition("/")[0]
        key, secret = self.values["AWS_ACCESS_KEY_ID"], self.values["AWS_SECRET_ACCESS_KEY"]
        return S3Access(f"{parts.scheme}://{parts.netloc}", bucket, prefix, self.values["AWS_DEFAULT_REGION"], key, secret)

    def open(self, name: RepositoryName, runner: Runner, cache: Path | None) -> Restic:
        """A repository, by nothing but what the kit says."""
        environment = {variable: self.values[variable] for variable in NAMES if variable.startswith("AWS_")}
        return Restic(runner, Repository(self.values[URLS[name]], cache), Secrets(self.values["RESTIC_PASSWORD"].encode(), environment))


def parse_kit(text: str) -> Kit:
    """Both parts, as far as they are there, of one text or of several behind each other. Raises UsageError when there is neither."""
    identity, values = _identity(text), _values(text)
    if identity is None and values is None:
        raise UsageError(
            "that is no recovery kit: it holds neither a line AGE-SECRET-KEY-1… nor the values of part B", "was all of the page typed or scanned?"
        )
    return Kit(identity, values)


def parse_whole_kit(text: str) -> WholeKit:
    """Raises UsageError when one of the parts is missing."""
    kit = parse_kit(text)
    if kit.identity is None or kit.values is None:
        missing = "part A, with the line AGE-SECRET-KEY-1…" if kit.identity is None else "part B, with the values"
        raise UsageError(f"the recovery kit lacks {missing}", "give both parts: each in a file, or one behind the other")
    return WholeKit(kit.identity, kit.values)


def _identity(text: str) -> Identity | None:
    lines = [line for line in text.splitlines() if line.strip().startswith("AGE-SECRET-KEY-")]
    if not lines:
        return None
    try:
        found = parse_identities("\n".join(line.strip() for line in lines))
    except AgeError:
        found = []
    if len({identity.encode() for identity in found}) != 1:
        raise UsageError("the line AGE-SECRET-KEY-1… is mistyped, or there are several", "compare it with the page, letter by letter")
    return found[0]


def _values(text: str) -> dict[str, str] | None:
    lines = [line.strip() for line in text.splitlines()]
    if VALUES_BEGIN not in lines:
        return None
    values = {}
    for line in lines[lines.index(VALUES_BEGIN) + 1 :]:
        if line == VALUES_END:
            break
        if found := EXPORT.fullmatch(line):
            values[found[1]] = _unquoted(found[2])
    missing = [name for name in NAMES if not values.get(name)]
    if missing:
        raise UsageError(f"part B lacks {', '.join(missing)}", "was all of the page typed or scanned?")
    return values


def _unquoted(word: str) -> str:
    try:
        words = shlex.split(word)
    except ValueError:
        return ""
    return words[0] if len(words) == 1 else ""
