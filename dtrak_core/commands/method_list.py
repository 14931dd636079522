"""The command `methods`: which there are, what they do, and why some cannot be used for a model."""

from __future__ import annotations

from typing import Any

from dtrak_core.commands import answers, tables
from dtrak_core.commands.tables import Json, say
from dtrak_core.datasets import catalogue
from dtrak_core.jobs import asking
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints


def methods(dataset: str = catalogue.DEFAULT, checkpoint: str = "demo", json: Json = False) -> None:
    """List the attribution methods: what each does, its model output, and why it cannot be used for a model if so.

    Args:
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint that is asked about.
    """
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    rows = [
        {
            "id": one.id,
            "label": one.label,
            "family": one.family,
            "output": one.model_output or "",
            "summary": one.summary,
        }
        | {"refused": asking.unusable(one, chosen.digest, weights.digest, train=False)}
        for one in METHODS.values()
    ]
    say(rows, json, _shown)


def _shown(rows: list[dict[str, Any]]) -> str:
    """Return a table of the methods, and below it why some are refused."""
    refused = [f"{row['label']} cannot be used. {row['refused']}" for row in rows if row["refused"]]
    return "\n".join(
        [tables.table(rows, ("id", "label", "family", "output", "summary")), *([""] if refused else []), *refused]
    )
