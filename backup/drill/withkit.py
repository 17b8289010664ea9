"""Rehearsals that begin with the recovery kit: `escrow` here, and what it shares with the clean room.

Everything is opened by what stands on the two pages: the kit's own S3 credential, its own restic key, the recovery identity. The live catalog is
a witness, no more. Nothing of the kit is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from backup.bucket import BucketRefused
from backup.drill.findings import BackupBad
from backup.drill.job import Setting
from backup.drill.ledger import Ledger
from backup.drill.rehearsal import Rehearsal
from backup.drill.sample import Draw, ticket
from backup.drill.verify import HeaderKeys, Question
from backup.kit.kit import WholeKit
from backup.restic import Snapshot, WrongPassword
from config.errors import NightsafeError
from config.folder import DataFolder
from gateway.age import AgeError, unwrap
from gateway.catalog import Run
from gateway.keys.keyring import Keyring


class KitRehearsal(Rehearsal):
    """A rehearsal whose repositories the kit opens. `part_a`, `part_b`: whether each was found good; None before that is known."""

    _keys_first = True  # without them the kit opens nothing

    def __init__(self, setting: Setting, kit: WholeKit) -> None:
        super().__init__(setting)
        self._kit = kit
        self.part_a: bool | None = None
        self.part_b: bool | None = None

    def rehearse(self) -> None:
        """Go through all stages. A kit that opens nothing ends in the findings, too."""
        try:
            super().rehearse()
        except BucketRefused as error:
            self.part_b = False
            self.findings.blame(f"the kit's credential does not read the bucket: {error.message}; print part B again: nightsafe kit show")

    @property
    def _restored_keys(self) -> Keyring:
        return Keyring(DataFolder(self._keys))

    def _newest(self, source, name, of_run) -> tuple[Snapshot, Run | None]:  # type: ignore[no-untyped-def]
        try:
            found = super()._newest(source, name, of_run)
        except WrongPassword:
            self.part_b = False
            self.findings.blame(f"the kit's restic key does not open the repository of the {name}; print part B again: nightsafe kit show")
            raise BackupBad from None
        self.part_b = True
        return found

    def _check_keys(self) -> None:
        try:
            self.part_a = self._kit.identity.recipient in self._restored_keys.recovery_recipients
        except NightsafeError as error:
            self.findings.blame(f"the recovery recipients in the backup cannot be read: {error.message}")
            raise BackupBad from error
        if not self.part_a:
            self.findings.blame("the kit's part A is no recovery identity of this backup: it opens none of its keys")
            raise BackupBad


class Escrow(KitRehearsal):
    """The kit opens both repositories and one paper of each client."""

    def _choose(self, ledger: Ledger) -> Draw:
        """One paper of each client, drawn by the seed."""
        chosen: dict[str, tuple[bytes, str]] = {}
        for client, paper in ledger.owned():
            mine = (ticket(self._is.seed, paper), paper)
            chosen[client] = min(chosen.get(client, mine), mine)
        return Draw(self._is.seed, tuple(sorted(paper for _, paper in chosen.values())), ())

    def _question(self, ledger: Ledger) -> Question:
        asked = super()._question(ledger)
        keyring = self._restored_keys
        return Question(
            asked.vault,
            asked.dump_at,
            KitAgent(keyring, self._kit),
            asked.run,
            lambda client, generation: keyring.client_kind(client, generation) != "external",
            dump_usable=asked.dump_usable,
        )


class KitAgent(HeaderKeys):
    """Opens papers as somebody does who has the restored keys and the recovery identity."""

    def __init__(self, keyring: Keyring, kit: WholeKit) -> None:
        self._keyring = keyring
        self._kit = kit

    def header_keys(self, client: str, headers: Sequence[tuple[str, bytes]], person: str, reason: str) -> list[bytes | None]:  # noqa: ARG002
        """See HeaderKeys. Raises KeyDamaged."""
        identities = self._keyring.client_identities(client, self._kit.identity, recovery=True)
        keys: list[bytes | None] = []
        for _, header in headers:
            try:
                keys.append(unwrap(header, identities))
            except AgeError:
                keys.append(None)
        return keys
