"""The recovery kit: two texts to print and to lock away, with which every paper comes back by `restic`, `age` and a shell script alone.

Part A holds the recovery identity and is shown once, by `init`. Part B holds what changes (where the backups are, a read-only credential, the
kit's own restic password, the script) and can be printed at any time. Neither opens a paper without the other.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from config.errors import SettingsError
from gateway.age import Identity
from gateway.keys.keyring import Keyring
from gateway.keys.pieces import read_piece

SCRIPT = "restore.sh"
SCRIPT_END = "# end of restore.sh"
VALUES_BEGIN, VALUES_END = "# values", "# end of values"
NEW_LINE = "\n"


NOT_OFFSITE = """
WARNING: the backups lie on the machine that they are to survive. This page is of no use once that machine is lost.
Name another endpoint in nightsafe.toml, [s3], and print the page again.
"""


@dataclass(frozen=True)
class KitValues:
    """What part B tells: restic's URLs of both repositories, and what opens them for reading. `repr` hides the secrets."""

    papers_repository: str  # such as s3:https://s3.example.com/bucket/papers
    keys_repository: str
    restic_password: str = field(repr=False)  # the kit's own key of both repositories
    access_key: str
    secret_key: str = field(repr=False)  # of the credential that can only read
    region: str = "us-east-1"
    offsite: bool = True  # whether the repositories survive this machine
    newest: datetime | None = None  # when the newest backup began that is known; an older one must not pass for the newest


def restore_script() -> str:
    """The text of restore.sh."""
    return files("gateway.keys").joinpath(SCRIPT).read_text(encoding="ascii")


def part_a(recovery: Identity, keyring: Keyring) -> str:
    """The secret half, shown once. It is an age identity file too: all but the key are comments."""
    return f"""\
# NIGHTSAFE RECOVERY KIT, PART A: the recovery identity
#
# made: {_now()}
# host key of this installation: {_host_key(keyring)}
# public key: {recovery.recipient}
{recovery.encode()}
#
# This line opens every paper that this installation keeps, without Nightsafe and without its machine. It is shown once.
# Print this page twice, lock the copies away in two places, and delete the file. Keep it apart from part B, which says where the backups
# are: print that at any time, and after every change of the bucket, with: nightsafe kit show
"""


def part_b(values: KitValues, keyring: Keyring) -> str:
    """The half that can be printed again. It holds a credential that can read the sealed backups, so it is confidential, but opens no paper."""
    signers = "".join(f"  {line}\n" for line in _read(keyring.allowed_signers).splitlines())
    return f"""\
NIGHTSAFE RECOVERY KIT, PART B: where the backups are, and how to get every paper back
Printed {_now()}. Confidential: it lets the sealed backups be read. To open papers, part A is needed too.
{"" if values.offsite else NOT_OFFSITE}
How to get everything back, on any machine with restic (0.14 or newer), age and a POSIX shell:

  1. Save this page as kit-b.txt, and part A (or its line AGE-SECRET-KEY-1...) as kit-a.txt. Then cut out the values and the script:
       sed -n '/^{VALUES_BEGIN}$/,/^{VALUES_END}$/p' kit-b.txt > values.sh
       sed -n '/^#!\\/bin\\/sh$/,/^{SCRIPT_END}$/p' kit-b.txt > {SCRIPT}
  2. Run them; TARGET is a new folder with room for all papers twice:
       . ./values.sh
       sh {SCRIPT} kit-a.txt TARGET
  3. It ends with the number of papers, and exit code 0 when all of them came back. What it needs is explained at the top of the script.
     A WARNING means that the newest snapshot may be an old one: read it before you trust what came.
     The backup's catalog (hashes, versions, receipts) comes with: restic -r "$NIGHTSAFE_PAPERS" --no-lock restore latest --target DIR

What tells the real from the false:

  host key of the SFTP server   {_host_key(keyring)}
  recovery public key           {", ".join(str(recipient) for recipient in keyring.recovery_recipients)}
  allowed_signers (ssh-keygen -Y verify -f FILE -I receipts -n receipt@nightsafe -s RECEIPT.sig < RECEIPT):
{signers}
{VALUES_BEGIN}
export NIGHTSAFE_PAPERS={shlex.quote(values.papers_repository)}
export NIGHTSAFE_KEYS={shlex.quote(values.keys_repository)}
export RESTIC_PASSWORD={shlex.quote(values.restic_password)}
export AWS_ACCESS_KEY_ID={shlex.quote(values.access_key)}
export AWS_SECRET_ACCESS_KEY={shlex.quote(values.secret_key)}
export AWS_DEFAULT_REGION={shlex.quote(values.region)}
{f"export NIGHTSAFE_NEWEST={values.newest.astimezone(UTC):%Y-%m-%dT%H:%MZ}" + NEW_LINE if values.newest else ""}{VALUES_END}

{restore_script()}"""


def _host_key(keyring: Keyring) -> str:
    blob = base64.b64decode(_read(keyring.folder.host_key.with_name(keyring.folder.host_key.name + ".pub")).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")  # as `ssh-keygen -l` shows it


def _read(path: Path) -> str:
    try:
        return read_piece(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read", "restore it from a backup") from error


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
