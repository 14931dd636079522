"""A comparison of removals as JSON and CSV: settings, medians, verdicts, every entry. No torch here."""

from __future__ import annotations

import datetime
from typing import Any

from dtrak_core import store
from dtrak_core.counterfactual import badges, comparisons, contrasts, verdicts
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import LATENT_L2, facts
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError
from dtrak_core.methods import crediting, spreadsheet
from dtrak_core.models import checkpoints

LATENT = "Euclidean distance of the unscaled latent modes; larger = changed more"


def document(comparison: Comparison, dataset: Dataset | None = None) -> dict[str, Any]:
    """Return a comparison as plain JSON values: settings, medians, verdicts, methods beside each other, every entry.

    `changed` is empty where its removals are those of today's contributors and families, else a sentence. Medians,
    `statistics`, `badges` and `contrasts` are of the largest `size` asked for. `licence` is the line that whoever shows
    training pictures has to give with them, an entry's `contributors` count the removed pictures of each; None where
    the dataset is gone.

    Args:
        comparison: The comparison.
        dataset: The dataset, of which settings know the digest alone; None looks it up by that.
    """
    told, dataset = comparisons.measures(comparison), dataset or comparisons.dataset_of(comparison)
    rows = None if dataset is None else dataset.train.rows
    return {
        "name": comparison.name,
        "key": comparison.key,
        "finished": comparison.finished,
        "dataset": None if dataset is None else dataset.name,
        "licence": None if dataset is None else crediting.terms(dataset),
        "changed": comparisons.changed(comparison),
        "encoder": comparison.settings.encoder,
        "measures": {
            "l2": "Euclidean distance of the pictures in [-1, 1]; larger = the removal changed the picture more",
            "cosine": f"cosine of the {comparison.settings.encoder} embeddings; smaller = changed more",
            "loss_change": "change of the target's denoising loss; larger = the model knows the target less",
        }
        | ({"latent_l2": LATENT} if LATENT_L2 in told else {}),
        "size": max(comparison.settings.remove),
        "medians": comparisons.medians(comparison),
        "statistics": {
            measure: {
                method: verdicts.document(one)
                for method, one in comparisons.statistics(comparison, measure=measure).items()
            }
            for measure in told
        },
        "badges": badges.document(badges.badges(comparison)),
        "contrasts": contrasts.document(contrasts.contrasts(comparison)),
        "settings": dict(comparison.stored),
        "entries": [
            facts(entry) | {"contributors": None if rows is None else crediting.counted(entry.removed, rows)}
            for entry in comparison.entries
        ],
        "made": dict(comparison.facts),
    }


def to_csv(comparison: Comparison, dataset: Dataset | None = None) -> bytes:
    """Return the entries as CSV, the removed indices separated by spaces; arguments as of `document`.

    The last columns tell whose pictures were removed, as "Ada: 2; Ben: 1", and in each line alike what made it, with
    the licence line. The dataset's and the checkpoint's name are empty where these are gone; the date of a comparison
    under way is today's.
    """
    told, dataset, lines = comparisons.measures(comparison), dataset or comparisons.dataset_of(comparison), []
    tail = _made(comparison, dataset)
    for e in comparison.entries:
        where = [e.target, e.method, e.owner, e.draw, e.train_seed, e.size, len(e.removed)]
        counts = {} if dataset is None else crediting.counted(e.removed, dataset.train.rows)
        by = "; ".join(f"{name}: {count}" for name, count in counts.items())
        removed = " ".join(map(str, e.removed))
        lines.append([*where, *(getattr(e, name) for name in told), removed, by, *tail.values()])
    first = ["target", "method", "owner", "draw", "train_seed", "size", "removed_count"]
    return spreadsheet.to_csv([*first, *told, "removed", "removed_contributors", *tail], lines)


def _made(comparison: Comparison, dataset: Dataset | None) -> dict[str, Any]:
    """Return by column what made all entries of a comparison."""
    settings, made = comparison.settings, comparison.facts
    try:
        checkpoint = checkpoints.by_digest(settings.checkpoint, settings.dataset).name
    except NotFoundError:
        checkpoint = ""
    return {
        "dataset": "" if dataset is None else dataset.name,
        "dataset_digest": settings.dataset,
        "checkpoint": checkpoint,
        "checkpoint_digest": settings.checkpoint,
        "comparison": comparison.key,
        "sampler": settings.sampler,
        "sampling_steps": settings.sampling_steps,
        "take_over": settings.take_over,
        "encoder": settings.encoder,
        "version": made.get("versions", store.versions())["dtrak-studio"],
        "date": made.get("date", datetime.datetime.now(datetime.UTC).date().isoformat())[:10],
        "licence": "" if dataset is None else crediting.terms(dataset),
    }
