"""Whom a ranking credits, in a sentence: by lift, and against what chance would give. No torch here.

    lift = share of the credit / share of the training pictures

Someone who gave half of the pictures gets half of the credit from any method, so a share alone says nothing. Named is
whoever's credit lies furthest above their share of the pictures. Whether that is more than chance is asked by giving
the pictures' credits to pictures at random: p is the part of such draws in which somebody lies as far above.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtrak_core.datasets import Dataset
from dtrak_core.results import NOT_GIVEN, Credit, Ranking

DRAWS = 400
LEVEL = 0.05


def foremost(credits: Sequence[Credit]) -> Credit | None:
    """Return whose share of the credit lies furthest above their share of the pictures; None where nobody's does."""
    known = [one for one in credits if one.contributor != NOT_GIVEN and one.lift > 1]
    return max(known, key=lambda one: (one.share - one.set_share, one.contributor), default=None)


def chance(found: Ranking, contributors: Sequence[str]) -> float:
    """Return p: how often credit given to pictures at random lifts somebody as far above their share.

    Args:
        found: Ranking over N examples.
        contributors: One name for each, shape (N,); pictures without a name are nobody's.

    Returns:
        (1 + draws that reach it) / (1 + all draws), 400 draws from a fixed seed; 1 where nobody lies above.
    """
    names, which = np.unique(np.asarray(contributors, dtype=str), return_inverse=True)
    positive = np.maximum(found.values, 0) / (found.positive_total or 1.0)
    expected = np.bincount(which) / len(which)
    own = names != ""

    def highest(values: np.ndarray) -> float:
        above = (np.bincount(which, values) - expected)[own]
        return float(above.max(initial=0.0))

    here = highest(positive)
    if here <= 0:
        return 1.0
    random = np.random.default_rng(0)
    reached = sum(highest(random.permutation(positive)) >= here * (1 - 1e-9) for _ in range(DRAWS))
    return (1 + reached) / (1 + DRAWS)


def words(one: Credit, name: str | None = None) -> str:
    """Return a contributor's credit in numbers: X: 23 % of the credit with 15 % of the pictures (1.6 x)."""
    told = f"{percent(one.share)} of the credit with {percent(one.set_share)} of the pictures"
    return f"{one.contributor if name is None else name}: {told} ({one.lift:.1f} x)"


def sentence(label: str, credits: Sequence[Credit], p: float, name: str | None = None) -> str:
    """Return whom a method credits, or that chance would credit somebody as much.

    Args:
        label: The method's name.
        credits: Every contributor's credit.
        p: What `chance` says.
        name: How the name of the foremost is written, where not plainly.
    """
    first = foremost(credits)
    if first is None:
        return f"By {label}, nobody's pictures have more of the credit than their number brings: no more than chance."
    if p > LEVEL:
        return f"By {label}, nobody is credited beyond chance: {words(first, name)} is no more than chance."
    return f"By {label}, {words(first, name)}."


def terms(dataset: Dataset) -> str:
    """Return the line that whoever shows the pictures has to give with them: credit, else licence, else nothing."""
    return dataset.credit or (f"Licence: {dataset.licence}" if dataset.licence else "")


def percent(share: float) -> str:
    """Return a share as whole percent, below 10 % with one digit."""
    return f"{share:.0%}".replace("%", " %") if share >= 0.0995 else f"{share:.1%}".replace("%", " %")
