"""A signed bundle: a folder of files, a manifest, and the SHA-256 of all of them in a file whose signature (namespace audit@nightsafe)

    ssh-keygen -Y verify -f allowed_signers -I audit -n audit@nightsafe -s SHA256SUMS.sig < SHA256SUMS

checks; `sha256sum -c SHA256SUMS` then checks the files. The manifest is signed by itself, too. CHECK.txt tells a stranger.
The folder appears whole, under its name, or not at all. Files are written as streams.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from config.errors import OutOfReach, UsageError
from config.files import TEMPORARY_PREFIX, fsync_folder, write_whole
from config.printable import json_line
from gateway.audit.signatures import AUDIT, SigningKey, sign

FORM = 1
MANIFEST, SUMS, CHECK = "manifest.json", "SHA256SUMS", "CHECK.txt"


class Stream:
    """A file of a bundle while it is written: counted and hashed as it goes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | str) -> None:
        """Write text (UTF-8; what is no text is escaped) or bytes."""
        raw = data.encode(errors="backslashreplace") if isinstance(data, str) else data
        self._file.write(raw)
        self._hash.update(raw)
        self.size += len(raw)

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()


class Bundle:
    """A bundle under way; see `bundling`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, dict[str, Any]] = {}

    @contextmanager
    def file(self, name: str) -> Iterator[Stream]:
        """A new file of this name, durable at the end of the block."""
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=1024 * 1024) as file:
            stream = Stream(file)
            yield stream
            file.flush()
            os.fsync(file.fileno())
        self._files[name] = {"sha256": stream.sha256, "size": stream.size}

    def seal(self, facts: Mapping[str, Any], signer: SigningKey, allowed_signers: bytes) -> None:
        """Write sums, manifest and signature; `facts` are JSON values of the manifest, `allowed_signers` lies beside it for convenience."""
        with self.file("allowed_signers") as stream:
            stream.write(allowed_signers)
        with self.file(CHECK) as stream:
            stream.write(Path(__file__).with_name("check.txt").read_bytes())
        body = encode({"nightsafe_bundle": FORM, **facts, "files": self._files})
        hashes = {name: told["sha256"] for name, told in self._files.items()} | {MANIFEST: hashlib.sha256(body).hexdigest()}
        sums = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items())).encode()
        write_whole(self._folder / SUMS, sums)
        write_whole(self._folder / f"{SUMS}.sig", sign(signer, AUDIT, sums).encode())
        write_whole(self._folder / f"{MANIFEST}.sig", sign(signer, AUDIT, body).encode())
        write_whole(self._folder / MANIFEST, body)


@contextmanager
def bundling(target: Path) -> Iterator[Bundle]:
    """A bundle that gets the name `target` at the end of the block, and leaves nothing behind when that ends by an exception.

    Raises UsageError when the name is taken or its folder missing, OutOfReach when the disk refuses.
    """
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} is there already", "name a folder that is not there yet")
    if not target.parent.is_dir():
        raise UsageError(f"the folder {target.parent} does not exist", "make it, or choose another place")
    temporary = target.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        temporary.mkdir(0o700)
        try:
            yield Bundle(temporary)
            fsync_folder(temporary)
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(target.parent)
    except OSError as error:
        raise OutOfReach(f"{target} cannot be written: {error.strerror or error}", "look at the disk, and at the rights of the folder") from error


def encode(values: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: JSON in UTF-8, keys sorted, two spaces, a newline at the end."""
    return (json_line(values, indent=2, sort_keys=True) + "\n").encode()
