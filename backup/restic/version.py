"""Which restic programs will do."""

from __future__ import annotations

from backup.restic import arguments
from backup.restic.messages import parse_version
from backup.restic.runner import Runner, Secrets
from config.errors import OutOfReach, SettingsError

MINIMUM = (0, 14, 0)


def check_version(runner: Runner) -> tuple[int, int, int]:
    """The version of the runner's program. Raises OutOfReach (missing, or it does not run) and SettingsError (too old, or not restic)."""
    lines: list[bytes] = []
    finished = runner.run(arguments.version(), Secrets(b""), lambda line: lines.append(line), doing="asking restic for its version")
    if finished.code:
        raise OutOfReach(f"'{runner.program} version' ends with code {finished.code}", "check backup.restic in the settings")
    try:
        version = parse_version(b"\n".join(lines[:20]))
    except ValueError:
        raise SettingsError(f"'{runner.program}' does not look like restic", "check backup.restic in the settings") from None
    if version < MINIMUM:
        have, need = (".".join(map(str, numbers)) for numbers in (version, MINIMUM))
        raise SettingsError(
            f"restic {have} is too old; {need} or newer is needed", "install a newer one, or set backup.restic to the path of a newer one"
        )
    return version
