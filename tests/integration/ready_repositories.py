"""Empty restic repositories, made without restic: the same few files, with keys whose scrypt costs nothing.

restic calibrates scrypt at `init` and `key add` to half a second of one core, and then spends that at every single call. Tests of what happens
afterwards need none of it. What is made here is read and written by the real restic; the tests of `init` itself use the real `init`.

The forms are those of restic's design document: AES-256-CTR with Poly1305-AES over nonce, ciphertext and tag.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from backup.repositories.access import S3Access, access
from backup.repositories.places import BucketPlace, FolderPlace, place
from config.loading import Installation
from gateway.keys.keyring import RESTIC_KEYS, RESTIC_KIT, RESTIC_PAPERS, Keyring
from gateway.keys.master import load_master
from gateway.keys.secrets import role_secrets

POLYNOMIAL = "3da3358b4dc173"  # irreducible; the one of restic's own tests
N, R, P = 2, 1, 1


def repository_files(*passwords: bytes) -> tuple[str, dict[str, bytes]]:
    """(id, files by their path in the repository) of a new repository that each of `passwords` opens."""
    identity = secrets.token_hex(32)
    encrypt, mac_k, mac_r = os.urandom(32), os.urandom(16), _clamped(os.urandom(16))
    master = {"mac": {"k": _text(mac_k), "r": _text(mac_r)}, "encrypt": _text(encrypt)}
    config = {"version": 2, "id": identity, "chunker_polynomial": POLYNOMIAL}
    files = {"config": _sealed(encrypt, mac_k, mac_r, json.dumps(config).encode())}
    for password in passwords:
        key = _key_file(password, json.dumps(master).encode())
        files[f"keys/{hashlib.sha256(key).hexdigest()}"] = key
    return identity, files


def prepare(installation: Installation) -> None:
    """Put both repositories of an installation into its bucket. The next backup takes them over, as it does those of a run that died."""
    _put(access(installation, "writer"), installation)


def fill_place(installation: Installation, copy: str, served: Path | None = None) -> None:
    """The same for a copy; `served` is the folder behind a REST server."""
    there = place(installation, "writer", copy=copy)
    if isinstance(there, BucketPlace):
        _put(there.s3, installation)
        return
    root = there.root if isinstance(there, FolderPlace) else served
    assert root is not None
    for name, files in _both(installation):
        for kind in ("data", "index", "keys", "locks", "snapshots"):
            (root / name / kind).mkdir(parents=True)
        for path, data in files.items():
            (root / name / path).write_bytes(data)


def _put(there: S3Access, installation: Installation) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=there.endpoint,
        region_name=there.region,
        aws_access_key_id=there.access_key,
        aws_secret_access_key=there.secret_key,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )
    for name, files in _both(installation):
        for path, data in files.items():
            client.put_object(Bucket=there.bucket, Key=there.folder(name) + path, Body=data)


def _both(installation: Installation) -> Iterator[tuple[str, dict[str, bytes]]]:
    passwords = role_secrets(installation, "scheduler")
    kit = Keyring(installation.folder).open_secret(RESTIC_KIT, load_master(installation))
    for name, password in (("papers", RESTIC_PAPERS), ("keys", RESTIC_KEYS)):
        yield name, repository_files(passwords[password], kit)[1]


def prepare_folder(folder: Path, password: bytes) -> None:
    """A repository in a folder."""
    for name in ("data", "index", "keys", "locks", "snapshots"):
        (folder / name).mkdir(parents=True)
    for path, data in repository_files(password)[1].items():
        (folder / path).write_bytes(data)


def _key_file(password: bytes, master: bytes) -> bytes:
    salt = os.urandom(64)
    derived = hashlib.scrypt(password, salt=salt, n=N, r=R, p=P, dklen=64)
    data = _sealed(derived[:32], derived[32:48], derived[48:64], master)
    facts = {"created": "2026-01-01T00:00:00Z", "username": "test", "hostname": "test", "kdf": "scrypt", "N": N, "r": R, "p": P}
    return json.dumps(facts | {"salt": _text(salt), "data": _text(data)}).encode()


def _sealed(encrypt: bytes, mac_k: bytes, mac_r: bytes, plaintext: bytes) -> bytes:
    nonce = os.urandom(16)
    encryptor = Cipher(algorithms.AES(encrypt), modes.CTR(nonce)).encryptor()
    ciphertext = encryptor.update(plaintext) + encryptor.finalize()
    block = Cipher(algorithms.AES(mac_k), modes.ECB()).encryptor()
    tag = Poly1305.generate_tag(_clamped(mac_r) + block.update(nonce) + block.finalize(), ciphertext)
    return nonce + ciphertext + tag


def _clamped(r: bytes) -> bytes:
    mask = bytes.fromhex("ffffff0ffcffff0ffcffff0ffcffff0f")
    return bytes(a & b for a, b in zip(r, mask, strict=True))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
