"""Doorkeeper: which connections may be there at all, before anybody has said who they are."""

from __future__ import annotations

from collections.abc import Callable

from config.settings import GatewaySettings
from gateway.sftp.defender import SILENT_POINTS, Defender
from gateway.sftp.tallies import Tally
from gateway.sftp.transport import GuardedConnection


class Doorkeeper:
    """The gate of one process's connections. `tally` gives the count of a kind, over all workers."""

    def __init__(self, settings: Callable[[], GatewaySettings], defender: Defender, tally: Callable[[str], Tally]) -> None:
        self._settings = settings
        self._defender = defender
        self._everyone = tally("connections")
        self._unauthenticated = tally("unauthenticated")
        self.connections: set[GuardedConnection] = set()

    @property
    def max_auth_attempts(self) -> int:
        """See `transport.Gate`."""
        return self._settings().max_auth_attempts

    def admit(self, connection: GuardedConnection) -> bool:
        """See `transport.Gate`."""
        if self._defender.refuses(connection.address):
            return False
        settings = self._settings()
        if self._everyone.total >= settings.max_connections or self._unauthenticated.total >= settings.max_unauthenticated:
            return False
        if self._unauthenticated.of(connection.address) >= settings.max_unauthenticated_per_address:
            return False
        self.connections.add(connection)
        self._everyone.add("")
        self._unauthenticated.add(connection.address)
        return True

    def has_logged_in(self, connection: GuardedConnection) -> None:
        """It is a person's from now on."""
        self._unauthenticated.drop(connection.address)

    def gone(self, connection: GuardedConnection) -> None:
        """See `transport.Gate`."""
        self.connections.discard(connection)
        self._everyone.drop("")
        if not connection.is_logged_in:
            if connection.spoke and not connection.failures:
                self._defender.failed(connection.address, SILENT_POINTS)
            self._unauthenticated.drop(connection.address)
