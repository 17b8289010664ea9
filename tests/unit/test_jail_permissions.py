"""Profiles and roles: who may do what where, and what is told."""

from __future__ import annotations

import errno

import pytest

from gateway.jail.paths import path_of
from gateway.jail.permissions import DROP, EXCHANGE, Action, Rights, rights_of
from gateway.jail.refused import Refused, refusal

LOOKS = {Action.STAT, Action.LIST, Action.READ}
CHANGES = set(Action) - LOOKS


def code_of(action: Action, path: str, rights: Rights = EXCHANGE) -> str:
    try:
        rights.check(action, path_of(path))
    except Refused as refused:
        return refused.code
    return "allowed"


@pytest.mark.parametrize("action", sorted(Action))
def test_inbox_takes_everything(action: Action) -> None:
    assert code_of(action, "/inbox/a") == "allowed"
    assert code_of(action, "/inbox/a/b") == "allowed"


@pytest.mark.parametrize("folder", ["outbox", "receipts"])
@pytest.mark.parametrize("action", sorted(Action))
def test_outbox_and_receipts_are_for_reading(action: Action, folder: str) -> None:
    assert code_of(action, f"/{folder}/a") == ("allowed" if action in LOOKS else "permission")


@pytest.mark.parametrize("path", ["/", "/inbox", "/outbox", "/receipts"])
@pytest.mark.parametrize("action", sorted(CHANGES - {Action.SET_TIMES}))
def test_the_fixed_folders_stay(action: Action, path: str) -> None:
    assert code_of(action, path) in {"permission", "failure", "exists"}


@pytest.mark.parametrize("path", ["/.tmp", "/.tmp/x", "/etc/passwd", "/Inbox", "/inbox2/a"])
def test_nothing_else_exists(path: str) -> None:
    assert {code_of(action, path) for action in LOOKS} == {"no_such_file"}
    assert {code_of(action, path) for action in CHANGES} == {"permission"}


def test_the_refusal_helps() -> None:
    for path in ("/invoice.pdf", "/outbox/invoice.pdf", "/receipts/invoice.pdf"):
        with pytest.raises(Refused, match="put papers into /inbox"):
            EXCHANGE.check(Action.WRITE, path_of(path))
    assert code_of(Action.MAKE_FOLDER, "/inbox") == "exists"


def test_rename_looks_at_both_ends() -> None:
    EXCHANGE.check_rename(path_of("/inbox/a"), path_of("/inbox/b"))
    for elsewhere in ("/receipts/a", "/outbox/a", "/a", "/inbox"):
        for source, target in (("/inbox/a", elsewhere), (elsewhere, "/inbox/a")):
            with pytest.raises(Refused):
                EXCHANGE.check_rename(path_of(source), path_of(target))


def test_mode_bits() -> None:
    assert EXCHANGE.mode_bits(path_of("/inbox/a"), folder=False) == 0o600
    assert EXCHANGE.mode_bits(path_of("/receipts"), folder=True) == 0o500
    assert EXCHANGE.mode_bits(path_of("/"), folder=True) == 0o500


def granted(rights: Rights, path: str) -> set[Action]:
    return {action for action in Action if code_of(action, path, rights) == "allowed"}


TABLE = [
    ("client", "exchange", set(Action), LOOKS, LOOKS),
    ("client", "read-only", LOOKS, LOOKS, LOOKS),
    ("client", "no such profile", set(), set(), set()),
    ("staff", "drop", LOOKS, set(Action), LOOKS),
    ("auditor", "exchange", set(), set(), LOOKS),
    ("nobody", "exchange", set(), set(), set()),
]


@pytest.mark.parametrize(("role", "profile", "inbox", "outbox", "receipts"), TABLE)
def test_every_role_and_profile(role: str, profile: str, inbox: set[Action], outbox: set[Action], receipts: set[Action]) -> None:
    rights = rights_of(role, profile)
    assert (granted(rights, "/inbox/a"), granted(rights, "/outbox/a"), granted(rights, "/receipts/a")) == (inbox, outbox, receipts)


def test_drop_puts_lists_and_renames_what_is_unfinished() -> None:
    puts = {Action.STAT, Action.LIST, Action.WRITE, Action.MAKE_FOLDER, Action.RENAME_TO, Action.SET_TIMES}
    assert granted(DROP, "/inbox/a.pdf") == puts
    assert granted(DROP, "/inbox/d/a.pdf.filepart") == puts | {Action.RENAME_FROM, Action.REMOVE}
    assert granted(DROP, "/outbox/a") == set()
    assert granted(DROP, "/receipts/a.part") == LOOKS
    assert DROP.mode_bits(path_of("/inbox/a"), folder=False) == 0o200
    with pytest.raises(Refused, match="but not downloaded"):
        DROP.check(Action.READ, path_of("/inbox/a"))
    with pytest.raises(Refused, match="/outbox is not for this login"):
        DROP.check(Action.LIST, path_of("/outbox"))


@pytest.mark.parametrize(("role", "profile"), [("client", "exchange"), ("client", "drop"), ("staff", "exchange"), ("auditor", "exchange")])
def test_in_a_gateway_that_is_read_only_nobody_changes_anything(role: str, profile: str) -> None:
    everyday, still = rights_of(role, profile), rights_of(role, profile, read_only=True)
    for path in ("/inbox/a", "/inbox/a.part", "/outbox/a", "/receipts/a"):
        assert granted(still, path) == granted(everyday, path) & LOOKS
        assert not still.mode_bits(path_of(path), folder=True) & 0o222


HOST_ERRORS = [
    (errno.ENOSPC, "no_space"),
    (errno.EDQUOT, "no_space"),
    (errno.ENOTEMPTY, "not_empty"),
    (errno.EIO, "failure"),
    (errno.EMFILE, "failure"),
]


@pytest.mark.parametrize(("number", "code"), HOST_ERRORS)
def test_errors_of_the_host_are_translated(number: int, code: str) -> None:
    refused = refusal(OSError(number, "strerror", "/srv/secret/place"))
    assert refused.code == code
    assert "/srv" not in str(refused)
