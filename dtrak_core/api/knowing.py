"""Known answers: how many of the first pictures share what is known of a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.api import showing
from dtrak_core.api.inputs import chosen_dataset, first_of_each, listed_targets, whole_number
from dtrak_core.api.judging import numbers
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, SettingsError, shortened
from dtrak_core.lds import known_answers as measure
from dtrak_core.models.targets import Target


@dataclass(frozen=True, eq=False, repr=False)
class KnownAnswer:
    """Of the first `top` pictures of each target, the share that has the target's known fact.

    `fact` is "family", "label", "contributor" or "equal" (by pixels); `targets` are those of which it is known.
    `share` is the mean of `per_target` (M,), `low` and `high` are the ends of its 95 % interval (BCa; targets that have
    the fact in common are drawn anew together), None where `reason` says why or all have one share. `chance` is what
    pictures drawn at random have, `most` the highest share there can be.
    """

    fact: str
    top: int
    targets: tuple[Target, ...]
    share: float
    low: float | None
    high: float | None
    per_target: np.ndarray
    chance: float
    most: float
    reason: str

    def __repr__(self) -> str:
        """Return in a line the share and what it is of."""
        about = f"{counted(len(self.targets), 'target')}, by chance {self.chance:.3f}, at most {self.most:.3f}"
        return f"KnownAnswer(same {self.fact}: {self.share:.3f} of the first {self.top}, {about})"

    def _repr_html_(self) -> str:
        """Return the numbers as a table, for a notebook."""
        between = None if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"
        row = {"same": self.fact, "share": self.share, "95 % interval": between, "by chance": self.chance}
        about = f"The first {self.top} of {counted(len(self.targets), 'target')}"
        return showing.table(
            [row | {"at most": self.most}], f"{about}. {self.reason.removesuffix('.')}" if self.reason else about
        )


def known_answers(
    scores: np.ndarray, dataset: Dataset | str, targets: Sequence[Target], top: int = measure.TOP
) -> dict[str, KnownAnswer]:
    """Return by fact how many of the first pictures share what is known of targets.

        share(z) = |T(z) ∩ A(z)| / |T(z)|        T(z) the first `top` pictures, A(z) those that share the fact of z

    A held-out target has its own facts; a generated one those that the pictures of its prompt, or of its class, agree
    on. Likeness is not influence: whether scores predict what the model does, `lds` tells.

    Args:
        scores: Scores of M targets for all N training examples, finite numbers (M, N), of `explain` for example.
        dataset: The training set, or its name.
        targets: The M targets; one given several times counts once, by its first row.
        top: How many pictures of each target are counted.

    Returns:
        Answers by fact; none for a fact that no target has, or that all training pictures share.

    Raises:
        DataError: If shapes do not agree, or a score is not finite.
        SettingsError: If `top` is not 1 to N, or a target is a training example, which would find itself.
    """
    of, values, targets = chosen_dataset(dataset), numbers(scores, "scores"), listed_targets(targets)
    if other := [one for one in targets if not isinstance(one, Target)]:
        raise SettingsError(f"{shortened(repr(other[0]))} is no target. Give those of an explanation or a benchmark.")
    if values.shape != (len(targets), len(of.train.rows)):
        raise DataError(
            f"scores have the shape {values.shape}; for {len(targets)} targets and {len(of.train.rows):,} training "
            f"pictures of '{of.name}' expected ({len(targets)}, {len(of.train.rows)})."
        )
    if not np.isfinite(values).all():
        raise DataError("scores holds values that are not finite. Replace them.")
    measure.check(whole_number(top, "top"), values.shape[1])
    if own := next((target.id for target in targets if target.id.startswith("train:")), None):
        raise SettingsError(f"{own} is a training picture and would find itself. Give generated or held-out targets.")
    once, found = first_of_each(targets), {}
    targets, values = [targets[place] for place in once], values[once]
    for one in measure.known(of, targets):
        answer = measure.answer(values, one, top)
        chosen = tuple(targets[place] for place in one.places)
        ends = (answer.share, answer.low, answer.high, answer.per_target)
        beside = (measure.chance(one), measure.most(one, top), measure.without(one))
        found[one.fact] = KnownAnswer(one.fact, top, chosen, *ends, *beside)
    return found
