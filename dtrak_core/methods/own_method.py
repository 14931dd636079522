"""How scores that the user brought answer: by their stored rows, for the targets that they have."""

from __future__ import annotations

from collections.abc import Sequence

from dtrak_core.methods import own_scores
from dtrak_core.methods.methods import Method
from dtrak_core.methods.plans import Picture, Plan, Scores, scored
from dtrak_core.models.targets import Target


def score(plan: Plan, damping: float | None, rank_share: float | None) -> Scores:
    """Return the rows of a plan's targets as they were given."""
    values = own_scores.rows(plan.method.id, plan.targets)
    return scored(plan, values, {"own_scores": own_scores.parse(plan.method.id).key})


def unfit(method: Method, dataset: str, targets: Sequence[Target]) -> str:
    """Say why the scores are not of this dataset or have no row for one of these targets; nothing if they do."""
    return own_scores.refusal(method.id, dataset, targets)


def explained(method: Method, pictures: Sequence[Picture]) -> list[Picture]:
    """Return those pictures that there are rows for: a seed gives each model another picture.

    One that is not known yet counts by its id alone.
    """
    known = own_scores.targets_of(method.id)
    names = {name for name, _ in known}
    return [one for one in pictures if one in known or (one[0] in names and not one[1])]
