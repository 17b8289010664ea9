"""The SFTP clients of the matrix, each behind the same few verbs. What a client cannot do at all it does not define."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncssh
import paramiko

from tests.integration.sftp_rig import Server, paramiko_client

SECONDS = 120


class Driver:
    """One client program. Remote paths are absolute; a failure raises."""

    name = ""
    cannot_carry: frozenset[str] = frozenset()  # characters of names that the client itself refuses

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        self.home = home

    def version(self) -> str:
        """What the table says beside the name."""
        raise NotImplementedError

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        """Begin an upload, and break it off the hard way once it `has_begun`."""
        raise NotImplementedError

    def run(self, *command: str, data: str | None = None, environment: dict[str, str] | None = None) -> str:
        """A program's output; AssertionError when it fails."""
        done = subprocess.run(
            command, input=data, capture_output=True, text=True, timeout=SECONDS, check=False, env={**os.environ, **(environment or {})}
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def killed(self, command: list[str], has_begun: Callable[[], bool], data: str = "", environment: dict[str, str] | None = None) -> None:
        """Run a program until `has_begun`, then SIGKILL it with all that it started."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdin is not None
        process.stdin.write(data.encode())
        process.stdin.flush()
        try:
            deadline = time.monotonic() + SECONDS
            while not has_begun():
                assert process.poll() is None and time.monotonic() < deadline, "the upload did not last until it could be broken off"
                time.sleep(0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
            process.stdin.close()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class OpenSsh(Driver):
    """OpenSSH's sftp, by a batch."""

    name = "OpenSSH sftp"

    def version(self) -> str:
        return self.run("ssh", "-V").split(",")[0].split("_")[1].split(" ")[0]

    def put(self, source: Path, target: str) -> None:
        self.server.sftp(f"put {source} {_quoted(target)}")

    def get(self, source: str, target: Path) -> None:
        self.server.sftp(f"get {_quoted(source)} {target}")

    def put_kept(self, source: Path, target: str) -> None:
        self.server.sftp(f"put -p {source} {_quoted(target)}")

    def put_tree(self, source: Path, target: str) -> None:
        self.server.sftp(f"put -R {source} {_quoted(target)}")

    def get_tree(self, source: str, target: Path) -> None:
        self.server.sftp(f"get -R {_quoted(source)} {target}")

    def resume_put(self, source: Path, target: str) -> None:
        self.server.sftp(f"reput {source} {_quoted(target)}")

    def resume_get(self, source: str, target: Path) -> None:
        self.server.sftp(f"reget {_quoted(source)} {target}")

    def rename(self, source: str, target: str) -> None:
        self.server.sftp(f"rename {_quoted(source)} {_quoted(target)}")

    def remove(self, target: str) -> None:
        self.server.sftp(f"rm {_quoted(target)}")

    def space(self) -> int:
        return int(self.server.sftp("df /inbox").splitlines()[-1].split()[2]) * 1024

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        command = ["sftp", *self.server.options(), "-P", str(self.server.port), "-b", "-", f"{self.server.person}@127.0.0.1"]
        self.killed(command, has_begun, f"put {source} {target}\n")


class Scp(Driver):
    """OpenSSH's scp, which speaks SFTP since 9.0."""

    name = "OpenSSH scp"

    version = OpenSsh.version

    def _scp(self, *words: str) -> list[str]:
        return ["scp", "-s", *self.server.options(), "-P", str(self.server.port), *words]

    def put(self, source: Path, target: str) -> None:
        self.run(*self._scp(str(source), self.server.remote(target)))

    def get(self, source: str, target: Path) -> None:
        self.run(*self._scp(self.server.remote(source), str(target)))

    def put_kept(self, source: Path, target: str) -> None:
        self.run(*self._scp("-p", str(source), self.server.remote(target)))

    def put_tree(self, source: Path, target: str) -> None:
        self.run(*self._scp("-r", str(source), self.server.remote(target)))

    def get_tree(self, source: str, target: Path) -> None:
        self.run(*self._scp("-r", self.server.remote(source), str(target)))

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._scp(str(source), self.server.remote(target)), has_begun)


class Rclone(Driver):
    """rclone, with several streams a file."""

    name = "rclone"

    def version(self) -> str:
        return self.run("rclone", "version").split()[1].removeprefix("v")

    def _remote(self, path: str) -> str:
        key = f"key_file={self.server.key},shell_type=none,md5sum_command=none,sha1sum_command=none"
        return f":sftp,host=127.0.0.1,port={self.server.port},user={self.server.person},{key}:{path}"

    def _rclone(self, *words: str) -> list[str]:
        streams = ["--multi-thread-streams", "4", "--multi-thread-cutoff", "1M", "--multi-thread-chunk-size", "1M"]
        return ["rclone", "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", *streams, *words]

    def put(self, source: Path, target: str) -> None:
        self.run(*self._rclone("copyto", "--ignore-times", str(source), self._remote(target)))

    put_kept = put

    def get(self, source: str, target: Path) -> None:
        self.run(*self._rclone("copyto", "--ignore-times", self._remote(source), str(target)))

    def put_tree(self, source: Path, target: str) -> None:
        self.run(*self._rclone("copy", "--create-empty-src-dirs", str(source), self._remote(target)))

    def get_tree(self, source: str, target: Path) -> None:
        self.run(*self._rclone("copy", "--create-empty-src-dirs", self._remote(source), str(target)))

    def rename(self, source: str, target: str) -> None:
        self.run(*self._rclone("moveto", self._remote(source), self._remote(target)))

    def remove(self, target: str) -> None:
        self.run(*self._rclone("deletefile", self._remote(target)))

    def space(self) -> int:
        lines = dict(line.split(":", 1) for line in self.run(*self._rclone("about", "--full", self._remote("/inbox"))).splitlines() if ":" in line)
        return int(lines["Free"])

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._rclone("copyto", str(source), self._remote(target)), has_begun)


class Lftp(Driver):
    """lftp."""

    name = "lftp"

    def version(self) -> str:
        return self.run("lftp", "--version").split("Version")[1].split()[0]

    def _script(self, line: str) -> list[str]:
        program = f"ssh -a -x {' '.join(self.server.options())}"
        settings = f'set sftp:connect-program "{program}"; set net:max-retries 1; set cmd:fail-exit yes; set cmd:interactive no'
        return ["lftp", "-c", f"{settings}; open -u {self.server.person},none sftp://127.0.0.1:{self.server.port}; {line}; bye"]

    def put(self, source: Path, target: str) -> None:
        self.run(*self._script(f"put {source} -o {_quoted(target)}"))

    def get(self, source: str, target: Path) -> None:
        target.unlink(missing_ok=True)
        self.run(*self._script(f"get {_quoted(source)} -o {target}"))

    put_kept = put

    def put_tree(self, source: Path, target: str) -> None:
        self.run(*self._script(f"mirror -R {source} {_quoted(target)}"))

    def get_tree(self, source: str, target: Path) -> None:
        self.run(*self._script(f"mirror {_quoted(source)} {target}"))

    def resume_put(self, source: Path, target: str) -> None:
        self.run(*self._script(f"put -c {source} -o {_quoted(target)}"))

    def resume_get(self, source: str, target: Path) -> None:
        self.run(*self._script(f"get -c {_quoted(source)} -o {target}"))

    def rename(self, source: str, target: str) -> None:
        self.run(*self._script(f"mv {_quoted(source)} {_quoted(target)}"))

    def remove(self, target: str) -> None:
        self.run(*self._script(f"rm {_quoted(target)}"))

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._script(f"put {source} -o {target}"), has_begun)


class Curl(Driver):
    """curl with libssh2."""

    name = "curl"

    def __init__(self, server: Server, home: Path) -> None:
        super().__init__(server, home)
        host = server.folder.host_key.with_name(server.folder.host_key.name + ".pub").read_text().split()
        (home / ".ssh").mkdir()
        (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {host[0]} {host[1]}\n")

    def version(self) -> str:
        words = self.run("curl", "--version").split()
        return f"{words[1]}, {next(word for word in words if word.startswith('libssh'))}"

    def _curl(self, remote: str, *words: str) -> list[str]:
        login = ["--user", f"{self.server.person}:", "--key", str(self.server.key), "--pubkey", f"{self.server.key}.pub"]
        return ["curl", "-sS", "-g", "--ftp-create-dirs", *login, *words, f"sftp://127.0.0.1:{self.server.port}{quote(remote)}"]

    def _run(self, remote: str, *words: str) -> None:
        self.run(*self._curl(remote, *words), environment={"HOME": str(self.home)})

    def put(self, source: Path, target: str) -> None:
        self._run(target, "-T", str(source))

    def get(self, source: str, target: Path) -> None:
        self._run(source, "-o", str(target))

    def put_tree(self, source: Path, target: str) -> None:
        for path in source.rglob("*"):
            if path.is_file():
                self.put(path, f"{target}/{path.relative_to(source)}")

    def get_tree(self, source: str, target: Path) -> None:
        with paramiko_client(self.server) as client, client.open_sftp() as sftp:  # curl can fetch a file whose name it is told
            names = list(walk(sftp, source))
        for name in names:
            local = target / name
            local.parent.mkdir(parents=True, exist_ok=True)
            self.get(f"{source}/{name}", local)

    def resume_put(self, source: Path, target: str) -> None:
        self._run(target, "-C", "-", "-T", str(source))

    def resume_get(self, source: str, target: Path) -> None:
        self._run(source, "-C", "-", "-o", str(target))

    def rename(self, source: str, target: str) -> None:
        self._run("/", "-o", "/dev/null", "-Q", f"rename {_quoted(source)} {_quoted(target)}")

    def remove(self, target: str) -> None:
        self._run("/", "-o", "/dev/null", "-Q", f"rm {_quoted(target)}")

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        self.killed(self._curl(target, "-T", str(source)), has_begun, environment={"HOME": str(self.home)})


def walk(sftp: paramiko.SFTPClient, folder: str, below: str = "") -> Iterator[str]:
    """Relative paths of all files below a remote folder."""
    for entry in sftp.listdir_attr(f"{folder}/{below}"):
        name = f"{below}{entry.filename}"
        if (entry.st_mode or 0) & 0o40000:
            yield from walk(sftp, folder, f"{name}/")
        else:
            yield name


class Paramiko(Driver):
    """paramiko."""

    name = "paramiko"

    def version(self) -> str:
        return paramiko.__version__

    @contextlib.contextmanager
    def _sftp(self) -> Iterator[paramiko.SFTPClient]:
        with paramiko_client(self.server) as client, client.open_sftp() as sftp:
            yield sftp

    def put(self, source: Path, target: str) -> None:
        with self._sftp() as sftp:
            sftp.put(str(source), target)  # asks for the size afterwards, and raises when it differs

    def get(self, source: str, target: Path) -> None:
        with self._sftp() as sftp:
            sftp.get(source, str(target))

    def put_kept(self, source: Path, target: str) -> None:
        with self._sftp() as sftp:
            sftp.put(str(source), target)
            state = source.stat()
            sftp.utime(target, (state.st_atime, state.st_mtime))

    def put_tree(self, source: Path, target: str) -> None:
        with self._sftp() as sftp:
            sftp.mkdir(target)
            for path in sorted(source.rglob("*")):
                remote = f"{target}/{path.relative_to(source)}"
                if path.is_dir():
                    sftp.mkdir(remote)
                else:
                    sftp.put(str(path), remote)

    def get_tree(self, source: str, target: Path) -> None:
        with self._sftp() as sftp:
            for name in list(walk(sftp, source)):
                local = target / name
                local.parent.mkdir(parents=True, exist_ok=True)
                sftp.get(f"{source}/{name}", str(local))

    def resume_put(self, source: Path, target: str) -> None:
        with self._sftp() as sftp, sftp.open(target, "ab") as file:
            file.write(source.read_bytes()[sftp.stat(target).st_size or 0 :])

    def resume_get(self, source: str, target: Path) -> None:
        with self._sftp() as sftp, sftp.open(source, "rb") as file:
            file.seek(target.stat().st_size)
            with target.open("ab") as local:
                local.write(file.read())

    def rename(self, source: str, target: str) -> None:
        with self._sftp() as sftp:
            sftp.rename(source, target)

    def remove(self, target: str) -> None:
        with self._sftp() as sftp:
            sftp.remove(target)

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        with paramiko_client(self.server) as client:
            sftp = client.open_sftp()
            file = sftp.open(target, "wb")
            file.write(source.read_bytes()[: source.stat().st_size // 2])
            file.flush()
            deadline = time.monotonic() + SECONDS
            while not has_begun():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            transport = client.get_transport()
            assert transport is not None
            transport.sock.close()  # no goodbye


class Asyncssh(Driver):
    """asyncssh's client."""

    name = "asyncssh"
    cannot_carry = frozenset("\\")

    def version(self) -> str:
        return asyncssh.__version__

    def _do(self, work: Callable[[asyncssh.SFTPClient], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            options: dict[str, Any] = {"username": self.server.person, "client_keys": [str(self.server.key)], "known_hosts": None, "config": None}
            async with (
                asyncssh.connect("127.0.0.1", self.server.port, **options) as connection,
                connection.start_sftp_client() as sftp,
            ):
                return await work(sftp)

        return asyncio.run(asyncio.wait_for(main(), SECONDS))

    def put(self, source: Path, target: str) -> None:
        self._do(lambda sftp: sftp.put(str(source), target))

    def get(self, source: str, target: Path) -> None:
        self._do(lambda sftp: sftp.get(source, str(target)))

    def put_kept(self, source: Path, target: str) -> None:
        self._do(lambda sftp: sftp.put(str(source), target, preserve=True))

    def put_tree(self, source: Path, target: str) -> None:
        self._do(lambda sftp: sftp.put(str(source), target, recurse=True))

    def get_tree(self, source: str, target: Path) -> None:
        self._do(lambda sftp: sftp.get(source, str(target), recurse=True))

    def resume_put(self, source: Path, target: str) -> None:
        async def work(sftp: asyncssh.SFTPClient) -> None:
            async with sftp.open(target, "ab") as file:
                await file.write(source.read_bytes()[await sftp.getsize(target) or 0 :])

        self._do(work)

    def resume_get(self, source: str, target: Path) -> None:
        async def work(sftp: asyncssh.SFTPClient) -> None:
            async with sftp.open(source, "rb") as file:
                rest = await file.read(offset=target.stat().st_size)
                target.write_bytes(target.read_bytes() + bytes(rest))

        self._do(work)

    def rename(self, source: str, target: str) -> None:
        self._do(lambda sftp: sftp.rename(source, target))

    def remove(self, target: str) -> None:
        self._do(lambda sftp: sftp.remove(target))

    def space(self) -> int:
        async def work(sftp: asyncssh.SFTPClient) -> int:
            told = await sftp.statvfs("/inbox")
            return (told.bavail or 0) * (told.frsize or 0)

        return int(self._do(work))

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        async def main() -> None:
            options: dict[str, Any] = {"username": self.server.person, "client_keys": [str(self.server.key)], "known_hosts": None, "config": None}
            connection = await asyncssh.connect("127.0.0.1", self.server.port, **options)
            sftp = await connection.start_sftp_client()
            file = await sftp.open(target, "wb")
            await file.write(source.read_bytes()[: source.stat().st_size // 2])
            while not has_begun():
                await asyncio.sleep(0.01)
            connection.abort()

        asyncio.run(asyncio.wait_for(main(), SECONDS))


class Psftp(Driver):
    """PuTTY's psftp, by a batch."""

    name = "psftp"

    def version(self) -> str:
        return self.run("psftp", "-V").split("Release")[1].split()[0]

    def _psftp(self) -> list[str]:
        host = self.server.folder.host_key.with_name(self.server.folder.host_key.name + ".pub")
        fingerprint = self.run("ssh-keygen", "-lf", str(host)).split()[1]
        key = self.home / "key.ppk"
        if not key.exists():
            self.run("puttygen", str(self.server.key), "-o", str(key), "-O", "private")
        return ["psftp", "-batch", "-P", str(self.server.port), "-i", str(key), "-hostkey", fingerprint, f"{self.server.person}@127.0.0.1"]

    def _do(self, *lines: str) -> None:
        batch = self.home / "batch"
        batch.write_text("".join(f"{line}\n" for line in lines))
        self.run(*self._psftp(), "-b", str(batch))

    def put(self, source: Path, target: str) -> None:
        self._do(f"put {source} {_doubled(target)}")

    def get(self, source: str, target: Path) -> None:
        self._do(f"get {_doubled(source)} {target}")

    def put_tree(self, source: Path, target: str) -> None:
        self._do(f"put -r {source} {_doubled(target)}")

    def get_tree(self, source: str, target: Path) -> None:
        self._do(f"get -r {_doubled(source)} {target}")

    def resume_put(self, source: Path, target: str) -> None:
        self._do(f"reput {source} {_doubled(target)}")

    def resume_get(self, source: str, target: Path) -> None:
        self._do(f"reget {_doubled(source)} {target}")

    def rename(self, source: str, target: str) -> None:
        self._do(f"mv {_doubled(source)} {_doubled(target)}")

    def remove(self, target: str) -> None:
        self._do(f"rm {_doubled(target)}")

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        batch = self.home / "batch"
        batch.write_text(f"put {source} {target}\n")
        self.killed([*self._psftp(), "-b", str(batch)], has_begun)


def _doubled(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


class Sshfs(Driver):
    """sshfs: what programs do on a file system, mounted for each verb."""

    name = "sshfs"

    def version(self) -> str:
        return self.run("sshfs", "--version").split("SSHFS version")[1].split()[0]

    def _command(self) -> list[str]:
        program = f"ssh -a -x {' '.join(self.server.options())}"
        return ["sshfs", "-p", str(self.server.port), "-o", f"ssh_command={program}", f"{self.server.person}@127.0.0.1:/", str(self.home)]

    @contextlib.contextmanager
    def _mounted(self) -> Iterator[Callable[[str], Path]]:
        self.run(*self._command())
        try:
            yield lambda path: self.home / path.lstrip("/")
        finally:
            self.run("fusermount3", "-u", str(self.home))

    def put(self, source: Path, target: str) -> None:
        with self._mounted() as at:
            shutil.copyfile(source, at(target))

    def get(self, source: str, target: Path) -> None:
        with self._mounted() as at:
            shutil.copyfile(at(source), target)

    def put_kept(self, source: Path, target: str) -> None:
        with self._mounted() as at:
            shutil.copy2(source, at(target))

    def put_tree(self, source: Path, target: str) -> None:
        with self._mounted() as at:
            shutil.copytree(source, at(target))

    def get_tree(self, source: str, target: Path) -> None:
        with self._mounted() as at:
            shutil.copytree(at(source), target)

    def resume_put(self, source: Path, target: str) -> None:
        with self._mounted() as at, at(target).open("ab") as file:
            file.write(source.read_bytes()[file.tell() :])
            file.flush()
            assert at(target).stat().st_size == source.stat().st_size  # asked by name, while it is being written

    def resume_get(self, source: str, target: Path) -> None:
        with self._mounted() as at, at(source).open("rb") as file, target.open("ab") as local:
            file.seek(local.tell())
            shutil.copyfileobj(file, local)

    def rename(self, source: str, target: str) -> None:
        with self._mounted() as at:
            at(source).rename(at(target))

    def remove(self, target: str) -> None:
        with self._mounted() as at:
            at(target).unlink()

    def space(self) -> int:
        with self._mounted() as at:
            told = os.statvfs(at("/inbox"))
            return told.f_bavail * told.f_frsize

    def interrupted_put(self, source: Path, target: str, has_begun: Callable[[], bool]) -> None:
        """The whole file system dies: would the copying program alone, its file were closed like any other."""
        mount = subprocess.Popen([*self._command(), "-f"], stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            deadline = time.monotonic() + SECONDS
            while not self.home.is_mount():
                assert mount.poll() is None and time.monotonic() < deadline, "sshfs did not mount"
                time.sleep(0.01)

            def mount_is_gone() -> bool:
                if not has_begun():
                    return False
                os.killpg(mount.pid, 9)
                return True

            self.killed(["cp", str(source), str(self.home / target.lstrip("/"))], mount_is_gone)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(mount.pid, 9)
            mount.wait()
            self.run("fusermount3", "-u", "-z", str(self.home))


DRIVERS: tuple[type[Driver], ...] = (OpenSsh, Scp, Rclone, Lftp, Curl, Psftp, Sshfs, Paramiko, Asyncssh)


def missing_programs() -> list[str]:
    """Programs of the matrix that this machine lacks."""
    return [name for name in ("sftp", "scp", "rclone", "lftp", "curl", "psftp", "sshfs") if shutil.which(name) is None]
