"""Who opens keys for a command: keyd when it runs, else the master secret, if this user may read it. Both leave an audit event."""

from __future__ import annotations

from config.loading import Installation
from config.roles import role_state
from gateway.keys.client import KeyAgent, KeydClient, MasterAgent
from gateway.keys.keyring import Keyring
from gateway.keys.master import load_master


def key_agent(installation: Installation) -> KeyAgent:
    """Raises SettingsError when neither keyd nor the master secret is within reach."""
    if role_state(installation.folder, "keyd"):
        return KeydClient(installation.folder.keyd_socket)
    return MasterAgent(installation, Keyring(installation.folder), load_master(installation))
