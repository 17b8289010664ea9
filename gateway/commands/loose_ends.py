"""What settings lack though each of them is right by itself: files that are not there, and others that they need beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.errors import SettingsError
from config.loading import Installation
from gateway.keys.master import check_place, master_source
from gateway.notify.receivers import receivers

ROLES = "[writer], [reader] and [pruner]"


def loose_ends(installation: Installation) -> Iterator[str]:
    """Each as `key: what is wrong; what to do`."""
    yield from _files(installation)
    yield from _credentials(installation)
    yield from _host_key(installation)
    for key, check in (("keys", _master), ("notify", receivers)):
        try:
            check(installation)
        except SettingsError as error:
            yield f"{key}: {error.message}; {error.hint}"


def _files(installation: Installation) -> Iterator[str]:
    settings = installation.settings
    named: dict[str, Path | None] = {
        "s3.credentials_file": settings.s3.credentials_file,
        "scan.clamd_config": settings.scan.clamd_config,
        "web.token_file": settings.web.token_file,
        **{f"copies.{name}.credentials_file": copy.credentials_file for name, copy in settings.copies.items()},
    }
    for key, path in named.items():
        if path is not None and not installation.path(path).is_file():
            yield f"{key}: {installation.path(path)} is not there; make it, or name another"


def _credentials(installation: Installation) -> Iterator[str]:
    """Places that ask who comes, without an answer."""
    s3, form = installation.settings.s3, "a TOML file (mode 0600) with tables"
    if not s3.is_embedded and s3.credentials_file is None:
        yield f"s3.credentials_file: is not set, and {s3.endpoint} wants to know who comes; name {form} {ROLES}, each with access_key and secret_key"
    for name, copy in installation.settings.copies.items():
        kind = copy.url.partition(":")[0]
        if kind in ("s3", "rest") and copy.credentials_file is None:
            pair = "access_key and secret_key" if kind == "s3" else "user and password"
            yield f"copies.{name}.credentials_file: is not set, and {copy.url} wants to know who comes; name {form} {ROLES}, each with {pair}"


def _host_key(installation: Installation) -> Iterator[str]:
    if installation.settings.gateway.algorithms == "nist" and not installation.folder.nist_host_key.exists():
        yield "gateway.algorithms: there is no host key for the policy 'nist'; make it with: nightsafe host-key --nist"


def _master(installation: Installation) -> None:
    """That the master can be where the settings say. It is not opened: whoever checks the settings need not be allowed to."""
    keys = installation.settings.keys
    master_source(installation, {})
    if keys.master_source == "file":
        check_place(installation.path(keys.master_file), installation.folder)
    elif keys.master_source == "kms":
        check_place(installation.path(keys.kms_file), installation.folder, "keys.kms_file")
