"""A security key in software: it signs as a FIDO token does for OpenSSH (PROTOCOL.u2f), and sets whatever flags it is told to."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Literal

import asyncssh
from asyncssh.public_key import SSHKeyPair
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TOUCHED, VERIFIED = 0x01, 0x04  # user presence, user verification (a PIN or a finger)
Kind = Literal["ed25519", "ecdsa"]


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def number(value: int) -> bytes:
    return text(value.to_bytes(value.bit_length() // 8 + 1, "big"))


class SoftToken:
    """One key on a token. `application` is what the token is told the key is for."""

    def __init__(self, kind: Kind, application: str = "ssh:") -> None:
        self.application = application.encode()
        if kind == "ed25519":
            self._private: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey = ed25519.Ed25519PrivateKey.generate()
            self.algorithm = b"sk-ssh-ed25519@openssh.com"
            point = text(self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        else:
            self._private = ec.generate_private_key(ec.SECP256R1())
            self.algorithm = b"sk-ecdsa-sha2-nistp256@openssh.com"
            point = text(b"nistp256") + text(self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
        self.public_data = text(self.algorithm) + point + text(self.application)
        self._counter = 0

    @property
    def line(self) -> str:
        """The public half, as in a file that ends in .pub."""
        return f"{self.algorithm.decode()} {base64.b64encode(self.public_data).decode()} token\n"

    def sign(self, data: bytes, flags: int, application: bytes | None = None) -> bytes:
        """A signature in SSH's form."""
        self._counter += 1
        tail = bytes([flags]) + struct.pack(">I", self._counter)
        signed = hashlib.sha256(application or self.application).digest() + tail + hashlib.sha256(data).digest()
        if isinstance(self._private, ed25519.Ed25519PrivateKey):
            raw = self._private.sign(signed)
        else:
            raw = b"".join(map(number, decode_dss_signature(self._private.sign(signed, ec.ECDSA(SHA256())))))
        return text(self.algorithm) + text(raw) + tail


class TokenPair(SSHKeyPair):
    """What asyncssh's client signs by."""

    def __init__(self, token: SoftToken, flags: int, application: bytes | None = None, certificate: str | None = None) -> None:
        super().__init__(token.algorithm, token.algorithm, (token.algorithm,), (token.algorithm,), token.public_data, None)
        if certificate:  # sent as it is: asyncssh itself would not load every one of them
            algorithm, blob = certificate.split()[:2]
            self.algorithm, self.public_data = algorithm.encode(), base64.b64decode(blob)
        self._token, self._flags, self._asked_for = token, flags, application

    def sign(self, data: bytes) -> bytes:
        """As the token does."""
        return self._token.sign(data, self._flags, self._asked_for)


async def gets_in(port: int, name: str, pair: TokenPair) -> bool:
    """Whether somebody with this token may list the root."""
    try:
        async with (
            asyncssh.connect("127.0.0.1", port, username=name, client_keys=[pair], known_hosts=None, config=None, agent_path=None) as connection,
            connection.start_sftp_client() as sftp,
        ):
            return "inbox" in await sftp.listdir("/")
    except asyncssh.PermissionDenied:
        return False
