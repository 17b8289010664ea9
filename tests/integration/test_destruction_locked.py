"""Destroying a client whose keys lie under an object lock: SeaweedFS with a bucket that was made with one, versions and all."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from backup import bucket
from backup.destruction.run import Order, destroy_client, retry_pending
from backup.embedded.weed import HOST, choose_ports, environment, find_weed, identities, remove_sockets, weed_command
from backup.repositories.access import access
from backup.status.overview import overview
from gateway.keys.secrets import role_secrets
from tests.integration.conftest import make_installation
from tests.integration.drill_house import DrillHouse

BUCKET = "locked"
OWNER = ("OWNER" * 4, "owner" * 8)
ROLES = {role: (role.upper() * 3, role * 6) for role in ("writer", "reader", "pruner")}


def client(endpoint: str, pair: tuple[str, str]) -> Any:
    settings = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, request_checksum_calculation="when_required")
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=pair[0], aws_secret_access_key=pair[1], region_name="us-east-1", config=settings
    )


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """A server of its own, whose owner we know: only the owner may make such a bucket, and lock."""
    folder = tmp_path / "s3"
    folder.mkdir()
    ports = choose_ports(folder, 0)
    config = folder / "s3.json"
    config.write_text(json.dumps(identities(BUCKET, ROLES, OWNER)))
    command = weed_command(find_weed(), folder, ports, str(config))
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env=environment(folder))
    try:
        url = f"http://{HOST}:{ports.s3}"
        until = time.monotonic() + 240
        while True:
            try:
                client(url, OWNER).create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
                break
            except (EndpointConnectionError, ClientError):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()
        remove_sockets(ports)


@pytest.fixture
def house(tmp_path: Path, endpoint: str) -> Iterator[DrillHouse]:
    credentials = tmp_path / "s3.toml"
    credentials.touch(0o600)
    credentials.write_text("\n".join(f'[{role}]\naccess_key = "{pair[0]}"\nsecret_key = "{pair[1]}"\n' for role, pair in ROLES.items()))
    made = DrillHouse(
        make_installation(tmp_path, f'[s3]\nendpoint = "{endpoint}"\nbucket = "{BUCKET}"\nprefix = "firm"\ncredentials_file = "../s3.toml"\n')
    )
    for name in ("acme", "zeta"):
        made.add_client(name)
        made.add_paper(name, "/inbox/a.pdf", b"of " + name.encode())
    made.save()
    yield made
    made.close()


def packs(owner: Any) -> list[tuple[str, str]]:
    """(name, version) of every pack of the keys, deleted ones included."""
    found = owner.list_object_versions(Bucket=BUCKET, Prefix="firm/keys/data/").get("Versions", [])
    return [(one["Key"], one["VersionId"]) for one in found]


def lock(owner: Any, name: str, version: str, seconds: float) -> None:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    owner.put_object_retention(Bucket=BUCKET, Key=name, VersionId=version, Retention=retention, BypassGovernanceRetention=True)


def hold(owner: Any, name: str, version: str, status: str) -> None:
    owner.put_object_legal_hold(Bucket=BUCKET, Key=name, VersionId=version, LegalHold={"Status": status})


@pytest.mark.long
def test_what_is_under_a_lock_is_pending_until_the_lock_ends(house: DrillHouse, endpoint: str) -> None:
    owner = client(endpoint, OWNER)
    before = packs(owner)
    assert before
    for pack in before:
        lock(owner, *pack, seconds=3600)
    # and from now on whatever restic writes is locked for a day by itself: its lock files of each try, for example
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    owner.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=rule)

    def state() -> tuple[str, str, str, int]:
        """Of the destruction, its cause and its colour, and how many snapshots of the keys there are."""
        found = house.catalog.destruction("acme")
        assert found is not None
        colours = [line.colour for line in overview(house.installation) if line.name == "destruction"]
        assert all(one.cause in line.text for one in found.repositories for line in overview(house.installation) if line.name == "destruction")
        return found.state, found.repositories[0].cause, "".join(colours), len(house.repository("keys").snapshots())

    def tried_again() -> tuple[str, str, str, int]:
        retry_pending(house.installation, role_secrets(house.installation, "scheduler"))
        return state()

    outcome = destroy_client(house.installation, "acme", Order("R. Keller", "contract ended", "ops:test"))
    assert outcome.proof is None and "under an object lock until 20" in outcome.obstacle
    first = state()
    assert first[0] == "pending" and f": {len(before)}, such as" in first[1] and first[2:] == ("yellow", 1)
    assert json.loads(outcome.certificate.read_bytes())["repositories"][0]["cause"] == first[1]
    assert set(before) <= set(packs(owner)), "the bucket keeps them"
    assert tried_again() == first, "and no older snapshot came back because its mark of deletion went"
    # the retention ends, but somebody set a hold
    hold(owner, *before[0], "ON")
    for pack in before:
        lock(owner, *pack, seconds=2)
    wait_for(lambda: "under a legal hold of the bucket: 1, such as" in tried_again()[1])
    assert not set(before[1:]) & set(packs(owner)), "the others went meanwhile"
    hold(owner, *before[0], "OFF")
    assert tried_again() == ("done", "", "", 1)
    assert not set(before) & set(packs(owner))
    there = access(house.installation, "pruner")
    assert bucket.old_versions(there, there.folder("keys") + "data/") == []
    left = bucket.old_versions(there, there.folder("keys"))
    assert left and all("/data/" not in one.name for one in left), "the rest is locked for a day still, and holds no key"
    found = house.catalog.destruction("acme")
    assert found is not None and found.proof["holds"] is True and found.proof["papers"] == 1


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 240
    while not true():
        assert time.monotonic() < until
        time.sleep(0.5)
