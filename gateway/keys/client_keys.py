"""Clients' keys in the keyring: which generations a client has, what its papers are sealed to, what opens them.

Deposits of a client are sealed to its newest key; but once it has one that the master does not open, to the newest of those, and never to
another again. What the firm leaves in its outbox is sealed to the newest that the master opens. For a managed client both are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from config.errors import UsageError
from gateway.age import Identity, Recipient
from gateway.catalog.names import check_name
from gateway.keys.generations import Generation, Kind, generations, make_generation, open_generation, recipient_of, take_external
from gateway.keys.ring import Ring


@dataclass(frozen=True)
class ClientKey:
    """The public half of one generation of a client's key."""

    client: str
    generation: int
    recipient: Recipient
    kind: Kind = "managed"


class ClientKeys(Ring):
    """The keys of all clients: the part of the keyring below `keys/clients`. Raises KeyDamaged for altered files."""

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
