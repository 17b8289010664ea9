"""Passphrases: the scrypt recipient and identity."""

from __future__ import annotations

import re
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from config.errors import OutOfReach, UsageError
from gateway.age import encoding
from gateway.age.errors import HeaderError
from gateway.age.header import FILE_KEY_SIZE, Stanza

KIND = "scrypt"
WORK_FACTOR = 18  # what the age tool writes: 256 MiB and about a second
WORK_FACTOR_MAX = 22  # 4 GiB, the age tool's own bound; each step doubles it, and the writer of the file chooses the step
SALT_SIZE = 16

_LABEL = b"age-encryption.org/v1/scrypt"
_NONCE = bytes(12)
_DECIMAL = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class ScryptRecipient:
    """Seals to a passphrase; it must be the only recipient of its file."""

    __slots__ = ("_passphrase", "_work_factor")

    def __init__(self, passphrase: str, work_factor: int = WORK_FACTOR) -> None:
        """`work_factor`: the base-two logarithm of scrypt's N, 1 to WORK_FACTOR_MAX."""
        if not passphrase:
            raise UsageError("the passphrase is empty")
        if not 1 <= work_factor <= WORK_FACTOR_MAX:
            raise UsageError(f"the scrypt work factor must be between 1 and {WORK_FACTOR_MAX}")
        self._passphrase = passphrase.encode()
        self._work_factor = work_factor

    def __repr__(self) -> str:
        return "ScryptRecipient()"

    def wrap(self, file_key: bytes) -> Stanza:
        """The stanza that gives `file_key` to whoever knows the passphrase."""
        salt = secrets.token_bytes(SALT_SIZE)
        body = ChaCha20Poly1305(_wrap_key(self._passphrase, salt, self._work_factor)).encrypt(_NONCE, file_key, None)
        return Stanza(KIND, (encoding.encode(salt), str(self._work_factor)), body)


class ScryptIdentity:
    """Opens what was sealed to a passphrase."""

    __slots__ = ("_passphrase", "_work_factor_max")

    def __init__(self, passphrase: str, work_factor_max: int = WORK_FACTOR_MAX) -> None:
        self._passphrase = passphrase.encode()
        self._work_factor_max = work_factor_max

    def __repr__(self) -> str:
        return "ScryptIdentity()"

    def unwrap(self, stanza: Stanza) -> bytes | None:
        """The file key, or None for another kind of stanza or another passphrase. Raises HeaderError, also for more work than allowed."""
        if stanza.kind != KIND:
            return None
        salt, work_factor = check_stanza(stanza)
        if work_factor > self._work_factor_max:
            raise HeaderError(
                f"the passphrase of this file asks for too much work: scrypt work factor {work_factor}, at most {self._work_factor_max}"
            )
        try:
            return ChaCha20Poly1305(_wrap_key(self._passphrase, salt, work_factor)).decrypt(_NONCE, stanza.body, None)
        except InvalidTag:
            return None


def check_stanza(stanza: Stanza) -> tuple[bytes, int]:
    """Salt and work factor of a well-formed scrypt stanza. Raises HeaderError."""
    if len(stanza.arguments) != 2:
        raise HeaderError("damaged age header: a scrypt recipient has two arguments")
    salt = encoding.decode(stanza.arguments[0])
    if len(salt) != SALT_SIZE:
        raise HeaderError("damaged age header: the salt of a scrypt recipient has 16 bytes")
    if _DECIMAL.fullmatch(stanza.arguments[1]) is None:
        raise HeaderError("damaged age header: the scrypt work factor is not a decimal number")
    if len(stanza.body) != FILE_KEY_SIZE + 16:
        raise HeaderError("damaged age header: the body of a scrypt recipient has 32 bytes")
    return salt, int(stanza.arguments[1])


def _wrap_key(passphrase: bytes, salt: bytes, work_factor: int) -> bytes:
    try:
        return Scrypt(salt=_LABEL + salt, length=32, n=1 << work_factor, r=8, p=1).derive(passphrase)
    except MemoryError as error:
        raise OutOfReach("there is not enough memory for this passphrase's work factor") from error
