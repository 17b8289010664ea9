"""Where the bucket is, and with which credential a role may touch it.

Three credentials, by what they may do: the writer adds (and removes its own locks), the reader reads, the pruner deletes. The embedded server's
are made at `init` and lie sealed among the keys; those of an external service stand in a file of their own.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from config.errors import Away, SettingsError
from config.loading import Installation, credential_file
from config.roles import role_state
from gateway.keys.secrets import RoleSecrets, role_secrets

S3Role = Literal["writer", "reader", "pruner"]
RepositoryName = Literal["papers", "keys"]
S3_ROLES: tuple[S3Role, ...] = ("writer", "reader", "pruner")
CREDENTIAL = "s3.toml"  # what the service manager gives a role of the files below: the same tables, those of a copy in [copies.NAME]


@dataclass(frozen=True)
class S3Access:
    """A bucket, and one credential for it. `endpoint` is a URL without a path at its end."""

    endpoint: str
    bucket: str
    prefix: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    embedded: bool = False

    def folder(self, name: str) -> str:
        """The part of the bucket that holds repository `name`; ends with a slash."""
        return "/".join(part for part in (*self.prefix.split("/"), name) if part) + "/"

    def url(self, name: str) -> str:
        """The repository as restic names it."""
        return f"s3:{self.endpoint}/{self.bucket}/{self.folder(name).rstrip('/')}"

    def place(self, name: str) -> str:
        """The same as the catalog remembers it: the embedded server's port may change."""
        return f"s3:embedded/{self.bucket}/{self.folder(name).rstrip('/')}" if self.embedded else self.url(name)

    def environment(self) -> dict[str, str]:
        """What restic reads from its environment."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key, "AWS_DEFAULT_REGION": self.region}


def access(installation: Installation, role: S3Role, secrets: RoleSecrets | None = None) -> S3Access:
    """The bucket with the credential of `role`.

    `secrets` are the calling role's; without them the command line's way is taken (the master opens them). Raises OutOfReach when the embedded
    server does not run, SettingsError when credentials are missing or lie open.
    """
    settings = installation.settings.s3
    if not settings.is_embedded:
        key, secret = file_credentials(installation, role)
        return S3Access(settings.endpoint, settings.bucket, settings.prefix, settings.region, key, secret)
    state = role_state(installation.folder, "s3")
    if state is None or not isinstance(state.get("endpoint"), str):
        raise Away("the embedded S3 server does not run", "it is part of nightsafe up; or name a service of your own: docs/how-to/use-your-own-s3.md")
    key, secret = sealed_credentials(secrets or role_secrets(installation, "s3"), role)
    return S3Access(state["endpoint"], settings.bucket, settings.prefix, settings.region, key, secret, embedded=True)


def sealed_credentials(secrets: RoleSecrets, role: S3Role) -> tuple[str, str]:
    """Access key and secret key of `role` at the embedded server. Raises SettingsError."""
    return _pair(secrets.values_of(f"s3-{role}"), f"the secret 's3-{role}'")


def file_credentials(installation: Installation, role: S3Role) -> tuple[str, str]:
    """Access key and secret key of `role` from `s3.credentials_file`. Raises SettingsError that names what is wrong with the file."""
    named = installation.settings.s3.credentials_file
    if named is None:
        raise SettingsError(
            "s3.endpoint is set, but s3.credentials_file is not",
            "write a TOML file (mode 0600) with tables [writer], [reader] and [pruner], each with access_key and secret_key, and name it there",
        )
    return _from_file(installation.path(named), role, ("access_key", "secret_key"), "")


def copy_credentials(installation: Installation, copy: str, role: S3Role, words: tuple[str, str]) -> tuple[str, str]:
    """The pair of `role` from the credentials file of a copy, under these two names. Raises SettingsError."""
    named = installation.settings.copies[copy].credentials_file
    if named is None:
        raise SettingsError(
            f"copies.{copy} has no credentials_file",
            f"write a TOML file (mode 0600) with tables [writer], [reader] and [pruner], each with {' and '.join(words)}, and name it there",
        )
    return _from_file(installation.path(named), role, words, copy)


def credential_tables(installation: Installation, roles: tuple[S3Role, ...]) -> dict[str, Any]:
    """What the files of credentials, the first place's and the copies', hold for `roles`: the tables of a CREDENTIAL. Raises SettingsError."""
    settings = installation.settings
    found: dict[str, Any] = {"copies": {}}
    if not settings.s3.is_embedded and settings.s3.credentials_file is not None:
        tables = _read_private(installation.path(settings.s3.credentials_file))
        found |= {role: dict(tables[role]) for role in roles if role in tables}
    for name, copy in settings.copies.items():
        if copy.credentials_file is not None:
            tables = _read_private(installation.path(copy.credentials_file))
            found["copies"][name] = {role: dict(tables[role]) for role in roles if role in tables}
    return found


def _from_file(path: Path, role: S3Role, words: tuple[str, str], copy: str) -> tuple[str, str]:
    given = credential_file(CREDENTIAL)
    tables = _read_private(given, own=False) if given is not None else {}
    if copy:
        tables = tables.get("copies", {}).get(copy, {})
    if given is None or not tables:
        tables = _read_private(path)
    table = tables.get(role)
    if not isinstance(table, Mapping):
        raise SettingsError(f"{path} has no table [{role}]", f"it needs [writer], [reader] and [pruner], each with {' and '.join(words)}")
    return _pair(table, f"the table [{role}] of {path}", words)


def is_offsite(endpoint: str) -> bool:
    """Whether `endpoint` is a service on another site, as far as its name tells. `embedded` is none; a name without a dot, such as that of another
    container, is of this machine or of one beside it."""
    host = urlsplit(endpoint).hostname
    if host is None or host == "localhost" or host.endswith(".localhost") or host in (socket.gethostname(), socket.getfqdn()):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." in host.rstrip(".")
    return not (address.is_loopback or address.is_unspecified)


def _read_private(path: Path, *, own: bool = True) -> Mapping[str, Any]:
    """`own`: the file must be closed to others; what the service manager shows us is."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            data = file.read(64 * 1024)
    except OSError as error:
        raise SettingsError(f"the credentials file {path} cannot be read: {error.strerror or error}", "check s3.credentials_file") from None
    if not stat.S_ISREG(status.st_mode) or (own and status.st_mode & 0o077):
        raise SettingsError(f"the credentials file {path} can be read by other users", f"close it with: chmod 600 {path}")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # their text could quote a secret
        raise SettingsError(f"the credentials file {path} is not valid TOML", "it needs [writer], [reader] and [pruner]") from None


def _pair(values: Mapping[str, Any], where: str, words: tuple[str, str] = ("access_key", "secret_key")) -> tuple[str, str]:
    first, second = (values.get(word) for word in words)
    if not (isinstance(first, str) and first and isinstance(second, str) and second):
        raise SettingsError(f"{where} lacks {words[0]} or {words[1]}", "both must be texts")
    return first, second
