"""Credit checked by leaving groups out: what their scores predict, beside what training without them has changed.

Removing pictures raises the loss of what they helped to make. So of every group that some stored comparison has left
out as a whole,

    predicted(g) = mean over targets z of Σ_{i in g} score(z, i)
    measured(g)  = mean over models and targets of ( change of the loss without g - that with nothing removed )

over the same targets, both for the same training seed where there is one. Both grow with the number of pictures,
whatever the scores are, so what is ranked is both for each picture: divided by how many g has. A model is one
observation, however many targets it drew and in however many comparisons it stands. What random removals of as many
pictures change is measured by the very targets and seeds of g: targets differ in how much any removal changes them. No
torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.counterfactual import removals
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.removals import FLOOR, RANDOM
from dtrak_core.models import targets
from dtrak_core.models.targets import Target
from dtrak_core.statistics import FEWEST, permutations, scaled_ranks

EXACT = 7  # groups up to which every permutation is gone through
PERMUTATIONS = 10_000
Changes = Mapping[tuple[int | None, int], float]  # by training seed and place of the target


@dataclass(frozen=True)
class LeftOut:
    """A removal: what it takes, `models` trained without it, `targets` that they drew; no name for a random one.

    `predicted` is in the scores' own unit, `measured` in that of the loss, both of all `pictures` together.
    `by_random` is what random removals of as many pictures change by the same targets and training seeds; None where
    for one of these there is no such model.
    """

    name: str
    pictures: int
    predicted: float
    measured: float
    models: int
    targets: int
    by_random: float | None = None

    @property
    def predicted_each(self) -> float:
        """Return the predicted change for each picture."""
        return self.predicted / self.pictures

    @property
    def measured_each(self) -> float:
        """Return the measured change for each picture."""
        return self.measured / self.pictures


@dataclass(frozen=True)
class Check:
    """Groups, the highest predicted for each picture first, and random removals.

    `rho` is the Spearman correlation over groups of what is predicted and measured for each picture, `p` one-sided by
    permutation. 95 % of the correlations of permuted groups lie between `low` and `high`. All are None where `reason`
    says why.
    """

    groups: tuple[LeftOut, ...]
    random: tuple[LeftOut, ...]
    rho: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def check(
    comparisons: Sequence[Comparison],
    groups: Mapping[str, Sequence[int] | np.ndarray],
    values: np.ndarray,
    explained: Sequence[Target],
) -> Check:
    """Compare what scores predict for groups with what comparisons have measured without them.

    Args:
        comparisons: Finished ones of the checkpoint.
        groups: Training indices of each group by its name; of removals that take exactly these is spoken.
        values: Scores (M, N).
        explained: The M targets.
    """
    names = {frozenset(int(i) for i in members): name for name, members in groups.items()}
    places = {(target.id, target.pixels): place for place, target in enumerate(explained)}
    changes: dict[frozenset[int], dict[tuple[int | None, int], float]] = {}
    random: set[frozenset[int]] = set()
    for one in comparisons:
        known = _places(one, places)
        floor = _floor(one)
        for entry in one.entries:
            removed = frozenset(entry.removed)
            if entry.target not in known or not removed or not np.isfinite(entry.loss_change):
                continue
            if removed in names or entry.method == RANDOM:
                place = known[entry.target]
                change = entry.loss_change - floor.get(
                    (entry.target, entry.train_seed), floor.get((entry.target, None), 0.0)
                )
                changes.setdefault(removed, {})[entry.train_seed, place] = change
                if removed not in names:
                    random.add(removed)
    rows = {
        removed: _row(
            names.get(removed, ""),
            removed,
            found,
            values,
            [changes[one] for one in random if one != removed and len(one) == len(removed)],
        )
        for removed, found in changes.items()
    }
    own = sorted(
        (row for removed, row in rows.items() if removed not in random), key=lambda row: (-row.predicted_each, row.name)
    )
    return _judged(tuple(own), tuple(rows[removed] for removed in rows if removed in random))


def sentence(found: Check) -> str:
    """Return what a check says, with what chance gives."""
    if found.rho is None or found.p is None:
        return f"{found.reason}."
    models = sum(row.models for row in found.groups)
    return (
        f"Left out of the training, {len(found.groups)} groups ({models} models) changed the loss for each picture in "
        f"an order that correlates with the predicted one by {found.rho:+.2f} (Spearman); by chance 95 % lie between "
        f"{found.low:+.2f} and {found.high:+.2f} (p = {found.p:.2g})."
    ).replace("-", "−")


def _places(comparison: Comparison, places: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Return by id where a comparison's targets stand among the explained ones, of those that are the same pictures."""
    found = {}
    for name in comparison.settings.targets:
        own = targets.find_sample(removals.sample_of(name, comparison.settings))
        if own is not None and (own.id, own.pixels) in places:
            found[name] = places[own.id, own.pixels]
    return found


def _floor(comparison: Comparison) -> dict[tuple[str, int | None], float]:
    """Return the mean change of each target's loss with nothing removed, by training seed and over all (None)."""
    found: dict[tuple[str, int | None], list[float]] = {}
    for entry in comparison.entries:
        if entry.method == FLOOR and np.isfinite(entry.loss_change):
            for seed in {entry.train_seed, None}:
                found.setdefault((entry.target, seed), []).append(entry.loss_change)
    return {key: float(np.mean(changes)) for key, changes in found.items()}


def _row(
    name: str, removed: frozenset[int], changes: Changes, values: np.ndarray, random: Sequence[Changes]
) -> LeftOut:
    seen = sorted({place for _, place in changes})
    predicted = float(values[np.ix_(seen, sorted(removed))].sum(1).mean())
    alike = {pair: [other[pair] for other in random if pair in other] for pair in changes}
    by_random = _mean({pair: float(np.mean(each)) for pair, each in alike.items()}) if all(alike.values()) else None
    models = len({seed for seed, _ in changes})
    return LeftOut(name, len(removed), predicted, _mean(changes), models, len(seen), by_random)


def _mean(changes: Changes) -> float:
    """Return the mean over models of the mean over each one's targets."""
    models: dict[int | None, list[float]] = {}
    for (seed, _), change in changes.items():
        models.setdefault(seed, []).append(change)
    return float(np.mean([np.mean(each) for each in models.values()]))


def _judged(groups: tuple[LeftOut, ...], random: tuple[LeftOut, ...]) -> Check:
    if not groups:
        return Check(groups, random, reason="No model has been trained without one of these groups yet")
    if len(groups) < FEWEST:
        return Check(groups, random, reason=f"Too few groups were left out for a verdict: {len(groups)} of {FEWEST}")
    first = scaled_ranks(np.array([row.predicted_each for row in groups]))
    second = scaled_ranks(np.array([row.measured_each for row in groups]))
    drawn = second[permutations(len(groups), len(groups) <= EXACT, PERMUTATIONS)] @ first
    rho = float(first @ second)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Check(groups, random, rho, float(np.mean(drawn >= rho - 1e-9)), float(low), float(high))
