"""Passwords at the door, alone and with a key."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import paramiko
import pytest

from gateway.catalog import Catalog
from gateway.keys.passwords import hash_password
from tests.integration.logins.desk import PASSWORD, Desk, add, until
from tests.integration.sftp_rig import CLIENT

HASH = hash_password(PASSWORD)


def test_a_password(desk: Desk) -> None:
    add(desk, "pat", "--password-stdin", text=f"{PASSWORD}\n")
    until(lambda: _offered(desk) == {"publickey", "password"})
    for name, password in (("pat", "wrong horse battery"), ("nobody", PASSWORD), (CLIENT, PASSWORD)):
        opened = desk.connect()
        with pytest.raises(paramiko.AuthenticationException):
            opened.auth_password(name, password, fallback=False)
        opened.close()
    opened = desk.connect()
    assert opened.auth_password("pat", PASSWORD, fallback=False) == []
    desk("person", "edit", "pat", "--expires", "never")
    time.sleep(0.6)  # two looks at the catalog
    assert opened.is_active()
    desk("person", "edit", "pat", "--password-stdin", text="another horse battery\n")
    until(lambda: not opened.is_active())  # whoever knows the old one is out
    desk("person", "edit", "pat", "--password-stdin", text=f"{PASSWORD}\n")
    opened.close()
    assert "12 to 256" in str(desk("person", "add", "tiny", "--client", CLIENT, "--password-stdin", text="short\n", code=2))


def _offered(desk: Desk) -> set[str]:
    opened = desk.connect()
    try:
        opened.auth_none("nobody")
    except paramiko.BadAuthenticationType as error:
        return set(error.allowed_types)
    finally:
        opened.close()
    return set()


def test_a_key_and_a_password(desk: Desk, new_key: Callable[..., Path]) -> None:
    key = new_key("both")
    with Catalog.open(desk.server.folder.catalog) as catalog:
        catalog.add_person("both", client=CLIENT, keys=[], password_hash=HASH, require=("publickey+password",))
    desk("person", "edit", "both", "--public-key", f"{key}.pub")
    private = paramiko.Ed25519Key.from_private_key_file(str(key))
    until(lambda: "password" in _offered(desk))
    for order in ("key first", "password first"):
        opened = desk.connect()
        if order == "key first":
            assert opened.auth_publickey("both", private) == ["password"]
            assert opened.auth_password("both", PASSWORD, fallback=False) == []
        else:
            assert opened.auth_password("both", PASSWORD, fallback=False) == ["publickey"]
            assert opened.auth_publickey("both", private) == []
        opened.close()


def test_a_success_counts_for_what_was_shown_and_not_for_what_was_asked_meanwhile(desk: Desk, new_key: Callable[..., Path]) -> None:
    """A password is being checked when the same name's public key, which everybody may know, is asked about: no signature, no second factor."""
    key = new_key("race")
    with Catalog.open(desk.server.folder.catalog) as catalog:
        catalog.add_person("race", client=CLIENT, keys=[], password_hash=HASH, require=("publickey+password",))
    desk("person", "edit", "race", "--public-key", f"{key}.pub")
    until(lambda: "password" in _offered(desk))

    def part(value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    head = b"\x32" + part(b"race") + part(b"ssh-connection")
    public = paramiko.Ed25519Key.from_private_key_file(str(key)).asbytes()
    password = head + part(b"password") + b"\x00" + part(PASSWORD.encode())
    question = head + part(b"publickey") + b"\x00" + part(b"ssh-ed25519") + part(public)
    seen: set[tuple[int, bytes]] = set()

    def listening(read: Callable[[], tuple[int, paramiko.Message]]) -> tuple[int, paramiko.Message]:
        kind, message = read()
        seen.add((kind, message.asbytes()[-1:]))
        return kind, message

    for pause in (0.0, 0.005, 0.02, 0.3):
        opened = desk.connect()
        opened.packetizer.read_message = partial(listening, opened.packetizer.read_message)  # type: ignore[method-assign]
        for body in (b"\x05" + part(b"ssh-userauth"), password, question, password, question, password):
            opened._send_message(paramiko.Message(body))  # type: ignore[attr-defined]
            time.sleep(pause)
        until(lambda: (51, b"\x01") in seen)  # the last password, which nothing cancelled, counts in part, and for itself
        seen.clear()
        opened.close()
    assert desk.events("login.accepted", person="race") == []
