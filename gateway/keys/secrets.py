"""What each role needs, and the three ways by which it gets it.

1. An inherited descriptor (`NIGHTSAFE_SECRETS_FD`): the supervisor opened everything and hands each role its own part through a pipe.
2. `$CREDENTIALS_DIRECTORY/NAME` (systemd's LoadCredential): one file a secret.
3. The master: the role opens its own part itself. For a look, and where all roles run as one user anyway.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path

from config.errors import SettingsError
from config.loading import Installation
from gateway.age import AgeError, Identity, parse_identities
from gateway.keys import keyring as names
from gateway.keys.identities import identity_file
from gateway.keys.keyring import Keyring
from gateway.keys.master import CREDENTIALS_DIRECTORY, load_master
from gateway.keys.pieces import read_piece

DESCRIPTOR = "NIGHTSAFE_SECRETS_FD"
MAX_BYTES = 1024 * 1024  # of the secrets of one role, encoded

MASTER = "master"
INGEST_IDENTITIES = "ingest-identities"

ROLES: Mapping[str, tuple[str, ...]] = {
    "gateway": (),
    "keyd": (MASTER,),  # it opens the identities of ingest with it, and so sees a new one without a restart
    "ingest": (INGEST_IDENTITIES, names.RECEIPT_SIGNING),
    "scheduler": (
        names.RESTIC_PAPERS,
        names.RESTIC_KEYS,
        names.RESTIC_KIT,  # a first backup gives the kit a key of its own in both repositories
        names.S3_WRITER,
        names.S3_READER,
        names.S3_PRUNER,
        names.EVIDENCE_SIGNING,
        names.CHECKPOINT_SIGNING,
        names.DESTRUCTION_SIGNING,
    ),
    # the scheduler in three, each under its own user
    "backup": (names.RESTIC_PAPERS, names.RESTIC_KEYS, names.RESTIC_KIT, names.S3_WRITER, names.CHECKPOINT_SIGNING),
    "drill": (names.RESTIC_PAPERS, names.RESTIC_KEYS, names.S3_READER, names.EVIDENCE_SIGNING),
    "prune": (names.RESTIC_PAPERS, names.RESTIC_KEYS, names.S3_PRUNER),
    "web": (),
    "s3": (names.S3_WRITER, names.S3_READER, names.S3_PRUNER),
}


class RoleSecrets(Mapping[str, bytes]):
    """The secrets of one role by name. Neither `str()` nor `repr()` tells more than the names."""

    def __init__(self, role: str, values: Mapping[str, bytes]) -> None:
        self._role = role
        self._values = dict(values)

    def __getitem__(self, name: str) -> bytes:
        if name not in self._values:
            raise SettingsError(f"the role '{self._role}' was given no secret '{name}'", "look at how the role is started: docs/reference")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, name: str) -> str:
        """A secret that is a line of text, such as a restic password."""
        return self[name].decode()

    def identities(self, name: str) -> list[Identity]:
        """A secret that is an age identity file; never empty. Raises SettingsError."""
        try:
            return parse_identities(self[name].decode("ascii", errors="replace"))
        except AgeError:
            raise SettingsError(f"the secret '{name}' of the role '{self._role}' holds no age identities") from None

    def values_of(self, name: str) -> dict[str, str]:
        """A secret that is a JSON object of texts, such as an S3 credential. Raises SettingsError."""
        try:
            values = json.loads(self[name])
        except ValueError:
            values = None
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise SettingsError(f"the secret '{name}' of the role '{self._role}' is not what it should be")
        return values

    def __repr__(self) -> str:
        return f"RoleSecrets({self._role!r}, {sorted(self._values)})"


def role_secrets(installation: Installation, role: str, environment: MutableMapping[str, str] | None = None) -> RoleSecrets:
    """The secrets of `role`. Raises SettingsError. An inherited descriptor is read once: it is closed, and its variable removed."""
    environment = os.environ if environment is None else environment
    if DESCRIPTOR in environment:
        return RoleSecrets(role, _from_descriptor(environment.pop(DESCRIPTOR), role))
    folder = environment.get(CREDENTIALS_DIRECTORY)
    values = {name: data for name in ROLES[role] if (data := _credential(folder, name)) is not None}
    missing = [name for name in ROLES[role] if name not in values]
    if missing:
        opened = _open(missing, Keyring(installation.folder), load_master(installation, environment))
        values.update(opened)
    return RoleSecrets(role, values)


def secrets_for(role: str, keyring: Keyring, master: Identity) -> dict[str, bytes]:
    """What `role` needs, opened with the master: for the supervisor. Raises SettingsError, KeyDamaged."""
    return _open(ROLES[role], keyring, master)


def encode_secrets(values: Mapping[str, bytes]) -> bytes:
    """What the supervisor writes into the pipe of a role. Raises SettingsError when it is more than `role_secrets` reads."""
    data = json.dumps({name: base64.b64encode(value).decode() for name, value in values.items()}).encode()
    if len(data) > MAX_BYTES:
        raise SettingsError("the secrets of a role are too long for its pipe", "are there thousands of keys for ingest? remove old ones")
    return data


def _open(wanted: tuple[str, ...] | list[str], keyring: Keyring, master: Identity) -> dict[str, bytes]:
    special: Mapping[str, Callable[[], bytes]] = {
        MASTER: lambda: identity_file(master).encode(),
        INGEST_IDENTITIES: lambda: "".join(identity_file(one) for one in keyring.ingest_identities(master)).encode(),
    }
    return {name: special[name]() if name in special else keyring.open_secret(name, master) for name in wanted}


def _credential(folder: str | None, name: str) -> bytes | None:
    if not folder:
        return None
    try:
        return read_piece(Path(folder) / name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"the credential '{name}' cannot be read: {error.strerror or error}", "look at LoadCredential in the unit") from error


def _from_descriptor(number: str, role: str) -> dict[str, bytes]:
    try:
        with open(int(number), "rb") as pipe:
            values = json.loads(pipe.read(MAX_BYTES + 1))
        return {str(name): base64.b64decode(value, validate=True) for name, value in values.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise SettingsError(
            f"the secrets for the role '{role}' cannot be read from the descriptor in {DESCRIPTOR}", "only 'nightsafe up' sets it; unset it"
        ) from None
