"""OpenSSH user certificates (PROTOCOL.certkeys): making and signing one. Pure but for the nonce.

A certificate is the key's own fields between a nonce and what is certified, so it is made of any kind of key without knowing that kind.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.audit.sshkeys import SigningKey
from gateway.audit.sshwire import ED25519, Reader, pack

USER = 1
SUFFIX = "-cert-v01@openssh.com"


@dataclass(frozen=True)
class Certified:
    """What a certificate says: of whom, from when to when (aware datetimes), from where (networks; empty: anywhere)."""

    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: datetime
    valid_before: datetime
    source_address: tuple[str, ...] = ()


def sign_certificate(key_line: str, certified: Certified, ca: SigningKey) -> str:
    """The certificate of a public key (`TYPE BASE64`) as one line, as OpenSSH keeps it in `NAME-cert.pub`. Raises WireError, ValueError."""
    kind, blob = key_line.split()[:2]
    reader = Reader(base64.b64decode(blob, validate=True))
    reader.expect(pack(kind.encode("ascii")))
    certificate_kind = (kind.removesuffix("@openssh.com") + SUFFIX).encode("ascii")
    body = pack(certificate_kind, secrets.token_bytes(32)) + reader.rest() + _certified(certified)
    body += pack(b"", pack(ED25519, ca.public_bytes))  # reserved; the CA's public key
    signed = body + pack(pack(ED25519, ca.sign_raw(body)))
    return f"{certificate_kind.decode('ascii')} {base64.b64encode(signed).decode('ascii')} {certified.key_id}"


def _certified(what: Certified) -> bytes:
    options = _options({"source-address": ",".join(what.source_address)} if what.source_address else {})
    return b"".join(
        (
            what.serial.to_bytes(8, "big"),
            USER.to_bytes(4, "big"),
            pack(what.key_id.encode(), _strings(what.principals)),
            int(what.valid_after.timestamp()).to_bytes(8, "big"),
            int(what.valid_before.timestamp()).to_bytes(8, "big"),
            pack(options, b""),  # critical options; no extensions: nothing that they allow is offered
        )
    )


def _strings(items: Sequence[str]) -> bytes:
    return pack(*(item.encode() for item in items))


def _options(values: dict[str, str]) -> bytes:
    return b"".join(pack(name.encode(), pack(value.encode())) for name, value in sorted(values.items()))
