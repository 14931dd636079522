"""The table of an LDS: methods against each other, with what an LDS can be at most and what chance gives each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from dtrak_core.lds import datamodels, lds, predictions
from dtrak_core.lds.predictions import Predictions
from dtrak_core.lds.recipes import features_of, label
from dtrak_core.lds.subset_models import LdsSettings, Losses
from dtrak_core.methods.methods import METHODS

KINDS = {"generated": "seed", "held-out": "held-out"}  # how targets are called, and how their ids begin


def rows(predicted: Sequence[Predictions], known: Losses, measured: LdsSettings) -> list[dict[str, Any]]:
    """Return one row for each recipe and kind of target.

    Returns:
        Rows of method, label, squared, targets (generated, held-out), count, timesteps (None without gradients), lds,
        interval (95 %, BCa over subsets; None below 8 subsets or 6 targets), by_chance (std, low, high, p of
        `lds.Chance`), effective_rank (share of N, None where undamped), gradients, seconds, feature_settings (of
        `FeatureSettings`; None without gradients).
    """
    table = []
    for one in predicted:
        for words, kind in KINDS.items():
            if not predictions.of_kind(one, known, measured, kind)[0]:
                continue
            value = predictions.evaluated(one, known, measured, kind)
            features = features_of(one.recipe)
            own = {
                "by_chance": dataclasses.asdict(predictions.chance(one, known, measured, kind)),
                "squared": one.recipe.squared,
                "timesteps": None if features is None else features.num_timesteps,
                "effective_rank": one.shares[one.place] if one.shares else None,
                "gradients": one.gradients,
                "seconds": one.seconds,
                "feature_settings": None if features is None else features.model_dump(mode="json"),
            }
            table.append(_row(one.recipe.method, label(one.recipe), words, value) | own)
    order = {method: place for place, method in enumerate([*METHODS, *datamodels.METHODS])}
    # Own scores that newer ones of their name have replaced are in no list any more.
    return sorted(table, key=lambda row: (row["targets"], order.get(row["method"], len(order)), row["squared"]))


def retraining_rows(known: Losses, measured: LdsSettings) -> list[dict[str, Any]]:
    """Return rows, as `rows` does, of the methods that are fitted on the models themselves, each predicted by others.

    There are none below 16 subsets. What chance gives them is found by fitting anew on permuted losses; they have no
    interval, as resampled subsets would keep predictions that were fitted on the others.
    """
    if len(known.subsets) < datamodels.LEAST:
        return []
    table = []
    for method, (name, _, prepare) in datamodels.METHODS.items():
        values = datamodels.permuted(prepare(known.masks), known.mean)
        for words, kind in KINDS.items():
            own = _counted(known, measured, kind)
            if own:
                each = values[:, own]
                value = lds.Lds(each[0], float(each[0].mean()), None, None, len(known.subsets))
                chance = dataclasses.asdict(lds.of_permutations(each.mean(1)))
                table.append(_row(method, name, words, value) | {"by_chance": chance})
    return table


def _row(method: str, name: str, words: str, value: lds.Lds) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method, "label": name, "squared": False, "targets": words, "timesteps": None}
    row |= {"count": len(value.per_target), "lds": value.mean, "effective_rank": None, "gradients": 0, "seconds": 0.0}
    row |= {"by_chance": None, "feature_settings": None}
    return row | {"interval": None if value.low is None else [value.low, value.high]}


def kinds(known: Losses, measured: LdsSettings) -> dict[str, dict[str, Any]]:
    """Return for each kind of target: count, noise_floor, the LDS of a perfect attribution, and noise_floor_interval.

    The last is its 95 % interval; both are None where too few subsets have two seeds (`lds.noise_floor`).

    Held-out targets that are training pictures too are told as `leaked`, whether they are `left_out` or not.
    """
    facts: dict[str, dict[str, Any]] = {}
    for words, kind in KINDS.items():
        if own := _counted(known, measured, kind):
            floor = lds.noise_floor(known.losses[:, :, own])
            value, ends = (None, None) if floor is None else (floor.value, [floor.low, floor.high])
            facts[words] = {"count": len(own), "noise_floor": value, "noise_floor_interval": ends}
    if known.leaked and "held-out" in facts:
        facts["held-out"] |= {"leaked": sorted(known.leaked), "left_out": not known.keeps}
    return facts


def leak(known: Losses, measured: LdsSettings) -> str:
    """Say how many held-out targets are training pictures too, and what became of them; nothing where none is."""
    if not (leaked := len(known.leaked)):
        return ""
    total = sum(name.startswith("held-out:") for name in measured.targets)
    also = f"{leaked:,} {'is a training picture' if leaked == 1 else 'are training pictures'} too, by pixels"
    if known.keeps:
        return f"{total:,} held-out targets; {also}, and kept: the split is the paper's own."
    return f"{total - leaked:,} of {total:,} held-out targets; {also}, and left out."


def _counted(known: Losses, measured: LdsSettings, kind: str) -> list[int]:
    """Return the places of a kind's targets that are counted."""
    return [i for i, name in enumerate(measured.targets) if name.startswith(f"{kind}:") and known.counts(name)]


def protocol(known: Losses, measured: LdsSettings) -> dict[str, Any]:
    """Return how the losses were measured, in the paper's terms."""
    return {
        "subsets": len(known.subsets),
        "share": measured.share,
        "models": known.done,
        "train_seeds": measured.train_seeds,
        "timesteps": measured.num_timesteps,
        "noise_seeds": measured.noise_seeds,
        "draws": "lds-val",
    }
