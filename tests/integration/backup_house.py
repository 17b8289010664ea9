"""An installation that backs up, for the tests of backups: what they ask of it, and how a backup must fail."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from backup.bucket import count_objects
from backup.repositories.access import access
from backup.run import run_backup
from config.errors import Exit, NightsafeError
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.read import read
from gateway.catalog import Catalog, Run
from gateway.keys.secrets import RoleSecrets, role_secrets


@dataclass(frozen=True)
class House:
    """An installation that backs up to the shared server, and what a test wants to know of it."""

    installation: Installation
    first: Run | None = None

    @property
    def secrets(self) -> RoleSecrets:
        return role_secrets(self.installation, "scheduler")

    @property
    def runs(self) -> list[Run]:
        with Catalog.open(self.installation.folder.catalog) as catalog:
            return catalog.runs("backup")

    def repository(self, name: str) -> Any:
        with Catalog.open(self.installation.folder.catalog) as catalog:
            return catalog.repository(name)

    def events(self, event: Event) -> list[dict[str, Any]]:
        return list(read(self.installation.folder.audit, event=event))

    def objects(self, name: str = "") -> int:
        one = access(self.installation, "reader")
        return count_objects(one, one.folder(name) if name else one.folder("x").removesuffix("x/"))

    def restic(self, *words: str, name: str = "papers", role: str = "reader", password: bytes | None = None, **extra: Any) -> Any:
        """The real restic, by hand."""
        one = access(self.installation, role)  # type: ignore[arg-type]
        key = password or self.secrets[f"restic-{name}"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.installation.folder.cache), "RESTIC_PASSWORD": key.decode(), **one.environment()}
        lock = ["--no-lock"] if role == "reader" else []
        return subprocess.run(["restic", "--no-cache", *lock, "-r", one.url(name), *words], env=environment, capture_output=True, text=True, **extra)

    def put(self, key: str, body: bytes = b"x") -> None:
        one = access(self.installation, "pruner")
        self.client("pruner").put_object(Bucket=one.bucket, Key=f"{one.prefix}/{key}", Body=body)

    def client(self, role: str) -> Any:
        one = access(self.installation, role)  # type: ignore[arg-type]
        return boto3.client(
            "s3", endpoint_url=one.endpoint, region_name=one.region, aws_access_key_id=one.access_key, aws_secret_access_key=one.secret_key
        )

    def change(self, **sections: Mapping[str, object]) -> House:
        """The same installation with other settings."""
        values = self.installation.settings.model_dump()
        for section, changes in sections.items():
            values[section] |= changes
        return House(Installation(self.installation.folder, type(self.installation.settings).model_validate(values)))


def furnish(installation: Installation) -> None:
    folder = installation.folder
    for number in range(5):
        paper = folder.vault / "acme" / f"{number:02x}" / (secrets.token_hex(16) + ".age")
        paper.parent.mkdir(parents=True, exist_ok=True)
        paper.write_bytes(random.Random(number).randbytes(40_000))
    inbox = folder.jails / "acme" / "inbox"
    inbox.mkdir(parents=True)
    (inbox / "with [brackets] * and \\ and\nnewline").write_text("{}")
    (inbox / ".tmp-not-ours").write_text("{}")
    (folder.jails / "acme" / ".tmp").mkdir()
    (folder.jails / "acme" / ".tmp" / "half").write_text("half")
    (paper.parent / ".tmp-0011223344556677").write_bytes(b"half")
    client_keys = folder.client_keys("acme")
    client_keys.mkdir(parents=True)
    (client_keys / "1.age").write_text("sealed")
    spooled = folder.spool_landed / "x"
    spooled.write_text("spooled")


def failed(house: House, kind: type[NightsafeError], code: Exit, **arguments: Any) -> NightsafeError:
    """The backup fails with this error, is recorded so, and the error can be shown."""
    before = len(house.runs)
    with pytest.raises(kind) as error:
        run_backup(house.installation, **arguments)
    assert error.value.exit_code == code
    assert error.value.message.count("\n") == 0
    assert error.value.hint
    for name in house.secrets:
        if name != "checkpoint-signing" and name != "evidence-signing":
            assert house.secrets.text(name) not in str(error.value)
    [run, *rest] = house.runs
    assert len(rest) == before
    assert (run.state, run.detail["error"]) == ("failed", error.value.message)
    assert house.events(Event.BACKUP_FAILED)[-1]["error"] == error.value.message
    return error.value


def script(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "restic-in-a-wrapper"
    path.write_text("#!/bin/sh\n" + body + "\n")
    path.chmod(0o755)
    return path
