"""What a comparison says of each removal, in one measure: are its pictures special to the target, beyond random ones?

Only a comparison in which every model has drawn every target says so: there each model is one observation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtrak_core.counterfactual.crossed import Beyond, beyond_random, by_block, permutation_p
from dtrak_core.counterfactual.entries import LATENT_L2, SHRINKING, Entry, label
from dtrak_core.counterfactual.removals import FLOOR, IDENTITY, RANDOM
from dtrak_core.statistics import FEWEST

BEFORE = "made before every model drew every target"
UNFINISHED = "not every model has drawn every target yet"
LEVEL = 0.05  # of p below which a removal is called specific
NAMES = {"l2": "Pixel l2", "cosine": "Cosine", "loss_change": "Change of the loss", LATENT_L2: "Latent l2"}
DIGITS = {"l2": ".2f", "cosine": ".3f", "loss_change": ".4f", LATENT_L2: ".2f"}


@dataclass(frozen=True)
class Verdict:
    """What one method's removals did in one measure; `reason` says why something is None.

    `removed` are the numbers of pictures really taken, which for contributors and groups are not the number asked for.
    A model weighs as one, however many targets it was named for. `own` is the mean over models of what they do to the
    targets that they were named for, `others` that over all other pairs of model and target, `random` what random
    removals of equal size do. `specific_p` is of `crossed.permutation_p`, `beyond` of `crossed.beyond_random`.
    """

    targets: int
    models: int
    random_models: int
    removed: tuple[int, ...]
    own: float | None = None
    others: float | None = None
    random: float | None = None
    specific_p: float | None = None
    beyond: Beyond | None = None
    reason: str = ""


def verdicts(
    entries: Sequence[Entry], targets: Sequence[str], size: int, measure: str, measures: int = 1
) -> dict[str, Verdict]:
    """Return the verdict on each removal of a size asked for.

    A removal of n pictures is compared with random removals of n pictures and no others: they are looked up by n.

    Args:
        entries: All entries of a comparison in which every model draws every target.
        targets: Its targets.
        size: Number of pictures asked for.
        measure: l2, cosine, loss_change or latent_l2.
        measures: In how many of these the comparison is judged.
    """
    judged = [e for e in entries if e.method not in (IDENTITY, FLOOR)]
    models = {(e.removed, e.train_seed) for e in judged}
    drawn = {(e.removed, e.train_seed, e.target): e for e in judged}
    seeds = {seed for _, seed in models}
    sets = {removed for removed, _ in models}
    if len(drawn) < len(sets) * len(seeds) * len(targets):
        return without(entries, size, UNFINISHED)
    sign = -1.0 if measure in SHRINKING else 1.0
    values = {
        removed: sign * np.mean([[getattr(drawn[removed, s, t], measure) for t in targets] for s in seeds], axis=0)
        for removed in sets
    }
    random: dict[int, np.ndarray] = {}
    for count in {len(removed) for removed in sets}:
        found = dict.fromkeys(e.removed for e in entries if e.method == RANDOM and len(e.removed) == count)
        if found:
            random[count] = np.stack([values[removed] for removed in found])
    return {
        method: _verdict(values, random, _named_for(own, targets), sign, measures)
        for method, own in _removals(entries, size).items()
    }


def without(entries: Sequence[Entry], size: int, reason: str) -> dict[str, Verdict]:
    """Return verdicts that say nothing but why."""
    found = {}
    for method, own in _removals(entries, size).items():
        sizes = {len(e.removed) for e in own}
        random = {e.removed for e in entries if e.method == RANDOM and len(e.removed) in sizes}
        counts = len({e.target for e in own}), len({e.removed for e in own}), len(random)
        found[method] = Verdict(*counts, tuple(sorted(sizes)), reason=reason)
    return found


def too_few(targets: int) -> str:
    """Say that this many targets are too few for a p-value or an interval; nothing where they are enough."""
    return f"too few targets: {targets}, and {FEWEST} are needed" if targets < FEWEST else ""


def document(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain JSON values."""
    found = dataclasses.asdict(verdict)
    return {"beyond_random" if name == "beyond" else name: value for name, value in found.items()}


def sentence(method: str, verdict: Verdict, measure: str, quoted: Callable[[str], str] = str) -> str:
    """Return a verdict in words, with its numbers and what chance gives.

    Args:
        method: The method's id, or a contributor's.
        verdict: The verdict on it.
        measure: The measure.
        quoted: What is done to the method's name before it stands in the sentence.
    """
    if verdict.own is None:
        return f"{quoted(label(method))}: no verdict, {verdict.reason}."
    judged, p, beyond = [], verdict.specific_p, verdict.beyond
    if p is not None:
        judged.append(f"{'specific' if p < LEVEL else 'not specific'} to the target (p = {p:.2g})")
    if beyond is not None and beyond.low is not None and beyond.high is not None:
        above, below = ("less", "more") if measure in SHRINKING else ("more", "less")
        than = above if beyond.low > 0 else below if beyond.high < 0 else "not more"
        judged.append(f"{than} than random removal")
    alike = verdict.others is None  # one removal, whatever the target
    told = [f"{verdict.own:{DIGITS[measure]}} {'without them' if alike else 'for the target itself'}"]
    if not alike:
        told.append(f"{verdict.others:{DIGITS[measure]}} for the other targets")
    if verdict.random is not None and beyond is not None:
        told.append(f"{verdict.random:{DIGITS[measure]}} without as many random pictures")
        told.append(f"difference {beyond.difference:+{DIGITS[measure]}}")
        if beyond.low is not None and beyond.high is not None:
            told[-1] += f", 95 % interval {beyond.low:+{DIGITS[measure]}} to {beyond.high:+{DIGITS[measure]}}"
    told += [verdict.reason] if verdict.reason else []
    lead = f"{', '.join(judged)}. " if judged else ""
    return f"{quoted(label(method))}: {lead}{'; '.join(told)}.".replace(" -", " −")


def _removals(entries: Sequence[Entry], size: int) -> dict[str, list[Entry]]:
    """Return the entries of each removal of a size asked for that is no random one, by method."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.removed and entry.method != RANDOM and entry.size == size:
            found.setdefault(entry.method, []).append(entry)
    return found


def _named_for(own: Sequence[Entry], targets: Sequence[str]) -> dict[tuple[int, ...], list[int]]:
    """Return the places of the targets that each removal set was named for: all of them for a contributor's."""
    found: dict[tuple[int, ...], list[int]] = {}
    for entry in own:
        if entry.target == entry.owner or not entry.owner:
            place = targets.index(entry.target)
            if place not in (block := found.setdefault(entry.removed, [])):
                block.append(place)
    return found


def _verdict(
    values: dict[tuple[int, ...], np.ndarray],
    random: dict[int, np.ndarray],
    named_for: dict[tuple[int, ...], list[int]],
    sign: float,
    measures: int,
) -> Verdict:
    blocks, table = list(named_for.values()), np.stack([values[removed] for removed in named_for])
    sizes = [len(removed) for removed in named_for]
    arms = {size: random[size] for size in sizes if size in random}
    counts = table.shape[1], len(table), sum(len(arm) for arm in arms.values()), tuple(sorted(set(sizes)))
    if not all(np.isfinite(each).all() for each in (table, *arms.values())):
        return Verdict(*counts, reason="a model's values are not finite")
    square = by_block(table, blocks)
    own, pairs = float(square.trace()) / len(square), len(square) * (len(square) - 1)
    others = sign * float(square.sum() - square.trace()) / pairs if pairs else None
    p, beyond, by_random, reasons = permutation_p(square), None, None, []
    if few := too_few(table.shape[1]):
        reasons.append(few)
    elif p is None:
        several = f"only {len(square)} different removals were named" if pairs else "it was named for all targets alike"
        reasons.append(f"no p, as {several}")
    if lacking := sorted(set(sizes) - set(arms)):
        reasons.append(f"no random removal of {' or '.join(map(str, lacking))} pictures to compare with")
    else:
        beyond = beyond_random(table, blocks, [random[size] for size in sizes], measures)
        by_random = sign * (own - beyond.difference)
        if beyond.low is None and not few:
            reasons.append("too few random removals for an interval")
    return Verdict(*counts, sign * own, others, by_random, p, _signed(beyond, sign), "; ".join(reasons))


def _signed(beyond: Beyond | None, sign: float) -> Beyond | None:
    """Return a difference in the measure's own direction, from one in which larger means changed more."""
    if beyond is None or sign > 0:
        return beyond
    ends = (None if end is None else -end for end in (beyond.high, beyond.low, beyond.most, beyond.least))
    return Beyond(-beyond.difference, *ends)
