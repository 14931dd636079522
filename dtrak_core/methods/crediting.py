"""Whom a ranking credits, in a sentence: by lift, and against what chance would give. No torch here.

    lift = share of the credit / share of the training pictures

Someone who gave half of the pictures gets half of the credit from any method, so a share alone says nothing. Named is
whoever's credit lies furthest above their share of the pictures. Whether that is more than chance is asked by giving
credit away at random: p is the part of such draws in which somebody lies as far above, and of whoever lies below their
share the part in which somebody lies as far below. So of many nobody stands out by being one of many: of rankings in
which contributors do not matter, 5 % name somebody above, and 5 % below. The pictures of a family are alike and score
alike, so a family's credit goes as a whole to a family of as many, and inside it to any of its pictures. A family that
is alone in its size keeps its credit: nothing says what chance would have given it.

The interval of a lift is of the pictures: how far it would move had others like them been learned from. Where family f
holds the part P_fg of the credit and the number C_fg of the pictures of a contributor g, to first order,

    var(log lift) = n / (n - 1) Σ_f (P_fg / P_g - P_f / P - C_fg / C_g + C_f / C)²

over all families, also those that hold nothing of g, with sums where an index is left out and n the number of families
of g (the linearised ratio, by clusters; Cochran, Sampling Techniques, 1977, ch. 9A); its ends are
lift · exp(± t · deviation), t of n - 1 degrees of freedom.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import results
from dtrak_core.methods.results import NOT_GIVEN, Credit, Ranking, Row
from dtrak_core.statistics import FEWEST

DRAWS = 400
LEVEL = 0.05
_NORMAL = 1.959964  # 97.5 % of the normal distribution


def foremost(credits: Sequence[Credit]) -> Credit | None:
    """Return whose share of the credit lies furthest above their share of the pictures; None where nobody's does."""
    known = [one for one in credits if one.contributor != NOT_GIVEN and one.lift > 1]
    return max(known, key=lambda one: (one.share - one.set_share, one.contributor), default=None)


def credits(ranking: Ranking, rows: Sequence[Row]) -> list[Credit]:
    """Return what each contributor's pictures add up to, with intervals, largest share first.

    An interval ends at the whole credit. Who is in fewer than 6 families, or has no credit, has none. Of few pictures
    of which one or two have nearly all of the credit it is too narrow, so sentences ask for p too.

    Args:
        ranking: Ranking over N examples.
        rows: Their facts, N; contributor and family count.
    """
    found = results.credit(ranking, [str(row.get("contributor") or "") for row in rows])
    places = {one.contributor: place for place, one in enumerate(found)}
    which = np.array([places[str(row.get("contributor") or NOT_GIVEN)] for row in rows])
    alone = [str(row.get("family") or "") or f"\0{index}" for index, row in enumerate(rows)]
    family = np.unique(np.asarray(alone, dtype=str), return_inverse=True)[1]
    positive = np.maximum(ranking.values, 0) / (ranking.positive_total or 1.0)
    whole = np.bincount(family, positive) - np.bincount(family) / len(rows)  # P_f / P - C_f / C
    cells, cell = np.unique(which * len(whole) + family, return_inverse=True)  # each contributor's families
    holder, held = np.divmod(cells, len(whole))
    shares, sizes = (np.array([getattr(one, name) for one in found]) for name in ("share", "set_share"))
    own = np.bincount(cell, positive) / np.where(shares > 0, shares, 1)[holder]
    own -= np.bincount(cell) / len(rows) / sizes[holder]
    squares = np.bincount(holder, own**2 - 2 * own * whole[held]) + (whole**2).sum()
    counts = np.bincount(holder)
    ps = chance(ranking, which, alone, np.array([one.contributor != NOT_GIVEN for one in found]))
    told = []
    for one, count, variance, p in zip(found, counts.tolist(), squares.tolist(), ps.tolist(), strict=True):
        one = dataclasses.replace(one, p=p)
        if count >= FEWEST and one.share > 0:
            far = _student(count - 1) * math.sqrt(max(variance, 0.0) * count / (count - 1))
            all_of_it = 1 / one.set_share  # the lift of whoever has the whole credit
            high = min(one.lift * math.exp(far), all_of_it)
            one = dataclasses.replace(one, low=one.lift * math.exp(-far), high=high)
        told.append(one)
    return told


def _student(degrees: int) -> float:
    """Return 97.5 % of Student's t: the normal quantile and two terms (Abramowitz and Stegun 26.7.5); 5 and more."""
    z = _NORMAL
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def chance(ranking: Ranking, which: np.ndarray, families: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Return p of each contributor: how often credit given at random brings somebody as far from their share.

    As far above it for whoever lies above, as far below for whoever lies below. Pictures are dealt out as `dealt` says:
    that leaves the distribution of scores as it is where pictures of a family are alike, families are not, and
    contributors do not matter.

    Args:
        ranking: Ranking over N examples.
        which: Number of each example's contributor, int (N,).
        families: Family of each, shape (N,); pictures without one stand alone.
        known: Which of the G contributors are somebody, bool (G,).

    Returns:
        (1 + draws that reach it) / (1 + all draws), (G,), 400 draws from a fixed seed; 1 for whoever has their share.
    """
    above = np.maximum(ranking.values, 0) / (ranking.positive_total or 1.0) - 1 / len(which)
    here = np.bincount(which, above, len(known))
    reached = np.zeros(len(known), int)
    for holders in dealt(which, families):
        there = np.bincount(holders, above, len(known))[known]
        farthest = np.where(here > 0, there.max(initial=0.0), -there.min(initial=0.0))
        reached += farthest >= np.abs(here) * (1 - 1e-9)
    return np.where(np.abs(here) > 1e-12, (1 + reached) / (1 + DRAWS), 1.0)  # less is rounding of shares


def dealt(which: np.ndarray, families: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield who holds each picture where pictures are dealt out at random, `DRAWS` times from a fixed seed.

    A draw permutes families of equal size as wholes, and the pictures inside each.

    Args:
        which: Number of the group that holds each picture, int (N,).
        families: Family of each, shape (N,); pictures without one stand alone.
    """
    alone = [name or f"\0{index}" for index, name in enumerate(families)]
    family = np.unique(np.asarray(alone, dtype=str), return_inverse=True)[1]
    order = np.argsort(family, kind="stable")
    family, held = family[order], which[order]
    begins, sizes = np.unique(family, return_index=True, return_counts=True)[1:]
    inside = np.arange(len(held)) - begins[family]
    alike = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    shared = np.flatnonzero((np.maximum.reduceat(held, begins) > np.minimum.reduceat(held, begins))[family])
    random = np.random.default_rng(0)
    for _ in range(DRAWS):
        holders = held.copy()
        holders[shared] = holders[shared[np.argsort(family[shared] + random.random(len(shared)))]]
        taker = np.empty_like(begins)
        for each in alike:
            taker[each] = random.permutation(each)
        found = np.empty_like(held)
        found[order] = holders[begins[taker][family] + inside]
        yield found


def words(credit: Credit, name: str | None = None) -> str:
    """Return a contributor's credit in numbers: X: 23 % of the credit with 15 % of the pictures (1.6 x, 1.2 to 2.1)."""
    told = f"{percent(credit.share)} of the credit with {percent(credit.set_share)} of the pictures"
    return f"{credit.contributor if name is None else name}: {told} ({lift(credit)})"


def lift(credit: Credit) -> str:
    """Return a lift with its interval where there is one: with two digits where one would not tell them from 1."""
    numbers = [credit.lift, *(end for end in (credit.low, credit.high) if end is not None)]
    digits = 2 if len(numbers) > 1 and any(abs(each - 1) < 0.1 for each in numbers) else 1
    times, *ends = (f"{each:.{digits}f}" for each in numbers)
    return f"{times} x, {ends[0]} to {ends[1]}" if ends else f"{times} x"


def verdict(credit: Credit) -> str:
    """Say what a contributor's own lift is more than: nothing where chance brings as much, or there is no interval."""
    if credit.low is None or credit.high is None:
        return f"too few pictures for an interval, which takes {FEWEST} that are not alike"
    if _by_chance(credit):
        return "no more than chance"
    return "more than its number brings" if credit.lift > 1 else "less than its number brings"


def sentence(label: str, credits: Sequence[Credit], name: str | None = None) -> str:
    """Return whom a method credits, or that chance would credit somebody as much.

    Args:
        label: The method's name.
        credits: Every contributor's credit, each with p.
        name: How the name of the foremost is written, where not plainly.
    """
    first = foremost(credits)
    if first is None:
        return f"By {label}, nobody's pictures have more of the credit than their number brings: no more than chance."
    if _by_chance(first):
        return f"By {label}, nobody is credited beyond chance: {words(first, name)} is no more than chance."
    return f"By {label}, {words(first, name)}."


def _by_chance(credit: Credit) -> bool:
    """Say whether chance brings somebody as much, or an interval holds 1."""
    held = credit.low is not None and credit.high is not None and credit.low <= 1 <= credit.high
    return held or credit.p is None or credit.p > LEVEL


def counted(indices: Sequence[int], rows: Sequence[Row]) -> dict[str, int]:
    """Return how many of these training pictures are by each contributor, most first."""
    counts = Counter(str(rows[index].get("contributor") or NOT_GIVEN) for index in indices)
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))


def terms(dataset: Dataset) -> str:
    """Return the line that whoever shows the pictures has to give with them: credit, else licence, else nothing."""
    return dataset.credit or (f"Licence: {dataset.licence}" if dataset.licence else "")


def percent(share: float) -> str:
    """Return a share in percent: 43 %, 4.4 %, 0.034 %, −0.22 %. Two significant digits, from 10 % on whole ones."""
    value = 100 * share
    # One place after the point would make 0.0 % of each of 5,000 pictures that score alike.
    digits = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:#.2g}"
    return f"{digits} %".replace("-", "−")
