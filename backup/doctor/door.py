"""The side that faces the internet: which algorithms are offered, and what the settings allow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from backup.doctor.finding import Finding, named
from config.advice import restart, setting
from config.errors import OutOfReach
from config.loading import Installation
from config.roles import reached_at, role_state, starter

AUDIT_SECONDS = 60
WIDE = {4: 16, 6: 32}  # a trusted network with fewer fixed bits holds strangers


def check_algorithms(installation: Installation) -> Iterator[Finding]:
    """What ssh-audit says of the running gateway."""
    state = role_state(installation.folder, "gateway")
    if state is None:
        yield Finding("note", "algorithms", "not looked at: the gateway does not run", "what it offers is seen by asking it",
                      f"start it: {starter(installation.folder)}")  # fmt: skip
        return
    found = _audit(reached_at(state), int(state["port"]))
    failing, warned = _noted(found, "fail"), _noted(found, "warn")
    if failing:
        yield Finding(
            "bad", "algorithms", f"ssh-audit fails: {named(failing)}", "they can be broken",
            "nightsafe is older than this knowledge: see docs/how-to/upgrade.md",
        )  # fmt: skip
    if warned:
        yield Finding(
            "note", "algorithms", f"ssh-audit warns of: {named(warned)}", "older clients need them: docs/reference/algorithms.md says which",
            f"{setting('gateway', 'algorithms', 'strict')}; once all clients are up to date; then {restart(installation.folder, 'gateway')}",
        )  # fmt: skip
    if not failing and not warned:
        yield Finding("good", "algorithms", "ssh-audit has nothing to say")


def _audit(host: str, port: int) -> dict[str, Any]:
    """ssh-audit's JSON. Raises OutOfReach."""
    command = [str(Path(sys.executable).with_name("ssh-audit")), "-j", "--skip-rate-test", "-p", str(port), host]
    try:
        done = subprocess.run(command, capture_output=True, timeout=AUDIT_SECONDS, check=False)
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise OutOfReach(f"ssh-audit gave no answer: {error}", "does the gateway take connections? try: nightsafe status") from error
    return found if isinstance(found, dict) else {}


def _noted(found: dict[str, Any], level: str) -> list[str]:
    entries = [entry for kind in ("kex", "key", "enc", "mac") for entry in found.get(kind, [])]
    return sorted({str(entry["algorithm"]) for entry in entries if entry.get("notes", {}).get(level)})


def check_settings(installation: Installation) -> Iterator[Finding]:
    """What the settings of the gateway allow."""
    settings = installation.settings.gateway
    wide = [text for text in settings.trusted_networks if (network := ip_network(text)).prefixlen < WIDE[network.version] and not network.is_loopback]
    if wide:
        yield Finding(
            "bad", "trusted networks", f"so wide that strangers are in them: {named(wide)}", "nobody there is ever banned, however often they guess",
            setting("gateway", "trusted_networks", [text for text in settings.trusted_networks if text not in wide]),
        )  # fmt: skip
    if not settings.public_host:
        yield Finding(
            "note",
            "public host",
            "gateway.public_host is empty",
            "welcome sheets cannot tell clients where to go",
            setting("gateway", "public_host", "HOST"),
        )
