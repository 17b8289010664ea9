"""`nightsafe credentials`: each role's secrets in files, for LoadCredential of the service manager."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import click

from backup.repositories.access import CREDENTIAL as S3_CREDENTIAL
from backup.repositories.access import S3Role, credential_tables
from backup.web import CREDENTIAL as TOKEN
from config.cli import data_option
from config.console import say
from config.errors import UsageError
from config.files import make_folder
from config.loading import Installation, open_installation
from config.rights import role_users
from config.roles import set_on_signals
from gateway.keys.keyring import Keyring
from gateway.keys.master import load_master
from gateway.keys.pieces import MAX_PIECE_BYTES
from gateway.keys.secrets import secrets_for
from gateway.notify.receivers import CREDENTIAL as RECEIVERS

S3_PAIRS: Mapping[str, tuple[S3Role, ...]] = {"backup": ("writer",), "drill": ("reader",), "prune": ("pruner",)}
HOLDERS = ("keyd", "ingest", *S3_PAIRS, "web")  # the gateway gets none
MEMORY = ("tmpfs", "ramfs")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--hold", is_flag=True, help="Give each folder to its role's user, and stay until ended; then remove them. For containers.")
@data_option
def credentials(folder: Path, hold: bool, data: Path | None) -> None:
    """Open each role's secrets with the master, and put them into FOLDER/ROLE/NAME, which must be on a RAM disk.

    The units of the roles take them from there by LoadCredential, each its own. Run by root, by nightsafe-credentials.service. With --hold each
    role's user reads its folder itself, and FOLDER/ready is there once all are.

    Example: nightsafe credentials /run/nightsafe/credentials
    """
    if os.geteuid() != 0:
        raise UsageError("only root may do that", "the service manager does it: systemctl restart nightsafe-credentials")
    installation = open_installation(data)
    users = role_users() if hold else {}
    make_folder(folder, 0o700)
    _check_memory(folder)
    for role in HOLDERS:
        _put(folder / role, _values(installation, role), users.get(role))
    say(f"The secrets of {', '.join(HOLDERS)} are in {folder}.")
    if hold:
        _hold(folder)


def _hold(folder: Path) -> None:
    """Keep the RAM disk in use, which goes with the last that uses it; tidy up at the end."""
    folder.chmod(0o711)
    ended = threading.Event()
    set_on_signals(ended)
    ready = folder / "ready"
    ready.touch()
    try:
        ended.wait()
    finally:
        ready.unlink(missing_ok=True)
        for role in HOLDERS:
            shutil.rmtree(folder / role, ignore_errors=True)


def _values(installation: Installation, role: str) -> dict[str, bytes]:
    values = secrets_for(role, Keyring(installation.folder), load_master(installation))
    if role in S3_PAIRS:
        values[S3_CREDENTIAL] = _toml(credential_tables(installation, S3_PAIRS[role])).encode()
    if role == "backup":
        values[RECEIVERS] = _file(installation, installation.settings.notify.receivers_file)
    if role == "web":
        values[TOKEN] = _file(installation, installation.settings.web.token_file)
    return values


def _file(installation: Installation, named: Path | None) -> bytes:
    """What a file holds that the settings name; nothing where there is none, which the role that needs it says itself: the others must start."""
    path = None if named is None else installation.path(named)
    return path.read_bytes()[:MAX_PIECE_BYTES] if path is not None and path.exists() else b""


def _toml(tables: Mapping[str, object], prefix: str = "") -> str:
    """Tables of texts, nested or not. A JSON string is a TOML string."""
    lines = []
    for name, value in tables.items():
        if isinstance(value, Mapping):
            path = f"{prefix}{json.dumps(name, ensure_ascii=False)}"
            lines.append(f"[{path}]\n{_toml(value, path + '.')}")
        else:
            lines.append(f"{json.dumps(name)} = {json.dumps(str(value), ensure_ascii=False)}\n")
    return "".join(lines)


def _put(folder: Path, values: Mapping[str, bytes], user: int | None) -> None:
    if folder.exists():
        shutil.rmtree(folder)  # what a role no longer gets must not stay
    folder.mkdir(0o700)
    for name, value in values.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
        with open(descriptor, "wb") as file:
            file.write(value)
            if user is not None:
                os.fchown(descriptor, user, user)
    if user is not None:
        os.chown(folder, user, user)


def _check_memory(folder: Path) -> None:
    """A secret must not come to lie on a disk."""
    done = subprocess.run(["stat", "-f", "-c", "%T", "--", folder], capture_output=True, text=True, check=False)
    if done.stdout.strip() not in MEMORY:
        raise UsageError(f"{folder} is not on a RAM disk", "name a folder below /run")
