"""LDS on real CIFAR-2, at a size that two cores can train: does D-TRAK stand above TRAK there too?

    python benchmarks/cifar2.py FOLDER                   16 px, 1,000 pictures, 16 subsets: about an hour on 2 cores
    python benchmarks/cifar2.py FOLDER --resolution 32 --epochs 60 --subsets 32      a night

FOLDER keeps everything (a cache of its own), so that a stopped run goes on. Pictures come from cifar2.npz beside the
project (../shared/data; automobile and horse). The demo's network is trained on the first 500 of each class, then on
random halves of them (the paper's draws); losses of 32 generated and 32 held-out pictures are predicted by D-TRAK,
TRAK and raw pixels, features of 10 timesteps. Prints the table, and writes FOLDER/lds.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from dtrak_core.progress import Progress

PICTURES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cifar2.npz"
METHODS = ("d-trak", "trak", "gradient-cosine", "raw-pixel-cosine")


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("folder", type=Path)
    asked.add_argument("--resolution", type=int, default=16)
    asked.add_argument("--pictures", type=int, default=1000)
    asked.add_argument("--epochs", type=int, default=40)
    asked.add_argument("--subsets", type=int, default=16)
    asked.add_argument("--seeds", type=int, default=1)
    asked.add_argument("--targets", type=int, default=32)
    given = asked.parse_args()
    if not PICTURES.exists():
        sys.exit(f"{PICTURES} is not there: it is kept beside the project, not in it.")
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"STUDIO_CACHE": str(given.folder / "cache"), "STUDIO_DEMO": str(given.folder / "none")}
    measure(given)


def measure(given: argparse.Namespace) -> None:
    """Train, measure, predict, print."""
    import torch

    from dtrak_core import files
    from dtrak_core.commands import tables
    from dtrak_core.datasets import catalogue
    from dtrak_core.engine import work
    from dtrak_core.jobs import processes
    from dtrak_core.jobs.jobs import SampleJob
    from dtrak_core.lds import benchmarking, predictions, recipes, standings, subset_losses, subset_models  # fmt: skip
    from dtrak_core.lds.subset_models import LdsSettings
    from dtrak_core.models import checkpoints
    from dtrak_core.training import presets, training

    torch.set_num_threads(processes.cores())
    file = given.folder / "pictures.npz"
    if not file.exists():
        np.savez(file, **chosen(given.pictures, given.targets))
    settings = catalogue.source_settings("npz", file, f"cifar2-{given.pictures}", given.resolution)
    dataset = catalogue.load(catalogue.prepare(settings, file))
    run = presets.train_settings("demo", dataset.digest, epochs=given.epochs)
    training.train(dataset, run, "cifar2", printed("Training"))
    checkpoint = checkpoints.by_name("cifar2", dataset.digest)
    work.run(SampleJob(checkpoint=checkpoint.digest, seeds=tuple(range(given.targets))), printed("Generating"))
    names = [f"seed:{i}" for i in range(given.targets)] + [f"held-out:{i}" for i in range(given.targets)]
    measured = LdsSettings(
        dataset=dataset.digest, checkpoint=checkpoint.digest, targets=tuple(names), num_subsets=given.subsets,
        train_seeds=given.seeds,
    )  # fmt: skip
    usual = [recipes.with_timesteps(recipes.usual(dataset, checkpoint, name), recipes.FEW) for name in METHODS]
    benchmarking.compute(dataset, measured, usual, False, printed("Scores"))
    subset_losses.compute(dataset, checkpoint, measured, printed("Subsets"))
    known = subset_models.read(dataset, measured)
    found = [one for recipe in usual if (one := predictions.find(recipe, measured)) is not None]
    rows = standings.rows(found, known, measured)
    kinds = standings.kinds(known, measured)
    shown = [
        {
            "method": row["label"],
            "targets": row["targets"],
            "LDS": f"{row['lds']:+.3f}",
            "95 %": " to ".join(f"{end:+.3f}" for end in row["interval"]),
        }
        for row in rows
    ]
    print(tables.table(shown, ("method", "targets", "LDS", "95 %")))
    print(kinds)
    options = {name: value for name, value in vars(given).items() if name != "folder"}
    report = {"options": options, "rows": rows, "targets": kinds, "protocol": standings.protocol(known, measured)}
    files.write_json(given.folder / "lds.json", report)


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


def printed(stage: str) -> Progress:
    """Return progress that prints a line every ten seconds."""
    last = 0.0

    def on_progress(done: int, total: int, unit: str, message: str) -> None:
        nonlocal last
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"{stage}: {done:,} of {total:,} {unit} {message}", file=sys.stderr, flush=True)

    return on_progress


if __name__ == "__main__":
    main()
