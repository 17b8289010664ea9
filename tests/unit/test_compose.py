"""docker-compose.yml against the public schema, and in step with the roles of the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from nightsafe import COMMANDS

ROOT = Path(__file__).parents[2]
ROLES = {name for name, (_, line) in COMMANDS.items() if line.startswith("Role:")}
OUTSIDERS = {"s3", "clamd"}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def test_the_file_fits_the_schema_of_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_there_is_a_service_for_each_role_an_s3_server_and_clamd() -> None:
    services = compose()["services"]
    assert set(services) == ROLES | OUTSIDERS | {"init", "ingest-2"}
    for role in ROLES - {"s3"}:
        assert services[role]["command"][0] == role


def test_our_containers_are_confined() -> None:
    for name, service in compose()["services"].items():
        if name in OUTSIDERS:
            continue
        assert service["read_only"] is True
        assert service["user"] not in ("", "0", "root")
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_the_internet_facing_role_holds_no_secret() -> None:
    services = compose()["services"]
    assert "secrets" not in services["gateway"]
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]


def test_environment_names_settings_that_exist() -> None:
    from config.loading import parse_settings

    environment = compose()["services"]["scheduler"]["environment"]
    assert parse_settings("", "compose", environment).s3.endpoint == "http://s3:8333"


def test_the_image_copies_every_package() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for package in ("config", "gateway", "backup"):
        assert f"COPY {package} {package}" in dockerfile
    assert "USER 10001" in dockerfile
