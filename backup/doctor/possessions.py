"""Who may read what lies here: the data folder, the master secret, files with credentials."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from backup.doctor.finding import Finding, named
from config.acl import get_acl
from config.advice import command, setting
from config.errors import SettingsError
from config.loading import Installation
from config.rights import faults, role_users
from config.words import counted
from gateway.keys.master import load_master, master_source

MOST_FAULTS = 1000  # that are counted
WALKED = ("keys", "ingest-keys", "audit", "evidence", "run")  # looked at whole; of the others the folder itself
OPEN = "anybody with a login on this machine can read or change it"


def check_folder(installation: Installation) -> Iterator[Finding]:
    """Modes and owners in the data folder. Content is not looked at, and folders that hold papers are not walked through."""
    root = installation.folder.root
    if (rights := get_acl(root)) is not None and rights.users:
        yield from _check_rights(installation)
        return
    owner, opened, strange, links = root.stat().st_uid, [], [], []
    for path in _walk(root):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            links.append(str(path))
        elif status.st_mode & 0o077:
            opened.append(str(path))
        if status.st_uid != owner:
            strange.append(str(path))
    if opened:
        mend = command("chmod", "go-rwx", paths=opened, instead=("chmod", "-R", "go-rwx", str(root)))
        yield Finding("bad", "modes", f"open to other users: {named(opened)}", OPEN, mend)
    if strange:
        yield Finding(
            "bad", "owners", f"belongs to a strange user: {named(strange)}", "a role that may not write there stops working, or somebody else can",
            command("chown", "-h", f"--reference={root}", paths=strange, instead=("chown", "-hR", f"--reference={root}", str(root))),
        )  # fmt: skip
    if links:
        yield Finding(
            "bad", "links", f"symbolic links where none belong: {named(links)}", "a link leads writes to where nobody expects them",
            command("rm", paths=links),
        )  # fmt: skip
    if not (opened or strange or links):
        yield Finding("good", "owners and modes", f"{root} is closed to other users")


def _check_rights(installation: Installation) -> Iterator[Finding]:
    """Where each role has a user of its own: the rights of everything, against the table."""
    found = list(islice(faults(installation, role_users()), MOST_FAULTS))
    if found:
        why = "a role that may not do its work stops, and one that may do more is worth breaking into"
        yield Finding("bad", "rights", f"other than they should be: {named(found)}", why, "nightsafe permissions apply")
    else:
        yield Finding("good", "rights", "each role's user has what the table says, and nothing more")


def _walk(root: Path) -> Iterator[Path]:
    yield root
    for path in sorted(root.iterdir()):
        yield path
        if path.name in WALKED and path.is_dir() and not path.is_symlink():
            yield from sorted(path.rglob("*"))


def check_master(installation: Installation) -> Iterator[Finding]:
    """Where the master secret lies, and whether it can be had."""
    settings, folder = installation.settings.keys, installation.folder
    try:
        load_master(installation)
    except SettingsError as error:
        yield Finding("bad", "master", error.message, "without it, no paper of a managed client opens; open to others, all of them do", error.hint)
        return
    if type(master_source(installation)).__name__ == "Credential":
        yield Finding("good", "master", "given by the service manager")
        return
    if settings.master_source != "file":
        yield Finding("good", "master", f"from {'AWS KMS' if settings.master_source == 'kms' else 'a command'}")
        return
    path = installation.path(settings.master_file)
    if path.stat().st_dev == folder.root.stat().st_dev:
        yield Finding(
            "note", "master", f"{path} lies on the disk of the data folder", "whoever takes this disk away opens every managed paper on it",
            "encrypt the disk, or see docs/how-to/keep-the-master-in-a-kms.md",
        )  # fmt: skip
    else:
        yield Finding("good", "master", f"{path}, on another disk than the data")


def check_private_files(installation: Installation) -> Iterator[Finding]:
    """Files with credentials, which the settings name."""
    settings = installation.settings
    files = [settings.s3.credentials_file, *(copy.credentials_file for copy in settings.copies.values())]
    files.append(settings.notify.receivers_file if settings.notify.events else None)
    there = [path for path in (installation.path(name) for name in files if name is not None) if path.exists()]
    wrong = [str(path) for path in there if path.stat().st_mode & 0o077]
    if wrong:
        yield Finding(
            "bad",
            "credentials",
            f"open to other users: {named(wrong)}",
            "whoever reads them can read, or delete, the backups",
            command("chmod", "600", paths=wrong),
        )
    elif there:
        yield Finding("good", "credentials", f"{counted(len(there), 'file')}, closed to other users")
    inside = [
        str(path)
        for path in there
        if os.path.commonpath([path.resolve(), installation.folder.root.resolve()]) == str(installation.folder.root.resolve())
    ]
    if inside:
        mend = _moved(installation, inside[0])
        yield Finding("warning", "credentials", f"inside the data folder: {named(inside)}", "they go into every backup", mend)


def _moved(installation: Installation, path: str) -> str:
    """How a file is taken out of the data folder, and the settings that name it."""
    settings, beside = installation.settings, installation.folder.root.parent / Path(path).name
    named_by = [("s3", "credentials_file", settings.s3.credentials_file), ("notify", "receivers_file", settings.notify.receivers_file)]
    named_by += [(f"copies.{name}", "credentials_file", copy.credentials_file) for name, copy in settings.copies.items()]
    lines = [setting(section, key, str(beside)) for section, key, value in named_by if value and str(installation.path(value)) == path]
    return "; ".join([command("mv", path, str(beside)), *lines])
