"""Codes of an app (TOTP) at the door, behind another factor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import paramiko
import pytest

from tests.integration.logins.desk import Desk, add, code, fresh_code, until


def test_two_factors_in_order(desk: Desk, new_key: Callable[..., Path]) -> None:
    key = new_key("two")
    seed = add(desk, "two", "--public-key", f"{key}.pub", "--totp")["totp"]["seed"]
    private = paramiko.Ed25519Key.from_private_key_file(str(key))
    opened = desk.connect()
    with pytest.raises(paramiko.BadAuthenticationType):  # a code never comes first
        opened.auth_interactive("two", lambda *_: [code(seed)])
    assert opened.auth_publickey("two", private) == ["keyboard-interactive"]
    with pytest.raises(paramiko.SSHException):
        opened.open_session(timeout=2)
    opened.close()
    opened = desk.connect()
    opened.auth_publickey("two", private)
    with pytest.raises(paramiko.AuthenticationException):
        opened.auth_interactive("two", lambda *_: ["000000" if code(seed) != "000000" else "111111"])
    used = code(seed)
    assert opened.auth_interactive("two", lambda *_: [used]) == []
    assert paramiko.SFTPClient.from_transport(opened) is not None
    opened.close()
    again = desk.connect()
    again.auth_publickey("two", private)
    with pytest.raises(paramiko.AuthenticationException):  # a code that was seen is worth nothing
        again.auth_interactive("two", lambda *_: [used])
    assert again.auth_interactive("two", lambda *_: [fresh_code(seed, used)]) == []
    desk("person", "edit", "two", "--expires", "2099-01-01")
    renewed = time.time()
    assert again.is_active()
    desk("person", "edit", "two", "--totp")
    until(lambda: not again.is_active())  # whoever has the old one is out
    again.close()
    until(lambda: bool(desk.events("access.revoked", person="two")))
    (event,) = desk.events("access.revoked", person="two")
    assert datetime.fromisoformat(event["time"]).timestamp() >= renewed
    (first, _) = desk.events("login.accepted", person="two")
    assert first["factors"] == ["publickey", "totp"]


def test_a_stolen_key_does_not_try_codes_without_end(desk: Desk, new_key: Callable[..., Path]) -> None:
    key = new_key("stolen")
    seed = add(desk, "tess", "--public-key", f"{key}.pub", "--totp")["totp"]["seed"]
    opened = desk.connect()
    assert opened.auth_publickey("tess", paramiko.Ed25519Key.from_private_key_file(str(key))) == ["keyboard-interactive"]
    wrong, tried = next(f"{n:06d}" for n in range(9) if f"{n:06d}" not in (code(seed), fresh_code(seed, ""))), 0
    with pytest.raises((paramiko.SSHException, EOFError)):
        while opened.is_active() and tried < 20:
            with contextlib.suppress(paramiko.AuthenticationException):
                tried += 1
                opened.auth_interactive("tess", lambda *_: [wrong])
        raise EOFError
    opened.close()
    assert tried <= 6
    until(lambda: bool(desk.events("login.failed", person="tess")))
    assert desk.events("login.failed", person="tess")[0]["reason"] == "not everything was shown"


def test_what_was_shown_for_one_name_is_void_for_another(desk: Desk, new_key: Callable[..., Path]) -> None:
    mine, yours = new_key("mine"), new_key("yours")
    seed = add(desk, "mine", "--public-key", f"{mine}.pub", "--totp")["totp"]["seed"]
    add(desk, "yours", "--public-key", f"{yours}.pub", "--totp")
    opened = desk.connect()
    opened.auth_publickey("mine", paramiko.Ed25519Key.from_private_key_file(str(mine)))
    with pytest.raises(paramiko.SSHException):
        opened.auth_interactive("yours", lambda *_: [code(seed)])
    opened.close()
