"""The table of an LDS: methods against each other, with what an LDS can be at most and what chance gives."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from dtrak_core import datamodels, lds, predictions
from dtrak_core.lds_runs import LdsSettings, Losses
from dtrak_core.methods import METHODS
from dtrak_core.predictions import Predictions
from dtrak_core.recipes import label

KINDS = {"generated": "seed", "held-out": "held-out"}  # how targets are called, and how their ids begin
COLUMNS = ("method", "label", "targets", "timesteps", "lds", "low", "high", "effective_rank", "gradients", "seconds")


def rows(found: Sequence[Predictions], known: Losses, measured: LdsSettings) -> list[dict[str, Any]]:
    """Return one row for each recipe and kind of target.

    Returns:
        Rows of method, label, squared, targets (generated, held-out), count, timesteps (None without gradients), lds,
        interval (95 %, BCa over subsets; None below 8 subsets), effective_rank (share of N, None where undamped),
        gradients, seconds.
    """
    table = []
    for one in found:
        for words, kind in KINDS.items():
            if not any(name.startswith(f"{kind}:") for name in one.targets):
                continue
            value = predictions.evaluated(one, known, measured, kind)
            features = one.recipe.features
            own = {
                "squared": one.recipe.squared,
                "timesteps": None if features is None else features.num_timesteps,
                "effective_rank": one.shares[one.place] if one.shares else None,
                "gradients": one.gradients,
                "seconds": one.seconds,
            }
            table.append(_row(one.recipe.method, label(one.recipe), words, value) | own)
    order = [*METHODS, *datamodels.METHODS]
    return sorted(table, key=lambda row: (row["targets"], order.index(row["method"]), row["squared"]))


def retraining_rows(known: Losses, measured: LdsSettings) -> list[dict[str, Any]]:
    """Return rows, as `rows` does, of the methods that are fitted on the models themselves, each predicted by others.

    There are none below 16 subsets.
    """
    if len(known.subsets) < datamodels.LEAST:
        return []
    table = []
    for method, (name, fit) in datamodels.METHODS.items():
        guess = datamodels.held_out_predictions(fit, known.masks, known.mean)
        for words, kind in KINDS.items():
            own = [number for number, target in enumerate(measured.targets) if target.startswith(f"{kind}:")]
            if own:
                table.append(_row(method, name, words, lds.judge(guess[:, own], known.mean[:, own])))
    return table


def _row(method: str, name: str, words: str, value: lds.Lds) -> dict[str, Any]:
    row: dict[str, Any] = {"method": method, "label": name, "squared": False, "targets": words, "timesteps": None}
    row |= {"count": len(value.per_target), "lds": value.mean, "effective_rank": None, "gradients": 0, "seconds": 0.0}
    return row | {"interval": None if value.low is None else [value.low, value.high]}


def kinds(known: Losses, measured: LdsSettings) -> dict[str, dict[str, Any]]:
    """Return for each kind of target: count, noise_floor (the LDS of a perfect attribution), by_chance (mean, std)."""
    facts = {}
    for words, kind in KINDS.items():
        own = [number for number, name in enumerate(measured.targets) if name.startswith(f"{kind}:")]
        if own:
            chance, spread = lds.by_chance(known.masks, known.mean[:, own])
            facts[words] = {
                "count": len(own),
                "noise_floor": lds.noise_floor(known.losses[:, :, own]),
                "by_chance": {"mean": chance, "std": spread},
            }
    return facts


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


def to_csv(table: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the table as CSV, one row a method and kind of target."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in table:
        low, high = row["interval"] or (None, None)
        writer.writerow({**row, "low": low, "high": high})
    return text.getvalue().encode()


def to_latex(table: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the table as LaTeX (booktabs): a row a method, LDS in percent with its interval by kind of target."""
    present = [words for words in KINDS if any(row["targets"] == words for row in table)]
    lines = [
        "\\begin{tabular}{l" + "r" * (1 + len(present)) + "}",
        "\\toprule",
        " & ".join(["Method", "Timesteps", *(f"LDS, {words} (\\%)" for words in present)]) + " \\\\",
        "\\midrule",
    ]
    for key in dict.fromkeys((row["label"], row["timesteps"]) for row in table):
        cells = [key[0].replace("&", "\\&"), "--" if key[1] is None else str(key[1])]
        for words in present:
            own = [row for row in table if (row["label"], row["timesteps"], row["targets"]) == (*key, words)]
            cells.append(_percent(own[0]) if own else "--")
        lines.append(" & ".join(cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""]).encode()


def _percent(row: Mapping[str, Any]) -> str:
    value = f"{100 * row['lds']:.1f}"
    if row["interval"] is None:
        return value
    low, high = row["interval"]
    return f"{value} [{100 * low:.1f}, {100 * high:.1f}]"
