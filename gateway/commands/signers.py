"""Signing keys for commands: those that a newer program brought along, and the one that signs bundles of the audit."""

from __future__ import annotations

from config.folder import DataFolder
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.audit.signatures import SigningKey
from gateway.commands.operators import operator
from gateway.keys.keyring import AUDIT_SIGNING, Keyring
from gateway.keys.master import load_master


def make_new_signers(folder: DataFolder) -> None:
    """Make the signing keys that a newer program brought along, each with its audit event. Raises Busy, KeyDamaged."""
    keyring = Keyring(folder)
    if made := keyring.make_new_signers():
        with AuditLog(folder.audit, "ops") as log:
            for name in made:
                log.append(Event.KEY_CREATED, durable=True, person=operator(), whose=name, recipient=keyring.public_half(name))


def audit_signer(installation: Installation) -> SigningKey:
    """The key that signs bundles of the audit. Needs the master secret. Raises SettingsError, KeyDamaged."""
    make_new_signers(installation.folder)
    return SigningKey.parse(Keyring(installation.folder).open_secret(AUDIT_SIGNING, load_master(installation)))
