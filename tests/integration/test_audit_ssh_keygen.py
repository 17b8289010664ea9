"""Keys and signatures, compared with the real ssh-keygen in both directions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gateway.audit.signatures import CHECKPOINT, EVIDENCE, RECEIPT, SigningKey, allowed_signers_line, sign, verify

MESSAGES = [b"", b"one line\n", os.urandom(200_000), "收据\n".encode()]


def keygen(*arguments: str | Path, message: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *map(str, arguments)], input=message, capture_output=True, check=False)


def key_file(folder: Path, key: SigningKey) -> Path:
    path = folder / "key"
    path.write_bytes(key.encode())
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("namespace", [RECEIPT, EVIDENCE, CHECKPOINT])
def test_ssh_keygen_verifies_ours(tmp_path: Path, message: bytes, namespace: str) -> None:
    key = SigningKey.generate("signing")
    signers, signature = tmp_path / "allowed_signers", tmp_path / "signature"
    signers.write_text(allowed_signers_line("receipts", namespace, key.public) + "\n")
    signature.write_text(sign(key, namespace, message))
    command = ("-Y", "verify", "-f", signers, "-I", "receipts", "-s", signature)
    assert keygen(*command, "-n", namespace, message=message).returncode == 0
    assert keygen(*command, "-n", namespace, message=message + b"x").returncode != 0
    assert keygen(*command, "-n", "other@nightsafe", message=message).returncode != 0
    signers.write_text(allowed_signers_line("receipts", namespace, SigningKey.generate("").public) + "\n")
    assert keygen(*command, "-n", namespace, message=message).returncode != 0


@pytest.mark.parametrize("message", MESSAGES)
def test_we_verify_what_ssh_keygen_signs(tmp_path: Path, message: bytes) -> None:
    keygen("-q", "-t", "ed25519", "-N", "", "-C", "made elsewhere", "-f", tmp_path / "key")
    public = (tmp_path / "key.pub").read_text()
    for options in ((), ("-O", "hashalg=sha256")):
        signature = keygen("-Y", "sign", *options, "-f", tmp_path / "key", "-n", RECEIPT, message=message).stdout.decode()
        assert verify(public, RECEIPT, message, signature)
        assert not verify(public, RECEIPT, message + b"x", signature)
        assert not verify(public, EVIDENCE, message, signature)


def test_ssh_keygen_signs_the_same_with_our_key(tmp_path: Path) -> None:
    key = SigningKey.generate("same")
    signature = keygen("-Y", "sign", "-f", key_file(tmp_path, key), "-n", RECEIPT, message=b"message").stdout.decode()
    assert signature == sign(key, RECEIPT, b"message")


def test_ssh_keygen_reads_our_keys(tmp_path: Path) -> None:
    key = SigningKey.generate("audit checkpoints")
    shown = keygen("-y", "-f", key_file(tmp_path, key))
    assert shown.stdout.decode().strip() == key.public


def test_we_read_ssh_keygens_keys(tmp_path: Path) -> None:
    keygen("-q", "-t", "ed25519", "-N", "", "-C", "made elsewhere", "-f", tmp_path / "key")
    assert SigningKey.parse((tmp_path / "key").read_bytes()).public == (tmp_path / "key.pub").read_text().strip()


@pytest.mark.parametrize("options", [("-t", "ed25519", "-N", "passphrase"), ("-t", "rsa", "-b", "2048", "-N", ""), ("-t", "ecdsa", "-N", "")])
def test_other_keys_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    from gateway.audit.signatures import KeyFormatError

    keygen("-q", *options, "-f", tmp_path / "key")
    with pytest.raises(KeyFormatError):
        SigningKey.parse((tmp_path / "key").read_bytes())
