"""The machine beneath: swap, core dumps, the clock, restic."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from backup.doctor.finding import Finding, named
from backup.restic.runner import Runner
from backup.restic.version import check_version
from config.advice import restart
from config.loading import Installation
from config.roles import SCHEDULERS, is_here, role_state, scheduler_name

PROC = Path("/proc")
BLOCK = Path("/sys/dev/block")
NEWEST_TRIED = (0, 19)  # of restic
ROLES = ("gateway", "keyd", "ingest", "scheduler", *(scheduler_name(part) for part in SCHEDULERS))
STA_UNSYNC = 0x0040  # linux/timex.h: the clock is not synchronised
CLOCK_ERROR = 5  # what adjtimex returns then


def check_swap(swaps: Path = PROC / "swaps", block: Path = Path("/sys/block")) -> Iterator[Finding]:
    """Whether memory may be written to a disk in clear. Compressed memory (zram) and dm-crypt are good."""
    entries = [line.split()[0] for line in swaps.read_text().splitlines()[1:] if line.strip()]
    clear = [name for name in entries if not _is_covered(name, block)]
    if clear:
        yield Finding(
            "warning", "swap", f"in clear: {named(clear)}", "pages of memory with keys and papers in them may be written to the disk",
            "swapoff -a; and out of /etc/fstab with it, or encrypt it in /etc/crypttab",
        )  # fmt: skip
    else:
        yield Finding("good", "swap", "none" if not entries else f"encrypted or in memory: {named(entries)}")


def _is_covered(name: str, block: Path) -> bool:
    device = Path(name).resolve().name
    if device.startswith("zram"):
        return not (block / device / "backing_dev").exists() or (block / device / "backing_dev").read_text().strip() == "none"
    with suppress(OSError):
        return (block / device / "dm" / "uuid").read_text().startswith("CRYPT-")
    return False


def check_core_dumps(installation: Installation, proc: Path = PROC) -> Iterator[Finding]:
    """Whether a role that crashes would leave its memory behind."""
    states = {role: role_state(installation.folder, role) for role in ROLES}
    running = {role: state["pid"] for role, state in states.items() if state is not None and is_here(state)}
    dumping = []
    for role, pid in running.items():
        with suppress(FileNotFoundError, ProcessLookupError):
            if not re.search(r"^Max core file size\s+0\s+0\s", (proc / str(pid) / "limits").read_text(), re.MULTILINE):
                dumping.append(role)
    if dumping:
        mend = restart(installation.folder, dumping[0])
        yield Finding("bad", "core dumps", f"possible for: {named(dumping)}", "a core dump holds keys and papers in clear", mend)
    elif running:
        yield Finding("good", "core dumps", "off for every running role")


def check_clock() -> Iterator[Finding]:
    """Whether something keeps the clock of this machine right (adjtimex(2), which asks and changes nothing)."""
    timex = ctypes.create_string_buffer(512)  # struct timex; zeroed: modes = 0 only reads
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    status = ctypes.c_int.from_buffer(timex, _status_offset()).value
    if state == -1:
        return
    if state == CLOCK_ERROR or status & STA_UNSYNC:
        yield Finding(
            "warning", "clock", "nothing keeps it right", "receipts, second factors, certificates and schedules go by the clock",
            "apt install systemd-timesyncd; or chrony; on a virtual machine the host may do it unseen",
        )  # fmt: skip
    else:
        yield Finding("good", "clock", "synchronised")


def _status_offset() -> int:
    """Where `status` lies in struct timex: after modes (padded), offset, freq, maxerror and esterror, all longs."""
    return 5 * ctypes.sizeof(ctypes.c_long)


def check_restic(installation: Installation) -> Iterator[Finding]:
    """The restic program and its version."""
    version = check_version(Runner(installation.settings.backup.restic, installation.folder.cache / "restic-tmp"))
    text = ".".join(str(number) for number in version)
    if version[:2] > NEWEST_TRIED:
        tried = ".".join(str(number) for number in NEWEST_TRIED)
        yield Finding(
            "note", "restic", f"{text}; {tried} is the newest that was tried", "a newer one may say things in another way",
            "see what the next drill says: nightsafe drill run --full",
        )  # fmt: skip
    else:
        yield Finding("good", "restic", text)
