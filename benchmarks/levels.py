"""At which noise levels a function's gradients tell what made a picture, and how coarse a likeness tells it too.

    python benchmarks/levels.py FOLDER                          the shipped demo; FOLDER keeps the gradients
    python benchmarks/levels.py FOLDER --checkpoint cifar2      the study of benchmarks/cifar2.py, which made FOLDER

No model is trained: the losses of the LDS are stored. For the squared output (D-TRAK's function) and the loss (TRAK's):
one gradient of each training picture at one timestep, projected to 4,096 numbers, and the mean over four noises of a
target's; LDS at 15 % damping, and at the one of all dampings whose LDS is highest. Then means over several levels. For
likeness: the dot product of pictures averaged over blocks, the mean training picture taken off.

Prints, and writes to benchmarks/results/levels-<checkpoint>.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"
LEVELS = tuple(range(0, 1000, 100))
FUNCTIONS = ("squared-output", "loss")
TOGETHER: dict[str, tuple[int, ...]] = {"0 to 300": LEVELS[:4], "800 and 900": LEVELS[8:], "all ten": LEVELS}
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # effective ranks, of the training pictures
USUAL = 0.15
SIDES = (1, 2, 4, 8, 16, 32)  # of the pictures that are compared
PROJ_DIM, NOISES = 4096, 4


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("folder", type=Path)
    asked.add_argument("--checkpoint", choices=("demo", "cifar2"), default="demo")
    given = asked.parse_args()
    folder = given.folder.resolve()
    os.environ["STUDIO_CACHE"] = str(folder / "cache")
    if given.checkpoint != "demo":
        os.environ["STUDIO_DEMO"] = str(folder / "none")
    from dtrak_core import api, files

    bench = {kind: api.benchmark(given.checkpoint, targets=kind) for kind in ("generated", "held-out")}  # type: ignore[arg-type]
    rows = [*of_levels(bench, folder / f"levels-{given.checkpoint}"), *of_likeness(bench)]
    first = bench["generated"]
    facts = {"checkpoint": given.checkpoint, "pictures": len(first.dataset.train.images), "subsets": len(first.masks)}
    files.write_json(RESULTS / f"levels-{given.checkpoint}.json", facts | {"rows": rows})


def of_levels(bench: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the LDS of both functions from each level, and from several together."""
    from dtrak_core.features import kernel
    from dtrak_core.models import networks

    denoiser, rows = networks.load_denoiser(bench["generated"].checkpoint), []
    for name, levels in ({str(level): (level,) for level in LEVELS} | TOGETHER).items():
        for function in FUNCTIONS:
            each = [rows_of(bench, denoiser, function, level, folder) for level in levels]
            trained, own = (np.mean(part, axis=0, dtype=float) for part in zip(*each, strict=True))
            opened, cross = kernel.in_memory(trained), own @ trained.T
            at = {}
            for share in SHARES:
                damping = kernel.damping_for_rank(opened.eigenvalues, share * len(trained))
                at[share] = judged(bench, kernel.damped_scores(opened, cross, damping))
            row: dict[str, Any] = {"levels": name, "function": function}
            for kind in bench:
                best = max(SHARES, key=lambda share: at[share][kind]["lds"])
                row[kind] = {"usual": at[USUAL][kind], "best": at[best][kind], "best_share": best}
            rows.append(row)
            print(row, flush=True)
    return rows


def rows_of(bench: dict[str, Any], denoiser: Any, function: Any, level: int, folder: Path) -> tuple[Any, Any]:
    """Return projected gradients at one level, made once: of the training pictures, and of all targets."""
    from dtrak_core.features import batches, features, projected
    from dtrak_core.features.settings import FeatureSettings

    file = folder / f"{function}-{level}.npz"
    if not file.exists():
        images = bench["generated"].dataset.train.images[:]
        shown = np.concatenate([np.stack([target.image for target in one.targets]) for one in bench.values()])
        ids = [target.id for one in bench.values() for target in one.targets]
        made = []
        for seed in range(NOISES):
            settings = FeatureSettings(
                dataset="0" * 16, checkpoint="0" * 16, model_output=function, proj_dim=PROJ_DIM, noise_seed=seed
            )
            seen, names = (np.concatenate([images, shown]), [*map("train:{}".format, range(len(images))), *ids])
            seen, names = (seen, names) if seed == 0 else (shown, ids)
            found = batches.gradients(denoiser, seen, names, settings, lambda done: None, grid=np.array([level]))
            made.append(projected.rows(features.projectors_of(denoiser, settings), found, len(seen), 1))
        own = np.mean([one[-len(shown) :] for one in made], axis=0)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, x=made[0][: len(images)].astype(np.float32), g=own.astype(np.float32))
    with np.load(file) as stored:
        return stored["x"], stored["g"]


def of_likeness(bench: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the LDS of the dot product of pictures made coarser."""
    images = bench["generated"].dataset.train.images[:]
    shown = np.concatenate([np.stack([target.image for target in one.targets]) for one in bench.values()])
    rows = []
    for side in (one for one in SIDES if one <= images.shape[1]):
        trained, own = (coarser(part, side) for part in (images, shown))
        mean = trained.mean(0)
        row = {"likeness": side} | judged(bench, (own - mean) @ (trained - mean).T)
        rows.append(row)
        print(row, flush=True)
    return rows


def coarser(images: np.ndarray, side: int) -> np.ndarray:
    """Return pictures averaged over blocks, so that `side` are left along each side, as rows."""
    block = images.shape[1] // side
    parts = images.astype(float).reshape(len(images), side, block, side, block, 3)
    found: np.ndarray = parts.mean((2, 4)).reshape(len(images), -1)
    return found


def judged(bench: dict[str, Any], values: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Return the LDS of scores of all targets, by kind, with the ends of its interval."""
    from dtrak_core.lds import lds

    found, start = {}, 0
    for kind, one in bench.items():
        told = lds.evaluate(values[start : start + len(one.targets)], one.masks, np.nanmean(one.losses, axis=1))
        ends = [end if end is None else round(end, 4) for end in (told.low, told.high)]
        found[kind] = {"lds": round(told.mean, 4), "low": ends[0], "high": ends[1]}
        start += len(one.targets)
    return found


if __name__ == "__main__":
    main()
