"""SSH signatures and keys, by themselves; the comparison with ssh-keygen is an integration test."""

from __future__ import annotations

import base64
import copy
import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.signatures import CHECKPOINT, EVIDENCE, RECEIPT, KeyFormatError, SigningKey, allowed_signers_line, sign, verify

KEY = SigningKey.generate("receipts")
OTHER = SigningKey.generate("")
SIGNATURE = sign(KEY, RECEIPT, b"message")


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([RECEIPT, EVIDENCE, CHECKPOINT]))
def test_what_is_signed_verifies_and_nothing_else(message: bytes, namespace: str) -> None:
    signature = sign(KEY, namespace, message)
    assert verify(KEY.public, namespace, message, signature)
    assert not verify(KEY.public, namespace, message + b"x", signature)
    assert not verify(KEY.public, "other@nightsafe", message, signature)
    assert not verify(OTHER.public, namespace, message, signature)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_is_noticed(position: int, bit: int) -> None:
    lines = SIGNATURE.splitlines()
    blob = bytearray(base64.b64decode("".join(lines[1:-1])))
    blob[position % len(blob)] ^= 1 << bit
    damaged = "\n".join([lines[0], base64.b64encode(bytes(blob)).decode(), lines[-1]])
    assert not verify(KEY.public, RECEIPT, b"message", damaged)


@settings(deadline=None)
@given(st.text(max_size=500))
def test_garbage_is_no_signature(text: str) -> None:
    assert not verify(KEY.public, RECEIPT, b"message", text)


@pytest.mark.parametrize("cut", [0, 10, 60, 150, 250, -3])
def test_a_cut_signature_is_none(cut: int) -> None:
    assert not verify(KEY.public, RECEIPT, b"message", SIGNATURE[:cut])


def test_something_after_a_signature_is_refused() -> None:
    lines = SIGNATURE.splitlines()
    longer = base64.b64decode("".join(lines[1:-1])) + b"\0"
    assert not verify(KEY.public, RECEIPT, b"message", "\n".join([lines[0], base64.b64encode(longer).decode(), lines[-1]]))


def test_keys_come_back() -> None:
    for key in (KEY, OTHER, SigningKey.generate("签名 key with spaces")):
        again = SigningKey.parse(key.encode())
        assert again.public == key.public
        assert verify(key.public, RECEIPT, b"m", sign(again, RECEIPT, b"m"))
        assert SigningKey.parse(key.encode().replace(b"\n", b"\r\n")).public == key.public


def test_another_library_reads_and_writes_the_same_format() -> None:
    loaded = serialization.load_ssh_private_key(KEY.encode(), None)
    written = loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    assert SigningKey.parse(written).public.split()[1] == KEY.public.split()[1]


def test_a_damaged_key_is_refused_without_showing_it() -> None:
    encoded = KEY.encode()
    for damaged in (b"", encoded[:200], encoded.replace(b"OPENSSH", b"RSA"), encoded[:120] + b"!" + encoded[121:], b"x" * 100_000):
        with pytest.raises(KeyFormatError) as caught:
            SigningKey.parse(damaged)
        assert caught.value.__cause__ is None
    for position in range(36, len(encoded) - 36):
        if encoded[position : position + 1] == b"\n":
            continue
        flipped = encoded[:position] + (b"A" if encoded[position : position + 1] != b"A" else b"B") + encoded[position + 1 :]
        try:
            again = SigningKey.parse(flipped)
        except KeyFormatError:
            continue
        assert again.public_bytes != KEY.public_bytes or again.encode()[:100] == encoded[:100]


def test_a_private_key_does_not_leak() -> None:
    secret = base64.b64encode(KEY._private.private_bytes_raw()).decode()
    assert secret not in repr(KEY)
    assert KEY.public in repr(KEY)
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(TypeError):
        copy.copy(KEY)


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAA x", "ssh-ed25519 !!!!", KEY.public[:60]], ids=range(6))
def test_public_lines_are_checked(line: str) -> None:
    with pytest.raises(KeyFormatError):
        verify(line, RECEIPT, b"message", SIGNATURE)
    with pytest.raises(KeyFormatError):
        allowed_signers_line("receipts", RECEIPT, line)


def test_a_comment_is_one_line() -> None:
    with pytest.raises(KeyFormatError):
        SigningKey.generate("a\nb")
