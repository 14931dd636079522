"""Entries of a comparison: one retrained model's picture of one target, and how far it is from the original."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtrak_core.counterfactual import removal_sets
from dtrak_core.counterfactual.removals import BOTTOM, FLOOR, IDENTITY, RANDOM
from dtrak_core.methods.methods import METHODS
from dtrak_core.statistics import interval

LATENT_L2 = "latent_l2"
MEASURES = ("l2", "cosine", "loss_change")
SHRINKING = ("cosine",)  # measures that are smaller where the removal did more
_LABELS = {IDENTITY: "Nothing removed", FLOOR: "Noise floor", RANDOM: "Random", BOTTOM: "Lowest scores"}


@dataclass(frozen=True)
class Entry:
    """One retrained model's picture of one target.

    `owner` is the target for which the removal was named, empty for controls and contributors. `draw` numbers random
    sets and training seeds of one arm. `size` is the number asked for, `removed` the training indices left out (none
    for identity and noise floor); `image` (H, W, 3) uint8. Larger l2, smaller cosine and larger loss change: the
    removal did more. `train_seed` is None in comparisons from before every model drew every target.
    """

    target: str
    method: str
    draw: int
    size: int
    removed: tuple[int, ...]
    image: np.ndarray
    l2: float
    cosine: float
    loss_change: float
    latent_l2: float | None = None  # text-to-image models alone
    owner: str = ""
    train_seed: int | None = None


def measures_of(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the measures that these entries have: those of latents only for text-to-image models."""
    latent = bool(entries) and all(entry.latent_l2 is not None for entry in entries)
    return (*MEASURES, LATENT_L2) if latent else MEASURES


def label(arm: str) -> str:
    """Return what an arm is called: a control's words, a method's label, or whose pictures were taken out."""
    if removal_sets.is_fixed(arm):
        return removal_sets.without(arm)
    if arm.startswith(f"{RANDOM}:"):
        return f"{_LABELS[RANDOM]}, {arm.removeprefix(f'{RANDOM}:')} removed"
    return _LABELS.get(arm) or METHODS[arm].label


def of_size(entries: Sequence[Entry], size: int) -> list[Entry]:
    """Return the entries to show beside each other for one size asked for.

    They are the removals of that size with the target that each was named for, and all controls.
    """
    return [e for e in entries if e.size in (0, size) and e.owner in ("", e.target)]


def by_arm(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return entries by method or control; random removals by their number where that differs: `random:90`.

    A contributor's or a group's pictures are as many as they are, so that one size asked for may have random removals
    of several sizes: a mean over them would be that of none.
    """
    several = len({len(e.removed) for e in entries if e.method == RANDOM}) > 1
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        split = several and entry.method == RANDOM
        found.setdefault(f"{RANDOM}:{len(entry.removed)}" if split else entry.method, []).append(entry)
    return found


def medians(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Return for each arm the median over targets of each measure, with its interval (None below six) and n.

    Several draws of one target count as their mean, so that every target weighs the same.
    """
    told, found = measures_of(entries), {}
    for arm, own in by_arm(entries).items():
        row: dict[str, Any] = {}
        for measure in told:
            by_target: dict[str, list[float]] = {}
            for entry in own:
                by_target.setdefault(entry.target, []).append(getattr(entry, measure))
            values = [float(np.mean(each)) for each in by_target.values()]
            ends = interval(values)
            row |= {measure: float(np.median(values)), f"{measure}_interval": None if ends is None else list(ends)}
        found[arm] = row | {"n": len(values), "entries": len(own)}
    return found


def floors(entries: Sequence[Entry], measure: str) -> dict[str, tuple[float, int]]:
    """Return for each target how far nothing but another training seed moves it at most, and over how many models."""
    found: dict[str, list[float]] = {}
    for entry in entries:
        if entry.method == FLOOR:
            found.setdefault(entry.target, []).append(getattr(entry, measure))
    farthest = min if measure in SHRINKING else max
    return {target: (farthest(values), len(values)) for target, values in found.items()}


def beyond_floor(entry: Entry, floor: float, measure: str) -> bool:
    """Say whether a picture changed more than by `floor`, the farthest of those with nothing removed."""
    value = float(getattr(entry, measure))
    return value < floor if measure in SHRINKING else value > floor


def outlined(least: Mapping[str, tuple[float, int]], by: str = "") -> str:
    """Return in words what an outlined picture is, of `floors`, and how often by chance; `by` says which measure.

    Of n + 1 models that are alike each moves a picture farthest with probability 1 / (n + 1).
    """
    count = max((models for _, models in least.values()), default=0)
    of = (
        "training with nothing removed and another seed (noise floor, one model)"
        if count == 1
        else f"any of {count} trainings with nothing removed and another seed (noise floor)"
    )
    return f"Outlined: changed more{by} than by {of}. By chance one picture in {count + 1} would be."


def facts(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain JSON values, without its picture."""
    found = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry) if f.name != "image"}
    if entry.latent_l2 is None:
        del found[LATENT_L2]
    return found | {"removed": list(entry.removed)}
