"""Everything in DATA/keys and DATA/ingest-keys: making it once, reading it back.

    master.recipient            age recipient of the master
    recovery.recipients         age recipients of the recovery identities, one a line
    clients/CLIENT/N.age        the client's identity of generation N, sealed to master and recovery; N.recipient its public half
    host/ssh_host_ed25519_key   the SSH host key, in clear (0600): the gateway reads it without a master; and .pub
    totp/PERSON.age             the seed of a person's second factor, sealed to master and recovery
    secrets/NAME.age            what the roles need, sealed to master and recovery; NAME.pub where there is a public half
    allowed_signers             public halves of the signing keys, for `ssh-keygen -Y verify`
    ../ingest-keys/N.age        identities of ingest, sealed to the master alone, never backed up; N.recipient

A pair comes to be in this order: public half, then secret half. Only the secret half makes the pair exist, so a public half without it is a
leftover of an interruption and is written anew; a secret half is never replaced.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from config.errors import SettingsError, UsageError
from config.files import make_folder, write_whole
from config.folder import DataFolder
from config.roles import exclusive
from gateway.age import AgeError, Identity, NoMatchError, Recipient, open_bytes, seal_bytes
from gateway.audit.signatures import CHECKPOINT, EVIDENCE, RECEIPT, SigningKey, allowed_signers_line
from gateway.catalog.names import check_name
from gateway.keys.errors import KeyDamaged, KeyMismatch
from gateway.keys.master import identity_file, parse_identity
from gateway.keys.pieces import read_piece, write_new

SECRET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
GENERATION = re.compile(r"([1-9][0-9]{0,8})\.age", re.ASCII)

HOST_KEY = "host-key"
RECEIPT_SIGNING, EVIDENCE_SIGNING, CHECKPOINT_SIGNING = "receipt-signing", "evidence-signing", "checkpoint-signing"
SIGNERS = (  # secret, principal in allowed_signers, namespace
    (RECEIPT_SIGNING, "receipts", RECEIPT),
    (EVIDENCE_SIGNING, "evidence", EVIDENCE),
    (CHECKPOINT_SIGNING, "checkpoints", CHECKPOINT),
)
USER_CA = "user-ca"  # made when it is first wanted; signs logins' certificates, and nothing else
RESTIC_PAPERS, RESTIC_KEYS, RESTIC_KIT = "restic-papers", "restic-keys", "restic-kit"
S3_WRITER, S3_READER, S3_PRUNER = "s3-writer", "s3-reader", "s3-pruner"


@dataclass(frozen=True)
class ClientKey:
    """The public half of one generation of a client's key."""

    client: str
    generation: int
    recipient: Recipient


class Keyring:
    """The keys of one installation. Holds no secret itself: what opens something is passed in. Raises KeyDamaged for altered files."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: DataFolder, master: Recipient, recovery: Recipient) -> Self:
        """Make all keys of a new installation; what an interrupted run has made is kept. Raises SettingsError for another master or recovery."""
        keyring = cls(folder)
        with exclusive(folder, "keyring", f"another process makes keys in {folder.root}", "wait until it has ended"):
            keyring._record(keyring._master_file, [master])
            keyring._record(keyring._recovery_file, [recovery])
            if not _generations(folder.ingest_keys):
                _make_pair(folder.ingest_keys, 1, [master])
            for name, principal, _ in SIGNERS:
                keyring._make_signer(name, f"{principal} of nightsafe")
            keyring._make_host_key()
            for name in (RESTIC_PAPERS, RESTIC_KEYS, RESTIC_KIT):
                keyring._make_secret(name, lambda: secrets.token_urlsafe(32).encode())
            for name in (S3_WRITER, S3_READER, S3_PRUNER):
                keyring._make_secret(name, _s3_credential)
            write_whole(keyring.allowed_signers, keyring._allowed_signers().encode())
        return keyring

    @property
    def master_recipient(self) -> Recipient:
        """The public half of the master."""
        return _recipients(self._master_file)[0]

    @property
    def recovery_recipients(self) -> list[Recipient]:
        """The public halves of the recovery identities; never empty."""
        return _recipients(self._recovery_file)

    @property
    def allowed_signers(self) -> Path:
        """The file for `ssh-keygen -Y verify -f`."""
        return self.folder.keys / "allowed_signers"

    # clients

    def add_client(self, name: str) -> ClientKey:
        """Make the first key of a client; when it has one (an interrupted run), that is returned. Raises UsageError for a bad name."""
        check_name(name)
        with exclusive(self.folder, "keyring", f"another process makes keys in {self.folder.root}", "try again in a moment"):
            if not _generations(self.folder.client_keys(name)):
                _make_pair(self.folder.client_keys(name), 1, self._sealed_to())
        return self.client_recipient(name)

    def rotate_client(self, name: str) -> ClientKey:
        """Make the next generation of a client's key, for new papers. Raises UsageError when it has none yet."""
        with exclusive(self.folder, "keyring", f"another process makes keys in {self.folder.root}", "try again in a moment"):
            _make_pair(self.folder.client_keys(name), self.client_recipient(name).generation + 1, self._sealed_to())
        return self.client_recipient(name)

    def client_recipient(self, name: str) -> ClientKey:
        """The newest key of a client. Raises UsageError when it has none."""
        check_name(name)
        folder = self.folder.client_keys(name)
        generations = _generations(folder)
        if not generations:
            raise UsageError(f"there is no key for the client '{name}'", "look at: nightsafe client list")
        return ClientKey(name, generations[0], _recipients(folder / f"{generations[0]}.recipient")[0])

    def client_identities(self, name: str, master: Identity) -> list[Identity]:
        """Every generation of a client's identity, newest first; empty when the client has none here. `master` may be a recovery identity."""
        check_name(name)
        return _open_all(self.folder.client_keys(name), master)

    # ingest

    @property
    def ingest_recipient(self) -> Recipient:
        """What new spool files are sealed to. Raises SettingsError when there is none."""
        generations = _generations(self.folder.ingest_keys)
        if not generations:
            raise SettingsError("there is no ingest key", "it is in no backup: a restored data folder needs a new one")
        return _recipients(self.folder.ingest_keys / f"{generations[0]}.recipient")[0]

    def ingest_identities(self, master: Identity) -> list[Identity]:
        """What opens the spool, newest first."""
        return _open_all(self.folder.ingest_keys, master)

    # secrets

    def seal_secret(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, sealed to master and recovery. Raises UsageError when there is such a secret: none is ever replaced."""
        try:
            write_new(self._secret_file(name), seal_bytes(data, self._sealed_to()))
        except FileExistsError:
            raise UsageError(f"there is a secret '{name}' already", "it was not touched") from None

    def open_secret(self, name: str, identity: Identity) -> bytes:
        """A secret by its name; `identity` is the master or a recovery identity. Raises SettingsError when there is none."""
        try:
            sealed = read_piece(self._secret_file(name))
        except FileNotFoundError:
            raise SettingsError(f"there is no secret '{name}'", "restore the folder 'keys' from a backup") from None
        except OSError as error:
            raise KeyDamaged(f"the secret '{name}' cannot be read: {error.strerror}", "restore keys/secrets from a backup") from error
        return _open(sealed, identity, self._secret_file(name))

    def has_secret(self, name: str) -> bool:
        """Whether a secret of that name was kept."""
        return self._secret_file(name).exists()

    def public_half(self, name: str) -> str:
        """The public line of a signing key. Raises KeyDamaged when it cannot be read."""
        try:
            return read_piece(self._secret_file(name, ".pub")).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyDamaged(f"the public half of '{name}' cannot be read", "restore keys/secrets from a backup") from error

    def make_user_ca(self) -> str:
        """The public line of the CA for logins, made first where there is none."""
        with exclusive(self.folder, "keyring", f"another process makes keys in {self.folder.root}", "try again in a moment"):
            self._make_signer(USER_CA, "logins of nightsafe")
        return self.public_half(USER_CA)

    # second factors

    def seal_totp(self, person: str, seed: bytes) -> None:
        """Keep the seed of a person's second factor, in place of an older one."""
        make_folder(self.folder.totp_seeds)
        write_whole(self._totp_file(person), seal_bytes(seed, self._sealed_to()))

    def open_totp(self, person: str, identity: Identity) -> bytes:
        """The seed. Raises UsageError when there is none."""
        path = self._totp_file(person)
        try:
            sealed = read_piece(path)
        except FileNotFoundError:
            raise UsageError(f"'{person}' has no second factor", f"give one: nightsafe person edit {person} --totp") from None
        except OSError as error:
            raise KeyDamaged(f"{path} cannot be read: {error.strerror}", "restore it from the key repository") from error
        return _open(sealed, identity, path)

    def remove_totp(self, person: str) -> None:
        """Forget the seed."""
        self._totp_file(person).unlink(missing_ok=True)

    # pieces

    def _totp_file(self, person: str) -> Path:
        check_name(person)
        return self.folder.totp_seeds / f"{person}.age"

    @property
    def _master_file(self) -> Path:
        return self.folder.keys / "master.recipient"

    @property
    def _recovery_file(self) -> Path:
        return self.folder.keys / "recovery.recipients"

    def _secret_file(self, name: str, suffix: str = ".age") -> Path:
        if not SECRET_NAME.fullmatch(name):
            raise UsageError("that cannot be the name of a secret", "use a-z 0-9 and -")
        return self.folder.keys / "secrets" / f"{name}{suffix}"

    def _sealed_to(self) -> list[Recipient]:
        return [self.master_recipient, *self.recovery_recipients]

    def _record(self, path: Path, recipients: Sequence[Recipient]) -> None:
        try:
            write_new(path, "".join(f"{recipient}\n" for recipient in recipients).encode())
        except FileExistsError:
            if [str(recipient) for recipient in _recipients(path)] != [str(recipient) for recipient in recipients]:
                raise SettingsError(
                    f"the keys in {path.parent} were made for another {path.stem} key", "use the key they were made for; nothing was changed"
                ) from None

    def _make_secret(self, name: str, make: Callable[[], bytes]) -> None:
        if not self.has_secret(name):
            self.seal_secret(name, make())

    def _make_signer(self, name: str, comment: str) -> None:
        if not self.has_secret(name):
            key = SigningKey.generate(comment)
            write_whole(self._new_file(self._secret_file(name, ".pub")), key.public.encode() + b"\n")
            self.seal_secret(name, key.encode())

    def _make_host_key(self) -> None:
        path = self.folder.host_key
        if not path.exists():
            if self.has_secret(HOST_KEY):
                raise SettingsError(
                    f"the host key {path} is missing, its sealed copy is there",
                    f"put it back: age -d -i MASTER {self._secret_file(HOST_KEY)} > {path}",
                )
            key = SigningKey.generate("nightsafe host key")
            write_whole(self._new_file(path.with_name(path.name + ".pub")), key.public.encode() + b"\n")
            write_new(path, key.encode())
        self._make_secret(HOST_KEY, lambda: read_piece(path))

    def _new_file(self, path: Path) -> Path:
        make_folder(path.parent)
        return path

    def _allowed_signers(self) -> str:
        publics = {name: read_piece(self._secret_file(name, ".pub")).decode().strip() for name, _, _ in SIGNERS}
        return "".join(f"{allowed_signers_line(principal, namespace, publics[name]).strip()}\n" for name, principal, namespace in SIGNERS)


def _s3_credential() -> bytes:
    values = {"access_key": "NS" + secrets.token_hex(9).upper(), "secret_key": secrets.token_urlsafe(30)}
    return json.dumps(values, sort_keys=True).encode()


def _generations(folder: Path) -> list[int]:
    """Newest first."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted((int(match[1]) for name in names if (match := GENERATION.fullmatch(name))), reverse=True)


def _make_pair(folder: Path, generation: int, sealed_to: Sequence[Recipient]) -> None:
    identity = Identity.generate()
    make_folder(folder)
    write_whole(folder / f"{generation}.recipient", f"{identity.recipient}\n".encode())
    write_new(folder / f"{generation}.age", seal_bytes(identity_file(identity).encode(), sealed_to))


def _open_all(folder: Path, opener: Identity) -> list[Identity]:
    return [_open_pair(folder, generation, opener) for generation in _generations(folder)]


def _open_pair(folder: Path, generation: int, opener: Identity) -> Identity:
    path = folder / f"{generation}.age"
    try:
        sealed = read_piece(path)
    except OSError as error:
        raise KeyDamaged(f"the key {path} cannot be read: {error.strerror}", "restore it from the key repository") from error
    identity = parse_identity(_open(sealed, opener, path), str(path))
    if str(identity.recipient) != str(_recipients(folder / f"{generation}.recipient")[0]):
        raise KeyDamaged(f"the two halves of the key {path} do not belong together", "restore both from the key repository; somebody altered one")
    return identity


def _open(sealed: bytes, identity: Identity, path: Path) -> bytes:
    try:
        return open_bytes(sealed, [identity])
    except NoMatchError as error:
        raise KeyMismatch(
            f"{path} does not open: it is sealed to another key than the one at hand", "is it the right master? see keys.master_file in the settings"
        ) from error
    except AgeError as error:
        raise KeyDamaged(f"{path} does not open: {error.message}", "restore the file from a backup") from error


def _recipients(path: Path) -> list[Recipient]:
    try:
        lines = read_piece(path).decode("ascii").split()
        recipients = [Recipient.parse(line) for line in lines]
    except FileNotFoundError:
        raise SettingsError(f"{path} is missing", "restore it from a backup; if 'nightsafe init' was interrupted, run it again") from None
    except (OSError, UnicodeDecodeError, AgeError) as error:
        raise KeyDamaged(f"{path} does not hold age recipients", "restore it from a backup") from error
    if not recipients:
        raise KeyDamaged(f"{path} is empty", "restore it from a backup")
    return recipients
