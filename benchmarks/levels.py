"""At which noise levels a function's gradients tell what made a picture, and how coarse a likeness tells it too.

    python benchmarks/levels.py FOLDER                          the shipped demo; FOLDER keeps the gradients
    python benchmarks/levels.py FOLDER --checkpoint cifar2      the study of benchmarks/cifar2.py, which made FOLDER

No model is trained: the losses of the LDS are stored. For the squared output (D-TRAK's function) and the loss (TRAK's):
one gradient of each training picture at one timestep, projected to 4,096 numbers, and the mean over four noises of a
target's; LDS at 15 % damping, and at the one of all dampings whose LDS is highest. Then means over several levels. For
likeness: the dot product of pictures averaged over blocks, the mean training picture taken off. At last, where FOLDER
keeps models that were trained without some pictures (those of a comparison), what their losses differ by: the share of
each fifth of the levels, and how well likeness and both functions tell the losses of that fifth, by rank correlation.

Prints, and writes to benchmarks/results/levels-<checkpoint>.json.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
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
TIMESTEPS, FIFTHS = 50, 5


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
    kept = folder / f"levels-{given.checkpoint}" / bench["generated"].checkpoint.digest
    rows = [*of_levels(bench, kept), *of_likeness(bench), *of_models(bench, kept)]
    first = bench["generated"]
    facts = {"checkpoint": given.checkpoint, "pictures": len(first.dataset.train.images), "subsets": len(first.masks)}
    files.write_json(RESULTS / f"levels-{given.checkpoint}.json", facts | {"rows": rows})


def of_levels(bench: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the LDS of both functions from each level, and from several together."""
    from dtrak_core.models import networks

    denoiser, rows = networks.load_denoiser(bench["generated"].checkpoint), []
    for name, levels in ({str(level): (level,) for level in LEVELS} | TOGETHER).items():
        for function in FUNCTIONS:
            scored = scores_of([rows_of(bench, denoiser, function, level, folder) for level in levels])
            at = {share: judged(bench, scored(share)) for share in SHARES}
            row: dict[str, Any] = {"levels": name, "function": function}
            for kind in bench:
                best = max(SHARES, key=lambda share: at[share][kind]["lds"])
                row[kind] = {"usual": at[USUAL][kind], "best": at[best][kind], "best_share": best}
            rows.append(row)
            print(row, flush=True)
    return rows


def scores_of(levels: Sequence[tuple[np.ndarray, np.ndarray]]) -> Callable[[float], np.ndarray]:
    """Return what gives the scores from the mean over levels at an effective rank, a share of the training pictures."""
    from dtrak_core.features import kernel

    trained, own = (np.mean(part, axis=0, dtype=float) for part in zip(*levels, strict=True))
    opened, cross = kernel.in_memory(trained), own @ trained.T

    def scored(share: float) -> np.ndarray:
        damping = kernel.damping_for_rank(opened.eigenvalues, share * len(trained))
        return kernel.damped_scores(opened, cross, damping)

    return scored


def shown_of(bench: dict[str, Any]) -> np.ndarray:
    """Return the pictures of all targets, kind by kind."""
    return np.stack([target.image for one in bench.values() for target in one.targets])


def rows_of(
    bench: dict[str, Any], denoiser: Any, function: Any, level: int, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return projected gradients at one level, made once: of the training pictures, and of all targets."""
    from dtrak_core import store
    from dtrak_core.features import batches, features, projected
    from dtrak_core.features.settings import FeatureSettings

    file, images = folder / f"{function}-{level}.npy", bench["generated"].dataset.train.images[:]
    if not file.exists():
        shown = shown_of(bench)
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
        store.write_array(file, np.concatenate([made[0][: len(images)], own]).astype(np.float32))
    stored = np.load(file)
    return stored[: len(images)], stored[len(images) :]


def of_likeness(bench: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the LDS of the dot product of pictures made coarser."""
    rows = []
    for side in SIDES:
        row = {"likeness": side} | judged(bench, likeness(bench, side))
        rows.append(row)
        print(row, flush=True)
    return rows


def likeness(bench: dict[str, Any], side: int) -> np.ndarray:
    """Return the dot products (M, N) of pictures of so many pixels a side, the mean training picture taken off."""
    trained, own = (coarser(part, side) for part in (bench["generated"].dataset.train.images[:], shown_of(bench)))
    mean = trained.mean(0)
    found: np.ndarray = (own - mean) @ (trained - mean).T
    return found


def of_models(bench: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return what the losses of kept models differ by, and who tells it, by fifth of the noise levels."""
    from dtrak_core import store
    from dtrak_core.features import draws, losses
    from dtrak_core.lds import lds
    from dtrak_core.models import checkpoints, networks
    from dtrak_core.models.settings import TrainSettings

    first = bench["generated"]
    shown = [target for one in bench.values() for target in one.targets]
    grid, masks, each = draws.timesteps("uniform", TIMESTEPS), [], []
    for artifact in store.listing("retrained"):
        run = TrainSettings(**artifact.settings)
        if run.dataset != first.dataset.digest or run.indices is None:
            continue
        file = folder / f"losses-{artifact.key}.npy"
        if not file.exists():
            denoiser = networks.load_denoiser(checkpoints.of_run(artifact)[-1])
            values = [losses.by_timestep(denoiser, target, TIMESTEPS, 0) for target in shown]
            store.write_array(file, np.stack(values))
        masks.append(np.isin(np.arange(len(first.dataset.train.images)), run.indices))
        each.append(np.load(file))
    if len(each) < FIFTHS:
        return []
    by_fifth = np.stack(each).reshape(len(each), len(shown), FIFTHS, len(grid) // FIFTHS).mean(3) / FIFTHS
    whole = by_fifth.sum(2)
    apart = (by_fifth - by_fifth.mean(0)) * (whole - whole.mean(0))[:, :, None]
    share = (apart.sum(0) / np.square(whole - whole.mean(0)).sum(0)[:, None]).mean(0)
    rows: list[dict[str, Any]] = [{"models": len(each), "share_of_variance": share.round(3).tolist()}]
    told = {"likeness": likeness(bench, SIDES[-1])}
    for function in FUNCTIONS:
        told[function] = scores_of([rows_of(bench, None, function, level, folder) for level in LEVELS])(SHARES[1])
    ends = np.cumsum([0, *(len(one.targets) for one in bench.values())])
    for name, values in told.items():
        row: dict[str, Any] = {"told_by": name}
        for place, kind in enumerate(bench):
            mine = slice(ends[place], ends[place + 1])
            guess = lds.predicted(values[mine], np.array(masks))
            fifths = [by_fifth[:, mine, k] for k in range(FIFTHS)]
            row[kind] = [round(lds.judge(guess, part).mean, 3) for part in (*fifths, whole[:, mine])]
        rows.append(row)
    for row in rows:
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
