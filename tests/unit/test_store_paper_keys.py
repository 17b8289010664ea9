"""Papers that come together share a wrapped key and nothing else."""

from __future__ import annotations

import pytest

from gateway.age import Identity, NoMatchError, new_header, unwrap
from gateway.store.format import SpoolHeader
from gateway.store.ids import new_paper_id
from gateway.store.paper_keys import SHARED_PAPERS, SHARED_SECONDS, NewKeys, Unwrapper, file_key

IDENTITY = Identity.generate()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_papers_that_come_together_share_the_header_and_no_key() -> None:
    keys = NewKeys(IDENTITY.recipient, Clock())
    made = [keys.make(new_paper_id(), "acme") for _ in range(20)]
    assert len({one.header.age_header for one in made}) == 1
    shared = unwrap(made[0].header.age_header, [IDENTITY])
    assert len({one.file_key for one in made} | {shared}) == 21
    for one in made:
        assert file_key(one.header, [IDENTITY]) == one.file_key
        assert repr(one.file_key) not in repr(one)


def test_salt_and_paper_both_decide_the_key() -> None:
    made = NewKeys(IDENTITY.recipient).make(new_paper_id(), "acme")
    header = made.header
    assert file_key(SpoolHeader(new_paper_id(), "acme", header.age_header, header.salt), [IDENTITY]) != made.file_key
    assert file_key(SpoolHeader(header.paper, "acme", header.age_header, bytes(32)), [IDENTITY]) != made.file_key


def test_a_wrapped_key_is_shared_by_one_client_for_a_while_and_some_papers() -> None:
    clock = Clock()
    keys = NewKeys(IDENTITY.recipient, clock)

    def wrapped(client: str = "acme") -> bytes:
        return keys.make(new_paper_id(), client).header.age_header

    first = wrapped()
    assert wrapped("zeta") != first
    clock.now += SHARED_SECONDS - 0.1
    assert wrapped() == first
    clock.now += 0.1
    second = wrapped()
    assert second != first
    found = {wrapped() for _ in range(SHARED_PAPERS)}
    assert len(found) == 2 and second in found


def test_shared_keys_are_forgotten_when_their_time_is_over() -> None:
    clock = Clock()
    keys = NewKeys(IDENTITY.recipient, clock)
    keys.make(new_paper_id(), "acme")
    assert keys.forget_old()
    clock.now += SHARED_SECONDS
    assert not keys.forget_old()
    assert not keys._shared


def test_a_header_of_the_first_version_holds_the_key_itself() -> None:
    sealed = new_header([IDENTITY.recipient])
    assert file_key(SpoolHeader(new_paper_id(), "acme", sealed.header), [IDENTITY]) == sealed.file_key


def test_who_unwraps_remembers_for_the_same_identities_only() -> None:
    made = [NewKeys(IDENTITY.recipient).make(new_paper_id(), "acme") for _ in range(40)]
    unwrapper = Unwrapper()
    for one in made:
        assert unwrapper.file_key(one.header, [IDENTITY]) == one.file_key
        with pytest.raises(NoMatchError):
            unwrapper.file_key(one.header, [Identity.generate()])
    assert len(unwrapper._opened) <= 16
