"""Which papers a sampled drill draws, and what may be said afterwards. Pure: no disk, no clock, no random source.

The draw is stratified. Papers fall into three groups (new, older but never drilled, drilled before); the first two get more than their share.
Inside a group every paper has the same chance: the papers with the smallest tickets `SHA-256(seed, paper id)` are taken, so that anybody who
knows the seed and the list of papers can draw again and get the same, in whatever order the papers come.

The statement is exact for this design. If `D_i` of the `N_i` papers of group `i` were bad, drawing `n_i` and meeting none of them would have
the probability `prod C(N_i - D_i, n_i) / C(N_i, n_i)` (hypergeometric). The bound is the largest `sum D_i` for which that is still at least
5 %, in whatever groups the bad papers hide. An unweighted rule of three over the whole sample would promise too much here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from config.words import all_of, counted

CONFIDENCE = 0.95


class Group(StrEnum):
    """How much is known about a paper from earlier drills."""

    NEW = "new"  # never drilled, sealed lately
    NEVER = "never drilled"
    BEFORE = "drilled before"


WEIGHTS = {Group.NEW: 6, Group.NEVER: 3, Group.BEFORE: 1}


@dataclass(frozen=True)
class Share:
    """A group of `size` papers, of which `drawn` were drawn."""

    group: Group
    size: int
    drawn: int


@dataclass(frozen=True)
class Draw:
    """The outcome of a draw: `papers` are ids in ascending order, `shares` cover all groups that are not empty."""

    seed: str
    papers: tuple[str, ...]
    shares: tuple[Share, ...]

    @property
    def of(self) -> int:
        """The number of papers that could have been drawn."""
        return sum(share.size for share in self.shares)


@dataclass(frozen=True)
class Statement:
    """What a sample supports. `at_most` is a number of papers; None when bad ones were met, and then only `bad` is known."""

    drawn: int
    of: int
    bad: int
    confidence: float
    at_most: int | None

    @property
    def at_most_percent(self) -> float | None:
        """`at_most` in percent of all, rounded up to two decimals, so that it never promises too much."""
        if self.at_most is None or not self.of:
            return None
        return math.ceil(self.at_most * 10_000 / self.of) / 100

    @property
    def text(self) -> str:
        """One sentence for people."""
        if not self.of:
            return "There are no papers yet, so this drill shows nothing about papers."
        if self.bad:
            bad = f"{self.bad} of the {counted(self.drawn, 'paper')} drawn (of {self.of}) {'is' if self.bad == 1 else 'are'} bad"
            return f"{bad}; how many of the others are bad is not known."
        if self.drawn == self.of:
            return f"{all_of(self.of, 'paper was', 'papers were')} checked and none is bad."
        return (
            f"{self.drawn} of {counted(self.of, 'paper')} {'was' if self.drawn == 1 else 'were'} drawn and none is bad: "
            f"with {self.confidence:.0%} confidence at most {self.at_most_percent:g} % of all papers ({self.at_most}) are bad."
        ).replace("95%", "95 %")


def ticket(seed: str, paper: str) -> bytes:
    """The lot of `paper`: 32 bytes, uniform over seeds; the smallest ones are drawn."""
    return sha256(_salt(seed) + paper.encode()).digest()


def _salt(seed: str) -> bytes:
    return f"nightsafe draw v1\0{seed}\0".encode()


def draw(seed: str, wanted: int, population: Mapping[Group, Iterable[str]]) -> Draw:
    """Draw `wanted` papers (all, when there are fewer) from the ids of `population`, each read once; memory grows with `wanted` alone."""
    lots = {group: _smallest(seed, wanted, population.get(group, ())) for group in Group}
    sizes = {group: size for group, (size, _) in lots.items()}
    shares = tuple(Share(group, sizes[group], count) for group, count in allocate(sizes, wanted).items() if sizes[group])
    papers = [paper for share in shares for paper in lots[share.group][1][: share.drawn]]
    return Draw(seed, tuple(sorted(papers)), shares)


def _smallest(seed: str, wanted: int, papers: Iterable[str]) -> tuple[int, list[str]]:
    """How many `papers` there are, and those with the smallest tickets, in the order of these."""
    size, salt = 0, _salt(seed)

    def lots() -> Iterator[tuple[bytes, str]]:
        nonlocal size
        for paper in papers:
            size += 1
            yield sha256(salt + paper.encode()).digest(), paper

    smallest = [paper for _, paper in heapq.nsmallest(max(wanted, 1), lots())]
    return size, smallest


def allocate(sizes: dict[Group, int], wanted: int) -> dict[Group, int]:
    """How many of each group: by weight times size, never more than there are; each group gets one if `wanted` allows it."""
    left = min(wanted, sum(sizes.values()))
    given = dict.fromkeys(sizes, 0)
    for group in sizes:
        if sizes[group] and left:
            given[group] = 1
            left -= 1
    while left:
        open_groups = [group for group in sizes if given[group] < sizes[group]]
        total = sum(WEIGHTS[group] * sizes[group] for group in open_groups)
        portions = {group: min(left * WEIGHTS[group] * sizes[group] // total, sizes[group] - given[group]) for group in open_groups}
        if not any(portions.values()):  # less than one each: the rest goes one by one to the heaviest
            heaviest = sorted(open_groups, key=lambda group: WEIGHTS[group] * sizes[group], reverse=True)
            portions = dict.fromkeys(heaviest[:left], 1)
        for group, portion in portions.items():
            given[group] += portion
            left -= portion
    return given


def most_bad(shares: Sequence[tuple[int, int]], confidence: float = CONFIDENCE) -> int:
    """The largest number of bad papers that still leaves a clean sample a chance of `1 - confidence`.

    `shares` are (size, drawn) of each group. One more bad paper in a group that has `D` of them already multiplies that chance by
    `(N - D - n) / (N - D)`, a factor that only falls as `D` grows; so taking the mildest factor first finds the worst case exactly.
    """
    budget = math.log(1 - confidence) - 1e-9  # a tie must not be lost to rounding: rather one paper too many than too few
    most = sum(size for size, drawn in shares if not drawn)
    mildest = [(_cost(size, drawn), size, drawn) for size, drawn in shares if drawn]
    heapq.heapify(mildest)
    spent = 0.0
    while mildest:
        cost, good, drawn = mildest[0]
        spent += cost
        if -spent < budget:
            return most
        most += 1
        heapq.heapreplace(mildest, (_cost(good - 1, drawn), good - 1, drawn))
    return most


def _cost(good: int, drawn: int) -> float:
    """By how much (negated logarithm) the chance falls when one of `good` papers turns bad."""
    return -math.log1p(-drawn / good) if good > drawn else math.inf


def state(shares: Sequence[Share], bad: int, confidence: float = CONFIDENCE) -> Statement:
    """The statement that a finished drill supports: `bad` of the drawn papers were bad."""
    at_most = None if bad else most_bad([(share.size, share.drawn) for share in shares], confidence)
    return Statement(sum(share.drawn for share in shares), sum(share.size for share in shares), bad, confidence, at_most)


def digest(papers: Iterable[str]) -> str:
    """SHA-256 (hex) over ids in the given order, one a line: stands for a list that is too long for the evidence."""
    hashed = sha256()
    for paper in papers:
        hashed.update(f"{paper}\n".encode())
    return hashed.hexdigest()
