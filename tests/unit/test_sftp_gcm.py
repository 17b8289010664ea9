"""Our AES-GCM for packets beside asyncssh's own."""

from __future__ import annotations

import os
import random

import pytest
from asyncssh.encryption import get_encryption

from gateway.sftp.transport.gcm import BLOCK, HEAD, TAG, PacketCipher, adopt, frame

KEY, IV = bytes(range(32)), b"\x07" * 4 + b"\xff" * 8  # the counter is about to overflow: it wraps, as RFC 5647 has it


def made(payload: bytes) -> tuple[bytearray, int]:
    packet = bytearray(len(payload) + 64)
    packet[5 : 5 + len(payload)] = payload
    return packet, frame(packet, len(payload))


@pytest.mark.parametrize("size", [1, 2, 9, 10, 11, 12, 26, 27, 28, 1000, 32768, 40000])
def test_a_frame_is_whole_blocks_with_enough_padding(size: int) -> None:
    payload = os.urandom(size)
    packet, end = made(payload)
    length, padding = int.from_bytes(packet[:4]), packet[4]
    assert length + HEAD == end and length % BLOCK == 0 and 4 <= padding <= 255
    assert packet[5 : end - padding] == payload


def test_asyncssh_reads_what_we_seal_and_we_open_what_it_seals() -> None:
    theirs = get_encryption(b"aes256-gcm@openssh.com", KEY, IV)
    ours = PacketCipher(KEY, IV)
    back = get_encryption(b"aes256-gcm@openssh.com", KEY, IV)
    reader = PacketCipher(KEY, IV)
    out, plain = memoryview(bytearray(50_000)), memoryview(bytearray(50_000))
    for size in random.Random(1).sample(range(1, 40_000), 20):
        packet, end = made(os.urandom(size))
        written = ours.seal_into(packet, end, out)
        assert written == end + TAG
        assert theirs.decrypt_packet(0, bytes(out[:16]), bytes(out[16 : written - TAG]), 4, bytes(out[written - TAG : written])) == packet[HEAD:end]
        sealed, tag = back.encrypt_packet(0, bytes(packet[:HEAD]), bytes(packet[HEAD:end]))
        assert reader.open_into(memoryview(sealed + tag), plain[: end - HEAD])
        reader.step()
        assert plain[: end - HEAD] == packet[HEAD:end]


def test_a_forged_packet_is_refused_and_consumes_nothing() -> None:
    packet, end = made(b"a paper")
    sealed, tag = PacketCipher(KEY, IV).encrypt_and_sign(bytes(packet[:HEAD]), bytes(packet[HEAD:end]))
    whole = sealed + tag
    reader, plain = PacketCipher(KEY, IV), memoryview(bytearray(end - HEAD))
    for at in range(len(whole)):
        forged = bytearray(whole)
        forged[at] ^= 1
        assert not reader.open_into(memoryview(forged), plain)
    assert reader.open_into(memoryview(whole), plain)
    reader.step()
    assert not reader.open_into(memoryview(whole), plain), "a packet that comes again is forged"


def test_both_ways_of_one_cipher_share_their_counter() -> None:
    encryption = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], IV)
    cipher = adopt(encryption)
    assert cipher is not None and adopt(encryption) is cipher
    theirs = get_encryption(b"aes128-gcm@openssh.com", KEY[:16], IV)
    out = memoryview(bytearray(100))
    packet, end = made(b"first")
    written = cipher.seal_into(packet, end, out)
    assert bytes(out[:written]) == b"".join(theirs.encrypt_packet(0, bytes(packet[:HEAD]), bytes(packet[HEAD:end])))
    packet, end = made(b"second")
    arguments = 1, bytes(packet[:HEAD]), bytes(packet[HEAD:end])
    assert encryption.encrypt_packet(*arguments) == theirs.encrypt_packet(*arguments)


def test_other_ciphers_are_not_adopted() -> None:
    assert adopt(None) is None
    assert adopt(get_encryption(b"chacha20-poly1305@openssh.com", bytes(64), b"")) is None
    assert adopt(get_encryption(b"aes256-ctr", bytes(32), bytes(16), b"hmac-sha2-256", bytes(32))) is None
