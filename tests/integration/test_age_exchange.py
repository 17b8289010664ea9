"""Files go both ways between us, Debian's age and pyrage (rage)."""

from __future__ import annotations

import io
import os
import pty
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from gateway.age import (
    Identity,
    NoMatchError,
    Recipient,
    ScryptIdentity,
    ScryptRecipient,
    open_bytes,
    open_sealed,
    open_stream,
    parse_identities,
    seal_bytes,
)

CHUNK = 64 * 1024
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK, 16 * CHUNK + 1, 17 * CHUNK, 34 * CHUNK - 1]
OWN = Path(__file__).parents[1] / "vectors" / "age" / "own"
SUCCESSES = sorted(path for path in OWN.iterdir() if path.read_bytes().startswith(b"expect: success"))


def plain(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def age(*arguments: str, given: bytes) -> bytes:
    return subprocess.run(["age", *arguments], input=given, check=True, capture_output=True, timeout=240).stdout


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """An identity file made by age-keygen."""
    path = tmp_path / "identity.txt"
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True, timeout=240)
    return path


@pytest.mark.parametrize("size", SIZES)
def test_with_the_age_tool(keys: Path, size: int) -> None:
    [identity] = parse_identities(keys.read_text())
    public = subprocess.run(["age-keygen", "-y", keys], check=True, capture_output=True, text=True, timeout=240).stdout.strip()
    assert identity.recipient == Recipient.parse(public)
    others = [Identity.generate().recipient for _ in range(3)]
    assert age("-d", "-i", str(keys), given=seal_bytes(plain(size), [*others, identity.recipient])) == plain(size)
    theirs = age("-r", public, "-r", str(others[0]), given=plain(size))
    assert open_bytes(theirs, [identity]) == plain(size)
    armored = age("-a", "-r", public, given=plain(size))
    assert open_bytes(armored, [identity]) == plain(size)
    assert open_bytes(armored.replace(b"\n", b"\r\n"), [identity]) == plain(size)
    assert b"".join(map(bytes, open_stream(io.BytesIO(armored), [identity]))) == plain(size)


def test_armoured_files_seek(keys: Path) -> None:
    content = plain(5 * CHUNK + 11)
    [identity] = parse_identities(keys.read_text())
    reader = open_sealed(io.BytesIO(age("-a", "-r", str(identity.recipient), given=content)), [identity])
    assert reader.size == len(content)
    draw = random.Random(1)
    for _ in range(100):
        place, length = draw.randrange(len(content)), draw.randrange(3 * CHUNK)
        reader.seek(place)
        assert reader.read(length) == content[place : place + length]


def test_ssh_recipients_are_somebody_else(tmp_path: Path, keys: Path) -> None:
    """age seals to SSH keys, too: those stanzas are passed over."""
    [identity] = parse_identities(keys.read_text())
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ssh"], check=True, timeout=240)
    ssh = (tmp_path / "ssh.pub").read_text().strip()
    assert open_bytes(age("-r", ssh, "-r", str(identity.recipient), given=b"x"), [identity]) == b"x"
    with pytest.raises(NoMatchError, match="not supported"):
        open_bytes(age("-r", ssh, given=b"x"), [identity])


@pytest.mark.parametrize("size", SIZES)
def test_with_pyrage(size: int) -> None:
    identity = Identity.generate()
    theirs = pyrage.x25519.Identity.from_str(identity.encode())
    assert str(theirs.to_public()) == str(identity.recipient)
    assert pyrage.decrypt(seal_bytes(plain(size), [identity.recipient]), [theirs]) == plain(size)
    # rage adds a random "grease" stanza
    assert open_bytes(pyrage.encrypt(plain(size), [theirs.to_public()]), [identity]) == plain(size)
    assert open_bytes(pyrage.encrypt(plain(size), [theirs.to_public()], armored=True), [identity]) == plain(size)


def test_passphrases_for_pyrage() -> None:
    assert pyrage.passphrase.decrypt(seal_bytes(b"secret", [ScryptRecipient("päss wörd", 12)]), "päss wörd") == b"secret"


@pytest.mark.long
def test_passphrases_of_pyrage() -> None:
    """It takes as many rounds as a second allows."""
    assert open_bytes(pyrage.passphrase.encrypt(b"secret", "päss wörd"), [ScryptIdentity("päss wörd")]) == b"secret"


def test_passphrases_with_the_age_tool(tmp_path: Path) -> None:
    (tmp_path / "ours.age").write_bytes(seal_bytes(b"secret", [ScryptRecipient("open sesame", 12)]))
    on_terminal(["age", "-d", "-o", str(tmp_path / "ours"), str(tmp_path / "ours.age")], b"open sesame\n", prompts=1)
    assert (tmp_path / "ours").read_bytes() == b"secret"
    (tmp_path / "theirs").write_bytes(b"from age")
    on_terminal(["age", "-p", "-o", str(tmp_path / "theirs.age"), str(tmp_path / "theirs")], b"open sesame\n", prompts=2)
    assert open_bytes((tmp_path / "theirs.age").read_bytes(), [ScryptIdentity("open sesame")]) == b"from age"


@pytest.mark.parametrize(
    "path", sorted(path for path in OWN.iterdir() if path.read_bytes().startswith(b"expect: success")), ids=lambda path: path.name
)
def test_the_age_tool_agrees_with_our_vectors(path: Path, tmp_path: Path) -> None:
    head, _, file = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
    if "identity" not in fields:
        assert pyrage.passphrase.decrypt(file, fields["passphrase"]) == open_bytes(file, [ScryptIdentity(fields["passphrase"])])
        return
    if "compressed" in fields:
        import zlib

        file = zlib.decompress(file)
    (tmp_path / "identity").write_text(fields["identity"])
    given = file.strip() + b"\n" if "armored" in fields else file  # the tool wants the armour at the very start
    assert age("-d", "-i", str(tmp_path / "identity"), given=given) == open_bytes(file, [Identity.parse(fields["identity"])])


def on_terminal(command: list[str], answer: bytes, prompts: int) -> None:
    """Run `command` on a terminal of its own and give `answer` at each prompt."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    answered = 0
    while text := _read_terminal(lambda: os.read(terminal, 4096)):
        if b":" in text and answered < prompts:
            os.write(terminal, answer)
            answered += 1
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _read_terminal(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except OSError:  # the other side is closed
        return b""
