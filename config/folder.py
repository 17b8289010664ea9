"""Where everything lies inside (and beside) the data folder. Paths only; nothing is read or made here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FORMAT_VERSION = 1  # of the data folder as a whole; written to VERSION by `init`


@dataclass(frozen=True)
class DataFolder:
    """The layout of `DATA`. `root` is absolute."""

    root: Path

    @property
    def version_file(self) -> Path:
        return self.root / "VERSION"

    @property
    def settings(self) -> Path:
        return self.root / "nightsafe.toml"

    # keys: every file in here is sealed, but for the host key, which the gateway reads without a master, and recipients
    @property
    def keys(self) -> Path:
        return self.root / "keys"

    def client_keys(self, client: str) -> Path:
        """`GENERATION.age` for each generation: an age identity sealed to the master and every recovery recipient."""
        return self.keys / "clients" / client

    @property
    def host_key(self) -> Path:
        return self.keys / "host" / "ssh_host_ed25519_key"

    @property
    def nist_host_key(self) -> Path:
        """The host key for the algorithm policy `nist`, where it is in use: ECDSA on P-256."""
        return self.keys / "host" / "ssh_host_ecdsa_key"

    @property
    def totp_seeds(self) -> Path:
        """`PERSON.age`: seeds of second factors, sealed; keyd opens them."""
        return self.keys / "totp"

    @property
    def ingest_keys(self) -> Path:
        """Identities of ingest, sealed to the master alone; never backed up."""
        return self.root / "ingest-keys"

    @property
    def spool_partial(self) -> Path:
        return self.root / "spool" / "partial"

    @property
    def spool_landed(self) -> Path:
        return self.root / "spool" / "landed"

    @property
    def jails(self) -> Path:
        return self.root / "jails"

    def jail(self, client: str) -> Path:
        return self.jails / client

    @property
    def vault(self) -> Path:
        return self.root / "vault"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.sqlite3"

    @property
    def notify(self) -> Path:
        """What is still to be told to receivers; worthless elsewhere, and never backed up."""
        return self.root / "notify.sqlite3"

    @property
    def watch(self) -> Path:
        """What the watch over the audit log has learnt; never backed up, and made again when it is gone."""
        return self.root / "watch.sqlite3"

    @property
    def defender(self) -> Path:
        return self.root / "defender.sqlite3"

    @property
    def audit(self) -> Path:
        return self.root / "audit"

    @property
    def evidence(self) -> Path:
        return self.root / "evidence"

    @property
    def dump(self) -> Path:
        """The consistent copy of the catalog that a backup carries."""
        return self.root / "dump"

    @property
    def run(self) -> Path:
        """Sockets, lock files and state of running roles; worthless once they have ended."""
        return self.root / "run"

    @property
    def keyd_socket(self) -> Path:
        return self.run / "keyd.sock"

    @property
    def totp_used(self) -> Path:
        """Which codes were used in the last two minutes; keyd's."""
        return self.run / "totp-used.json"

    def gateway_socket(self, pid: int) -> Path:
        """Where a gateway process tells who is logged in."""
        return self.run / f"gateway-{pid}.sock"

    @property
    def cache(self) -> Path:
        return self.root / "cache"
