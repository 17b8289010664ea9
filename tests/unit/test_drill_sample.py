"""The draw is repeatable and fair inside its groups; the statement is exact."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.drill.sample import WEIGHTS, Group, Share, Statement, allocate, digest, draw, most_bad, state


def population(new: int, never: int, before: int) -> dict[Group, list[str]]:
    numbers = itertools.count()
    sizes = {Group.NEW: new, Group.NEVER: never, Group.BEFORE: before}
    return {group: [f"{number:032x}" for number in itertools.islice(numbers, size)] for group, size in sizes.items()}


def chance(shares: list[tuple[int, int]], bad: tuple[int, ...]) -> Fraction:
    """The exact chance of a clean sample, by counting."""
    result = Fraction(1)
    for (size, drawn), wrong in zip(shares, bad, strict=True):
        result *= Fraction(math.comb(size - wrong, drawn), math.comb(size, drawn))
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size))), min_size=1, max_size=3))
def test_the_bound_is_the_worst_case_found_by_trying_all(shares: list[tuple[int, int]]) -> None:
    splits = product(*(range(size + 1) for size, _ in shares))
    worst = max(sum(bad) for bad in splits if chance(shares, bad) >= Fraction(5, 100))
    assert most_bad(shares) == worst


def test_the_bound_is_the_hypergeometric_one_for_one_group() -> None:
    size, drawn = 100_000, 300
    bound = most_bad([(size, drawn)])
    assert chance([(size, drawn)], (bound,)) >= Fraction(5, 100) > chance([(size, drawn)], (bound + 1,))
    assert bound < 3 / drawn * size  # the rule of three is the cautious approximation of it


def test_drawing_all_leaves_nothing_unknown_and_drawing_none_leaves_all() -> None:
    assert most_bad([(50, 50), (7, 7)]) == 0
    assert most_bad([(50, 0)]) == 50
    assert most_bad([]) == 0


def test_a_weighted_sample_does_not_promise_more_than_an_unweighted_one() -> None:
    weighted = draw("seed", 300, population(1000, 20_000, 79_000))
    assert len(weighted.papers) == 300
    assert most_bad([(share.size, share.drawn) for share in weighted.shares]) > most_bad([(100_000, 300)])


def test_a_draw_is_repeatable_in_any_order_and_another_seed_draws_others() -> None:
    papers = population(50, 200, 500)
    first = draw("a", 40, papers)
    assert first == draw("a", 40, {group: ids[::-1] for group, ids in papers.items()})
    assert set(first.papers) != set(draw("b", 40, papers).papers)
    assert list(first.papers) == sorted(set(first.papers))
    assert first.of == 750


def test_inside_a_group_all_papers_have_the_same_chance() -> None:
    papers = population(0, 10, 0)
    hits = Counter(paper for seed in range(2000) for paper in draw(str(seed), 3, papers).papers)
    assert all(450 < hits[paper] < 750 for paper in papers[Group.NEVER])  # 600 expected; six standard deviations


def test_new_and_never_drilled_papers_get_more_than_their_share() -> None:
    shares = {share.group: share for share in draw("x", 100, population(1000, 1000, 1000)).shares}
    assert shares[Group.NEW].drawn > shares[Group.NEVER].drawn > shares[Group.BEFORE].drawn > 0
    assert sum(share.drawn for share in shares.values()) == 100


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.integers(0, 300))
def test_the_allocation_fits(new: int, never: int, before: int, wanted: int) -> None:
    sizes = {Group.NEW: new, Group.NEVER: never, Group.BEFORE: before}
    given_out = allocate(sizes, wanted)
    assert sum(given_out.values()) == min(wanted, sum(sizes.values()))
    assert all(0 <= given_out[group] <= sizes[group] for group in WEIGHTS)
    if wanted >= 3:
        assert all(given_out[group] for group in WEIGHTS if sizes[group])


def test_the_statement_says_what_was_shown() -> None:
    shares = (Share(Group.NEVER, 1000, 59),)
    clean = state(shares, 0)
    assert clean.at_most is not None
    assert clean.at_most_percent is not None
    assert clean.at_most_percent >= clean.at_most / 10
    assert clean.text.startswith("59 of 1000 papers were drawn and none is bad: with 95 % confidence at most ")
    assert f"{clean.at_most_percent:g} % of all papers ({clean.at_most})" in clean.text
    bad = state(shares, 2)
    assert bad.at_most is None
    assert bad.text.startswith("2 of the 59 papers drawn (of 1000) are bad")
    assert state((Share(Group.NEW, 5, 5),), 0).text == "All 5 papers were checked and none is bad."
    assert "no papers yet" in state((), 0).text


def test_the_percentage_is_rounded_up() -> None:
    assert Statement(300, 3_000_000, 0, 0.95, 1).at_most_percent == 0.01


def test_a_draw_from_many_reads_them_once() -> None:
    drawn = draw("x", 300, {Group.NEVER: (f"{number:032x}" for number in range(100_000))})
    assert (len(drawn.papers), drawn.of) == (300, 100_000)
    assert draw("x", 0, population(1, 2, 3)).shares == (Share(Group.NEW, 1, 0), Share(Group.NEVER, 2, 0), Share(Group.BEFORE, 3, 0))


@pytest.mark.parametrize("papers", [[], ["a"], ["a", "b"]])
def test_the_digest_depends_on_every_id(papers: list[str]) -> None:
    assert digest(papers) != digest([*papers, "c"])
