"""Comparisons that differ only in the timestep at which the retrained model takes over: one training, a curve over it.

At 1,000 the retrained model draws all of a picture. Below, the original draws down to that timestep, so that the
composition stays, and the retrained model goes on from there (`CounterfactualSettings.take_over`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dtrak_core.counterfactual import comparisons
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.removals import IDENTITY
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.models.settings import DIFFUSION_STEPS


def kin(one: Comparison, among: Sequence[Comparison]) -> dict[int, Comparison]:
    """Return the comparisons that differ from one in `take_over` alone, itself included, by it, ascending."""
    own = _rest(one)
    found = {other.settings.take_over: other for other in [*among, one] if _rest(other) == own}
    return dict(sorted(found.items()))


def heads(among: Sequence[Comparison]) -> list[Comparison]:
    """Return one comparison for all that differ in `take_over` alone: the one of the largest, in the order given."""
    found: dict[CounterfactualSettings, Comparison] = {}
    for one in among:
        known = found.setdefault(_rest(one), one)
        if one.settings.take_over > known.settings.take_over:
            found[_rest(one)] = one
    return list(found.values())


def curves(found: Mapping[int, Comparison], size: int, measure: str) -> dict[str, list[tuple[int, float]]]:
    """Return for each arm (timestep, median over targets) of one measure, ascending, the noise floor's among them."""
    told: dict[str, list[tuple[int, float]]] = {}
    for timestep, one in sorted(found.items()):
        for arm, row in comparisons.medians(one, size).items():
            if arm != IDENTITY:
                told.setdefault(arm, []).append((timestep, row[measure]))
    return told


def _rest(one: Comparison) -> CounterfactualSettings:
    return one.settings.model_copy(update={"take_over": DIFFUSION_STEPS})
