"""What every part of the keyring goes by: the folder, its lock, and to whom things are sealed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.folder import DataFolder
from config.roles import exclusive
from gateway.age import Recipient
from gateway.keys.generations import recipients_in


class Ring:
    """The folder DATA/keys, without what lies in it. Raises KeyDamaged for altered files."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder

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
