"""The command that lays out the training pictures by likeness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from dtrak_core import store
from dtrak_core.commands import answers, credits, tables
from dtrak_core.commands.tables import Json
from dtrak_core.datasets import catalogue
from dtrak_core.errors import NotFoundError
from dtrak_core.jobs.question_jobs import MapJob
from dtrak_core.methods import costs, map_sheet, maps
from dtrak_core.methods.maps import Space
from dtrak_core.models import checkpoints

SHOWN = 20  # pictures of the printed table


def map_pictures(
    by: Space = "lite0",
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    perplexity: int = 30,
    seed: int = 0,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Lay out the training pictures in two dimensions, those that are alike near each other (t-SNE).

    Args:
        by: What alike means: embeddings of EfficientNet-Lite0, pixels, or the model's gradients.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint; only d-trak asks it.
        perplexity: How many neighbours each picture minds, 2 to 200.
        seed: Seed of the layout.
        out: The map as a file: .html to print or send, .csv or .json.
    """
    write = None if out is None else map_sheet.writer(out)
    of = answers.prepared(dataset)
    model = checkpoints.by_name(checkpoint, of.digest) if by == "d-trak" else None
    settings = maps.settings_of(by, of, model, perplexity, seed)
    if maps.find(settings) is None:
        if (plan := maps.plan_of(by, of, model)) is not None and model is not None:
            credits.computed(plan, model)
        costs.tell(maps.cost(of, settings), f"the map of {of.name}")
        answers.completed(MapJob(settings=settings), f"Map of {of.name}")
    found = maps.find(settings)
    if found is None:
        raise NotFoundError("The map is not stored any more. Ask again.")
    told = map_sheet.Sheet(found, of)
    if out is not None and write is not None:
        store.write_bytes(out, write(told))
    tables.say(map_sheet.document(told), json, _shown)


def _shown(document: dict[str, Any]) -> str:
    """Return the sentence, then the first pictures."""
    rows = [row | {"x": f"{row['x']:.3f}", "y": f"{row['y']:.3f}"} for row in document["pictures"][:SHOWN]]
    columns = ("index", "x", "y", "name", "contributor", "label")
    kept = [name for name in columns if any(row[name] not in ("", None) for row in rows)]
    left = len(document["pictures"]) - len(rows)
    more = f"{left:,} more: --json or --out gives all." if left else ""
    parts = ["\n".join(document["sentences"]), tables.table(rows, kept), more, document["licence"]]
    return "\n\n".join(part for part in parts if part)
