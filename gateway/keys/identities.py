"""An age identity as the text of a file, in age's own form: `AGE-SECRET-KEY-1…` on a line; lines that begin with # are comments."""

from __future__ import annotations

from datetime import UTC, datetime

from config.errors import SettingsError
from gateway.age import AgeError, Identity


def identity_file(identity: Identity) -> str:
    """An identity as the text of a file, as age-keygen writes it."""
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"# created: {made}\n# public key: {identity.recipient}\n{identity.encode()}\n"


def parse_identity(data: bytes, name: str) -> Identity:
    """The one identity in the text of an identity file. Raises SettingsError; `name` stands in the message, the text never does."""
    lines = [line.strip() for line in data.decode("ascii", errors="replace").splitlines()]
    secrets = [line for line in lines if line and not line.startswith("#")]
    try:
        if len(secrets) == 1:
            return Identity.parse(secrets[0])
    except AgeError:
        pass
    raise SettingsError(
        f"{name} does not hold one age identity", "it must have one line that begins with AGE-SECRET-KEY-1; restore it from where you keep it"
    )
