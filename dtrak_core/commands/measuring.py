"""The command `lds`: how well do methods predict what training on a subset does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from dtrak_core import store
from dtrak_core.amounts import counted, numbers_of
from dtrak_core.commands import answers, tables
from dtrak_core.commands.drawing import Drawing
from dtrak_core.commands.tables import Json, say
from dtrak_core.counterfactual import encoders
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.jobs import asking, job_costs, jobs
from dtrak_core.lds import predictions, standing_figure, standing_sheet, standings, subset_models
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.recipes import usual as recipe_usual
from dtrak_core.lds.standing_sheet import Sheet
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import costs
from dtrak_core.methods.methods import METHODS, method_of
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.settings import build

FIRST = ("d-trak", "trak", "raw-pixel-cosine")
MOST = 100_000
MOST_HELD_OUT = 64  # where the user names no number


def lds(
    generated: Annotated[str, tyro.conf.arg(metavar="SEEDS")] = "0-63",
    held_out: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 64, or all)")] = None,
    method: tuple[str, ...] = (),
    num_subsets: Annotated[int, tyro.conf.arg(name="subsets")] = 32,
    train_seeds: Annotated[int, tyro.conf.arg(name="seeds")] = 1,
    share: float = 0.5,
    num_timesteps: Annotated[int, tyro.conf.arg(name="timesteps")] = 50,
    noise_seeds: int = 1,
    squared: bool = False,
    so_far: bool = False,
    dataset: str = catalogue.DEFAULT,
    checkpoint: str = "demo",
    sampled: Drawing = Sampled(),  # noqa: B008
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    json: Json = False,
) -> None:
    """Measure methods by the linear datamodeling score: train on random subsets, compare predicted with real losses.

    Args:
        generated: Seeds of generated targets, like 0-63; empty for none.
        held_out: Number of held-out targets, from the first; 0 for none.
        method: d-trak, trak, lite0-cosine, ..., or all that need no further training; may be given several times
            (default: d-trak, trak, raw-pixel-cosine).
        num_subsets: Random subsets of the pictures that the checkpoint has learned from.
        train_seeds: Models per subset, each with its own training seed; with two or more the noise floor is known.
        share: Part of the pictures that the checkpoint has learned from that a subset holds.
        num_timesteps: Timesteps over which a loss is averaged; the paper takes 1000.
        noise_seeds: Noise draws per timestep.
        squared: Square scores before they are summed over a subset.
        so_far: Train nothing; answer from the models that are there.
        dataset: Name of the training set.
        checkpoint: Name of the checkpoint whose settings train the models.
        sampled: Sampler.
        out: The answer as a file, with what it was measured of and how: .csv, .json, .png, or .tex for a paper.
    """
    write = None if out is None else standing_figure.writer(out)
    chosen = answers.prepared(dataset)
    weights = checkpoints.by_name(checkpoint, chosen.digest)
    wanted = [f"seed:{seed}" for seed in numbers_of(generated, "seeds", MOST)] if generated else []
    there = len(chosen.held_out.rows)
    if held_out is not None and not 0 <= held_out <= there:
        raise SettingsError(
            f"--held-out is {held_out}; '{chosen.name}' has {there} held-out pictures. Give 0 to {there}."
        )
    wanted += [f"held-out:{i}" for i in range(min(MOST_HELD_OUT, there) if held_out is None else held_out)]
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
        learned=subset_models.learned_by(weights),
        **answers.with_prompts(chosen, weights, sampled).drawing(),
    )
    subset_models.check(chosen, weights, settings)
    if so_far:
        _told_enough(subset_models.read(chosen, settings))
    names = list(METHODS) if "all" in method else [method_of(one).id for one in dict.fromkeys(method or FIRST)]
    own = {name: recipe_usual(chosen, weights, name, squared) for name in names}
    recipes, left_out = _usable(own, settings, method)
    cost = job_costs.of_recipes(chosen, weights, settings, recipes)
    if not so_far:
        cost = job_costs.of_lds(chosen, weights, settings, recipes)
    costs.tell(cost, f"LDS of {weights.name}")
    if not so_far:
        models = num_subsets * train_seeds
        if subset_models.lacking(settings):
            answers.completed(jobs.LdsJob(settings=settings), f"LDS of {weights.name}: {models} models")
            # Own scores are of pictures, which are drawn now: they may be others than those that have rows.
            recipes, left_out = _usable(own, settings, method)
    if any(predictions.find(recipe, settings) is None for recipe in recipes):
        encoder_weights = encoders.of_methods(recipe.method for recipe in recipes)
        job = build(jobs.BenchmarkJob, settings=settings, recipes=tuple(recipes), encoder_weights=encoder_weights)
        answers.completed(job, f"Scores of {counted(len(recipes), 'method')} for {counted(len(wanted), 'target')}")
    sheet = _sheet(chosen, weights, settings, recipes, left_out, "all" in method)
    if out is not None and write is not None:
        store.write_bytes(out, write(sheet))
    say(standing_sheet.document(sheet), json, _shown)


def _usable(
    own: Mapping[str, Recipe], settings: LdsSettings, said: Sequence[str]
) -> tuple[list[Recipe], dict[str, str]]:
    """Return the recipes that can answer, and by method why the others cannot; models are trained for those `said`.

    Raises:
        SettingsError: If none can.
    """
    where = settings.dataset, settings.checkpoint
    reasons = {
        name: asking.unusable(METHODS[name], *where, name in said, settings)
        for name, recipe in own.items()
        if predictions.find(recipe, settings) is None
    }
    left_out = {name: reason for name, reason in reasons.items() if reason}
    if len(left_out) == len(own):
        first = next(iter(own))
        raise SettingsError(f"{METHODS[first].label} cannot be used. {reasons[first]}")
    return [recipe for name, recipe in own.items() if name not in left_out], left_out


def _told_enough(known: subset_models.Losses) -> None:
    if len(known.losses) < 3:
        raise SettingsError(
            f"{known.done} of {known.expected} models are finished: too few to tell. Let the job go on."
        )


def _sheet(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: LdsSettings,
    recipes: Sequence[Recipe],
    left_out: Mapping[str, str],
    retraining: bool,
) -> Sheet:
    """Return LDS of all recipes by kind of target, and where they are asked for of what is fitted on the models."""
    # More training seeds than were asked for may be there; they tell how high an LDS can be.
    alike = settings.model_dump(include=set(subset_models.Measured.model_fields))
    stored = [
        one.train_seeds
        for one in subset_models.of_checkpoint(dataset.digest, settings.checkpoint)
        if alike == one.model_dump(include=set(alike))
    ]
    settings = settings.model_copy(update={"train_seeds": max([settings.train_seeds, *stored])})
    known = subset_models.read(dataset, settings)
    _told_enough(known)
    found = [one for recipe in recipes if (one := predictions.find(recipe, settings)) is not None]
    rows = standings.rows(found, known, settings)
    if retraining:
        rows += standings.retraining_rows(known, settings)
    return Sheet(dataset, checkpoint, settings, known, rows, left_out)


def _shown(document: dict[str, Any]) -> str:
    """Return one table a kind of target: a row a method, LDS with its interval."""
    protocol, models = document["protocol"], document["models"]
    lines = [
        f"{document['checkpoint']['name']} on {document['dataset']['name']}: {protocol['subsets']} subsets, "
        f"{100 * protocol['share']:.0f} % each, {models['finished']} of {models['expected']} models, "
        f"{counted(protocol['train_seeds'], 'training seed')}, losses at {counted(protocol['timesteps'], 'timestep')}"
    ]
    lines += ["", *document["sentences"]]
    for kind, facts in document["targets"].items():
        rows = [
            {
                "method": row["label"],
                "timesteps": "" if row["timesteps"] is None else str(row["timesteps"]),
                "LDS": f"{row['lds']:+.3f}",
                "95 % interval": "" if row["interval"] is None else "{:+.3f} to {:+.3f}".format(*row["interval"]),
                "by chance": "" if row["by_chance"] is None else "{low:+.3f} to {high:+.3f}".format(**row["by_chance"]),
            }
            for row in document["rows"]
            if row["targets"] == kind
        ]
        floor = "not known, too few subsets have two seeds"
        if facts["noise_floor"] is not None:
            floor = "{:.3f} ({:.3f} to {:.3f})".format(facts["noise_floor"], *facts["noise_floor_interval"])
        lines.append(
            f"\n{facts['count']} {kind} targets. A perfect attribution could reach: {floor}\n"
            f"{tables.table(rows, ('method', 'timesteps', 'LDS', '95 % interval', 'by chance'))}"
        )
    lines += ["", document["leak"]] if document["leak"] else []
    lines += [f"{METHODS[name].label} is left out. {why}" for name, why in document["left_out"].items()]
    return "\n".join(lines)
