"""Known answers: of a method's first pictures for a target, how many share what is known of the target? No torch here.

A picture of a dataset has facts: family, label, contributor, and whether it equals others by pixels. A held-out target
has its own; a generated one those of its prompt: of the training and held-out pictures with that caption or of that
class, as far as they agree. For target z, top pictures T(z) and the training pictures A(z) that share its fact,

    share(z) = |T(z) ∩ A(z)| / |T(z)|,    by chance |A(z)| / N,    at most min(|T(z)|, |A(z)|) / |T(z)|

Targets that have the fact in common have one A(z) and much the same pictures first, so they are no independent cases:
the interval of the mean share draws their groups anew, a family or all targets of a label as a whole.

It asks for likeness, which is not influence: the LDS asks the model itself. But a method that does no better than
chance here, where D-TRAK's authors show first pictures to the eye (Zheng et al. 2024, appendix D), names no causes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtrak_core import statistics
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import no_trajectory
from dtrak_core.lds import bootstrap, predictions, recipes, subset_models
from dtrak_core.lds.standings import KINDS
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import agreement, defaults, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.methods.plans import Plan
from dtrak_core.models import known_facts
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target, drawing_of, sample_settings, seed_of

TOP = 10
FACTS = {
    "family": "of the same family",
    "label": "of the same label",
    "contributor": "by the same contributor",
    "equal": "equal by pixels",
}
_GROUPS = {"family": "families", "label": "labels", "contributor": "contributors", "equal": "sets of equal pictures"}
WARNING = (
    "Likeness is not influence. That a picture shares the target's family or contributor does not show that the model "
    "drew on it, and a similarity finds such pictures without knowing the model at all. Pictures of a family mostly "
    "share label and contributor too. Whether scores predict what the model does, the LDS tells."
)


@dataclass(frozen=True, eq=False)
class Known:
    """A fact that is known of some targets: their places (m,), and which training pictures share it, bool (m, N)."""

    fact: str
    places: tuple[int, ...]
    alike: np.ndarray


@dataclass(frozen=True, eq=False)
class Answer:
    """How many of the first pictures share the fact: mean over targets, its 95 % interval, each target's share (m,).

    The interval (BCa) draws anew the groups of targets that have the fact in common. It is None below 6 of them, which
    `without` says, or where all have one share.
    """

    share: float
    low: float | None
    high: float | None
    per_target: np.ndarray


def known(dataset: Dataset, targets: Sequence[Target]) -> list[Known]:
    """Return the facts that tell something: known of a target, and shared by some training pictures but not by all."""
    rows = dataset.train.rows
    columns = {fact: np.array([str(row.get(fact, "")) for row in rows]) for fact in known_facts.FACTS}
    facts = [known_facts.of_target(dataset, target) for target in targets]
    found = []
    for fact in FACTS:
        alike = {}
        for place, own in enumerate(facts):
            shares = _equal(dataset, own) if fact == "equal" else columns[fact] == own[fact] if own.get(fact) else None
            if shares is not None and shares.any() and not shares.all():
                alike[place] = shares
        if alike:
            found.append(Known(fact, tuple(alike), np.stack(list(alike.values()))))
    return found


def answer(values: np.ndarray, one: Known, top: int = TOP) -> Answer:
    """Return the share of the first `top` pictures that share a fact.

    Args:
        values: Scores of all targets, (M, N).
        one: The fact.
        top: How many pictures of each target are counted.

    Raises:
        SettingsError: If `top` is not 1 to N.
    """
    check(top, values.shape[1])
    leading = agreement.leading(values[list(one.places)], top)
    shares = np.take_along_axis(one.alike, leading, axis=1).mean(axis=1)
    which, ends = groups(one), None
    sums, sizes = np.bincount(which, shares), np.bincount(which)
    if len(sizes) >= statistics.FEWEST and np.ptp(sums / sizes) > 1e-12:  # less is rounding
        ends = bootstrap.interval(lambda weights: (weights @ sums) / (weights @ sizes), len(sizes), 0.95)
    low, high = ends or (None, None)
    return Answer(float(shares.mean()), low, high, shares)


def groups(one: Known) -> np.ndarray:
    """Return the number of each target's group, int (m,), in order of appearance: who has the fact in common."""
    numbers: dict[bytes, int] = {}  # one family, label ... is one set of training pictures
    return np.array([numbers.setdefault(alike.tobytes(), len(numbers)) for alike in one.alike])


def without(one: Known) -> str:
    """Say why no share of a fact has an interval; nothing where it may have one."""
    if (count := int(groups(one).max()) + 1) >= statistics.FEWEST:
        return ""
    same = "" if count == len(one.places) else " Targets that have one in common are no independent cases."
    return f"No intervals: they take targets of {statistics.FEWEST} {_GROUPS[one.fact]}; these are of {count}.{same}"


def check(top: int, examples: int) -> None:
    """Refuse to count more pictures than there are.

    Raises:
        SettingsError: If `top` is not 1 to the number of training pictures.
    """
    if not 1 <= top <= examples:
        raise SettingsError(f"The first {top:,} training pictures cannot be counted. Choose 1 to {examples:,}.")


def chance(one: Known) -> float:
    """Return the share that pictures drawn at random have: the mean over targets of |A(z)| / N."""
    return float(one.alike.mean())


def most(one: Known, top: int = TOP) -> float:
    """Return the highest share that there can be: fewer than `top` pictures may share a target's fact."""
    return float((np.minimum(top, one.alike.sum(axis=1)) / top).mean())


def tables(
    dataset: Dataset, targets: Sequence[Target], held: Mapping[str, np.ndarray], top: int = TOP
) -> list[dict[str, Any]]:
    """Return one table for each fact and kind of target (generated, held-out).

    Args:
        dataset: The training set.
        targets: The M targets.
        held: Scores (M, N) by method; rows of NaN for targets that it does not explain, which leave it out of a table.
        top: How many pictures of each target are counted.

    Returns:
        Tables of fact, words, targets, count, groups (`groups`, how many), reason (`without`), chance, most, and rows
        of method, label, share, low, high: in the order of `held`.
    """
    made = []
    for kind, begin in KINDS.items():
        places = [place for place, target in enumerate(targets) if target.id.startswith(f"{begin}:")]
        for one in known(dataset, [targets[place] for place in places]):
            rows = []
            for method, values in held.items():
                own = values[places]
                if not np.isnan(own[list(one.places)]).any():
                    found = answer(own, one, top)
                    told = {"method": method, "label": METHODS[method].label, "share": found.share}
                    rows.append(told | {"low": found.low, "high": found.high})
            facts = {"fact": one.fact, "words": FACTS[one.fact], "targets": kind, "count": len(one.places)}
            facts |= {"groups": int(groups(one).max()) + 1, "reason": without(one)}
            made.append(facts | {"chance": chance(one), "most": most(one, top), "rows": rows})
    return made


def stored(dataset: Dataset, checkpoint: Checkpoint, method: Method, targets: Sequence[Target]) -> np.ndarray | None:
    """Return a method's scores (M, N) where nothing has to be computed for them, else None.

    Those that were kept with an LDS are taken, else they follow from stored features and embeddings. Rows of targets
    that the method does not explain are NaN.
    """
    able = explained(method, targets)
    if not able:
        return None
    values = _kept(dataset, checkpoint, method, able)
    if values is None:
        made = plan(dataset, checkpoint, method, able)
        if made.refused or made.missing:
            return None
        values = scores.score(made).values
    found = np.full((len(targets), len(dataset.train.rows)), np.nan)
    explains = {(target.id, target.pixels) for target in able}
    found[[(target.id, target.pixels) in explains for target in targets]] = values
    return found


def explained(method: Method, targets: Sequence[Target]) -> list[Target]:
    """Return those of the targets that a method explains."""
    if method.generated_only:
        targets = [target for target in targets if not no_trajectory(target.id, target.sampled)]
    among = family_of(method).explained
    able = [(target.id, target.pixels) for target in targets]
    if among is not None:
        able = among(method, able)
    return [target for target in targets if (target.id, target.pixels) in able]


def plan(dataset: Dataset, checkpoint: Checkpoint, method: Method, targets: Sequence[Target]) -> Plan:
    """Return what a method needs for these targets, with the features that are stored or usual."""
    base = defaults.base_for(dataset.digest, checkpoint.digest, method, {})
    return scores.resolve(method, dataset, checkpoint.digest, targets, base)


def _kept(dataset: Dataset, checkpoint: Checkpoint, method: Method, targets: Sequence[Target]) -> np.ndarray | None:
    """Return the scores that were kept with an LDS about all of these targets, (M, N)."""
    recipe = recipes.usual(dataset, checkpoint, method.id)
    for measured in subset_models.of_checkpoint(dataset.digest, checkpoint.digest):
        alike = all(_drawn_for(measured, target) for target in targets if target.id.startswith("seed:"))
        if alike and {target.id for target in targets} <= set(measured.targets):
            found = predictions.stored_scores(recipe, measured)
            if found is not None and {target.id for target in targets} <= set(found[0]):
                return np.asarray(found[1][[found[0].index(target.id) for target in targets]], np.float64)
    return None


def _drawn_for(measured: LdsSettings, target: Target) -> bool:
    """Say whether a generated target is the picture that an LDS draws of its seed, of prompts in turn its own one."""
    wanted = sample_settings(measured.checkpoint, seed_of(target.id), measured)
    by = drawing_of(target.row).get("checkpoint")
    return by == measured.checkpoint and target.sampled.drawing() == wanted.drawing()


def _equal(dataset: Dataset, facts: Mapping[str, str]) -> np.ndarray | None:
    """Return which training pictures equal a held-out one by pixels, bool (N,); None for other targets."""
    if "held-out" not in facts:
        return None
    found: np.ndarray = dataset.equal.train == dataset.equal.held_out[int(facts["held-out"])]
    return found
