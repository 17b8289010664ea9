"""docker-compose.yml against the public schema, and in step with the roles of the program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from backup.commands.credentials import HOLDERS
from config.loading import parse_settings
from config.owners import ROLES, SCRATCH
from nightsafe import COMMANDS

ROOT = Path(__file__).parents[2]
ROOTS = {"init", "ops", "permissions", "credentials"}
OUTSIDERS = {"s3", "clamd"}
PARTS = {"backup", "drill", "prune"}  # of the scheduler


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_the_file_fits_the_schema_of_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_there_is_a_service_for_each_role_an_s3_server_and_clamd() -> None:
    services = compose()["services"]
    assert set(services) == {*ROLES, *ROOTS, *OUTSIDERS, "ingest-2"}
    for role in ROLES:
        command = services[role]["command"]
        assert command[:3] == ["scheduler", "--only", role] if role in PARTS else command[0] == role
        assert command[0] in COMMANDS


def test_each_role_is_its_own_user_of_the_image() -> None:
    """The users whose names the table of rights has, by the numbers that the image gives them."""
    (listed,) = re.findall(r"for role in (.*); do", (ROOT / "Dockerfile").read_text())
    numbers = {role: 10001 + place for place, role in enumerate(listed.split())}
    assert tuple(numbers) == ROLES
    services = compose()["services"]
    assert {role: services[role]["user"] for role in ROLES} == {role: f"{number}:{number}" for role, number in numbers.items()}


def test_our_containers_are_confined() -> None:
    for name, service in compose()["services"].items():
        if name in OUTSIDERS:
            continue
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "cap_add" not in service or name in ROOTS
        assert "ports" not in service or name in ("gateway", "web")
        assert name != "web" or service["ports"] == ["127.0.0.1:8090:8090"]
    assert {name for name in ROOTS if compose()["services"][name].get("network_mode") != "none"} == {"ops"}


def test_a_role_is_shown_its_own_secrets_alone() -> None:
    """By the user that its folder belongs to; the master and the credentials of S3 go to root's containers only."""
    services = compose()["services"]
    assert {name for name, service in services.items() if {"master", "s3.toml", "web.token"} & set(service.get("secrets", []))} == ROOTS - {
        "permissions"
    }
    for role in ROLES:
        given = services[role]["environment"].get("CREDENTIALS_DIRECTORY")
        assert given == (f"/run/nightsafe/credentials/{role}" if role in HOLDERS else None)
        assert any(volume.startswith("credentials:") for volume in services[role]["volumes"]) == (role in HOLDERS)
    assert compose()["volumes"]["credentials"]["driver_opts"]["type"] == "tmpfs"


def test_rights_are_given_before_a_role_starts() -> None:
    services = compose()["services"]
    for role in ROLES:
        waits = services[role]["depends_on"]
        assert waits["permissions"]["condition"] == "service_completed_successfully"
        assert ("credentials" in waits) == (role in HOLDERS)
    assert {role for role in ROLES if any(volume.startswith("scratch:") for volume in services[role]["volumes"])} == {SCRATCH}


def test_environment_names_settings_that_exist() -> None:
    environment = compose()["services"]["backup"]["environment"]
    assert parse_settings("", "compose", environment).s3.endpoint == "http://s3:8333"
    web = parse_settings("", "compose", compose()["services"]["web"]["environment"]).web
    assert (web.host, str(web.token_file)) == (
        "0.0.0.0",
        "/run/secrets/web.token",
    )  # it listens to its container's network, and so must ask for a token


def test_scanning_is_switched_on_by_the_lines_that_are_there_for_it() -> None:
    """They fit what clamd is told, whose temporary folder is the one in memory."""
    text = (ROOT / "docker-compose.yml").read_text()
    environment = yaml.safe_load(text.replace("  # NIGHTSAFE_SET_SCAN", "  NIGHTSAFE_SET_SCAN"))["services"]["ingest"]["environment"]
    scan = parse_settings("", "compose", {name: str(value) for name, value in environment.items()}).scan
    told = dict(line.split() for line in (ROOT / "config" / "clamd.conf").read_text().splitlines() if not line.startswith("#"))
    assert (scan.scanner, scan.address) == ("clamd", f"clamd:{told['TCPSocket']}")
    assert scan.largest_bytes == 100 * 1024**2
    assert (told["StreamMaxLength"], told["MaxFileSize"]) == ("100M", "100M")
    clamd = compose()["services"]["clamd"]
    assert "./config/clamd.conf:/etc/clamav/clamd.conf:ro" in clamd["volumes"]
    assert any(folder.startswith(f"{told['TemporaryDirectory']}:") for folder in clamd["tmpfs"])


def test_the_s3_server_is_not_root_which_would_need_rights_that_it_has_not() -> None:
    assert compose()["services"]["s3"]["user"] == "1000:1000"


def test_the_image_copies_every_package() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for package in ("config", "gateway", "backup"):
        assert f"COPY {package} {package}" in dockerfile
    assert "USER nightsafe-gateway" in dockerfile
