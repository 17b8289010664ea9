"""The runner with programs that misbehave in known ways: shell scripts in restic's place."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.restic import Fault, Interrupted, Limits, Restic, TimedOut
from backup.restic.arguments import Repository
from backup.restic.errors import DiskFull, Locked, UnknownFailure
from backup.restic.runner import PASSWORD_FILE, Runner, Secrets
from backup.restic.version import check_version
from config.errors import OutOfReach, SettingsError

SECRET = b"a password that nobody sees"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3-secret"}
BUSY = (1, 8, 40)  # seconds: the first is enough for a program to begin, unless the machine is busy
SUMMARY = '{"message_type":"summary","total_files_processed":1,"total_bytes_processed":2,"data_added":3,"snapshot_id":"6798efb9"}'


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def make(body: str) -> Path:
        path = tmp_path / "restic"
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
        return path

    return make


def runner(program: Path | str, tmp_path: Path, limits: Limits | None = None, cancel: threading.Event | None = None) -> Runner:
    return Runner(str(program), tmp_path / "scratch", limits, cancel)


def restic(program: Path, tmp_path: Path) -> Restic:
    return Restic(runner(program, tmp_path), Repository("s3:http://h/b/papers"), Secrets(SECRET, ENVIRONMENT))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_password_comes_by_descriptor_and_nothing_else_is_inherited(
    script: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSAFE_SECRETS_FD", "99")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("TZ", raising=False)
    lines: list[bytes] = []
    program = script('tr "\\0" " " < /proc/$$/cmdline; echo; cat "$2"; echo; cat "$2"; echo; env')
    runner(program, tmp_path).run(["--password-file", PASSWORD_FILE], Secrets(SECRET, ENVIRONMENT), lambda line: lines.append(line))
    assert lines[1:3] == [SECRET, SECRET], "a memory file can be read twice"
    assert SECRET not in lines[0]
    environment = dict(line.split(b"=", 1) for line in lines[3:])
    assert environment.pop(b"PWD", None) is not None
    assert set(environment) == {
        b"PATH", b"LC_ALL", b"TMPDIR", b"RESTIC_PROGRESS_FPS", b"HTTPS_PROXY", b"AWS_ACCESS_KEY_ID", b"AWS_SECRET_ACCESS_KEY",
    }  # fmt: skip


def test_secrets_show_nothing(tmp_path: Path) -> None:
    one = restic(tmp_path / "x", tmp_path)
    assert "password" not in repr(one).replace("password-file", "")
    assert "s3-secret" not in repr(one)
    assert "nobody" not in repr(Secrets(SECRET, ENVIRONMENT, SECRET))


def test_a_partial_backup_keeps_its_snapshot(script: Callable[[str], Path], tmp_path: Path) -> None:
    fault = '{"message_type":"error","error":{"Op":"open","Err":13},"during":"archival","item":"/d/vault/x"}'
    done = restic(
        script(f"echo '{fault}' >&2\necho text\necho '{SUMMARY}'\necho 'Warning: at least one source file could not be read' >&2\nexit 3"), tmp_path
    ).backup(["x"], cwd=tmp_path, host="h", tags=[])
    assert (done.summary.snapshot, done.partial, done.faults) == ("6798efb9", True, (Fault("/d/vault/x", "archival", "13"),))


@pytest.mark.parametrize("body", [f"echo '{SUMMARY}'\nexit 1", "exit 0", "exit 3", f"echo '{SUMMARY}'\nexit 77"])
def test_any_other_end_is_a_failure(body: str, script: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UnknownFailure):
        restic(script(body), tmp_path).backup(["x"], cwd=tmp_path, host="h", tags=[])


def test_a_lock_of_somebody_else(script: Callable[[str], Path], tmp_path: Path) -> None:
    words = "Fatal: unable to create lock in backend: repository is already locked exclusively by PID 7 on h by root (UID 0, GID 0)"
    with pytest.raises(Locked):
        restic(script(f"echo '{words}' >&2\nexit 1"), tmp_path).check()


def test_the_total_time_is_limited_and_sigint_comes_first(script: Callable[[str], Path], tmp_path: Path) -> None:
    program = script(f"trap 'echo interrupted > {tmp_path}/seen; exit 130' INT\ntouch {tmp_path}/ready\nwhile :; do sleep 0.05; done")
    for seconds in BUSY:
        with pytest.raises(TimedOut, match=f"after {seconds} second"):
            runner(program, tmp_path, Limits(seconds, 600)).run([], Secrets(b""), lambda line: True)
        if (tmp_path / "ready").exists():
            break
    assert (tmp_path / "seen").read_text() == "interrupted\n"


def test_standing_still_is_not_working(script: Callable[[str], Path], tmp_path: Path) -> None:
    status = '{"message_type":"status","total_files":1,"total_bytes":49}'
    program = script(f'exec {sys.executable} -c \'import time\nwhile True: print("""{status}""", flush=True); time.sleep(0.001)\'')
    with pytest.raises(TimedOut, match="nothing moved"):
        Restic(runner(program, tmp_path, Limits(120, 1.5)), Repository("s3:x"), Secrets(b"")).backup(["x"], cwd=tmp_path, host="h", tags=[])


def test_traffic_counts_as_moving(script: Callable[[str], Path], tmp_path: Path) -> None:
    def work(seconds: int) -> int:
        """Two and a half times as long as it may stand still. The traffic of the shell's children is counted once they are reaped."""
        program = script(f"i=0; while [ $i -lt 25 ]; do head -c 300000 /dev/zero >/dev/null; i=$((i+1)); sleep {seconds / 10}; done; exit 0")
        return runner(program, tmp_path, Limits(600, seconds)).run([], Secrets(b""), lambda line: False).code

    for seconds in BUSY[:-1]:
        with contextlib.suppress(TimedOut):
            assert work(seconds) == 0
            return
    assert work(BUSY[-1]) == 0


def test_one_that_ignores_sigint_is_killed(script: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.restic.runner._GRACE_SECONDS", 0.3)
    program = script(f"trap '' INT TERM\necho $$ > {tmp_path}/pid\nwhile :; do sleep 0.05; done")
    for seconds in BUSY:
        with pytest.raises(TimedOut):
            runner(program, tmp_path, Limits(seconds, 600)).run([], Secrets(b""), lambda line: True)
        if (tmp_path / "pid").exists():
            break
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_request_to_stop_ends_it(script: Callable[[str], Path], tmp_path: Path) -> None:
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(Interrupted):
        runner(script("trap 'exit 130' INT\nwhile :; do sleep 0.05; done"), tmp_path, cancel=cancel).run([], Secrets(b""), lambda line: True)


def test_an_exception_of_the_listener_ends_it_too(script: Callable[[str], Path], tmp_path: Path) -> None:
    program = script(f"trap 'exit 130' INT\necho $$ > {tmp_path}/pid\necho x\nwhile :; do sleep 0.05; done")

    def listener(_line: bytes) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError):
        runner(program, tmp_path).run([], Secrets(b""), listener)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_the_child_dies_with_us(script: Callable[[str], Path], tmp_path: Path) -> None:
    program = script(f"trap '' INT TERM\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid\nwhile :; do sleep 0.05; done")
    code = (
        "import sys; from pathlib import Path; from backup.restic.runner import Runner, Secrets; "
        "Runner(sys.argv[1], Path(sys.argv[2])).run([], Secrets(b''), lambda line: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(program), str(tmp_path / "scratch")])
    deadline = time.monotonic() + 240
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_output_is_bounded(script: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.restic.runner.MAX_LINE_BYTES", 1000)
    lines: list[bytes] = []
    program = script(
        "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last\ni=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done"
    )
    finished = runner(program, tmp_path).run([], Secrets(b""), lambda line: lines.append(line))
    assert lines[0] == b"first"
    assert lines[-1] == b"last"
    assert sum(map(len, lines)) < 1_000_000
    assert len(finished.stderr.splitlines()) <= 120
    assert finished.stderr.endswith("line 1999")


def test_output_without_a_newline_at_its_end_is_heard(script: Callable[[str], Path], tmp_path: Path) -> None:
    lines: list[bytes] = []
    runner(script("printf 'one\\ntwo'"), tmp_path).run([], Secrets(b""), lambda line: lines.append(line))
    assert lines == [b"one", b"two"]


def test_a_missing_program_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(OutOfReach, match="missing") as error:
        check_version(runner("no-such-restic", tmp_path))
    assert "apt install restic" in error.value.hint


def test_a_program_that_does_not_start(tmp_path: Path, script: Callable[[str], Path]) -> None:
    path = script("")
    path.write_bytes(b"\x7fELF nonsense")
    with pytest.raises(OutOfReach, match="cannot be started"):
        check_version(runner(path, tmp_path))


@pytest.mark.parametrize(("text", "message"), [("restic 0.13.1 compiled with go", "too old"), ("rclone v1.75", "does not look like restic")])
def test_a_wrong_program_is_refused(text: str, message: str, script: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        check_version(runner(script(f"echo '{text}'"), tmp_path))


def test_newer_ones_will_do(script: Callable[[str], Path], tmp_path: Path) -> None:
    assert check_version(runner(script("echo restic 0.19.2 compiled with go1.25"), tmp_path)) == (0, 19, 2)


def test_no_descriptor_is_left_open(script: Callable[[str], Path], tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        runner(script("exit 1"), tmp_path).run([], Secrets(b"x"), lambda line: None)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.long
def test_a_full_cache_is_told_in_seconds_and_for_what_it_is(script: Callable[[str], Path], tmp_path: Path) -> None:
    retry = "Load(<index/006bf3e3e5>, 0, 0) returned error, retrying after 2.34s: Copy: write /scratch/cache/index/00/tmp-1: no space left on device"
    program = script(f"while :; do echo '{retry}' >&2; sleep 0.01; done")
    with pytest.raises(DiskFull, match="the disk of restic's cache is full") as caught:
        restic(program, tmp_path).snapshots()
    assert caught.value.exit_code == 5
    once = script(f"echo '{retry}' >&2; echo '[]'")
    assert restic(once, tmp_path).snapshots() == []
