"""Every outside vector, and our own, through the sequential reader and the seekable one (tests/vectors/age/README.md)."""

from __future__ import annotations

import base64
import hashlib
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.age import (
    AgeError,
    ArmorError,
    HeaderError,
    HmacError,
    Identity,
    KeyTextError,
    NoMatchError,
    PayloadError,
    ScryptIdentity,
    open_payload,
    open_sealed,
    open_stream,
)
from gateway.age.armor import ArmoredFile, ArmoredStream
from gateway.age.header import parse
from gateway.age.sealing import AnyIdentity

FOLDER = Path(__file__).parents[1] / "vectors" / "age"
CCTV = sorted(path for path in (FOLDER / "cctv").iterdir() if path.suffix == "")
OWN = sorted(path for path in (FOLDER / "own").iterdir() if path.suffix == "")

FAILURES: dict[str, type[AgeError]] = {
    "no match": NoMatchError,
    "HMAC failure": HmacError,
    "header failure": HeaderError,
    "payload failure": PayloadError,
    "armor failure": ArmorError,
}

# What a reader that does not know the post-quantum kind must say instead: its stanzas are somebody else's, whatever is wrong inside them.
# Where the grammar itself is broken, or a stanza of a known kind, the expectation stays as it is.
WITHOUT_POST_QUANTUM: dict[str, type[AgeError]] = dict.fromkeys(
    (
        "armor_hybrid",
        "hybrid",
        "hybrid_and_x25519",
        "hybrid_extra_argument",
        "hybrid_grease",
        "hybrid_identity",
        "hybrid_long_file_key",
        "hybrid_long_share",
        "hybrid_low_order",
        "hybrid_multiple_recipients",
        "hybrid_not_canonical_enc",
        "hybrid_short_share",
    ),
    NoMatchError,
)


@dataclass(frozen=True)
class Vector:
    """One vector: what it says of itself, and the file."""

    name: str
    fields: dict[str, list[str]]
    file: bytes

    @property
    def failure(self) -> type[AgeError] | None:
        """The error that opening it must give; None for success."""
        expected = self.fields["expect"][0]
        return WITHOUT_POST_QUANTUM.get(self.name) or (None if expected == "success" else FAILURES[expected])

    @property
    def armored(self) -> bool:
        """Whether it is meant to be in armour."""
        return self.fields.get("armored") == ["yes"]

    def identities(self) -> list[AnyIdentity]:
        """The identities that it names, but for the kinds not supported, which must be refused."""
        found: list[AnyIdentity] = [ScryptIdentity(text) for text in self.fields.get("passphrase", [])]
        for text in self.fields.get("identity", []):
            if text.startswith("AGE-SECRET-KEY-PQ-"):
                with pytest.raises(KeyTextError, match="post-quantum"):
                    Identity.parse(text)
            else:
                found.append(Identity.parse(text))
        return found


def load(path: Path) -> Vector:
    """Read one vector."""
    head, _, file = path.read_bytes().partition(b"\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.decode().splitlines():
        key, _, value = line.partition(": ")
        fields.setdefault(key, []).append(value)
    assert set(fields) <= {"expect", "payload", "file key", "identity", "passphrase", "armored", "compressed", "comment"}
    return Vector(path.name, fields, zlib.decompress(file) if fields.get("compressed") == ["zlib"] else file)


class Pipe(io.RawIOBase):
    """A file that gives few bytes at a time and cannot be seeked."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        length = min(len(buffer), len(self._data), 4000)
        memoryview(buffer)[:length] = self._data[:length]
        self._data = self._data[length:]
        return length


def test_the_collections_are_whole() -> None:
    assert len(CCTV) == 143
    assert len(OWN) >= 15
    assert sum(load(path).failure is None for path in CCTV) >= 20
    assert set(WITHOUT_POST_QUANTUM) <= {path.name for path in CCTV}


@pytest.mark.parametrize("path", CCTV + OWN, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_sequential(path: Path) -> None:
    """The right failure, and exactly the plaintext released before it that the vector allows."""
    vector = load(path)
    released = hashlib.sha256()
    error: AgeError | None = None
    try:
        for piece in open_stream(Pipe(vector.file), vector.identities()):
            released.update(piece)
    except AgeError as caught:
        error = caught
    check_error(vector, error)
    if vector.failure in (None, PayloadError):
        assert released.hexdigest() == vector.fields["payload"][0]


@pytest.mark.parametrize("path", CCTV + OWN, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_seekable(path: Path) -> None:
    """The same failure, or the same plaintext read backwards in odd pieces."""
    vector = load(path)
    error: AgeError | None = None
    try:
        with open_sealed(io.BytesIO(vector.file), vector.identities()) as reader:
            whole = reader.read()
            assert len(whole) == reader.size
            for place in range(reader.size - reader.size % 30011, -1, -30011):
                reader.seek(place)
                assert reader.read(30011) == whole[place : place + 30011]
    except AgeError as caught:
        error = caught
    check_error(vector, error)
    if vector.failure is None:
        assert hashlib.sha256(whole).hexdigest() == vector.fields["payload"][0]


@pytest.mark.parametrize("path", CCTV + OWN, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_with_the_file_key(path: Path) -> None:
    """The key agent's way: a file key in place of identities. Files of kinds that are not supported open, too."""
    vector = load(path)
    expected = vector.fields["expect"][0]
    if expected in ("header failure", "no match"):
        return  # what is wrong with these shows in unwrapping
    error: AgeError | None = None
    try:
        with open_payload(io.BytesIO(vector.file), bytes.fromhex(vector.fields["file key"][0])) as reader:
            assert hashlib.sha256(reader.read()).hexdigest() == vector.fields["payload"][0]
    except AgeError as caught:
        error = caught
    if expected == "success":
        assert error is None, error
    else:
        check_error(vector, error)


@pytest.mark.parametrize("path", [path for path in CCTV + OWN if load(path).armored], ids=lambda path: f"{path.parent.name}/{path.name}")
@pytest.mark.parametrize("reader", [lambda data: ArmoredStream(Pipe(data)), lambda data: ArmoredFile(io.BytesIO(data))], ids=["stream", "file"])
def test_armour_itself(path: Path, reader: Callable[[bytes], io.RawIOBase]) -> None:
    """The armour fails where the vector says that it is the armour, and nowhere else."""
    vector = load(path)
    if vector.failure is ArmorError:
        with pytest.raises(ArmorError):
            reader(vector.file).readall()
    else:
        assert reader(vector.file).readall() == base64.b64decode(b"".join(vector.file.strip().splitlines()[1:-1]))


def check_error(vector: Vector, error: AgeError | None) -> None:
    """`error` is the one that the vector asks for; of armour only what begins like armour is told apart from any other foreign file."""
    if vector.failure is None:
        assert error is None, error
        return
    begins_otherwise = vector.name == "armor_garbage_leading"  # cannot be told from any other foreign file: see test_armour_itself
    assert isinstance(error, HeaderError if begins_otherwise else vector.failure)
    if vector.failure is HeaderError and not vector.armored:
        assert not isinstance(error, ArmorError)
    assert str(error)
    for secret in (*vector.fields.get("identity", []), *vector.fields.get("passphrase", [])):
        assert secret not in str(error)


@pytest.mark.parametrize("path", CCTV, ids=lambda path: path.name)
def test_headers_have_one_form(path: Path) -> None:
    """A header that is taken is written again to the same bytes (the collection's README asks for it)."""
    vector = load(path)
    if vector.armored or vector.failure is HeaderError:
        return
    raw = vector.file[: vector.file.index(b"\n", vector.file.index(b"\n---") + 1) + 1]
    assert parse(raw).encode() == raw
