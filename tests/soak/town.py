"""Many clients of one installation, each with a person of its name who holds the same key: made at once, beside the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from config.folder import DataFolder
from gateway.catalog import Catalog, PublicKey
from gateway.jail import Tree
from gateway.keys.keyring import Keyring


def add_clients(folder: DataFolder, names: Sequence[str], public: Path) -> None:
    """Add them; nobody else may be at work on `folder`."""
    key = PublicKey(
        public.read_text().strip(), subprocess.run(["ssh-keygen", "-lf", public], check=True, capture_output=True, text=True).stdout.split()[1]
    )
    keyring = Keyring(folder)
    with Catalog.open(folder.catalog) as catalog:
        for name in names:
            catalog.add_client(name, recipient=str(keyring.add_client(name).recipient))
            catalog.add_person(name, client=name, keys=[key])
            Tree.create(folder.jail(name)).close()
