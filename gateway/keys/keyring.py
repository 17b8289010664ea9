"""Everything in DATA/keys and DATA/ingest-keys: making it once, reading it back.

    master.recipient            age recipient of the master; two while the master is changed, the new one first
    recovery.recipients         age recipients of the recovery identities, one a line
    clients/CLIENT/N.*          the client's key of generation N, see `client_keys` and `generations`
    clients/CLIENT/archive-password.age   what opens its encrypted archives, see `archive_password`
    host/ssh_host_ed25519_key   the SSH host key, in clear (0600): the gateway reads it without a master; and .pub
    totp/PERSON.age             the seed of a person's second factor, sealed to master and recovery
    secrets/NAME.age            what the roles need, sealed to master and recovery; NAME.pub where there is a public half
    allowed_signers             public halves of the signing keys, for `ssh-keygen -Y verify`
    ../ingest-keys/N.age        identities of ingest, sealed to the master alone, never backed up; N.recipient

What the roles need comes to be as generations do: public half, then secret half, and no secret half is ever replaced. Clients' keys are made in
`client_keys`; everything is sealed anew in `resealing`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from config.errors import SettingsError, UsageError
from config.files import make_folder, write_whole
from config.folder import DataFolder
from gateway.age import Identity, Recipient, seal_bytes
from gateway.audit.signatures import AUDIT, CHECKPOINT, DESTRUCTION, EVIDENCE, RECEIPT, SigningKey, allowed_signers_line
from gateway.catalog.names import check_name
from gateway.keys.client_keys import ClientKeys
from gateway.keys.errors import KeyDamaged
from gateway.keys.generations import Generation, generations, make_generation, open_generation, recipient_of, recipients_in, unsealed
from gateway.keys.pieces import read_piece, write_new

SECRET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)

HOST_KEY = "host-key"
RECEIPT_SIGNING, EVIDENCE_SIGNING, CHECKPOINT_SIGNING = "receipt-signing", "evidence-signing", "checkpoint-signing"
DESTRUCTION_SIGNING, AUDIT_SIGNING = "destruction-signing", "audit-signing"
SIGNERS = (  # secret, principal in allowed_signers, namespace
    (RECEIPT_SIGNING, "receipts", RECEIPT),
    (EVIDENCE_SIGNING, "evidence", EVIDENCE),
    (CHECKPOINT_SIGNING, "checkpoints", CHECKPOINT),
    (DESTRUCTION_SIGNING, "destruction", DESTRUCTION),
    (AUDIT_SIGNING, "audit", AUDIT),
)
USER_CA = "user-ca"  # made when it is first wanted; signs logins' certificates, and nothing else
RESTIC_PAPERS, RESTIC_KEYS, RESTIC_KIT = "restic-papers", "restic-keys", "restic-kit"
S3_WRITER, S3_READER, S3_PRUNER = "s3-writer", "s3-reader", "s3-pruner"


class Keyring(ClientKeys):
    """The keys of one installation. Holds no secret itself: what opens something is passed in. Raises KeyDamaged for altered files."""

    @classmethod
    def create(cls, folder: DataFolder, master: Recipient, recovery: Recipient) -> Self:
        """Make all keys of a new installation; what an interrupted run has made is kept. Raises SettingsError for another master or recovery."""
        keyring = cls(folder)
        with keyring.changing():
            keyring._record(keyring.master_file, [master])
            keyring._record(keyring.recovery_file, [recovery])
            if not generations(folder.ingest_keys):
                make_generation(folder.ingest_keys, Generation(1, "managed"), [master])
            for name, principal, _ in SIGNERS:
                keyring._make_signer(name, f"{principal} of nightsafe")
            keyring._make_host_key()
            for name in (RESTIC_PAPERS, RESTIC_KEYS, RESTIC_KIT):
                keyring._make_secret(name, lambda: secrets.token_urlsafe(32).encode())
            for name in (S3_WRITER, S3_READER, S3_PRUNER):
                keyring._make_secret(name, _s3_credential)
            write_whole(keyring.allowed_signers, keyring._allowed_signers().encode())
        return keyring

    def make_new_signers(self) -> list[str]:
        """Make the signing keys that a newer program brought along; which. One that `allowed_signers` knows and that is gone was lost, and is
        not made anew in silence. Raises Busy, KeyDamaged."""
        try:
            known = {line.split()[0] for line in read_piece(self.allowed_signers).decode("ascii").splitlines() if line.strip()}
        except (OSError, UnicodeDecodeError) as error:
            raise KeyDamaged(f"{self.allowed_signers} cannot be read", "restore it from a backup") from error
        new = [(name, principal) for name, principal, _ in SIGNERS if principal not in known]
        if new:
            with self.changing():
                for name, principal in new:
                    self._make_signer(name, f"{principal} of nightsafe")
                write_whole(self.allowed_signers, self._allowed_signers().encode())
        return [name for name, _ in new]

    @property
    def allowed_signers(self) -> Path:
        """The file for `ssh-keygen -Y verify -f`."""
        return self.folder.keys / "allowed_signers"

    # ingest

    @property
    def ingest_recipient(self) -> Recipient:
        """What new spool files are sealed to. Raises SettingsError when there is none."""
        found = generations(self.folder.ingest_keys)
        if not found:
            raise SettingsError(
                "there is no ingest key", "it is in no backup: a restored data folder needs a new one, made with: nightsafe keys rotate-ingest"
            )
        return recipient_of(self.folder.ingest_keys, found[0])

    def ingest_identities(self, master: Identity) -> list[Identity]:
        """What opens the spool, newest first."""
        return [open_generation(self.folder.ingest_keys, generation, master) for generation in generations(self.folder.ingest_keys)]

    def make_ingest_key(self) -> tuple[int, Recipient]:
        """The next generation of the key of ingest, or the first; sealed to the master alone."""
        with self.changing():
            found = generations(self.folder.ingest_keys)
            generation = Generation(found[0].number + 1 if found else 1, "managed")
            make_generation(self.folder.ingest_keys, generation, self.master_recipients)
        return generation.number, recipient_of(self.folder.ingest_keys, generation)

    # secrets

    def seal_secret(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, sealed to master and recovery. Raises UsageError when there is such a secret: none is ever replaced."""
        try:
            write_new(self._secret_file(name), seal_bytes(data, self.sealed_to))
        except FileExistsError:
            raise UsageError(f"there is a secret '{name}' already", "it was not touched") from None

    def replace_secret(self, name: str, data: bytes) -> None:
        """Keep `data` under `name` whatever was there. Only for what is known outside too, and so is not lost by it: a host key."""
        write_whole(self._new_file(self._secret_file(name)), seal_bytes(data, self.sealed_to))

    def open_secret(self, name: str, identity: Identity) -> bytes:
        """A secret by its name; `identity` is the master or a recovery identity. Raises SettingsError when there is none."""
        try:
            sealed = read_piece(self._secret_file(name))
        except FileNotFoundError:
            raise SettingsError(f"there is no secret '{name}'", "restore the folder 'keys' from a backup") from None
        except OSError as error:
            raise KeyDamaged(f"the secret '{name}' cannot be read: {error.strerror}", "restore keys/secrets from a backup") from error
        return unsealed(sealed, identity, self._secret_file(name))

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
        with self.changing():
            self._make_signer(USER_CA, "logins of nightsafe")
        return self.public_half(USER_CA)

    # second factors

    def seal_totp(self, person: str, seed: bytes) -> None:
        """Keep the seed of a person's second factor, in place of an older one. Raises Busy."""
        with self.changing():  # while the master is changed, it could be sealed to the one that goes
            make_folder(self.folder.totp_seeds)
            write_whole(self._totp_file(person), seal_bytes(seed, self.sealed_to))

    def open_totp(self, person: str, identity: Identity) -> bytes:
        """The seed. Raises UsageError when there is none."""
        path = self._totp_file(person)
        try:
            sealed = read_piece(path)
        except FileNotFoundError:
            raise UsageError(f"'{person}' has no second factor", f"give one: nightsafe person edit {person} --totp") from None
        except OSError as error:
            raise KeyDamaged(f"{path} cannot be read: {error.strerror}", "restore it from the key repository") from error
        return unsealed(sealed, identity, path)

    def remove_totp(self, person: str) -> None:
        """Forget the seed."""
        self._totp_file(person).unlink(missing_ok=True)

    # pieces

    def _totp_file(self, person: str) -> Path:
        check_name(person)
        return self.folder.totp_seeds / f"{person}.age"

    def _secret_file(self, name: str, suffix: str = ".age") -> Path:
        if not SECRET_NAME.fullmatch(name):
            raise UsageError("that cannot be the name of a secret", "use a-z 0-9 and -")
        return self.folder.keys / "secrets" / f"{name}{suffix}"

    def _record(self, path: Path, recipients: Sequence[Recipient]) -> None:
        try:
            write_new(path, "".join(f"{recipient}\n" for recipient in recipients).encode())
        except FileExistsError:
            if [str(recipient) for recipient in recipients_in(path)] != [str(recipient) for recipient in recipients]:
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
