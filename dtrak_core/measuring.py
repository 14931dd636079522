"""The command `lds`: how well do methods predict what training on a subset does?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import tyro

from dtrak_core import answers, checkpoints, datasets, defaults, jobs, lds_runs, scores, tables, targets
from dtrak_core import lds as measure
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.commands import numbers_of
from dtrak_core.datasets import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.lds_runs import LdsSettings
from dtrak_core.methods import METHODS, method_of
from dtrak_core.settings import Sampled, build
from dtrak_core.tables import Json, say

KINDS = {"seed": "generated", "held-out": "held_out"}
MOST = 100_000


def lds(
    generated: Annotated[str, tyro.conf.arg(metavar="SEEDS")] = "0-63",
    held_out: int = 64,
    method: tuple[str, ...] = (),
    num_subsets: Annotated[int, tyro.conf.arg(name="subsets")] = 32,
    train_seeds: Annotated[int, tyro.conf.arg(name="seeds")] = 1,
    share: float = 0.5,
    num_timesteps: Annotated[int, tyro.conf.arg(name="timesteps")] = 50,
    noise_seeds: int = 1,
    so_far: bool = False,
    dataset: str = datasets.DEFAULT,
    checkpoint: str = "demo",
    how: Annotated[Sampled, tyro.conf.arg(name="")] = Sampled(),  # noqa: B008
    json: Json = False,
) -> None:
    """Measure methods by the linear datamodeling score: train on random subsets, compare predicted with real losses.

    Args:
        generated: Seeds of generated targets, like 0-63; empty for none.
        held_out: Number of held-out targets, from the first; 0 for none.
        method: d-trak, trak, lite0-cosine, ...; may be given several times (default: d-trak, trak, raw-pixel-cosine).
        num_subsets: Random subsets of the training set.
        train_seeds: Models a subset, each with its own training seed; from two on the ceiling is known.
        share: Part of the training set that a subset holds.
        num_timesteps: Timesteps over which a loss is averaged; the paper takes 1000.
        noise_seeds: Noises a timestep.
        so_far: Train nothing; answer from the models that are there.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint whose settings train the models.
        how: Sampler.
    """
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    wanted = [f"seed:{seed}" for seed in numbers_of(generated, "seeds", MOST)] if generated else []
    wanted += [f"held-out:{i}" for i in range(held_out)]
    if not wanted:
        raise SettingsError("No target was given. Name some, like --generated 0-63 or --held-out 64.")
    settings = build(
        LdsSettings,
        dataset=chosen.digest,
        checkpoint=weights.digest,
        targets=tuple(wanted),
        num_subsets=num_subsets,
        train_seeds=train_seeds,
        share=share,
        num_timesteps=num_timesteps,
        noise_seeds=noise_seeds,
        **how.model_dump(),
    )
    if not so_far:
        models = num_subsets * train_seeds
        answers.completed(jobs.LdsJob(settings=settings), f"LDS of {weights.name}: {models} models")
    names = [method_of(one).id for one in dict.fromkeys(method or ("d-trak", "trak", "raw-pixel-cosine"))]
    say(_document(chosen, weights, settings, names), json, _shown)


def _document(dataset: Dataset, checkpoint: Checkpoint, settings: LdsSettings, names: Sequence[str]) -> dict[str, Any]:
    """Return LDS of all methods by kind of target, with ceiling and chance, as JSON values."""
    known = lds_runs.read(dataset, settings)
    if len(known.losses) < 3:
        raise SettingsError(
            f"{known.done} of {known.expected} models are finished: too few to tell. Let the job go on."
        )
    found = lds_runs.pictures(dataset, settings)
    values = {name: _scores(name, dataset, checkpoint, settings, found) for name in names}
    document: dict[str, Any] = {
        "models": {"finished": known.done, "expected": known.expected},
        "subsets": len(known.losses),
        "train_seeds": known.losses.shape[1],
        "settings": settings.model_dump(mode="json"),
        "targets": {},
    }
    for kind, words in KINDS.items():
        own = [i for i, target in enumerate(found) if target.id.startswith(f"{kind}:")]
        if not own:
            continue
        losses = known.losses[:, :, own]
        chance, spread = measure.by_chance(known.masks, losses.mean(1))
        document["targets"][words] = {
            "count": len(own),
            "ceiling": measure.ceiling(losses),
            "by_chance": {"mean": chance, "std": spread},
            "methods": {
                name: _told(measure.evaluate(scored[own], known.masks, losses.mean(1)))
                for name, scored in values.items()
            },
        }
    return document


def _told(found: measure.Lds) -> dict[str, Any]:
    return {"lds": found.mean, "low": found.low, "high": found.high}


def _scores(
    name: str, dataset: Dataset, checkpoint: Checkpoint, settings: LdsSettings, found: Sequence[targets.Target]
) -> np.ndarray:
    """Return a method's scores of all targets (M, N), having computed what they need."""
    base = defaults.base_for(dataset.digest, checkpoint.digest, METHODS[name], {})
    lacking = [t.id for t in found if scores.needed(name, dataset, checkpoint.digest, t, base)]
    if lacking:
        how = settings.model_dump(include=set(Sampled.model_fields))
        if METHODS[name].family == "gradient":
            features = scores.feature_settings(METHODS[name], dataset, checkpoint.digest, base)
            job: jobs.Job = build(jobs.AttributeJob, features=(features,), targets=tuple(lacking), **how)
        else:
            where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "targets": tuple(lacking)}
            job = build(jobs.EmbedJob, model=METHODS[name].embedding, **where, **how)
        answers.completed(job, f"{METHODS[name].label} for {len(lacking)} targets")
    each = [scores.attribution_scores(name, dataset, checkpoint.digest, t, base).values for t in found]
    return np.stack(each)


def _shown(document: dict[str, Any]) -> str:
    """Return one table: a row a method, LDS with its interval by kind of target."""
    models = document["models"]
    lines = [f"{document['subsets']} subsets, {models['finished']} of {models['expected']} models"]
    for words, part in document["targets"].items():
        rows = [
            {
                "method": METHODS[name].label,
                "LDS": f"{row['lds']:+.3f}",
                "95 % interval": "" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
            }
            for name, row in part["methods"].items()
        ]
        ceiling = "not known with one seed" if part["ceiling"] is None else f"{part['ceiling']:.3f}"
        chance = part["by_chance"]
        lines.append(
            f"\n{part['count']} {words.replace('_', '-')} targets. Ceiling {ceiling}; by chance "
            f"{chance['mean']:+.3f} ± {chance['std']:.3f}\n{tables.table(rows, ('method', 'LDS', '95 % interval'))}"
        )
    return "\n".join(lines)
