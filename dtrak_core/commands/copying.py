"""The command that looks for near-copies of training pictures among generated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from dtrak_core import store
from dtrak_core.commands import answers, credits, tables
from dtrak_core.commands.drawing import Drawing
from dtrak_core.commands.tables import Json
from dtrak_core.counterfactual import comparisons, copy_sheet
from dtrak_core.counterfactual.copy_sheet import Sheet
from dtrak_core.datasets import catalogue
from dtrak_core.methods import copies as near_copies
from dtrak_core.methods.copies import Space
from dtrak_core.models import checkpoints
from dtrak_core.models.settings import Sampled

LISTED = 20  # pictures in the table of the terminal


def copies(
    seeds: Annotated[str, tyro.conf.arg(metavar="SEEDS", help_behavior_hint="(default: all that are drawn)")] = "",
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    space: Space = "pixels",
    sampled: Drawing = Sampled(),  # noqa: B008
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Say which generated pictures lie closer to a training picture than pictures do that no model has seen.

    Args:
        seeds: Numbers and ranges, like 0-15 or 3,7,20-23; those that are not drawn yet are drawn first.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint.
        space: Where distances are measured: pixels, or embeddings of EfficientNet-Lite0 or CLIP.
        sampled: How seeds are drawn; of stored pictures, --prompts takes those of these prompts alone.
        out: The pairs as a file: .html to print or send, with pictures, .csv or .json.
    """
    write = None if out is None else copy_sheet.writer(out)
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    pictures = credits.pictures_of(seeds, chosen, weights, sampled)
    if (plan := near_copies.plan_of(space, chosen, weights, pictures)) is not None:
        credits.computed(plan, weights)
    found = near_copies.find(space, chosen, weights, pictures)
    told = copy_sheet.sheet(found, chosen, weights, comparisons.listing(chosen, weights.digest))
    if out is not None and write is not None:
        store.write_bytes(out, write(told))
    tables.say(copy_sheet.document(told), json, lambda document: _shown(told, document))


def _shown(told: Sheet, document: dict[str, Any]) -> str:
    """Return sentences, then the closest pairs, then what the numbers are of."""
    rows = [
        {"target": row["target"], "nearest": copy_sheet.name_of(told.dataset, row["nearest"])}
        | {"contributor": row["contributor"], "ratio": f"{row['ratio']:.2f}"}
        | {"p": "" if row["p"] is None else f"{row['p']:.2g}", "alike": len(row["near_duplicates"])}
        for row in document["pictures"][:LISTED]
    ]
    left = len(document["pictures"]) - LISTED
    columns = ("target", "nearest", "contributor", "ratio", "p", "alike")
    parts = ["\n".join(document["sentences"]), tables.table(rows, columns)]
    parts += [f"and {left:,} more (all of them: --json, --out)"] if left > 0 else []
    return "\n\n".join(part for part in [*parts, document["protocol"], document["licence"]] if part)
