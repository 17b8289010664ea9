"""The main job on real papers, as its users do it: every step is a command that a person could type.

Called by `scripts/quickstart`, which has set up the environment. State lies in `.nightsafe/` and is used again on the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from config.words import counted, noun

ROOT = Path(__file__).resolve().parent.parent
CLIENT = "demo"
BIG_BYTES = 64 * 1024 * 1024
WANTED = 300
LARGEST_DOCUMENT = 4 * 1024 * 1024
READY_SECONDS, RECEIPT_SECONDS, BUSY_SECONDS = 90, 300, 300
BUSY, OUT_OF_REACH = 4, 5  # exit codes: somebody else holds the lock; a port is taken, or a service does not answer
USUAL_PORT = 2022


class QuickstartError(Exception):
    """A step failed; the message says which, and the command has said why."""


@dataclass(frozen=True)
class Place:
    """Where the quickstart lives."""

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def key(self) -> Path:
        return self.home / "client" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.home / "client" / "known_hosts"

    @property
    def papers(self) -> Path:
        return self.home / "client" / "papers"

    @property
    def receipts(self) -> Path:
        return self.home / "client" / "receipts"

    @property
    def ready(self) -> Path:
        return self.home / "ready.json"

    @property
    def log(self) -> Path:
        return self.home / "up.log"


def main() -> int:
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGINT):  # also where a shell has set SIGINT aside, as it does for background jobs
        signal.signal(number, _end)
    place = Place(Path(os.environ.get("NIGHTSAFE_HOME", ROOT / ".nightsafe")).absolute())
    console = Console(markup=False, highlight=False)
    try:
        with _serving(place, console) as (server, process):
            summary = _main_job(place, arguments.papers, server["sftp"], console)
            _print_summary(console, place, server, summary)
            if arguments.exit:
                return 0
            console.print("\nServing until Ctrl-C …")
            return _wait_for_end(process, place)
    except QuickstartError as error:
        console.print(f"quickstart: {error}", style="red")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description="Set up Nightsafe, do its whole job once on real papers, go on serving.")
    parser.add_argument(
        "--papers", type=Path, metavar="DIR", help="the folder to deposit (default: documents of this machine and one file of 64 MiB)"
    )
    parser.add_argument("--exit", action="store_true", help="stop after the summary")
    arguments = parser.parse_args()
    if arguments.papers is not None and not arguments.papers.is_dir():
        parser.error(f"{arguments.papers} is not a folder")
    return arguments


def _nightsafe(place: Place, *arguments: str) -> Any:
    """Run a command of ours with --json and give back what it printed. When the scheduler is at the same work just now, its turn is awaited."""
    command = [sys.executable, "-m", "nightsafe", *arguments, "--data", str(place.data), "--json"]
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode == 0:
            return json.loads(done.stdout)
        if done.returncode != BUSY or time.monotonic() > deadline:
            raise QuickstartError(f"'nightsafe {' '.join(arguments)}' ended with code {done.returncode}:\n{done.stderr.strip()}")
        time.sleep(1)


@contextlib.contextmanager
def _serving(place: Place, console: Console) -> Iterator[tuple[dict[str, Any], subprocess.Popen[bytes]]]:
    """Nightsafe, made on the first run and started; stopped at the end."""
    place.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.key.parent.mkdir(mode=0o700, exist_ok=True)
    if not (place.data / "VERSION").exists():
        kit = place.home / "recovery-kit.txt"
        kit.unlink(missing_ok=True)  # of an init that did not come to its end
        console.print(f"Making the data folder {place.data} …")
        _nightsafe(place, "init", "--recovery-kit", str(kit))
    if not place.key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", CLIENT, "-f", str(place.key)], check=True)
    if CLIENT not in {client["name"] for client in _nightsafe(place, "client", "list")}:
        _nightsafe(place, "client", "add", CLIENT, "--public-key", f"{place.key}.pub")
    console.print("Starting all roles …")
    server, process = _start(place)
    try:
        yield server, process
    finally:
        _stop(process)


def _start(place: Place) -> tuple[dict[str, Any], subprocess.Popen[bytes]]:
    """Start all roles and wait until they are ready. The port may have been taken since it was looked at: then any other will do."""
    port = _port()
    process = _up(place, port)
    try:
        return _await_ready(process, place), process
    except BaseException:
        _stop(process)
        if process.returncode == OUT_OF_REACH and port and not _port():
            return _start(place)
        raise


def _up(place: Place, port: int) -> subprocess.Popen[bytes]:
    place.ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "nightsafe", "up", "--data", str(place.data), "--sftp-host", "127.0.0.1"]
    command += ["--sftp-port", str(port), "--ready-file", str(place.ready)]
    with place.log.open("wb") as log:
        # In a session of its own: Ctrl-C reaches this script first, which then ends the roles in order.
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def _port() -> int:
    """The usual port when it is free, else any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", USUAL_PORT))
        except OSError:
            return 0
    return USUAL_PORT


def _complaints(log: Path) -> list[str]:
    """The last lines that the roles wrote, without those that only say how they come and go."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if '"level": "info"' not in line][-20:]


def _await_ready(process: subprocess.Popen[bytes], place: Place) -> dict[str, Any]:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise QuickstartError("'nightsafe up' ended:\n" + "\n".join(_complaints(place.log)))
        if place.ready.exists():
            ready: dict[str, Any] = json.loads(place.ready.read_text())
            return ready
        time.sleep(0.05)
    raise QuickstartError(f"'nightsafe up' was not ready after {READY_SECONDS} seconds; see {place.log}")


def _main_job(place: Place, given: Path | None, sftp: dict[str, Any], console: Console) -> dict[str, Any]:
    papers = given or _gather(place.papers)
    files = [path for path in papers.rglob("*") if path.is_file() and not path.is_symlink()]
    if not files:
        raise QuickstartError(f"{papers} holds no files")
    size = sum(path.stat().st_size for path in files)
    before = _nightsafe(place, "client", "show", CLIENT)["papers"]
    console.print(f"Depositing {counted(len(files), 'paper')} ({size / 2**20:.0f} MiB) over SFTP …")
    started = time.monotonic()
    _sftp(place, sftp, f'put -r "{_quoted(papers.resolve())}" inbox/')
    deposited = time.monotonic() - started
    console.print("Waiting for the receipts …")
    _await_papers(place, before + len(files))
    checked = _check_receipts(place, sftp, len(files))
    console.print("Backing up to S3 …")
    backup = _nightsafe(place, "backup", "run")
    console.print("Rehearsing the restore of every paper …")
    drill = _nightsafe(place, "drill", "run", "--full")
    return {"papers": len(files), "bytes": size, "seconds": deposited, "receipts": checked, "backup": backup, "drill": drill, "inbox": papers.name}


def _gather(target: Path) -> Path:
    """Some 300 documents that are on every Debian machine, and one big file; made once."""
    if target.exists():
        return target
    final, target = target, target.with_name("papers.new")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for source in _documents():
        copy = target / source.parent.relative_to("/usr").as_posix().replace("share/doc/", "").replace("/", "_") / source.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, copy)
    with (target / "big.bin").open("wb") as big:
        block = hashlib.shake_256(b"nightsafe quickstart").digest(1 << 20)
        for number in range(BIG_BYTES >> 20):
            big.write(hashlib.sha256(number.to_bytes(4, "big")).digest() + block[32:])
    return target.rename(final)


def _documents() -> list[Path]:
    """Documents of the installed packages, then licences, then the sources that come with Python: they are there even on a slim machine."""
    sources = [
        sorted(Path("/usr/share/doc").glob("*/*")),
        sorted(Path("/usr/share/common-licenses").glob("*")),
        sorted(Path(os.__file__).resolve().parent.glob("*.py")),
        sorted(Path(os.__file__).resolve().parent.glob("*/*.py")),
    ]
    found: list[Path] = []
    for path in (path for group in sources for path in group):
        if len(found) == WANTED:
            break
        with contextlib.suppress(OSError, ValueError):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_DOCUMENT and path.resolve().is_relative_to("/usr"):
                found.append(path)
    return found


def _quoted(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')


def _sftp(place: Place, sftp: dict[str, Any], *lines: str) -> str:
    """Run lines in the OpenSSH client, as the client of the firm."""
    command = ["sftp", "-q", "-b", "-", *_ssh_options(place), "-P", str(sftp["port"]), f"{CLIENT}@{sftp['host']}"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    if done.returncode:
        raise QuickstartError(f"sftp failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def _ssh_options(place: Place) -> list[str]:
    hosts = f"UserKnownHostsFile={place.known_hosts}"
    return ["-i", str(place.key), "-o", "IdentitiesOnly=yes", "-o", hosts, "-o", "StrictHostKeyChecking=accept-new"]


def _await_papers(place: Place, count: int) -> None:
    deadline = time.monotonic() + RECEIPT_SECONDS
    while (there := _nightsafe(place, "client", "show", CLIENT)["papers"]) < count:
        if time.monotonic() > deadline:
            sealed = f"{there} of {counted(count, 'paper')} {noun(there, 'was', 'were')} sealed"
            raise QuickstartError(f"only {sealed} after {RECEIPT_SECONDS} seconds; see {place.log}")
        time.sleep(1)


def _check_receipts(place: Place, sftp: dict[str, Any], count: int) -> int:
    """Fetch the receipts of today as the client would, and check the newest `count` signatures with ssh-keygen."""
    shutil.rmtree(place.receipts, ignore_errors=True)
    place.receipts.mkdir()
    deadline = time.monotonic() + RECEIPT_SECONDS
    while True:
        _sftp(place, sftp, f'get -rp receipts "{_quoted(place.receipts)}"')
        found = sorted(place.receipts.rglob("*.json"), key=lambda path: json.loads(path.read_text())["received_at"])
        if len(found) >= count and all(path.with_name(path.name + ".sig").exists() for path in found):
            break
        if time.monotonic() > deadline:
            raise QuickstartError(f"only {len(found)} of {counted(count, 'receipt')} came; see {place.log}")
        time.sleep(0.3)
    signers = place.data / "keys" / "allowed_signers"
    for receipt in found[-count:]:
        command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "receipts", "-n", "receipt@nightsafe", "-s", f"{receipt}.sig"]
        with receipt.open("rb") as message:
            if subprocess.run(command, stdin=message, capture_output=True, check=False).returncode:
                raise QuickstartError(f"the receipt {receipt.name} is not signed by this installation")
    return count


def _print_summary(console: Console, place: Place, server: dict[str, Any], summary: dict[str, Any]) -> None:
    backup, drill = summary["backup"], summary["drill"]
    table = Table(title="What just happened", title_justify="left", show_header=False)
    rate = summary["bytes"] / 2**20 / max(summary["seconds"], 1e-3)
    rows = [
        ("papers", f"{summary['papers']} deposited over SFTP, {summary['bytes']:,} bytes in {summary['seconds']:.1f} s ({rate:.0f} MiB/s)"),
        ("receipts", f"{summary['receipts']} fetched over SFTP, every signature checked with ssh-keygen"),
        ("snapshot", f"{backup['snapshot'][:8]} (keys {backup['keys_snapshot'][:8]}) in {server['s3']['endpoint'] if server['s3'] else 'your S3'}"),
        ("drill", f"{drill['state']}: {drill['detail']['drawn']} of {counted(drill['detail']['of'], 'paper')} restored, decrypted, compared"),
        ("recovery time", f"{drill['detail']['recovery_seconds']:.1f} s"),
        ("evidence", drill["detail"]["evidence"]),
        ("virus scan", "off"),
        ("offsite", "no: the embedded S3 server is on this machine. Name another endpoint in nightsafe.toml, [s3]"),
        ("recovery kit", f"{place.home / 'recovery-kit.txt'}  (print it, lock it away, delete the file)"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    options = " ".join(_ssh_options(place))
    console.print(f"\nLog in as the client:\n  sftp {options} -P {server['sftp']['port']} {CLIENT}@{server['sftp']['host']}", soft_wrap=True)
    console.print(f"One screen:\n  .venv/bin/nightsafe status --data {place.data}", soft_wrap=True)
    console.print("Go on step by step:\n  docs/tutorial/first-night.md", soft_wrap=True)


def _wait_for_end(process: subprocess.Popen[bytes], place: Place) -> int:
    """Until Ctrl-C, SIGTERM, or the end of 'nightsafe up'."""
    code = process.wait()
    raise QuickstartError(f"'nightsafe up' ended with code {code}; see {place.log}")


def _end(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
