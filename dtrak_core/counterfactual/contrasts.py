"""Whether one method's removals change their targets more than another's, told by the targets both have. No torch here.

A verdict compares a method with chance; two methods that are both beyond it are compared here. Only removals of equally
many pictures are.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.counterfactual import comparisons
from dtrak_core.counterfactual.badges import SHORT
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import SHRINKING, Entry, label
from dtrak_core.counterfactual.removals import BOTTOM
from dtrak_core.counterfactual.verdicts import DIGITS, LEVEL
from dtrak_core.statistics import FEWEST

EXACT = 12  # observations up to which all signs are gone through
DRAWN = 10_000  # signs above that

# What each model of a method does to the target that it was named for: by target the pictures left out and the value.
_Own = dict[str, tuple[tuple[int, ...], float]]


@dataclass(frozen=True)
class Contrast:
    """How much more one method's removals change their own targets than another's, in one measure.

    `own` and `others` are the means over the targets that both were named for, `difference` is own - others (of a
    cosine, negative where the first changes more). `observations` are those targets, of which several that share a
    model count as one; `p` is of `sign_p`, None where they are too few.
    """

    method: str
    other: str
    targets: int
    observations: int
    own: float
    others: float
    difference: float
    p: float | None


def contrasts(comparison: Comparison, size: int | None = None) -> dict[str, list[Contrast]]:
    """Return by measure the contrast of each two methods of a comparison; none of one that cannot be judged yet.

    Args:
        comparison: The comparison.
        size: One of the numbers of pictures asked for; None takes the largest.
    """
    if not (comparison.crossed and comparison.finished):
        return {}
    size = size or max(comparison.settings.remove)
    return {measure: of_entries(comparison.entries, size, measure) for measure in comparisons.measures(comparison)}


def of_entries(entries: Sequence[Entry], size: int, measure: str) -> list[Contrast]:
    """Return the contrast of each two methods that take equally many pictures for the same targets.

    Args:
        entries: All entries of a comparison in which every model draws every target.
        size: Number of pictures asked for.
        measure: l2, cosine, loss_change or latent_l2.
    """
    own: dict[str, _Own] = {}
    for (method, target), several in _by_owner(entries, size).items():
        removed = several[0].removed
        own.setdefault(method, {})[target] = removed, float(np.mean([getattr(e, measure) for e in several]))
    found = (_contrast(pair, own[pair[0]], own[pair[1]]) for pair in itertools.combinations(own, 2))
    return [one for one in found if one is not None]


def sign_p(differences: np.ndarray, groups: Sequence[Sequence[int]]) -> float | None:
    """Say how often chance tells two methods apart as far as this.

        T(s) = |(1/M) sum over groups g of s_g sum over z in g of d_z|,  s_g = ±1
        p = share of the signs s with T(s) >= T(1, ..., 1)

    If it makes no difference which of the two named the pictures, the two models of a target may be exchanged, and
    with them the sign of their difference. All signs are gone through up to EXACT groups; above, DRAWN of them that
    are always the same.

    Args:
        differences: d, what the first method's model of each target does less what the other's does, shape (M,).
        groups: The places of the targets that share a model and are exchanged together; each place once.

    Returns:
        p, two-sided: 0 < p <= 1; None below six groups.
    """
    count = len(groups)
    if count < FEWEST:
        return None
    sums = np.array([differences[list(group)].sum() for group in groups])
    if count <= EXACT:
        signs = 1 - 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], size=(DRAWN + 1, count))
        signs[0] = 1
    told = np.abs(signs @ sums)
    return float(np.mean(told >= told[0] - 1e-9 * np.abs(sums).max()))


def least_p(count: int) -> float:
    """Return the smallest p that `sign_p` gives so many groups: of the signs, all alike and all turned."""
    return 2 / 2**count if count <= EXACT else 1 / (DRAWN + 1)


def told_apart(found: Mapping[str, Sequence[Contrast]]) -> dict[str, list[Contrast]]:
    """Return by measure those whose p, times the number of all in all measures (Bonferroni), is below LEVEL."""
    count = judged(found)
    return {
        measure: [one for one in each if one.p is not None and one.p * count < LEVEL] for measure, each in found.items()
    }


def summary(found: Mapping[str, Sequence[Contrast]], quoted: Callable[[str], str] = str) -> str:
    """Return in a sentence which methods are told apart in which measures; their names are `quoted`.

    Where so many comparisons of so few targets could not be beyond chance whatever the data, that is said instead.
    """
    count, told = judged(found), dict[tuple[str, str], list[str]]()
    if not count:
        return f"No method is compared with another: {FEWEST} targets with models of their own are needed."
    most = max(one.observations for each in found.values() for one in each if one.p is not None)
    if count * least_p(most) >= LEVEL:
        needed = math.floor(math.log2(2 * count / LEVEL)) + 1
        return (
            f"{most} targets with models of their own cannot tell methods apart in "
            f"{counted(count, 'comparison')}, whatever they show: at least {needed} are needed."
        )
    for measure, each in told_apart(found).items():
        for one in each:
            more = larger(one, measure)
            less = one.other if more == one.method else one.method
            told.setdefault((more, less), []).append(SHORT[measure].lower())
    apart = [
        f"without what {quoted(label(more))} names, targets change more than without what {quoted(label(less))} names "
        f"({', '.join(measures)})"
        for (more, less), measures in told.items()
    ]
    number = sum(map(len, told.values()))
    lead = f"Of {counted(count, 'comparison')} between two methods {number or 'none'} {'is' if number < 2 else 'are'}"
    return f"{lead} beyond chance{': ' if apart else ''}{'; '.join(apart)}."


def sentence(one: Contrast, measure: str, quoted: Callable[[str], str] = str) -> str:
    """Return a contrast in words, with its numbers; methods' names are `quoted`."""
    digits, names = DIGITS[measure], f"{quoted(label(one.method))} and {quoted(label(one.other))}"
    p = f"p = {one.p:.2g}" if one.p is not None else f"no p, as {FEWEST} targets with models of their own are needed"
    return (
        f"{names}: {one.own:{digits}} and {one.others:{digits}} over {one.targets} targets, difference "
        f"{one.difference:+{digits}} ({p})."
    ).replace(" -", " −")


def document(found: Mapping[str, Sequence[Contrast]]) -> dict[str, list[dict[str, Any]]]:
    """Return contrasts as plain JSON values."""
    return {measure: [dataclasses.asdict(one) for one in each] for measure, each in found.items()}


def larger(one: Contrast, measure: str) -> str:
    """Return the method whose removals change their targets more."""
    return one.method if (one.difference > 0) != (measure in SHRINKING) else one.other


def judged(found: Mapping[str, Sequence[Contrast]]) -> int:
    """Return how many contrasts have a p."""
    return sum(one.p is not None for each in found.values() for one in each)


def _by_owner(entries: Sequence[Entry], size: int) -> dict[tuple[str, str], list[Entry]]:
    """Return what the models of each method do to the target that they were named for, one entry a training seed."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.owner and entry.owner == entry.target and entry.size == size and entry.method != BOTTOM:
            found.setdefault((entry.method, entry.target), []).append(entry)
    return found


def _contrast(pair: tuple[str, str], own: _Own, other: _Own) -> Contrast | None:
    targets = [target for target in own if target in other]
    if not targets or any(len(own[target][0]) != len(other[target][0]) for target in targets):
        return None
    values = np.array([[one[target][1] for target in targets] for one in (own, other)])
    if not np.isfinite(values).all():
        return None
    groups = _groups([[one[target][0] for target in targets] for one in (own, other)])
    counts, (first, second) = (len(targets), len(groups)), values.mean(axis=1).tolist()
    difference = values[0] - values[1]
    p = sign_p(difference, [sorted(group) for group in groups])
    return Contrast(*pair, *counts, first, second, float(difference.mean()), p)


def _groups(removed: Sequence[Sequence[tuple[int, ...]]]) -> list[set[int]]:
    """Return the places of the targets that share a model, of either method: together they are one observation."""
    found: list[set[int]] = []
    for sets in removed:
        for one in dict.fromkeys(sets):
            places = {place for place, other in enumerate(sets) if other == one}
            apart = [group for group in found if not group & places]
            found = [*apart, places.union(*(group for group in found if group & places))]
    return found
