"""Everything in DATA/keys and DATA/ingest-keys: making it once, reading it back.

    master.recipient            age recipient of the master; two while the master is changed, the new one first
    recovery.recipients         age recipients of the recovery identities, one a line
    clients/CLIENT/N.*          the client's key of generation N, see `generations`
    clients/CLIENT/archive-password.age   what opens its encrypted archives, see `archive_password`
    host/ssh_host_ed25519_key   the SSH host key, in clear (0600): the gateway reads it without a master; and .pub
    totp/PERSON.age             the seed of a person's second factor, sealed to master and recovery
    secrets/NAME.age            what the roles need, sealed to master and recovery; NAME.pub where there is a public half
    allowed_signers             public halves of the signing keys, for `ssh-keygen -Y verify`
    ../ingest-keys/N.age        identities of ingest, sealed to the master alone, never backed up; N.recipient

Deposits of a client are sealed to its newest key; but once it has one that the master does not open, to the newest of those, and never to
another again. What the firm leaves in its outbox is sealed to the newest that the master opens. For a managed client both are the same.

What the roles need comes to be as generations do: public half, then secret half, and no secret half is ever replaced.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from config.errors import SettingsError, UsageError
from config.files import make_folder, write_whole
from config.folder import DataFolder
from config.roles import exclusive
from gateway.age import Identity, Recipient, seal_bytes
from gateway.audit.signatures import CHECKPOINT, DESTRUCTION, EVIDENCE, RECEIPT, SigningKey, allowed_signers_line
from gateway.catalog.names import check_name
from gateway.keys.errors import KeyDamaged
from gateway.keys.generations import (
    Generation,
    Kind,
    generations,
    make_generation,
    open_generation,
    recipient_of,
    recipients_in,
    take_external,
    unsealed,
)
from gateway.keys.pieces import read_piece, write_new

SECRET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
DepositKind = Literal["recovery", "external"]

HOST_KEY = "host-key"
RECEIPT_SIGNING, EVIDENCE_SIGNING, CHECKPOINT_SIGNING = "receipt-signing", "evidence-signing", "checkpoint-signing"
DESTRUCTION_SIGNING = "destruction-signing"
SIGNERS = (  # secret, principal in allowed_signers, namespace
    (RECEIPT_SIGNING, "receipts", RECEIPT),
    (EVIDENCE_SIGNING, "evidence", EVIDENCE),
    (CHECKPOINT_SIGNING, "checkpoints", CHECKPOINT),
    (DESTRUCTION_SIGNING, "destruction", DESTRUCTION),
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
    kind: Kind = "managed"


class Keyring:
    """The keys of one installation. Holds no secret itself: what opens something is passed in. Raises KeyDamaged for altered files."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder

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

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the keyring: one process at a time makes keys. Raises Busy."""
        with exclusive(self.folder, "keyring", f"another process makes keys in {self.folder.root}", "try again in a moment"):
            yield

    @property
    def master_recipient(self) -> Recipient:
        """The public half of the master."""
        return self.master_recipients[0]

    @property
    def master_recipients(self) -> list[Recipient]:
        """The same; two while the master is changed, the new one first."""
        return recipients_in(self.master_file)

    @property
    def recovery_recipients(self) -> list[Recipient]:
        """The public halves of the recovery identities; never empty."""
        return recipients_in(self.recovery_file)

    @property
    def sealed_to(self) -> list[Recipient]:
        """What every identity and secret is sealed to, but ingest's and those for deposits alone."""
        return [*self.master_recipients, *self.recovery_recipients]

    @property
    def master_file(self) -> Path:
        """Holds the public half of the master."""
        return self.folder.keys / "master.recipient"

    @property
    def recovery_file(self) -> Path:
        """Holds the public halves of the recovery identities."""
        return self.folder.keys / "recovery.recipients"

    @property
    def allowed_signers(self) -> Path:
        """The file for `ssh-keygen -Y verify -f`."""
        return self.folder.keys / "allowed_signers"

    # clients

    def add_client(self, name: str) -> ClientKey:
        """Make the first key of a managed client; when it has one (an interrupted run), that is returned. Raises UsageError for a bad name."""
        check_name(name)
        with self.changing():
            if any(generation.kind != "managed" for generation in self._of(name)):
                raise UsageError(
                    f"there are keys for '{name}' already, of another custody", f"an interrupted 'client add' left them: remove keys/clients/{name}"
                )
            self._ensure_managed(name)
        return self.client_recipient(name)

    def add_deposit_client(self, name: str, recipient: Recipient | None) -> list[ClientKey]:
        """Make the keys of a client whose deposits nothing here opens: to `recipient`, or to a new one that is sealed to recovery alone; and a
        managed one for its outbox. What an interrupted run made is kept. Raises UsageError for a bad name, or a recipient that is ours."""
        check_name(name)
        with self.changing():
            deposits = [generation for generation in self._of(name) if generation.kind != "managed"]
            known = [str(recipient_of(self.folder.client_keys(name), generation)) for generation in deposits]
            if not deposits or (recipient is not None and str(recipient) != known[0]):
                self._make_deposit_key(name, recipient)
            self._ensure_managed(name)
        return self.client_keys(name)

    def rotate_client(self, name: str, *, recipient: Recipient | None = None, outbox: bool = False) -> ClientKey:
        """Make the next generation of a client's key, for new papers: of the same custody. A client that brings its own `recipient` brings
        another one. Raises UsageError when it has no key yet, or custody and `recipient` do not go together."""
        with self.changing():
            current = self.client_recipient(name, outbox=outbox)
            if current.kind == "managed":
                if recipient is not None:
                    raise UsageError(f"the papers of '{name}' are managed: it brings no recipient", "leave --recipient away")
                self._make(name, "managed")
            else:
                if current.kind == "external" and recipient is None:
                    raise UsageError(f"'{name}' holds its key alone", "ask for its new recipient, and give it: --recipient age1…")
                self._make_deposit_key(name, recipient)
        return self.client_recipient(name, outbox=outbox)

    def client_recipient(self, name: str, *, outbox: bool = False) -> ClientKey:
        """What new deposits of a client are sealed to, or what goes into its `outbox`. Raises UsageError when there is none."""
        check_name(name)
        found = self._of(name)
        managed = [generation for generation in found if generation.kind == "managed"]
        fitting = managed if outbox else [generation for generation in found if generation.kind != "managed"] or managed
        if not fitting:
            raise UsageError(f"there is no key for the client '{name}'", "look at: nightsafe client list")
        return self._client_key(name, fitting[0])

    def client_keys(self, name: str) -> list[ClientKey]:
        """Every generation of a client's key, oldest first."""
        check_name(name)
        return [self._client_key(name, generation) for generation in reversed(self._of(name))]

    def client_kind(self, name: str, generation: int) -> Kind | None:
        """Who can open what is sealed to that generation; None when it is not known here."""
        check_name(name)
        return next((one.kind for one in self._of(name) if one.number == generation), None)

    def client_identities(self, name: str, opener: Identity, *, recovery: bool = False) -> list[Identity]:
        """Every generation of a client's identity that the master opens, newest first; empty when the client has none here. With `recovery`
        the `opener` is a recovery identity, which opens those that are sealed to recovery alone too."""
        check_name(name)
        folder = self.folder.client_keys(name)
        kinds = ("managed", "recovery") if recovery else ("managed",)
        return [open_generation(folder, generation, opener) for generation in self._of(name) if generation.kind in kinds]

    def _of(self, client: str) -> list[Generation]:
        return generations(self.folder.client_keys(client))

    def _client_key(self, client: str, generation: Generation) -> ClientKey:
        return ClientKey(client, generation.number, recipient_of(self.folder.client_keys(client), generation), generation.kind)

    def _ensure_managed(self, client: str) -> None:
        if all(generation.kind != "managed" for generation in self._of(client)):
            self._make(client, "managed")

    def _make_deposit_key(self, client: str, recipient: Recipient | None) -> None:
        if recipient is None:
            self._make(client, "recovery")
            return
        ours = {str(one) for one in (*self.master_recipients, *self.recovery_recipients)} | {str(key.recipient) for key in self.client_keys(client)}
        if str(recipient) in ours:
            raise UsageError(f"{recipient} is a key of this installation already", "the client makes one of its own, with: age-keygen -o FILE")
        take_external(self.folder.client_keys(client), self._next(client), recipient)

    def _make(self, client: str, kind: Kind) -> None:
        sealed_to = self.sealed_to if kind == "managed" else self.recovery_recipients
        make_generation(self.folder.client_keys(client), Generation(self._next(client), kind), sealed_to)

    def _next(self, client: str) -> int:
        return max((generation.number for generation in self._of(client)), default=0) + 1

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
        """Keep the seed of a person's second factor, in place of an older one."""
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
