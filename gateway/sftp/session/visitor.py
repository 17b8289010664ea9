"""Who is at the other end of a session: the facts that every audit event and every arrival carries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Visitor:
    """One SFTP session's person; `client` is empty for a session over several clients.

    `session` is unique; `address` is the peer's IP address, `software` its SSH version line.
    """

    person: str
    client: str
    session: str
    address: str
    software: str
    role: str = "client"

    def facts(self) -> dict[str, str]:
        """What an audit event says of them."""
        return {
            "person": self.person,
            "person_role": self.role,
            "client": self.client,
            "session": self.session,
            "address": self.address,
            "software": self.software,
        }
