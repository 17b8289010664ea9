"""Writes the vectors of this folder: `python tests/vectors/age/own/generate.py`. Same output every time.

A second, naive implementation of the format's writing side, straight from c2sp.org/age, that shares no code with `gateway.age`: every random
value is a hash of its purpose, and each part can be spoilt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import textwrap
import zlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

HERE = Path(__file__).parent
CHUNK = 65536
# the identity and file key of the CCTV collection, so that any tool's harness for it can run these files, too
IDENTITY_TEXT = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
FILE_KEY = b"YELLOW SUBMARINE"
ALPHABET = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"


def fixed(purpose: str, size: int) -> bytes:
    """`size` bytes that stand in for random ones."""
    return hashlib.shake_256(purpose.encode()).digest(size)


def secret() -> bytes:
    """The 32 bytes of IDENTITY_TEXT."""
    bits = "".join(f"{ALPHABET.index(character):05b}" for character in IDENTITY_TEXT.rpartition("1")[2][:-6])
    return int(bits[:256], 2).to_bytes(32, "big")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def x25519(purpose: str, public: bytes) -> str:
    ephemeral = X25519PrivateKey.from_private_bytes(fixed(purpose, 32))
    share = ephemeral.public_key().public_bytes_raw()
    key = derive(ephemeral.exchange(X25519PublicKey.from_public_bytes(public)), share + public, b"age-encryption.org/v1/X25519")
    return f"-> X25519 {b64(share)}\n{b64(ChaCha20Poly1305(key).encrypt(bytes(12), FILE_KEY, None))}\n"


def scrypt(work_factor: int, done: int) -> str:
    salt = fixed("salt", 16)
    key = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << done, r=8, p=1).derive(b"password")
    return f"-> scrypt {b64(salt)} {work_factor}\n{b64(ChaCha20Poly1305(key).encrypt(bytes(12), FILE_KEY, None))}\n"


def header(stanzas: str, version: str = "v1") -> bytes:
    signed = f"age-encryption.org/{version}\n{stanzas}---".encode("latin-1")
    return signed + b" " + b64(hmac.digest(derive(FILE_KEY, b"", b"header"), signed, "sha256")).encode() + b"\n"


def chunk(number: int, last: bool, plain: bytes) -> bytes:
    key = derive(FILE_KEY, fixed("nonce", 16), b"payload")
    return ChaCha20Poly1305(key).encrypt(number.to_bytes(11, "big") + bytes([last]), plain, None)


def payload(plain: bytes) -> bytes:
    pieces = [plain[start : start + CHUNK] for start in range(0, len(plain), CHUNK)] or [b""]
    return fixed("nonce", 16) + b"".join(chunk(number, number == len(pieces) - 1, piece) for number, piece in enumerate(pieces))


def armored(file: bytes, end: str = "\n") -> bytes:
    lines = ["-----BEGIN AGE ENCRYPTED FILE-----", *textwrap.wrap(base64.b64encode(file).decode(), 64), "-----END AGE ENCRYPTED FILE-----"]
    return "".join(line + end for line in lines).encode()


def write(name: str, expect: str, file: bytes, *, released: bytes | None = None, comment: str, credential: str = "", armor: bool = False) -> None:
    fields = [f"expect: {expect}"]
    if released is not None:
        fields.append(f"payload: {hashlib.sha256(released).hexdigest()}")
    fields += [f"file key: {FILE_KEY.hex()}", credential or f"identity: {IDENTITY_TEXT}"]
    fields += ["armored: yes"] * armor
    packed = zlib.compress(file, 9)
    if len(packed) < len(file) // 2:
        fields.append("compressed: zlib")
        file = packed
    fields.append(f"comment: {comment}")
    (HERE / name).write_bytes("\n".join(fields).encode() + b"\n\n" + file)


def headers() -> None:
    """The header's grammar and bounds."""
    public = X25519PrivateKey.from_private_bytes(secret()).public_key().public_bytes_raw()
    mine = x25519("mine", public)
    body = payload(b"age")
    others = "".join(
        x25519(f"other {n}", X25519PrivateKey.from_private_bytes(fixed(f"person {n}", 32)).public_key().public_bytes_raw()) for n in range(5)
    )
    write("header_last_of_six", "success", header(others + mine) + body, released=b"age", comment="the sixth recipient is ours")
    long = "-> grease " + "x" * 40_000 + "\n\n"
    write("header_long_argument", "success", header(mine + long) + body, released=b"age", comment="an argument of 40,000 characters")
    write("header_too_long", "header failure", header(mine + long * 2) + body, comment="80 kB of header; 64 KiB is this project's bound")
    endless = b"age-encryption.org/v1\n-> grease " + b"x" * 100_000
    write("header_endless_line", "header failure", endless, comment="a line without an end")
    for name, line, comment in (
        ("header_two_spaces", "-> grease  x\n\n", "two spaces between arguments"),
        ("header_trailing_space", "-> grease x \n\n", "a space behind the last argument"),
        ("header_tab", "-> grease\tx\n\n", "a tab is not a visible character"),
        ("header_nul", "-> gre\0ase\n\n", "a NUL in an argument"),
        ("header_latin1", "-> gr\xe4se\n\n", "a byte above 127 in an argument"),
        ("header_empty_line", "\n-> grease\n\n", "an empty line before a stanza"),
    ):
        write(name, "header failure", header(mine + line) + body, comment=comment)
    write("header_no_stanza", "header failure", header("") + body, comment="no recipient at all")
    write("header_version_trailing_space", "header failure", header(mine, "v1 ") + body, comment="a space behind the version")
    write("header_second_bad_x25519", "header failure", header(mine + "-> X25519 AAAA\n\n") + body, comment="ours is right, the next is malformed")
    write("header_unmatched_hmac", "HMAC failure", header(mine).replace(b"--- ", b"-> grease\n\n--- ") + body, comment="a stanza added later")
    write("scrypt_factor_1", "success", header(scrypt(1, 1)) + body, released=b"age", comment="the least work", credential="passphrase: password")


def streams() -> None:
    """The payload's chunks."""
    public = X25519PrivateKey.from_private_bytes(secret()).public_key().public_bytes_raw()
    head = header(x25519("mine", public))
    nonce = fixed("nonce", 16)
    # plaintexts whose ciphertexts are zeros, so that the files compress
    first, second, third = chunk(0, False, bytes(CHUNK))[:CHUNK], chunk(1, False, bytes(CHUNK))[:CHUNK], b"c" * 100
    a, b, c = chunk(0, False, first), chunk(1, False, second), chunk(2, True, third)
    write("stream_one_byte_over", "success", head + payload(first + b"!"), released=first + b"!", comment="64 KiB and one byte")
    for name, chunks, released, comment in (
        ("stream_swapped", b + a + c, b"", "the first two chunks have changed places"),
        ("stream_first_dropped", b + c, b"", "the first chunk is gone"),
        ("stream_middle_dropped", a + c, first, "the second chunk is gone"),
        ("stream_doubled", a + a + b + c, first, "the first chunk stands there twice"),
        ("stream_tag_only", chunk(0, False, b""), b"", "an empty chunk that is not the last"),
        ("stream_empty_twice", chunk(0, True, b"") + chunk(1, True, b""), b"", "two empty last chunks"),
        ("stream_last_chunk_first", c + a + b, b"", "the last chunk stands first"),
        ("stream_cut_in_tag", (a + b + c)[:-1], first + second, "the last byte is gone"),
    ):
        write(name, "payload failure", head + nonce + chunks, released=released, comment=comment)


def armors() -> None:
    """The armour's bounds."""
    public = X25519PrivateKey.from_private_bytes(secret()).public_key().public_bytes_raw()
    file = header(x25519("mine", public)) + payload(b"armoured" * 40)
    text = armored(file)
    write("armor_long", "success", text, released=b"armoured" * 40, comment="several lines", armor=True)
    write("armor_crlf_and_space", "success", b"\r\n\r\n" + armored(file, "\r\n") + b" \t\r\n", released=b"armoured" * 40, comment="CRLF", armor=True)
    mixed = text.replace(b"\n", b"\r\n", 3)
    write("armor_mixed_line_ends", "armor failure", mixed, comment="CRLF, then LF: this project wants one kind throughout", armor=True)
    write("armor_twice", "armor failure", text + text, comment="two files in one", armor=True)
    write("armor_space_in_line", "armor failure", text[:100] + b" " + text[101:], comment="a space within a line", armor=True)
    write("armor_padding_inside", "armor failure", text[:98] + b"=" + text[99:], comment="padding at the end of an inner line", armor=True)
    write("armor_much_space_before", "armor failure", b"\n" * 5000 + text, comment="5,000 empty lines before it", armor=True)
    write("armor_much_space_behind", "armor failure", text + b"\n" * 5000, comment="5,000 empty lines behind it", armor=True)
    write("armor_endless_space_behind", "armor failure", text + b"\n" * 200_000, comment="more white space than a reader holds", armor=True)
    write("armor_space_behind_end_mark", "armor failure", text[:-1] + b" \n", comment="a space between the end mark and its line end", armor=True)
    write("armor_crlf_end_with_lf", "armor failure", armored(file, "\r\n")[:-2] + b"\n", comment="CRLF, but for the last line end", armor=True)
    lines = text.split(b"\n")
    lines[-4] = lines[-4][:-2] + b"A="
    write("armor_padding_before_last_line", "armor failure", b"\n".join(lines), comment="padding in the last line but one", armor=True)
    write("armor_begin_only", "armor failure", text.split(b"\n")[0] + b"\n", comment="nothing but the begin line", armor=True)


if __name__ == "__main__":
    headers()
    streams()
    armors()
