"""Keys and certificates as asyncssh hands them over: how strong, which certificate, and from whom. Pure."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import asyncssh
from asyncssh.public_key import SSHOpenSSHCertificate

from gateway.catalog.sshkeys import SMALLEST_RSA, rsa_bits
from gateway.sftp.authentication.accounts import CertificateFacts

FOREVER = 2**63  # seconds: a certificate's end beyond this is none
NO_COMMAND = ("internal-sftp", "sftp")


def strong(key: asyncssh.SSHKey) -> bool:
    """Whether a key is of a kind and size that is taken."""
    try:
        bits = rsa_bits(key.public_data)
    except ValueError:
        return False
    return bits is None or bits >= SMALLEST_RSA


def fingerprint_of(key: asyncssh.SSHKey) -> str:
    """`SHA256:…`, as `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.public_data).digest()).decode().rstrip("=")


def facts_of(certificate: SSHOpenSSHCertificate) -> CertificateFacts | None:
    """What a user certificate says; None for one that is not taken: for everybody, for a weak key, or for a command of its own."""
    command = certificate.options.get("force-command")
    if not certificate.principals or not strong(certificate.key) or (command is not None and command not in NO_COMMAND):
        return None
    end = certificate._valid_before
    try:
        until = datetime.fromtimestamp(end, UTC) if end < FOREVER else None
    except (OverflowError, ValueError, OSError):
        until = None
    return CertificateFacts(certificate._serial, certificate._key_id, fingerprint_of(certificate.key), until)
