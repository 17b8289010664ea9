"""Where repositories can be: an S3 bucket, a folder, a REST server. One port for all three, with the few things that restic does not say itself.

restic is asked for everything else. Names of objects are relative to the repository, as in restic's own layout: `config`, `keys/…`, `locks/…`.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from backup.bucket import Locked, Version, check_bucket, list_names, old_versions, read_object, remove_names, remove_versions
from backup.repositories.access import RepositoryName, S3Access, S3Role, access, copy_credentials
from config.errors import Away, OutOfReach, SettingsError
from config.loading import Installation
from gateway.catalog import Catalog, Run
from gateway.catalog.runs import GIVEN_UP
from gateway.keys.secrets import RoleSecrets

_KINDS = ("keys", "locks", "snapshots", "index", "data")
_SECONDS = 10.0
_MAX_ANSWER = 64 * 1024 * 1024
_MAX_CONFIG = 64 * 1024


class Place(Protocol):
    """A place for both repositories, with the credential of one role."""

    def url(self, repository: RepositoryName) -> str:
        """The repository as restic is told in its arguments; empty when the environment says it."""

    def shown(self, repository: RepositoryName) -> str:
        """The same for people and for the catalog, without a secret."""

    def environment(self, repository: RepositoryName) -> dict[str, str]:
        """What restic reads from its environment."""

    def check(self) -> None:
        """Returns when the place answers. Raises OutOfReach, SettingsError."""

    def names(self, repository: RepositoryName, start: str = "", limit: int = 1000) -> list[str]:
        """Up to `limit` names of objects that begin with `start`."""

    def config(self, repository: RepositoryName) -> bytes | None:
        """The repository's object `config`, as it lies there (sealed); None when there is none."""

    def remove(self, repository: RepositoryName, names: Sequence[str]) -> None:
        """Delete these objects."""

    def old_versions(self, repository: RepositoryName, start: str = "", limit: int = 1_000_000) -> list[Version]:
        """What the place keeps of deleted and overwritten objects whose names begin with `start`; see `backup.bucket`."""

    def remove_versions(self, versions: Sequence[Version]) -> list[Locked]:
        """Delete these versions for good; what a lock keeps."""


@dataclass(frozen=True)
class BucketPlace:
    """An S3 bucket; see `backup.bucket`. `regions` are those in which it may lie."""

    s3: S3Access
    regions: tuple[str, ...] = ()

    def url(self, repository: RepositoryName) -> str:
        """See Place."""
        return self.s3.url(repository)

    def shown(self, repository: RepositoryName) -> str:
        """See Place."""
        return self.s3.place(repository)

    def environment(self, repository: RepositoryName) -> dict[str, str]:  # noqa: ARG002 - the same for both
        """See Place."""
        return self.s3.environment()

    def check(self) -> None:
        """See Place."""
        check_bucket(self.s3, self.regions)

    def names(self, repository: RepositoryName, start: str = "", limit: int = 1000) -> list[str]:
        """See Place."""
        folder = self.s3.folder(repository)
        return [name.removeprefix(folder) for name in list_names(self.s3, folder + start, limit)]

    def config(self, repository: RepositoryName) -> bytes | None:
        """See Place."""
        return read_object(self.s3, self.s3.folder(repository) + "config", _MAX_CONFIG)

    def remove(self, repository: RepositoryName, names: Sequence[str]) -> None:
        """See Place."""
        remove_names(self.s3, [self.s3.folder(repository) + name for name in names])

    def old_versions(self, repository: RepositoryName, start: str = "", limit: int = 1_000_000) -> list[Version]:
        """See Place."""
        return old_versions(self.s3, self.s3.folder(repository) + start, limit)

    def remove_versions(self, versions: Sequence[Version]) -> list[Locked]:
        """See Place."""
        return remove_versions(self.s3, versions)


class _Plain:
    """A place that keeps nothing of what was deleted, as far as it can be asked."""

    def old_versions(self, repository: RepositoryName, start: str = "", limit: int = 1_000_000) -> list[Version]:  # noqa: ARG002
        """See Place."""
        return []

    def remove_versions(self, versions: Sequence[Version]) -> list[Locked]:  # noqa: ARG002
        """See Place."""
        return []


@dataclass(frozen=True)
class FolderPlace(_Plain):
    """A folder: a second disk, a mounted NAS. It must be there: one that is missing is a disk that was not mounted."""

    root: Path

    def url(self, repository: RepositoryName) -> str:
        """See Place."""
        return str(self.root / repository)

    def shown(self, repository: RepositoryName) -> str:
        """See Place."""
        return self.url(repository)

    def environment(self, repository: RepositoryName) -> dict[str, str]:  # noqa: ARG002
        """See Place."""
        return {}

    def check(self) -> None:
        """See Place."""
        if not self.root.is_dir():
            raise Away(f"the folder {self.root} is not there", "is its disk mounted? it is never made here; or correct its url in the settings")

    def names(self, repository: RepositoryName, start: str = "", limit: int = 1000) -> list[str]:
        """See Place."""
        below = start.rpartition("/")[0]  # a look at the locks does not go through all packs
        return sorted(name for name in self._all(repository, below) if name.startswith(start))[:limit]

    def config(self, repository: RepositoryName) -> bytes | None:
        """See Place."""
        try:
            with (self.root / repository / "config").open("rb") as file:
                return file.read(_MAX_CONFIG)
        except OSError:
            return None

    def remove(self, repository: RepositoryName, names: Sequence[str]) -> None:
        """See Place."""
        for name in names:
            (self.root / repository / name).unlink(missing_ok=True)

    def _all(self, repository: RepositoryName, below: str) -> Iterator[str]:
        base = self.root / repository
        for folder, _, files in os.walk(base / below):
            for name in files:
                yield (Path(folder) / name).relative_to(base).as_posix()


@dataclass(frozen=True)
class RestPlace(_Plain):
    """A server that speaks restic's REST protocol: rest-server, or `rclone serve restic`."""

    base: str  # without a slash at its end
    user: str
    password: str = field(repr=False)

    def url(self, repository: RepositoryName) -> str:
        """See Place."""
        return "" if self.user else self.shown(repository)

    def shown(self, repository: RepositoryName) -> str:
        """See Place."""
        return f"rest:{self.base}/{repository}/"

    def environment(self, repository: RepositoryName) -> dict[str, str]:
        """The address with user and password: restic before 0.16 takes them from nowhere else, and arguments are seen by everybody."""
        if not self.user:
            return {}
        parts = urlsplit(self.base)
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@{parts.netloc}"
        return {"RESTIC_REPOSITORY": f"rest:{urlunsplit(parts._replace(netloc=login))}/{repository}/"}

    def check(self) -> None:
        """See Place."""
        self._listed("papers", "keys")

    def names(self, repository: RepositoryName, start: str = "", limit: int = 1000) -> list[str]:
        """See Place."""
        kinds = [kind for kind in _KINDS if kind.startswith(start) or start.startswith(kind + "/")]
        found = [f"{kind}/{name}" for kind in kinds for name in self._listed(repository, kind)]
        if "config".startswith(start) and self._ask("HEAD", f"{repository}/config") is not None:
            found.insert(0, "config")
        return [name for name in found if name.startswith(start)][:limit]

    def config(self, repository: RepositoryName) -> bytes | None:
        """See Place."""
        return self._ask("GET", f"{repository}/config")

    def remove(self, repository: RepositoryName, names: Sequence[str]) -> None:
        """See Place."""
        for name in names:
            self._ask("DELETE", f"{repository}/{name}")

    def _listed(self, repository: RepositoryName, kind: str) -> list[str]:
        answer = self._ask("GET", f"{repository}/{kind}/")
        try:
            found: list[Any] = json.loads(answer) if answer else []
            return [str(one["name"]) if isinstance(one, dict) else str(one) for one in found or []]
        except (ValueError, KeyError, TypeError) as error:
            raise OutOfReach(f"what answers at {self.base} is no restic REST server", "check the url of the copy in the settings") from error

    def _ask(self, method: str, path: str) -> bytes | None:
        """The answer's body; None for 404."""
        headers = {"Accept": "application/vnd.x.restic.rest.v2"}
        if self.user:
            headers["Authorization"] = "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(f"{self.base}/{path}", method=method, headers=headers)  # noqa: S310 - the scheme was checked
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                return bytes(answer.read(_MAX_ANSWER))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            if error.code in (401, 403):
                raise SettingsError(
                    f"{self.base} refuses the credentials, or what we want to do with them ({error.code})", "check user and password"
                ) from error
            raise Away(f"{self.base} answers with an error: {error.code}", "try again later; if it lasts, look at the service") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Away(f"{self.base} cannot be reached: {reason}", "check the url of the copy in the settings and the network") from error


def place(installation: Installation, role: S3Role, secrets: RoleSecrets | None = None, copy: str = "") -> Place:
    """The first place, or that of a copy, with the credential of `role`. Raises SettingsError, OutOfReach."""
    regions = tuple(installation.settings.backup.allowed_regions)
    if not copy:
        return BucketPlace(access(installation, role, secrets), regions)
    settings = installation.settings.copies.get(copy)
    if settings is None:
        known = ", ".join(sorted(installation.settings.copies)) or "there are none"
        raise SettingsError(f"there is no copy '{copy}' in the settings", f"add [copies.{copy}] to nightsafe.toml; known: {known}")
    kind, _, rest = settings.url.partition(":")
    if kind == "s3":
        key, secret = copy_credentials(installation, copy, role, ("access_key", "secret_key"))
        parts = urlsplit(rest)
        bucket, _, prefix = parts.path.strip("/").partition("/")
        return BucketPlace(S3Access(f"{parts.scheme}://{parts.netloc}", bucket, prefix, settings.region, key, secret), regions)
    if kind == "rest":
        user, password = ("", "") if settings.credentials_file is None else copy_credentials(installation, copy, role, ("user", "password"))
        return RestPlace(rest.rstrip("/"), user, password)
    return FolderPlace(installation.path(Path(settings.url)))


def split_name(recorded: str) -> tuple[RepositoryName, str]:
    """(repository, copy) of a name that the catalog knows."""
    repository, _, copy = recorded.partition("@")
    return ("keys" if repository == "keys" else "papers"), copy


def of_this_repository(catalog: Catalog, runs: Iterable[Run], copy: str = "") -> list[Run]:
    """The runs that concern the repositories which a place has now, and not those that were there before and are lost."""
    name = recorded_name("papers", copy)
    known = catalog.repository(name)
    if known is None or not any(one.name.startswith(name + GIVEN_UP) for one in catalog.repositories_given_up()):
        return list(runs)  # without a look at the clock, which may have been set since
    return [run for run in runs if run.ended_at is None or run.ended_at >= known.created_at]


def recorded_name(repository: RepositoryName, copy: str = "") -> str:
    """Under which name the catalog knows a repository."""
    return f"{repository}@{copy}" if copy else repository


def from_words(copy: str) -> str:
    """What is put behind a command in an advice, so that it means this place: advice for another one may do harm there."""
    return f" --from {copy}" if copy else ""


def save_words(copy: str) -> str:
    """The command that backs up to this place."""
    return f"nightsafe backup copy {copy}" if copy else "nightsafe backup run"
