"""The paper's dataset CIFAR-2 at its own 32 px: LDS of every method and counterfactuals, next to the paper's numbers.

    python benchmarks/cifar2.py FOLDER                          everything: 140 trainings of 10,000 steps
    python benchmarks/cifar2.py FOLDER --change noise           the same by a network that predicts the noise
    python benchmarks/cifar2.py FOLDER --change half            half as long a training (or --change double)
    python benchmarks/cifar2.py FOLDER --pictures 200 --epochs 4 --subsets 4 --second 3 --targets 8 --compared 2

FOLDER keeps everything (a cache of its own): a stopped run goes on where it was, so that the study may run over days,
and on a GPU its models are trained together. Pictures come from cifar2.npz beside the project (../shared/data;
automobile and horse): the first 1,000 of each class, targets from the test part. The network is the demo's (preset
`portraits`). In the order of worth: original, pictures, halves, D-TRAK and TRAK, removals, all other methods, findings.

A change trains the original and halves anew, nothing else of it differs: what moves the order of methods then is the
one thing changed. What a function or the number of timesteps does needs no training: the sweeps say it.

Prints the tables and writes FOLDER/cifar2.json, or FOLDER/cifar2-<change>.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

if TYPE_CHECKING:
    from dtrak_core.datasets.catalogue import Dataset
    from dtrak_core.lds.recipes import Recipe, Sweep
    from dtrak_core.lds.subset_models import LdsSettings
    from dtrak_core.models.checkpoints import Checkpoint
    from dtrak_core.models.settings import Prediction

PICTURES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cifar2.npz"
FIRST = ("d-trak", "trak", "das", "lite0-cosine", "raw-pixel-cosine")  # what the order is judged by
SWEEPS: tuple[Sweep, ...] = ("functions", "weights", "timesteps")
CHANGES = ("none", "noise", "half", "double")
FIFTHS = 5  # of the noise levels, in which losses are also told apart
REMOVED = 0.2  # of the training set, as in the paper
MEASURES = ("l2", "cosine", "loss_change")


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("folder", type=Path)
    asked.add_argument("--change", choices=CHANGES, default="none", help="one thing, against the study itself")
    asked.add_argument("--resolution", type=int, default=32)
    asked.add_argument("--pictures", type=int, default=2000)
    asked.add_argument("--epochs", type=int, default=160)
    asked.add_argument("--subsets", type=int, default=64)
    asked.add_argument("--second", type=int, default=8, help="subsets that are trained with a second seed")
    asked.add_argument("--targets", type=int, default=100, help="of each kind, generated and held out")
    asked.add_argument("--compared", type=int, default=12, help="targets whose pictures are removed")
    given = asked.parse_args()
    if not PICTURES.exists():
        sys.exit(f"{PICTURES} is not there: it is kept beside the project, not in it.")
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"STUDIO_CACHE": str(given.folder / "cache"), "STUDIO_DEMO": str(given.folder / "none")}
    study(given)


def study(given: argparse.Namespace) -> None:
    """Train, draw, measure, predict, remove, print."""
    import torch

    from dtrak_core import files
    from dtrak_core.demo import portraits
    from dtrak_core.jobs import processes

    torch.set_num_threads(processes.cores())
    plain = given.change == "none"
    dataset, checkpoint = original(given)
    measured = questions(given, dataset, checkpoint)
    for one in measured:
        portraits.train_lds(dataset, checkpoint, one)
    whole = measured[0].model_copy(update={"train_seeds": 2 if given.second else 1})
    first, rest, findings = recipes_of(dataset, checkpoint, plain)
    report: dict[str, Any] = {"options": {name: value for name, value in vars(given).items() if name != "folder"}}
    file = given.folder / ("cifar2.json" if plain else f"cifar2-{given.change}.json")
    report |= predicted(dataset, whole, first, [])
    report["by_level"] = by_level(dataset, whole, first)
    files.write_json(file, report)
    if plain and given.compared:
        report |= compared(given, dataset, checkpoint)
        files.write_json(file, report)
    report |= predicted(dataset, whole, first + rest, findings)
    files.write_json(file, report)


def original(given: argparse.Namespace) -> tuple[Dataset, Checkpoint]:
    """Prepare the pictures, train the original and draw its targets."""
    from dtrak_core.datasets import catalogue
    from dtrak_core.demo.portraits import printed
    from dtrak_core.engine import work
    from dtrak_core.jobs.jobs import SampleJob
    from dtrak_core.models import checkpoints
    from dtrak_core.training import presets, training

    file = given.folder / "pictures.npz"
    if not file.exists():
        np.savez(file, **chosen(given.pictures, given.targets))  # type: ignore[arg-type]
    settings = catalogue.source_settings("npz", file, f"cifar2-{given.pictures}", given.resolution)
    dataset = catalogue.load(catalogue.prepare(settings, file))
    name = "cifar2" if given.change == "none" else f"cifar2-{given.change}"
    epochs = {"half": given.epochs // 2, "double": 2 * given.epochs}.get(given.change, given.epochs)
    prediction: Prediction | None = "noise" if given.change == "noise" else None
    run = presets.train_settings("portraits", dataset.digest, prediction=prediction, epochs=epochs)
    trained = training.train(dataset, run, name, printed("Training"))
    print(f"The original: {trained.manifest['seconds']:.0f} s, loss {trained.manifest['final_loss']:.4f}", flush=True)
    checkpoint = checkpoints.by_name(name, dataset.digest)
    work.run(SampleJob(checkpoint=checkpoint.digest, seeds=tuple(range(given.targets))), printed("Generating"))
    return dataset, checkpoint


def questions(given: argparse.Namespace, dataset: Dataset, checkpoint: Checkpoint) -> list[LdsSettings]:
    """Return what the LDS asks: all subsets with one seed, and some with a second one."""
    from dtrak_core.lds.subset_models import LdsSettings

    names = tuple(f"{kind}:{i}" for kind in ("seed", "held-out") for i in range(given.targets))
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "targets": names}
    counts = ((given.subsets, 1), (given.second, 2))
    return [LdsSettings(**where, num_subsets=count, train_seeds=seeds) for count, seeds in counts if count]


def recipes_of(
    dataset: Dataset, checkpoint: Checkpoint, plain: bool
) -> tuple[list[Recipe], list[Recipe], list[tuple[Sweep, str, Recipe]]]:
    """Return the recipes of the first methods, of all others, and of the findings by sweep and line."""
    from dtrak_core.demo import portraits
    from dtrak_core.lds import recipes

    table, _ = portraits.shipped_recipes(dataset, checkpoint)
    table = [
        recipes.with_timesteps(one, portraits.TIMESTEPS)
        for one in table
        if plain or not one.method.endswith("ensemble")
    ]
    swept = [
        (sweep, line, one)
        for sweep in SWEEPS
        for line, points in recipes.sweep(sweep, dataset, checkpoint).items()
        for one in points
    ]
    first = [one for one in table if one.method in FIRST]
    return first, [one for one in table if one not in first] if plain else [], swept


def predicted(
    dataset: Dataset, measured: LdsSettings, made: list[Recipe], findings: Iterable[tuple[Sweep, str, Recipe]]
) -> dict[str, Any]:
    """Compute what recipes predict, print their LDS next to the paper's, and return it."""
    from dtrak_core.commands import tables
    from dtrak_core.demo.portraits import printed
    from dtrak_core.lds import benchmarking, paper, predictions, standing_words, standings, subset_models

    benchmarking.compute(dataset, measured, made, False, printed("Methods"))
    known = subset_models.read(dataset, measured)
    found = [told for recipe in made if (told := predictions.find(recipe, measured)) is not None]
    rows = standings.rows(found, known, measured)
    shown = []
    for row in rows:
        theirs = paper.LDS.get(row["method"], {}).get(row["targets"], {})
        ends = " to ".join(f"{end:+.3f}" for end in row["interval"] or ())
        printed_there = f"{theirs[max(theirs)] / 100:+.3f}" if theirs else ""
        shown.append(
            {
                "method": row["label"],
                "targets": row["targets"],
                "LDS": f"{row['lds']:+.3f}",
                "95 %": ends,
                "paper": printed_there,
            }
        )
    kinds, protocol = standings.kinds(known, measured), standings.protocol(known, measured)
    reached = [
        f"{standing_words.attainable(facts) or 'not known'} on {words} targets" for words, facts in kinds.items()
    ]
    print(tables.table(shown, ("method", "targets", "LDS", "95 %", "paper")), f"Paper: {paper.SETTING}.", sep="\n")
    print(f"A perfect attribution could reach: {', '.join(reached)}.")
    points = []
    for sweep, line, one in findings:
        benchmarking.compute(dataset, measured, [one], False, printed(f"Findings, {sweep}"))
        if (prediction := predictions.find(one, measured)) is not None:
            for row in standings.rows([prediction], known, measured):
                points.append({"sweep": sweep, "line": line, "recipe": one.model_dump(mode="json")} | row)
                print(sweep, line, one.model_output or one.method, row["targets"], f"{row['lds']:+.3f}", flush=True)
    return {"rows": rows, "findings": points, "targets": kinds, "protocol": protocol}


def by_level(dataset: Dataset, measured: LdsSettings, made: list[Recipe]) -> list[dict[str, Any]]:
    """Return what recipes predict of the losses of each fifth of the noise levels, low ones first, and print it.

    `share` is how much of the whole loss a fifth is. Models whose losses are not known by timestep are left out.
    """
    from dtrak_core.lds import predictions, recipes, subset_models

    whole, width, rows = subset_models.read(dataset, measured), measured.num_timesteps // FIFTHS, []
    for place in range(FIFTHS):
        known = subset_models.read(dataset, measured, slice(place * width, (place + 1) * width))
        if len(known.subsets) < len(whole.subsets):
            return []
        share = float(np.nanmean(known.losses) / np.nanmean(whole.losses) / FIFTHS)
        for recipe in made:
            if (found := predictions.find(recipe, measured)) is None:
                continue
            for kind in ("seed", "held-out"):
                told = predictions.evaluated(found, known, measured, kind)
                rows.append({"fifth": place, "share": share, "method": recipes.label(recipe), "targets": kind})
                rows[-1] |= {"lds": told.mean, "low": told.low, "high": told.high}
                print(rows[-1], flush=True)
    return rows


def compared(given: argparse.Namespace, dataset: Dataset, checkpoint: Checkpoint) -> dict[str, Any]:
    """Remove, retrain, redraw (docs/design.md, "Statistics"); print and return the statistics of each measure."""
    from dtrak_core.counterfactual import comparisons, contrasts, counterfactual, removals
    from dtrak_core.counterfactual.entries import label as arm_label
    from dtrak_core.demo import portraits
    from dtrak_core.lds import recipes
    from dtrak_core.methods import scores
    from dtrak_core.methods.families import family_of
    from dtrak_core.methods.methods import METHODS
    from dtrak_core.models import targets

    names = tuple(f"seed:{seed}" for seed in range(given.compared))
    shown = [targets.resolve(dataset, checkpoint.digest, name) for name in names]
    for method in portraits.COMPARED_BY:
        own = recipes.with_timesteps(recipes.usual(dataset, checkpoint, method), portraits.TIMESTEPS)
        plan = scores.resolve(method, dataset, checkpoint.digest, shown, own.features)
        family_of(METHODS[method]).compute(plan, portraits.printed(f"Scores of {method}"))
    asked = {
        "targets": names,
        "remove": (round(REMOVED * len(dataset.train.rows)),),
        "random_draws": portraits.RANDOM_MODELS,
        "floor_models": portraits.FLOOR_MODELS,
    }
    settings = removals.settings_for(dataset, checkpoint, portraits.COMPARED_BY, asked, portraits.SIMILARITY)
    counterfactual.compare(dataset, checkpoint, settings, "cifar2", portraits.printed("Comparison"))
    done = comparisons.by_name("cifar2")
    rows = []
    for measure in MEASURES:
        for arm, told in comparisons.statistics(done, measure=measure).items():
            beyond = told.beyond and [told.beyond.difference, told.beyond.low, told.beyond.high]
            row = {"measure": measure, "removed": arm_label(arm), "own": told.own, "p": told.specific_p}
            rows.append(row | {"beyond_random": beyond})
            print(rows[-1], flush=True)
    between = contrasts.contrasts(done)
    print(contrasts.summary(between), flush=True)
    for measure, each in between.items():
        print(measure, *(contrasts.sentence(one, measure) for one in each), sep="\n  ", flush=True)
    return {"comparison": rows, "contrasts": contrasts.document(between)}


def chosen(pictures: int, targets: int) -> dict[str, np.ndarray]:
    """Return the first pictures of each class for training, and of the test part for targets, half of each class."""
    with np.load(PICTURES) as stored:
        arrays = {name: stored[name] for name in stored.files}
    part: dict[str, np.ndarray] = {}
    for split, count in (("train", pictures), ("test", targets)):
        labels = arrays[f"y_{split}"]
        first = [np.flatnonzero(labels == label)[: count // 2] for label in np.unique(labels)]
        rows = np.sort(np.concatenate(first))
        part |= {f"x_{split}": arrays[f"x_{split}"][rows], f"y_{split}": labels[rows]}
    return part | {"classes": arrays["classes"]} if "classes" in arrays else part


if __name__ == "__main__":
    main()
