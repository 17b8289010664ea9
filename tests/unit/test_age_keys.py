"""Keys as text, and what they may never tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import Exit, UsageError
from gateway.age import (
    HeaderError,
    Identity,
    KeyTextError,
    NoMatchError,
    Recipient,
    ScryptIdentity,
    ScryptRecipient,
    bech32,
    new_header,
    open_bytes,
    parse_identities,
    seal_bytes,
    unwrap,
)

# the pair that c2sp.org/age shows in "The X25519 recipient type"
SPEC_IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
SPEC_RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"

# RFC 7748 and its errata list: points whose product with any key is zero
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def test_the_pair_of_the_specification() -> None:
    identity = Identity.parse(SPEC_IDENTITY)
    assert str(identity.recipient) == SPEC_RECIPIENT
    assert identity.encode() == SPEC_IDENTITY
    assert Recipient.parse(SPEC_RECIPIENT) == identity.recipient


def test_generated_keys_differ_and_round_trip() -> None:
    first, second = Identity.generate(), Identity.generate()
    assert first != second
    assert Identity.parse(first.encode()) == first
    assert hash(Identity.parse(first.encode())) == hash(first)
    assert {first.recipient, Recipient.parse(str(first.recipient))} == {first.recipient}
    assert first != first.recipient


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1",
        SPEC_RECIPIENT[:-1] + "q",  # checksum
        SPEC_RECIPIENT.upper(),
        SPEC_RECIPIENT.replace("age", "Age"),
        " " + SPEC_RECIPIENT,
        SPEC_RECIPIENT + "\n",
        SPEC_RECIPIENT.replace("z", "b", 1),  # not in the alphabet
        SPEC_IDENTITY,
        bech32.encode("age", bytes(31)),
        bech32.encode("age", bytes(33)),
        bech32.encode("agf", bytes(range(32))),
        "é" * 62,
        "1" * 100,
        "age1" + "q" * 100_000,
    ],
)
def test_not_a_recipient(text: str) -> None:
    with pytest.raises(KeyTextError) as caught:
        Recipient.parse(text)
    assert caught.value.exit_code == Exit.USAGE
    assert SPEC_IDENTITY not in str(caught.value)


@pytest.mark.parametrize("public", LOW_ORDER, ids=lambda public: public.hex()[:8])
def test_a_recipient_of_low_order_is_refused(public: bytes) -> None:
    with pytest.raises(KeyTextError):
        Recipient.parse(bech32.encode("age", public))


@pytest.mark.parametrize(
    "text",
    [
        "",
        SPEC_IDENTITY.lower(),
        SPEC_IDENTITY[:-1] + "Q",
        SPEC_RECIPIENT,
        SPEC_IDENTITY + " ",
        bech32.encode("age-secret-key-", bytes(31)).upper(),
        bech32.encode("age-secret-key-pq-", bytes(32)).upper(),
        bech32.encode("age-plugin-x-", bytes(32)).upper(),
    ],
)
def test_not_an_identity(text: str) -> None:
    with pytest.raises(KeyTextError) as caught:
        Identity.parse(text)
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None  # a cause would carry the text into logs


def test_secrets_stay_out_of_sight() -> None:
    identity = Identity.parse(SPEC_IDENTITY)
    sealed = new_header([identity.recipient])
    shown = [repr(identity), str(identity), repr(sealed), str(sealed), repr(ScryptIdentity("hunter22")), repr(ScryptRecipient("hunter22"))]
    for text in shown:
        assert SPEC_IDENTITY[16:] not in text
        assert "hunter22" not in text
        assert repr(sealed.file_key) not in text
        assert sealed.file_key.hex() not in text
    assert not hasattr(identity, "__dict__")


def test_identity_file() -> None:
    first, second = Identity.generate(), Identity.generate()
    text = f"# created: today\n\n  {first.encode()}  \r\n# public key: x\n{second.encode()}"
    assert parse_identities(text) == [first, second]
    with pytest.raises(KeyTextError, match="line 3"):
        parse_identities(f"# one\n{first.encode()}\n{second.encode()[:-3]}\n")
    with pytest.raises(KeyTextError, match="no identity"):
        parse_identities("# nothing\n")


# BIP 173, "Test vectors"
@pytest.mark.parametrize(
    "text",
    [
        "A12UEL5L",
        "a12uel5l",
        "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
        "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
        "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
        "?1ezyfcl",
    ],
)
def test_bech32_valid(text: str) -> None:
    prefix, separator, _ = text.rpartition("1")
    assert separator
    try:
        assert bech32.decode(text)[0] == prefix
    except KeyTextError as error:
        assert "padding" in str(error)  # the checksum is right, but these five-bit values are not whole bytes


@pytest.mark.parametrize(
    "text",
    [
        "\x201nwldj5",
        "\x7f1axkwrx",
        "\x801eym55h",
        "pzry9x0s0muk",
        "1pzry9x0s0muk",
        "x1b4n0q5v",
        "li1dgmt3",
        "de1lg7wt\xff",
        "A1G7SGD8",
        "10a06t8",
        "1qzzfhee",
        "a12UEL5L",
    ],
)
def test_bech32_invalid(text: str) -> None:
    with pytest.raises(KeyTextError):
        bech32.decode(text)


@given(st.text(alphabet="abcdefgh-", min_size=1, max_size=20), st.binary(max_size=80), st.data())
def test_bech32_round_trip_and_one_error(prefix: str, data: bytes, draw: st.DataObject) -> None:
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == (prefix, data)
    assert bech32.decode(text.upper()) == (prefix.upper(), data)
    place = draw.draw(st.integers(text.rindex("1") + 1, len(text) - 1))
    other = draw.draw(st.sampled_from([character for character in bech32.ALPHABET if character != text[place]]))
    with pytest.raises(KeyTextError):
        bech32.decode(text[:place] + other + text[place + 1 :])


def test_bech32_padding_must_be_zero() -> None:
    """52 groups of five bits hold 32 bytes and four bits more: sixteen texts would mean one key."""
    data = Identity.generate().recipient
    prefix, _, body = str(data).rpartition("1")
    values = [bech32.ALPHABET.index(character) for character in body[:-6]]
    assert values[-1] & 0b1111 == 0
    for padding in range(1, 16):
        assert_refused_with_right_checksum(prefix, [*values[:-1], values[-1] | padding])


def assert_refused_with_right_checksum(prefix: str, values: list[int]) -> None:
    residue = bech32._polymod([*bech32._expand(prefix), *values, 0, 0, 0, 0, 0, 0]) ^ 1
    checksum = [(residue >> 5 * (5 - place)) & 31 for place in range(6)]
    with pytest.raises(KeyTextError, match="padding"):
        bech32.decode(prefix + "1" + "".join(bech32.ALPHABET[value] for value in values + checksum))


def test_several_recipients_and_nobody_else() -> None:
    people = [Identity.generate() for _ in range(4)]
    file = seal_bytes(b"for all of you", [person.recipient for person in people])
    for person in people:
        assert open_bytes(file, [Identity.generate(), person]) == b"for all of you"
    with pytest.raises(NoMatchError):
        open_bytes(file, [Identity.generate()])
    with pytest.raises(NoMatchError):
        open_bytes(file, [])


def test_passphrase() -> None:
    file = seal_bytes(b"x", [ScryptRecipient("correct horse", 10)])
    assert open_bytes(file, [ScryptIdentity("correct horse")]) == b"x"
    with pytest.raises(NoMatchError):
        open_bytes(file, [ScryptIdentity("battery staple"), Identity.generate()])
    with pytest.raises(HeaderError, match="too much work"):
        open_bytes(file, [ScryptIdentity("correct horse", work_factor_max=9)])


def test_wrong_use() -> None:
    someone = Identity.generate().recipient
    for recipients in ([], [someone, ScryptRecipient("x", 1)], [ScryptRecipient("x", 1), ScryptRecipient("y", 1)], [someone] * 700):
        with pytest.raises(UsageError):
            new_header(recipients)
    for work_factor in (0, 23, -1):
        with pytest.raises(UsageError):
            ScryptRecipient("x", work_factor)
    with pytest.raises(UsageError):
        ScryptRecipient("")


def test_each_header_has_its_own_key() -> None:
    identity = Identity.generate()
    sealed = [new_header([identity.recipient]) for _ in range(20)]
    assert len({one.file_key for one in sealed}) == 20
    assert len({one.header for one in sealed}) == 20
    for one in sealed:
        assert unwrap(one.header, [identity]) == one.file_key
