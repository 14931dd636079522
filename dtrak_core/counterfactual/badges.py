"""What a comparison says of each method in a word, and of all of them in a sentence: are they beyond chance?

A method has a p in every measure, and the more measures, the sooner one is small by chance. So each p is multiplied by
their number before it counts, and where intervals are judged, they are as much wider (Bonferroni).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dtrak_core.counterfactual import comparisons, verdicts
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import SHRINKING, label
from dtrak_core.counterfactual.removal_sets import is_fixed
from dtrak_core.counterfactual.removals import BOTTOM
from dtrak_core.counterfactual.verdicts import LEVEL, Verdict
from dtrak_core.statistics import FEWEST

BEYOND, CHANCE, TOO_FEW, UNJUDGED = "beyond chance", "not beyond chance", "too few targets", "not judged"
SHORT = verdicts.NAMES | {"loss_change": "Loss"}


@dataclass(frozen=True)
class Badge:
    """A method's standing, one of the four above, with the `measures` in which it is beyond chance.

    `p` is the smallest of its p-values, each times the number of measures that have one, at most 1; None where the
    method's removal is the same for all targets (a contributor's pictures), which is compared with random ones alone:
    it is beyond chance where the interval of a measure, at 1 - 0.05 / measures, lies on the side of a larger change.
    `reason` says why nothing is said.
    """

    standing: str
    measures: tuple[str, ...] = ()
    p: float | None = None
    reason: str = ""


def badges(comparison: Comparison, size: int | None = None) -> dict[str, Badge]:
    """Return the badge of each method, by id; the control that removes the lowest scores is no method.

    Args:
        comparison: The comparison.
        size: One of the numbers of pictures asked for; None takes the largest.
    """
    told = comparisons.measures(comparison)
    return of_verdicts({measure: comparisons.statistics(comparison, size, measure) for measure in told})


def of_verdicts(told: Mapping[str, Mapping[str, Verdict]]) -> dict[str, Badge]:
    """Return the badge of each method, as `badges` does, from the verdicts by measure and method."""
    found: dict[str, dict[str, Verdict]] = {}
    for measure, each in told.items():
        for method, one in each.items():
            found.setdefault(method, {})[measure] = one
    return {method: badge(judged) for method, judged in found.items() if method != BOTTOM}


def badge(judged: Mapping[str, Verdict]) -> Badge:
    """Return a method's badge from its verdicts by measure."""
    first = next(iter(judged.values()))
    told = {measure: one.specific_p for measure, one in judged.items() if one.specific_p is not None}
    if told:
        counted = {measure: min(1.0, p * len(told)) for measure, p in told.items()}
        beyond = tuple(measure for measure, p in counted.items() if p < LEVEL)
        return Badge(BEYOND if beyond else CHANCE, beyond, min(counted.values()))
    if first.targets < FEWEST:
        return Badge(TOO_FEW, reason=first.reason)
    ends = {measure: _nearest(measure, one) for measure, one in judged.items()}
    if first.own is None or None in ends.values():
        return Badge(UNJUDGED, reason=first.reason)
    beyond = tuple(measure for measure, end in ends.items() if end is not None and end > 0)
    return Badge(BEYOND if beyond else CHANCE, beyond)


def headline(comparison: Comparison, quoted: Callable[[str], str] = str) -> str:
    """Return in a sentence or two which methods are beyond chance; methods' names are `quoted`.

    Why nothing can be said is said instead.
    """
    if why := comparisons.unjudged(comparison):
        return f"No verdict: {why}."
    return summary(badges(comparison), quoted)


def summary(found: Mapping[str, Badge], quoted: Callable[[str], str] = str) -> str:
    """Return the headline of a comparison that can be judged, from its badges."""
    judged, alike = {m: b for m, b in found.items() if b.p is not None}, {m: b for m, b in found.items() if b.p is None}
    named = {method: one for method, one in judged.items() if not is_fixed(method)}
    told = [_specific(named, quoted)] if named else []
    for method, one in judged.items():
        if is_fixed(method):
            more = f"more ({_in(one)})" if one.measures else "no more, as far as these models tell,"
            than = f"than without that of other targets{', beyond chance' * bool(one.measures)}"
            told.append(f"{quoted(label(method))} the picture changes {more} {than}.")
    for method, one in alike.items():
        if one.standing == BEYOND:
            told.append(f"{quoted(label(method))}: the targets change more ({_in(one)}) than without random pictures.")
        elif one.standing == CHANCE:
            told.append(f"{quoted(label(method))}: no more, as far as these models tell, than without random pictures.")
    return " ".join(told) or "No verdict: no method can be judged here."


def document(found: Mapping[str, Badge]) -> dict[str, dict[str, Any]]:
    """Return badges as plain JSON values."""
    return {method: dataclasses.asdict(one) | {"measures": list(one.measures)} for method, one in found.items()}


def words(one: Badge) -> str:
    """Return a badge in words: its standing, in which measures, and its p."""
    if one.reason:
        return one.standing
    told = [_in(one)] if one.measures else []
    told += [f"p = {one.p:.2g}"] if one.p is not None else []
    return f"{one.standing} ({', '.join(told)})" if told else one.standing


def _specific(named: Mapping[str, Badge], quoted: Callable[[str], str]) -> str:
    beyond = [f"{quoted(label(method))} ({_in(one)})" for method, one in named.items() if one.measures]
    if not beyond:
        who = quoted(label(next(iter(named)))) if len(named) == 1 else f"None of the {len(named)} methods"
        verb = "is not" if len(named) == 1 else "is"
        return (
            f"{who} {verb} beyond chance here: without the pictures named for a target it changes no more, as far as "
            "these models tell, than without those named for other targets."
        )
    who = beyond[0] if len(beyond) == 1 else f"{', '.join(beyond[:-1])} and {beyond[-1]}"
    return (
        f"{who} {'names' if len(beyond) == 1 else 'name'} pictures that matter to the target itself: without them it "
        "changes more than without those named for other targets, beyond chance."
    )


def _in(one: Badge) -> str:
    return ", ".join(SHORT[measure].lower() for measure in one.measures)


def _nearest(measure: str, one: Verdict) -> float | None:
    """Return the end of the wider interval that is nearest to no change, positive where all of it changes more."""
    if one.beyond is None or one.beyond.least is None or one.beyond.most is None:
        return None
    return -one.beyond.most if measure in SHRINKING else one.beyond.least
