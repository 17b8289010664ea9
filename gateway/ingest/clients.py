"""The clients that a batch meets, each looked up once: is it in the catalog, and which key seals its papers now."""

from __future__ import annotations

from config.errors import UsageError
from gateway.catalog import Catalog
from gateway.catalog.names import check_name
from gateway.keys.client_keys import ClientKey
from gateway.keys.keyring import Keyring

OUTBOX = "/outbox/"  # what the firm leaves there has a key that opens here, whatever the custody of the client's own papers


class ClientBook:
    """Newest keys of clients. Lives for one batch, so that a new client or a rotated key counts from the next one.

    Used by several threads: a race between them looks up twice.
    """

    def __init__(self, catalog: Catalog, keyring: Keyring) -> None:
        self._catalog = catalog
        self._keyring = keyring
        self._known: dict[tuple[str, bool], ClientKey | None] = {}

    def key(self, client: str, path: str) -> ClientKey | None:
        """What a paper of `client` that landed as `path` is sealed to; None when the catalog has no such client. Raises NightsafeError when it
        has one but its key is missing."""
        place = client, path.startswith(OUTBOX)
        if place not in self._known:
            self._known[place] = self._keyring.client_recipient(client, outbox=place[1]) if self.is_known(client) else None
        return self._known[place]

    def is_known(self, client: str) -> bool:
        """Whether the catalog has a client of this name; False for what is no name at all."""
        try:
            check_name(client)
        except UsageError:
            return False
        return self._catalog.client(client) is not None
