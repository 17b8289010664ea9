"""The units: systemd itself reads them, judges them, and they are in step with the table of rights and the secrets of the roles."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.owners import PLACES, ROLES, USERS
from config.roles import SCHEDULERS
from gateway.keys.secrets import ROLES as SECRETS
from nightsafe import COMMANDS

UNITS = Path(__file__).parents[2] / "config" / "systemd"
FOUND = sorted(path.name for path in UNITS.iterdir() if path.is_file())
SERVICES = [name for name in FOUND if name.endswith(".service")]
MOST_EXPOSED = 20  # of 100, as systemd-analyze judges; without any hardening it says 96
DATA = "/var/lib/nightsafe/data"
FILES = {"backup": {"s3.toml", "notify.toml"}, "drill": {"s3.toml"}, "prune": {"s3.toml"}, "web": {"web.token"}}


def options(name: str) -> dict[str, list[str]]:
    """The values of each option of a unit, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if matched := re.fullmatch(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(matched[1], []).append(matched[2])
    return found


def role_of(name: str) -> str:
    """The role under whose user a service runs; empty for root's."""
    users = options(name).get("User", [])
    return next((role for role, user in USERS.items() if user in users), "")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in which the units and what they start lie."""
    root = tmp_path_factory.mktemp("machine")
    shutil.copytree(UNITS, root / "etc/systemd/system", dirs_exist_ok=True)
    for program in ("opt/nightsafe/bin/nightsafe", "bin/kill"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).write_text("#!/bin/sh\n")
        (root / program).chmod(0o755)
    return root


def analyze(machine: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words, f"--root={machine}", "--no-pager"], capture_output=True, text=True, check=False, timeout=240)


def complaints(machine: Path) -> Iterator[str]:
    """What systemd says of our units; units of systemd itself are not in the folder."""
    for line in analyze(machine, "verify", "--man=no", "--recursive-errors=no", *FOUND).stderr.splitlines():
        if "nightsafe" in line and "not found" not in line.lower():
            yield line


def test_systemd_understands_every_line(machine: Path) -> None:
    assert list(complaints(machine)) == []
    broken = machine / "etc/systemd/system/nightsafe-keyd.service"
    text = broken.read_text()
    try:
        broken.write_text(text.replace("PrivateNetwork=yes", "PrivateNetwork=perhaps").replace("[Install]", "Invented=1\n[Install]"))
        assert len(list(complaints(machine))) == 2  # else the line above proves nothing
    finally:
        broken.write_text(text)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(machine: Path, name: str) -> None:
    done = analyze(machine, "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", name)
    assert done.returncode == 0, done.stdout


def test_the_gateway_alone_may_do_one_thing_that_root_may(machine: Path) -> None:
    """To listen on port 22. What is said for all comes first, and takes everything away."""
    drop_ins = sorted(path.relative_to(UNITS).as_posix() for path in UNITS.glob("*.d/*"))
    assert drop_ins == ["nightsafe-.service.d/10-hardening.conf", "nightsafe-gateway.service.d/20-low-ports.conf"]
    for option in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert [options(name)[option] for name in drop_ins] == [[""], ["CAP_NET_BIND_SERVICE"]]
        assert not any(option in options(name) for name in SERVICES if role_of(name))


@pytest.mark.parametrize("name", [name for name in SERVICES if role_of(name) and not name.startswith("nightsafe-run-")])
def test_a_role_says_itself_when_it_serves_and_that_it_lives(name: str) -> None:
    found = options(name)
    assert found["Type"] == ["notify"] and found["WatchdogSec"] == ["2min"] and found["Restart"] == ["always"]
    assert "NotifyAccess" not in found, "its first process alone is believed"


def test_there_is_a_service_for_each_role_and_a_timer_for_each_kind_of_job() -> None:
    assert {name for role in ROLES if (name := f"nightsafe-{role}.service") in SERVICES} == {f"nightsafe-{role}.service" for role in ROLES}
    timed = {name.removesuffix(".timer") for name in FOUND if name.endswith(".timer")}
    assert timed == {name.removesuffix(".service") for name in SERVICES if name.startswith("nightsafe-run-")}
    wanted = {kind for kinds in SCHEDULERS.values() for kind in kinds} - {"copy"} | {"full-drill"}
    assert timed == {f"nightsafe-run-{kind}" for kind in wanted}


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "nightsafe-credentials.service"])
def test_a_service_gets_its_roles_secrets_and_no_others(name: str) -> None:
    role, found = role_of(name), options(name)
    assert role
    given = {line.split(":")[0]: line.split(":")[1] for line in found.get("LoadCredential", [])}
    assert set(given) == set(SECRETS[role]) | FILES.get(role, set())
    assert all(path == f"/run/nightsafe/credentials/{role}/{secret}" for secret, path in given.items())
    assert found["Group"] == [USERS[role]]
    once = name.startswith("nightsafe-run-")
    # A role that runs on waits for its secrets, whenever they come, and gets new ones; a job of a timer fails, and comes again by itself.
    assert ("nightsafe-credentials.service" in found.get("Requires", [])) == (once and bool(given))
    assert ("nightsafe-credentials.service" in found.get("PartOf", [])) == (not once and bool(given))
    assert ("nightsafe-credentials.service" in found.get("Wants", [])) == (not once and bool(given))


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "nightsafe-credentials.service"])
def test_what_a_role_may_not_write_is_read_only_for_its_service(name: str) -> None:
    role, found = role_of(name), options(name)
    open_paths = set(found["ReadWritePaths"][0].split())
    read_only = {path.removeprefix("-") for line in found.get("ReadOnlyPaths", []) for path in line.split()}
    if DATA not in open_paths:  # the system is read-only but for these
        read_only = {f"{DATA}/{place.path}" for place in PLACES} - open_paths
    for place in PLACES:
        if place.kind == "folder" and "/" not in place.path and place.path != ".":
            inside = [one for one in PLACES if one.path == place.path or one.path.startswith(f"{place.path}/")]
            writes = any(role in one.writes | one.adds for one in inside)
            assert (f"{DATA}/{place.path}" in read_only) != writes, f"{name}: {place.path}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_starts_a_command_that_is_there(name: str) -> None:
    (line,) = options(name)["ExecStart"]
    program, command, *_ = line.split()
    assert program == "/opt/nightsafe/bin/nightsafe"
    assert command in COMMANDS
