"""Whatever hostile bytes reach what stands on `cryptography`: an error of ours comes out, or none. Another one would fail the test by itself."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway
from config.errors import NightsafeError
from config.folder import DataFolder
from gateway.age import Identity, Recipient, ScryptIdentity, new_header, open_bytes, open_payload, open_stream, seal_bytes, unwrap
from gateway.age.header import Stanza, sign
from gateway.keys.archive_password import FILE, archive_password
from gateway.keys.hostkeys import host_keys
from gateway.keys.identities import parse_identity
from gateway.keys.keyring import RECEIPT_SIGNING, Keyring
from gateway.store import Arrival, Spool, Vault, new_paper_id
from gateway.store.format import HEADER_SIZE, decode_header
from gateway.store.paper_keys import file_key

HERE = Identity.generate()
LOW_ORDER = [bytes(32), b"\1" + bytes(31), bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")]
IMPORTERS = {  # each is reached by a test below
    "age": {"stream", "identity", "header", "scrypt"},
    "keys": {"hostkeys"},
    "store": {"blocks", "paper_keys"},
}


def test_who_stands_on_cryptography() -> None:
    found: dict[str, set[str]] = {package: set() for package in IMPORTERS}
    for package in found:
        for path in (Path(str(gateway.__file__)).parent / package).rglob("*.py"):
            modules = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.module]
            if any(module.split(".")[0] == "cryptography" for module in modules):
                found[package].add(path.stem)
    assert found == IMPORTERS


def spoilt(data: bytes) -> st.SearchStrategy[bytes]:
    """`data` with some bytes replaced, often near its ends, and cut or extended."""

    def apply(spec: tuple[list[tuple[int, int]], int, bytes]) -> bytes:
        edits, cut, behind = spec
        changed = bytearray(data)
        for place, value in edits:
            changed[place] = value
        return bytes(changed[:cut]) + behind

    last = len(data) - 1
    places = st.tuples(st.one_of(st.integers(0, last), st.integers(max(0, last - 200), last)), st.integers(0, 255))
    cuts = st.one_of(st.just(len(data)), st.just(len(data)), st.integers(0, len(data)))
    return st.tuples(st.lists(places, max_size=4), cuts, st.one_of(st.just(b""), st.binary(max_size=40))).map(apply)


SEALED = seal_bytes(b"x" * 70_000, [HERE.recipient])
SMALL = seal_bytes(b"paper", [HERE.recipient])
BODIES = st.one_of(st.binary(min_size=32, max_size=32), st.binary(max_size=40))
SHARES = st.one_of(st.sampled_from(LOW_ORDER), st.binary(min_size=32, max_size=32), st.binary(max_size=40))
SALTS = st.one_of(st.binary(min_size=16, max_size=16), st.binary(max_size=20))
FOR_KEYS = st.builds(lambda share, body: Stanza("X25519", (_b64(share),), body), SHARES, BODIES)
FOR_PASSPHRASES = st.builds(lambda salt, body: Stanza("scrypt", (_b64(salt), "1"), body), SALTS, BODIES)
STANZAS = st.one_of(
    st.lists(FOR_KEYS, min_size=1, max_size=3), FOR_PASSPHRASES.map(lambda one: [one]), st.tuples(FOR_KEYS, FOR_PASSPHRASES).map(list)
)


def _b64(data: bytes) -> str:
    from base64 import b64encode

    return b64encode(data).decode().rstrip("=")


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), spoilt(SMALL), spoilt(SEALED)))
def test_age_files(data: bytes) -> None:
    key = unwrap(SMALL[: SMALL.index(b"\n--- ") + 5 + 43 + 1], [HERE])
    for read in (
        lambda: open_bytes(data, [HERE]),
        lambda: b"".join(bytes(piece) for piece in open_stream(io.BytesIO(data), [HERE])),
        lambda: open_payload(io.BytesIO(data), key).read(),
    ):
        with suppress(NightsafeError):
            read()


@settings(max_examples=60, deadline=None)
@given(STANZAS, st.binary(min_size=16, max_size=16))
def test_headers_that_follow_the_grammar(stanzas: list[Stanza], key: bytes) -> None:
    raw = sign(tuple(stanzas), key).encode()
    for identity in (HERE, ScryptIdentity("guess", 2)):
        with suppress(NightsafeError):
            unwrap(raw, [identity])


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.sampled_from(LOW_ORDER), st.binary(max_size=40)), st.text(max_size=80))
def test_keys_of_age(raw: bytes, text: str) -> None:
    for make in (lambda: new_header([Recipient(raw)]), lambda: Identity(raw), lambda: Recipient.parse(text), lambda: Identity.parse(text)):
        with suppress(NightsafeError):
            make()


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    made = Keyring.create(DataFolder(tmp_path_factory.mktemp("ring") / "data"), HERE.recipient, Identity.generate().recipient)
    made.add_client("acme")
    made.seal_totp("ann", b"seed")
    return made


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_files_of_the_keyring(keyring: Keyring, data: st.DataObject) -> None:
    folder = keyring.folder
    clients = folder.client_keys("acme")
    readers: dict[Path, Callable[[], object]] = {
        clients / "1.age": lambda: keyring.client_identities("acme", HERE),
        clients / "1.recipient": lambda: keyring.client_identities("acme", HERE),
        clients / FILE: lambda: archive_password(keyring, "acme", [HERE]),
        folder.keys / "master.recipient": lambda: keyring.sealed_to,
        folder.keys / "secrets" / f"{RECEIPT_SIGNING}.age": lambda: keyring.open_secret(RECEIPT_SIGNING, HERE),
        folder.totp_seeds / "ann.age": lambda: keyring.open_totp("ann", HERE),
        folder.host_key.with_name(folder.host_key.name + ".pub"): lambda: host_keys(keyring),
        folder.ingest_keys / "1.age": lambda: keyring.ingest_identities(HERE),
    }
    for path, read in readers.items():
        whole = path.read_bytes() if path.exists() else SMALL
        inside = st.binary(max_size=100).map(lambda content: seal_bytes(content, [HERE.recipient]))
        path.write_bytes(data.draw(st.one_of(spoilt(whole), inside, st.binary(max_size=100))))
        with suppress(NightsafeError):
            read()
        path.write_bytes(whole)
    with suppress(NightsafeError):
        parse_identity(data.draw(st.binary(max_size=100)), "a file")


Stored = tuple[Spool, Path, dict[str, tuple[str, bytes]]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """A spool with a landed paper and a partial one, by state: id, and the file as it should be."""
    root = tmp_path_factory.mktemp("spool")
    for name in ("partial", "landed"):
        (root / name).mkdir()
    with Spool(root / "partial", root / "landed", HERE.recipient) as spool:
        papers = {}
        for state in ("partial", "landed"):
            paper = new_paper_id()
            file = spool.create(paper, "acme")
            file.write(0, b"x" * 300)
            if state == "landed":
                file.finish(Arrival(paper, "acme", "acme", "/inbox/a", datetime.now(UTC), None, "s", "192.0.2.7", "test"))
                spool.land(paper)
            file.close()
            papers[state] = (paper, (root / state / paper).read_bytes())
        yield spool, root, papers


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_files_of_the_spool_and_of_the_vault(stored: Stored, data: st.DataObject) -> None:
    spool, root, papers = stored
    for state, (paper, whole) in papers.items():
        path = root / state / paper
        path.write_bytes(data.draw(st.one_of(spoilt(whole), st.binary(max_size=100))))
        with suppress(NightsafeError):
            key = file_key(decode_header(whole[:HEADER_SIZE]), [HERE])
            if state == "landed":
                known = data.draw(st.booleans())
                with spool.open_landed(paper, file_key=key) if known else spool.open_landed(paper, identities=[HERE]) as reader:
                    reader.read()
            else:
                with closing(spool.reopen(paper, key)) as file:
                    file.read(0, 300)
    vault = Vault(root / "vault")
    path = vault.path("acme", paper)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.draw(spoilt(SMALL)))
    with suppress(NightsafeError), vault.open("acme", paper, identities=[HERE]) as sealed:
        sealed.read()
