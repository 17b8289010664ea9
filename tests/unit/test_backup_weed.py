"""The S3 server's command line, identities and ports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backup.embedded.weed import Ports, choose_ports, environment, identities, weed_command
from config.errors import OutOfReach

PORTS = Ports(1, 2, 3, 4, 5, 6, 7, 8)


def test_everything_listens_on_loopback_and_talks_to_nobody() -> None:
    words = weed_command("weed", Path("/s3"), PORTS, "/dev/fd/3")
    for expected in ("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"):
        assert expected in words
    assert not any(word.startswith(("-webdav", "-sftp", "-mq", "-iam", "-debug")) for word in words)


def test_the_writer_may_delete_locks_only() -> None:
    pairs = {"writer": ("W", "w"), "reader": ("R", "r"), "pruner": ("P", "p")}
    config = identities("bucket", pairs, ("O", "o"))
    by_name = {one["name"]: one for one in config["identities"]}
    assert by_name["writer"]["actions"] == []
    assert by_name["reader"]["actions"] == ["Read:bucket", "List:bucket"]
    assert [name for name, one in by_name.items() if "Admin" in one["actions"]] == ["owner"]
    [policy] = config["policies"]
    deleting = [one for one in json.loads(policy["content"])["Statement"] if "s3:DeleteObject" in one["Action"]]
    assert [one["Resource"] for one in deleting] == [["arn:aws:s3:::bucket/*/locks/*"]]


def test_ports_are_kept_where_they_are_free(tmp_path: Path) -> None:
    first = choose_ports(tmp_path, 0)
    assert len(set(vars(first).values())) == 8
    (tmp_path / "ports.json").write_text(json.dumps(vars(first)))
    assert choose_ports(tmp_path, 0, lambda port: True) == first
    moved = choose_ports(tmp_path, 0, lambda port: port != first.filer)
    assert moved.filer != first.filer
    assert (moved.s3, moved.master) == (first.s3, first.master)


def test_a_set_port_is_taken_as_it_is_or_refused(tmp_path: Path) -> None:
    assert choose_ports(tmp_path, 8333, lambda port: True).s3 == 8333
    with pytest.raises(OutOfReach, match="port 8333"):
        choose_ports(tmp_path, 8333, lambda port: port != 8333)


@pytest.mark.parametrize("text", ["", "[1]", '{"s3": "x"}', '{"s3": 99999999}', '{"s3": -1}', "null"])
def test_a_damaged_memory_of_ports_is_no_obstacle(text: str, tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert 0 < choose_ports(tmp_path, 0).s3 < 65536


def test_the_environment_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSAFE_SECRETS_FD", "9")
    found = environment(Path("/s3"))
    assert "NIGHTSAFE_SECRETS_FD" not in found
    assert found != environment(Path("/s3")), "tokens are made anew"
