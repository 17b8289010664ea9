"""`python -m gateway.age` as a person uses it: pipes, files, errors without tracebacks, bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.age import Identity, parse_identities, seal_bytes

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


def tool(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gateway.age", *arguments]
    return subprocess.run(command, input=given, capture_output=True, cwd=ROOT, timeout=120, check=False)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """An identity file made by keygen."""
    made = tool("keygen")
    assert made.returncode == 0
    path = tmp_path / "identity.txt"
    path.write_bytes(made.stdout)
    return path


def test_keygen_encrypt_decrypt(keys: Path, tmp_path: Path) -> None:
    [identity] = parse_identities(keys.read_text())
    recipient = str(identity.recipient)
    assert f"# public key: {recipient}\n" in keys.read_text()
    assert subprocess.run(["age-keygen", "-y", keys], check=True, capture_output=True, text=True, timeout=240).stdout.strip() == recipient
    sealed = tool("encrypt", "-r", recipient, given=b"hello")
    assert (sealed.returncode, sealed.stderr) == (0, b"")
    opened = tool("decrypt", "-i", keys, given=sealed.stdout)
    assert (opened.returncode, opened.stdout, opened.stderr) == (0, b"hello", b"")
    (tmp_path / "plain").write_bytes(b"from a file")
    sealed = tool("encrypt", "-r", str(Identity.generate().recipient), "-r", recipient, tmp_path / "plain")
    (tmp_path / "sealed").write_bytes(sealed.stdout)
    assert tool("decrypt", "-i", keys, tmp_path / "sealed").stdout == b"from a file"
    assert tool("decrypt", "-i", "-", tmp_path / "sealed", given=keys.read_bytes()).stdout == b"from a file"
    assert subprocess.run(["age", "-d", "-i", keys, tmp_path / "sealed"], check=True, capture_output=True, timeout=240).stdout == b"from a file"
    armored = subprocess.run(["age", "-a", "-r", recipient], input=b"armoured", check=True, capture_output=True, timeout=240).stdout
    assert tool("decrypt", "-i", keys, given=armored).stdout == b"armoured"


def test_errors_are_for_people(keys: Path, tmp_path: Path) -> None:
    [identity] = parse_identities(keys.read_text())
    good = seal_bytes(b"x" * 200_000, [identity.recipient])
    foreign = seal_bytes(b"x", [Identity.generate().recipient])
    broken = tmp_path / "broken.txt"
    broken.write_text(identity.encode()[:-1] + "\n")
    cases: list[tuple[int, list[str | Path], bytes]] = [
        (1, ["decrypt", "-i", keys], b""),
        (1, ["decrypt", "-i", keys], b"not an age file\n"),
        (1, ["decrypt", "-i", keys], b"-----BEGIN AGE ENCRYPTED FILE-----\n"),
        (1, ["decrypt", "-i", keys], foreign),
        (1, ["decrypt", "-i", keys], good[:-1]),
        (1, ["decrypt", "-i", keys], good + b"x"),
        (1, ["decrypt", "-i", keys], good.replace(b"--- ", b"-> a\n\n--- ", 1)),
        (2, ["decrypt", "-i", broken], good),
        (2, ["decrypt", "-i", tmp_path / "missing"], good),
        (2, ["decrypt", "-i", tmp_path], good),
        (2, ["decrypt", "-i", "/dev/zero"], good),
        (2, ["decrypt", "-i", keys, tmp_path / "missing"], b""),
        (2, ["decrypt", "-i", keys, tmp_path], b""),
        (2, ["decrypt", "-i", "-"], good),
        (2, ["decrypt"], good),
        (2, ["encrypt"], b""),
        (2, ["encrypt", "-r", "age1nonsense"], b""),
        (2, ["encrypt", "-r", identity.encode()], b""),
        (2, ["encrypt", "-r", str(identity.recipient), tmp_path], b""),
        (2, ["nonsense"], b""),
        (2, [], b""),
    ]
    for code, arguments, given in cases:
        done = tool(*arguments, given=given)
        assert done.returncode == code, (arguments, done)
        assert done.stderr
        assert b"Traceback" not in done.stderr
        assert identity.encode().encode()[16:] not in done.stderr.replace(b"\n", b"")
        if arguments[:1] == ["decrypt"]:
            assert (b"x" * 200_000).startswith(done.stdout)  # never anything but authenticated plaintext


def test_a_full_disk_and_a_reader_who_leaves(keys: Path) -> None:
    [identity] = parse_identities(keys.read_text())
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "gateway.age", "encrypt", "-r", str(identity.recipient)]
        done = subprocess.run(command, input=b"x", stdout=full, stderr=subprocess.PIPE, cwd=ROOT, timeout=240, check=False)
    assert done.returncode == 5
    assert b"Traceback" not in done.stderr
    assert b"No space left" in done.stderr
    sealed = seal_bytes(bytes(4 * MIB), [identity.recipient])
    (keys.parent / "sealed").write_bytes(sealed)
    command = f"{sys.executable} -m gateway.age decrypt -i {keys} {keys.parent / 'sealed'} | head -c 10 | wc -c"
    piped = subprocess.run(command, shell=True, capture_output=True, cwd=ROOT, timeout=240, check=False)
    assert piped.stdout.strip() == b"10"
    assert piped.stderr == b""


PEAK = "import resource, sys, gateway.age.__main__ as tool; code = tool.main(sys.argv[1:]); sys.stdout.flush(); sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)); sys.exit(code)"  # noqa: E501


def test_memory_is_bounded(keys: Path, tmp_path: Path) -> None:
    """96 MiB through pipes, files and armour: less than 16 MiB above the same program on one byte."""
    [identity] = parse_identities(keys.read_text())
    content, sealed, armored = tmp_path / "content", tmp_path / "sealed", tmp_path / "armored"
    with content.open("wb") as file:
        file.truncate(96 * MIB)

    def peak(source: Path, *arguments: str | Path, target: Path = Path(os.devnull)) -> int:
        with source.open("rb") as given, target.open("wb") as taken:
            command = [sys.executable, "-c", PEAK, *arguments]
            done = subprocess.run(command, stdin=given, stdout=taken, stderr=subprocess.PIPE, cwd=ROOT, timeout=120, check=True)
        return int(done.stderr) // 1024

    (tmp_path / "small").write_bytes(b"x")
    least = peak(tmp_path / "small", "encrypt", "-r", str(identity.recipient))
    assert peak(content, "encrypt", "-r", str(identity.recipient), target=sealed) < least + 16
    assert peak(sealed, "decrypt", "-i", keys) < least + 16
    subprocess.run(["age", "-a", "-r", str(identity.recipient), "-o", armored, content], check=True, timeout=120)
    assert peak(armored, "decrypt", "-i", keys) < least + 16
