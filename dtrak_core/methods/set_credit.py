"""Who gets credit over a set of pictures: each group's share, lift, interval, and what chance gives. No torch here.

With s̄_i = mean over targets z of score(z, i) and s⁺ = max(s̄, 0), over the training pictures i that the model learned
from,

    share(g) = Σ_{i in g} s⁺_i / Σ_i s⁺_i        lift(g) = share(g) / (pictures of g / all pictures)
    sources  = (Σ_i s⁺_i)² / Σ_i (s⁺_i)²         how many equal pictures would share the credit so evenly

A model whose scores add up is an additive game, in which the plain sum Σ_{i in g} s̄_i is a group's Shapley value: it is
kept beside the share, and is what the model would lose without the group. A lift may differ from 1 and mean nothing.
It is no more than chance where other targets might have turned it round (the interval resamples them), or where both
halves of the draws, or the models of an ensemble, do not agree which side of 1 it lies on. And where it is more than
that, p says whether groups that hold pictures at random reach as much: then the pictures count, and not who made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from dtrak_core.errors import SettingsError
from dtrak_core.methods import crediting
from dtrak_core.methods.methods import Method
from dtrak_core.methods.results import NOT_GIVEN, Row
from dtrak_core.statistics import FEWEST

By = Literal["contributor", "label", "family", "picture"]
BY: tuple[By, ...] = get_args(By)
RESAMPLES = 1000
INTERVAL = 0.95
_AT_ONCE = 2**24  # numbers of resampled means that are held at a time


@dataclass(frozen=True, eq=False)
class Group:
    """A group's credit over the set.

    `members` are its training indices, strongest first. `share` is of the positive total, `set_share` of the pictures,
    `supporting` the number of members with a positive mean score, `summed` the plain sum of their mean scores over the
    positive total. `low` and `high` are the ends of the 95 % interval of the lift, None where there are too few
    targets; `p` says how often a group that holds pictures at random lies as far from its share, None where that says
    nothing (single pictures). `repeats` are the lifts by each half of the draws, or each model, where there are such.
    """

    name: str
    members: np.ndarray
    share: float
    set_share: float
    supporting: int
    summed: float
    low: float | None
    high: float | None
    p: float | None
    repeats: tuple[float, ...] = ()

    @property
    def lift(self) -> float:
        """Return share of the credit over share of the pictures: 1 is what their number alone would bring."""
        return self.share / self.set_share

    @property
    def verdict(self) -> Literal["more", "less", "chance", "unknown"]:
        """Say whether the group has more or less credit than its number of pictures brings, whatever the targets."""
        if self.low is None or self.high is None:
            return "unknown"
        lifts = (self.low, self.high, *self.repeats)
        if min(lifts) <= 1 <= max(lifts):
            return "chance"
        return "more" if self.lift > 1 else "less"


@dataclass(frozen=True, eq=False)
class SetCredit:
    """The credit of a set of `targets` pictures: groups by share, largest first.

    `means` are s̄ (N,), 0 for what the model has not learned from, of which `pictures` counts the rest. `sources` and
    `group_sources` are the effective numbers of pictures and of groups. `helped` (M, G) is each group's share of each
    target's own positive scores, in the order of targets and groups. `repeated` names what `repeats` of groups are of.
    """

    by: By
    groups: tuple[Group, ...]
    targets: int
    pictures: int
    means: np.ndarray
    sources: float
    group_sources: float
    helped: np.ndarray
    repeated: str = ""

    @property
    def reason(self) -> str:
        """Say why nothing is told from chance; nothing where it is."""
        if self.targets < FEWEST:
            return f"Too few generated pictures to tell credit from chance: {self.targets}, and {FEWEST} are needed"
        return ""

    @property
    def signed(self) -> bool:
        """Say whether some picture has a negative mean score."""
        return bool((self.means < 0).any())


def refusal(method: Method) -> str:
    """Say why a method's scores cannot be added up to credit; nothing where they can."""
    if method.squared:
        return (
            f"{method.label} squares its scores, so that a picture that hindered counts like one that helped. "
            "Choose a method whose scores have a sign."
        )
    return ""


def groupings(rows: Sequence[Row]) -> tuple[By, ...]:
    """Return by what pictures can be grouped, the usual first: what at least one names, and by picture."""
    return (*(one for one in BY[:-1] if any(row.get(one) for row in rows)), "picture")


def check_grouping(rows: Sequence[Row], by: By | None) -> None:
    """Refuse to group pictures by what none of them names.

    Raises:
        SettingsError: With what they can be grouped by.
    """
    if by is not None and by not in (known := groupings(rows)):
        raise SettingsError(f"These training pictures have no {by}. Group them by {' or '.join(known)}.")


def names_of(rows: Sequence[Row], by: By) -> list[str]:
    """Return the name of each picture's group; pictures without a family stand alone, others are `NOT_GIVEN`."""
    alone = [f"#{index} {row.get('name') or row.get('label') or ''}".strip() for index, row in enumerate(rows)]
    if by == "picture":
        return alone
    given = [str(row.get(by) or "") for row in rows]
    if by == "family":
        first = {name: index for index, name in reversed(list(enumerate(given))) if name}
        return [f"{name} ({alone[first[name]]})" if name else alone[index] for index, name in enumerate(given)]
    return [name or NOT_GIVEN for name in given]


def over(
    values: np.ndarray,
    rows: Sequence[Row],
    by: By = "contributor",
    learned: Sequence[int] | None = None,
    repeats: Sequence[np.ndarray] = (),
    repeated: str = "",
) -> SetCredit:
    """Add up credit over targets. The order of targets and of pictures changes nothing.

    Args:
        values: Scores with a sign, finite, (M, N).
        rows: Facts of the training pictures, N.
        by: By what they are grouped.
        learned: Training indices that the model has learned from; None for all.
        repeats: Scores (M, N) by each half of the draws, or each model of an ensemble.
        repeated: What `repeats` are of, in words.

    Raises:
        SettingsError: If scores and pictures do not go together, or nothing can be grouped so.
    """
    scores = np.asarray(values, np.float64)
    if scores.ndim != 2 or not scores.size or scores.shape[1] != len(rows) or not np.isfinite(scores).all():
        raise SettingsError(
            f"Scores of shape {scores.shape} were given for {len(rows):,} training pictures; expected finite numbers "
            "(M, N) for at least one target."
        )
    check_grouping(rows, by)
    kept = np.arange(len(rows)) if learned is None else np.unique(np.asarray(learned, int))
    every = names_of(rows, by)
    names, which = np.unique(np.asarray([every[i] for i in kept.tolist()], dtype=str), return_inverse=True)
    order = sorted(range(len(scores)), key=lambda target: np.sort(scores[target]).tobytes())
    own = scores[order][:, kept]
    mean = own.mean(0)
    shares, total = _shares(mean[None], which, len(names))[0], float(np.maximum(mean, 0).sum())
    sizes = np.bincount(which) / len(which)
    ends = None if len(own) < FEWEST else _interval(own, which, len(names)) / sizes
    families = [str(rows[i].get("family") or "") if by != "family" else "" for i in kept.tolist()]
    chance = _chance(mean, which, families, names != NOT_GIVEN) if by != "picture" and total else None
    again = [
        _shares(np.asarray(one, np.float64)[order][:, kept].mean(0)[None], which, len(names))[0] for one in repeats
    ]
    summed = np.bincount(which, mean, len(names)) / (total or 1.0)
    groups, strongest = [], np.argsort(-mean, kind="stable")
    members = _split(strongest, which, len(names))
    for place in sorted(range(len(names)), key=lambda g: (-shares[g], str(names[g]))):
        lift, one = shares[place] / sizes[place], members[place]
        low, high = (None, None) if ends is None else (min(ends[0, place], lift), max(ends[1, place], lift))
        groups.append(
            Group(
                str(names[place]),
                kept[one],
                float(shares[place]),
                float(sizes[place]),
                int((mean[one] > 0).sum()),
                float(summed[place]),
                None if low is None else float(low),
                None if high is None else float(high),
                None if chance is None else float(chance[place]),
                tuple(float(each[place] / sizes[place]) for each in again),
            )
        )
    means = np.zeros(len(rows))
    means[kept] = mean
    listed = {str(name): place for place, name in enumerate(names)}
    helped = _shares(scores[:, kept], which, len(names))[:, [listed[group.name] for group in groups]]
    counts = (_effective(np.maximum(mean, 0)), _effective(shares))
    return SetCredit(by, tuple(groups), len(scores), len(kept), means, *counts, helped, repeated if again else "")


def _shares(means: np.ndarray, which: np.ndarray, count: int) -> np.ndarray:
    """Return each group's share of the positive part of scores (B, N), shape (B, G); 0 where nothing is positive."""
    order = np.argsort(which, kind="stable")
    begins = np.searchsorted(which[order], np.arange(count))
    sums = np.add.reduceat(np.maximum(means, 0)[:, order], begins, axis=1)
    total = sums.sum(1, keepdims=True)
    found: np.ndarray = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    return found


def _split(order: np.ndarray, which: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the places of each group's pictures in this order."""
    by_group = order[np.argsort(which[order], kind="stable")]
    return np.split(by_group, np.cumsum(np.bincount(which, minlength=count))[:-1])


def _interval(scores: np.ndarray, which: np.ndarray, count: int) -> np.ndarray:
    """Return both ends of each group's share over resampled targets, (2, G): percentiles of the bootstrap.

    Of few targets these lie too close: resampled means are stretched away from the mean by sqrt(M / (M - 1)), and the
    percentiles taken as far out as Student's t is from the normal (Hesterberg, The American Statistician 69, 2015,
    section 5.4).
    """
    from scipy.special import ndtr, stdtrit  # not scipy.stats, whose import takes most of a second

    targets, pictures = scores.shape
    random, found = np.random.default_rng(0), []
    times = random.multinomial(targets, np.full(targets, 1 / targets), RESAMPLES) / targets
    times = 1 / targets + (times - 1 / targets) * np.sqrt(targets / (targets - 1))
    step = max(1, _AT_ONCE // pictures)
    for start in range(0, RESAMPLES, step):
        found.append(_shares(times[start : start + step] @ scores, which, count))
    tail = ndtr(stdtrit(targets - 1, (1 - INTERVAL) / 2))
    ends: np.ndarray = np.quantile(np.concatenate(found), [tail, 1 - tail], axis=0)
    return ends


def _chance(mean: np.ndarray, which: np.ndarray, families: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Return p of each group, (G,): how often some group lies as far from its share where pictures are dealt out.

    How far is counted in standard deviations of that group's own share over the draws, and compared with the farthest
    of all groups in each draw, so that of many groups none stands out by being one of many.
    """
    positive = np.maximum(mean, 0) / np.maximum(mean, 0).sum()
    count = len(known)
    drawn = np.stack([np.bincount(holders, positive, count) for holders in crediting.dealt(which, families)])
    middle, spread = drawn.mean(0), drawn.std(0)
    spread = np.where(spread > 1e-12, spread, np.inf)  # what cannot move lies nowhere
    far = np.abs(np.bincount(which, positive, count) - middle) / spread
    farthest = (np.abs(drawn - middle) / spread)[:, known].max(1, initial=0.0)
    reached: np.ndarray = (farthest[:, None] >= far - 1e-9).sum(0)
    return (1 + reached) / (1 + len(drawn))


def _effective(parts: np.ndarray) -> float:
    """Return (Σ p)² / Σ p²: how many equal parts would be spread so evenly; 0 where there are none."""
    squares = float((parts**2).sum())
    return float(parts.sum()) ** 2 / squares if squares else 0.0
