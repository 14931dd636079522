"""How well are planted copies, duplicates and swapped labels found? On real CIFAR-2 pictures, at 16 px.

    python benchmarks/questions.py duplicates FOLDER     recall of planted duplicates, by pixels and by embeddings
    python benchmarks/questions.py labels FOLDER         recall of swapped labels, by a class-conditional network
    python benchmarks/questions.py copies FOLDER         a picture planted 1, 8, 64 times: area under the curve

FOLDER keeps everything (a cache of its own), so that a stopped run goes on. Pictures come from cifar2.npz beside the
project (../shared/data; automobile and horse), 400 for training and 200 held out. Prints tables, and writes
FOLDER/<question>.json.

copies: eight pictures stand in the training set n times each (0, 1, 8, 64), and a small network is trained on each set
with the same seed and number of steps. Two areas under the curve, by the ratio of Copies over 128 drawn pictures; 0.5
is chance. `auc_pictures` tells the planted pictures from the other training pictures, each by the smallest ratio of the
drawn pictures nearest to it (none: no copy); `auc_models` tells what a network with planted pictures has drawn from
what the network without has.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

PICTURES = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "cifar2.npz"
SIDE, TRAIN, HELD_OUT, PLANTED = 16, 400, 200, 8
TIMES = (0, 1, 8, 64)
SEEDS = 128


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("question", choices=("copies", "duplicates", "labels"))
    asked.add_argument("folder", type=Path)
    asked.add_argument("--steps", type=int, default=3000, help="training steps of 32 pictures")
    given = asked.parse_args()
    if not PICTURES.exists():
        sys.exit(f"{PICTURES} is not there: it is kept beside the project, not in it.")
    given.folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"STUDIO_CACHE": str(given.folder / "cache"), "STUDIO_DEMO": str(given.folder / "none")}
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    found = {"copies": copies, "duplicates": duplicates, "labels": labels}[given.question](given.steps)
    (given.folder / f"{given.question}.json").write_text(json.dumps(found, indent=1))


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training pictures, their labels and held-out pictures, 16 px."""
    stored = np.load(PICTURES)
    images, classes = stored["x_train"], stored["y_train"]
    order = np.random.default_rng(0).permutation(len(images))[: TRAIN + HELD_OUT]
    small = np.stack(
        [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX)) for one in images[order]]
    )
    return small[:TRAIN], classes[order[:TRAIN]], small[TRAIN:]


def trained(dataset: Any, name: str, steps: int, classes: bool = False) -> Any:
    """Train a small network for a number of steps; return its checkpoint."""
    from dtrak_core.models import checkpoints
    from dtrak_core.models.settings import ModelSettings
    from dtrak_core.progress import quiet
    from dtrak_core.training import presets, training

    epochs = max(1, round(32 * steps / len(dataset.train.rows)))
    settings = presets.train_settings("demo", dataset.digest, epochs=epochs)
    model = ModelSettings(channels=(32, 64), prediction="sample", **presets.seen(dataset, classes, grey=False))
    settings = settings.model_copy(update={"model": model, "batch_size": 32})
    training.train(dataset, settings, name, quiet)
    return checkpoints.by_name(name, dataset.digest)


def copies(steps: int) -> dict[str, Any]:
    """Plant pictures, train, draw, compare."""
    from dtrak_core.datasets import catalogue, memory
    from dtrak_core.methods import copies as near
    from dtrak_core.models import networks, sampling, targets
    from dtrak_core.models.settings import SampleSettings

    train, _, held_out = pictures()
    ratios: dict[int, np.ndarray] = {}
    rows = []
    for times in TIMES:
        images = np.concatenate([train[PLANTED:], *[train[:PLANTED]] * times])
        dataset = catalogue.load(memory.keep(images, None, None, None, held_out, f"planted-{times}"))
        checkpoint = trained(dataset, f"planted-{times}", steps)
        denoiser = networks.load_denoiser(checkpoint)
        drawn = sampling.generate(denoiser, list(range(SEEDS)), "ddim", 50, 0.0)
        shown = [
            targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed), image)
            for seed, image in enumerate(drawn)
        ]
        found = near.find("pixels", dataset, checkpoint, shown)
        ratios[times] = np.array([one.ratio for one in found.found])
        first = TRAIN - PLANTED  # the planted pictures come last, in one order again and again
        smallest = np.full(TRAIN, np.inf)
        for one in found.found:
            place = one.nearest if one.nearest < first else first + (one.nearest - first) % PLANTED
            smallest[place] = min(smallest[place], one.ratio)
        row = {
            "times": times,
            "near_the_planted": sum(one.nearest >= first for one in found.found),
            "close": len(found.close),
            "close_by_chance": round(found.expected, 1),
            "median_ratio": float(np.median(ratios[times])),
            "auc_models": area(ratios[times], ratios[0]),
            "auc_pictures": area(smallest[first:], smallest[:first]) if times else None,
        }
        rows.append(row)
        print(row, flush=True)
    return {"steps": steps, "seeds": SEEDS, "rows": rows}


def area(own: np.ndarray, other: np.ndarray) -> float:
    """Return how often one of the first is smaller than one of the second, equal ones counted half."""
    less = (own[:, None] < other).mean() + 0.5 * (own[:, None] == other).mean()
    return float(less)


def duplicates(_: int) -> dict[str, Any]:
    """Change a tenth of the pictures, add them, and count how many of these pairs are ranked first."""
    from dtrak_core.datasets import catalogue, memory
    from dtrak_core.methods import doctor, embeddings
    from dtrak_core.methods.doctor import Check
    from dtrak_core.models.checkpoints import Checkpoint

    train, _, held_out = pictures()
    many, random = TRAIN // 10 // 2, np.random.default_rng(0)
    model: Checkpoint | None = None
    rows = []
    for change, of in CHANGES.items():
        changed = np.stack([of(one, random) for one in train[:many]])
        images = np.concatenate([train[: TRAIN - many], changed])
        dataset = catalogue.load(memory.keep(images, None, None, None, held_out, f"doubled-{change}"))
        model = model or trained(dataset, "untrained", 1)
        embeddings.embed_dataset(dataset, "efficientnet-lite0")
        pairs = {*range(many), *range(TRAIN - many, TRAIN)}
        for check in ("duplicates", "look-alikes"):
            named: Check = "duplicates" if check == "duplicates" else "look-alikes"
            order = doctor.find(named, dataset, model).order.tolist()
            row = {"change": change, "check": check} | recall(order, pairs)
            rows.append(row)
            print(row, flush=True)
    return {"pictures": TRAIN, "planted": 2 * many, "rows": rows}


def encoded(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Return a picture as JPEG of quality 75 keeps it, at twice its size."""
    buffer = io.BytesIO()
    Image.fromarray(image).resize((2 * SIDE, 2 * SIDE)).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer).resize((SIDE, SIDE), Image.Resampling.BOX))


CHANGES = {
    "equal": lambda image, _: image,
    "jpeg": encoded,
    "lighter": lambda image, _: np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8),
    "noise": lambda image, random: np.clip(image + random.normal(0, 8, image.shape), 0, 255).astype(np.uint8),
    "shifted": lambda image, _: np.roll(image, 1, 1),
    "mirrored": lambda image, _: image[:, ::-1].copy(),
}


def labels(steps: int) -> dict[str, Any]:
    """Swap a tenth of the labels, train a network that is told them, and count how many are doubted first."""
    from dtrak_core.datasets import catalogue, memory
    from dtrak_core.engine import work
    from dtrak_core.jobs.question_jobs import SuspicionJob
    from dtrak_core.methods import doctor, suspicions
    from dtrak_core.progress import quiet

    train, classes, held_out = pictures()
    swapped = set(np.random.default_rng(0).choice(TRAIN, TRAIN // 10, replace=False).tolist())
    told = [
        str(1 - one if i in swapped else one) for i, one in enumerate((classes == classes.max()).astype(int).tolist())
    ]
    dataset = catalogue.load(memory.keep(train, told, None, None, held_out, "swapped"))
    checkpoint = trained(dataset, "swapped", steps, classes=True)
    settings = suspicions.settings_of(dataset, checkpoint)
    work.run(SuspicionJob(settings=settings), quiet)
    order = doctor.find("captions", dataset, checkpoint).order.tolist()
    row = {"steps": steps, "swapped": len(swapped)} | recall(order, swapped)
    print(row)
    return row


def recall(order: list[int], wanted: set[int]) -> dict[str, float]:
    """Return which part of the wanted ones is among the first 10 and 20 %."""
    return {
        f"recall_{percent}": len(wanted.intersection(order[: TRAIN * percent // 100])) / len(wanted)
        for percent in (10, 20)
    }


if __name__ == "__main__":
    main()
