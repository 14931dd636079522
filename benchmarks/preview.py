"""Can a removal be previewed in seconds, by a model that unlearned the pictures? Against the demo's retrained models.

    python benchmarks/preview.py FOLDER [VARIANT ...] [--every N]   what is done stays in FOLDER: a second run goes on
    python benchmarks/preview.py FOLDER --table                     computes nothing, prints what FOLDER holds

The truth is the shipped comparison `demo`: its models retrained without a fifth of the pictures (each method's removals
for each of 12 targets, random ones), each of which drew every target. A variant makes weights from the original's, kept
and removed rows; its model draws the same targets and is measured the same way: change of the target's loss, pixel l2
and cosine from the original's picture. `--every N` takes each N-th removal, for a first look. `kept-75` needs weights
that do not ship: those of a demo trained here, in FOLDER/cache.

Printed and written to benchmarks/results/preview.json, of each variant: the rank correlation with retraining over the
removals for each target, mean over targets, and over the removals with the targets that they were named for; both with
the 95 % interval by bootstrap over targets; picture passes that make a model, and its seconds here. And of the truth
itself, how far retraining would agree with retraining under another seed (`ceiling`), and how far the sums of scores
of the removed pictures agree with it, for which no model is made.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["STUDIO_CACHE"] = str(Path(sys.argv[1]).resolve() / "cache")

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dtrak_core import files, statistics
from dtrak_core.counterfactual import comparisons, encoders, removals
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.distances import cosine, pixel_l2
from dtrak_core.counterfactual.entries import MEASURES
from dtrak_core.features import draws, losses
from dtrak_core.methods import embeddings, scores
from dtrak_core.methods.settings import EmbeddingSettings
from dtrak_core.models import checkpoints, networks, sampling, weights
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.targets import Target, find_sample
from dtrak_core.training import training_run

WORK = Path(sys.argv[1]).resolve()
RESULT = Path(__file__).parent / "results" / "preview.json"
BATCH, LEVELS = 32, 50  # pictures a step; timesteps at which the held-out level is known


@dataclass(frozen=True)
class Variant:
    """A way to unlearn: from which kept share of the training, steps, highest rate, removed pictures in a batch."""

    share: int
    steps: int
    rate: float
    ascent: int = 0
    about: str = ""


VARIANTS = {
    "kept": Variant(100, 60, 1e-3, about="the kept pictures alone, from the last weights"),
    "kept-75": Variant(75, 60, 1e-3, about="the kept pictures alone, from the weights at 75 %"),
    "ascent": Variant(100, 40, 3e-4, 16, "up on the removed to the held-out level, down on the kept"),
    "kept-long": Variant(100, 200, 2e-3, about="the kept pictures alone, from the last weights, longer and faster"),
    "ascent-long": Variant(100, 200, 1e-3, 8, "up on the removed and down on the kept, longer and faster"),
}


@dataclass(frozen=True)
class Demo:
    """What all variants share: the comparison, its pictures, where training left off, the level of unseen pictures."""

    comparison: Comparison
    pictures: np.ndarray
    held_out: np.ndarray
    targets: list[Target]
    removed: list[tuple[int, ...]]

    def denoiser(self, share: int) -> Denoiser:
        last = checkpoints.by_digest(self.comparison.settings.checkpoint, self.comparison.settings.dataset)
        denoiser = networks.load_denoiser(last)
        if share != last.share:  # those weights do not ship
            found = next(one for one in checkpoints.of_run(last.run) if one.share == share)
            kept = WORK / "cache" / "checkpoints" / last.run.key / found.folder.name / "unet" / networks.WEIGHTS
            weights.fit(denoiser.network, weights.read_file(kept, found.name), found.name)
        return denoiser


def demo() -> Demo:
    comparison = comparisons.by_name("demo")
    dataset = comparisons.dataset_of(comparison)
    assert dataset is not None
    targets = [find_sample(removals.sample_of(name, comparison.settings)) for name in comparison.settings.targets]
    removed = list(dict.fromkeys(entry.removed for entry in comparison.entries if entry.removed))
    return Demo(
        comparison, dataset.train.images[:], dataset.held_out.images[:], [t for t in targets if t is not None], removed
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", help="where what was done is kept")
    parser.add_argument("variants", nargs="*", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--every", type=int, default=1, help="take each N-th removal")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    asked = parser.parse_args()
    known = demo()
    for name in [] if asked.table else asked.variants or list(VARIANTS):
        compute(known, name, range(0, len(known.removed), asked.every))
    report(known)


def place(known: Demo, name: str) -> Path:
    """Return the folder of what a variant made: of this comparison, for a rebuilt demo has another."""
    return WORK / "previews" / known.comparison.key / name


def compute(known: Demo, name: str, numbers: range) -> None:
    """Unlearn each removal and store what its model makes of the targets, a file a removal."""
    variant, folder = VARIANTS[name], place(known, name)
    folder.mkdir(parents=True, exist_ok=True)
    left = [number for number in numbers if not (folder / f"{number}.npz").exists()]
    if not left:
        return
    denoiser = known.denoiser(variant.share)
    start = parameters_to_vector(denoiser.network.parameters()).detach().clone()
    level = held_out_level(denoiser, known.held_out)
    original = known.denoiser(100)
    before = np.array([loss(original, target) for target in known.targets])
    for number in left:
        vector_to_parameters(start.clone(), denoiser.network.parameters())
        wall, cpu = time.perf_counter(), time.process_time()
        rows = np.array(known.removed[number])
        tuned(denoiser, known, rows, variant, level)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = np.array([loss(denoiser, target) for target in known.targets])
        images = sampling.generate(denoiser, [int(t.id.removeprefix("seed:")) for t in known.targets], "ddim", 50, 0.0)
        made = {"loss_change": after - before, **distances(known, images)}
        np.savez(folder / f"{number}.npz", images=images, wall=wall, cpu=cpu, **made)
        print(name, number, f"{wall:.1f} s", {k: round(float(v.mean()), 4) for k, v in made.items()}, flush=True)


def loss(denoiser: Denoiser, target: Target) -> float:
    return losses.denoising_loss(denoiser, target, LEVELS, 0)


def distances(known: Demo, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return pixel l2 and cosine of each target's picture from the original's, as a comparison measures them."""
    settings = encoders.settled(known.comparison.settings)
    found: dict[str, list[float]] = {"l2": [], "cosine": []}
    for target, image in zip(known.targets, images, strict=True):
        encoder = EmbeddingSettings(
            model=settings.encoder, weights=encoders.weights_of(settings, settings.encoder), pixels=target.pixels
        )
        seen = embeddings.embed(np.stack([target.image, image]), encoder)
        found["l2"].append(pixel_l2(target.image, image))
        found["cosine"].append(cosine(seen[0], seen[1]))
    return {name: np.array(values) for name, values in found.items()}


@torch.no_grad()
def held_out_level(denoiser: Denoiser, images: np.ndarray) -> Tensor:
    """Return the mean weighted loss of unseen pictures at each timestep, (T,): that of the nearest of some."""
    grid = draws.timesteps("uniform", LEVELS, denoiser.process.steps)
    each = [losses.of_draws(denoiser, images[i], f"held-out:{i}", grid, 0) for i in range(min(24, len(images)))]
    means = np.mean(each, 0) * losses.weights(denoiser, grid)
    return torch.from_numpy(np.interp(np.arange(denoiser.process.steps), grid, means)).float()


def errors(denoiser: Denoiser, images: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the weighted losses of pictures, one random draw each, and the timesteps of the draws."""
    x0 = denoiser.encode(images)
    noise, t = map(torch.from_numpy, training_run.noise_and_times(random, tuple(x0.shape), denoiser.process.steps))
    output = denoiser.predict(denoiser.process.noised(x0, noise, t), t)
    error = (output - denoiser.process.target(x0, noise, t)).square().flatten(1).mean(1)
    return denoiser.process.loss_weights(t) * error, t


def tuned(denoiser: Denoiser, known: Demo, removed: np.ndarray, variant: Variant, level: Tensor) -> None:
    """Train on for some steps on the kept, and up on the removed where they are below the held-out level."""
    trained = [p for p in denoiser.network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=variant.rate, betas=(0.9, 0.99), weight_decay=1e-6, fused=True)
    kept = np.setdiff1d(np.arange(len(known.pictures)), removed)
    for step in range(variant.steps):
        random = training_run.generator(0, "preview", step)
        optimizer.param_groups[0]["lr"] = training_run.learning_rate(variant.rate, 0.1, step, variant.steps)
        own = kept[random.choice(len(kept), BATCH - variant.ascent, replace=False)]
        gone = removed[random.choice(len(removed), min(variant.ascent, len(removed)), replace=False)]
        found, t = errors(denoiser, known.pictures[np.concatenate([own, gone])], random)
        aim = found[: len(own)].mean()
        if len(gone):
            aim = aim + (level[t[len(own) :]] - found[len(own) :]).relu().mean()
        aim.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def truth(known: Demo) -> dict[str, np.ndarray]:
    """Return what the retrained models made of the targets: a measure each, (removals, targets)."""
    names = list(known.comparison.settings.targets)
    found = {measure: np.full((len(known.removed), len(names)), np.nan) for measure in MEASURES}
    for entry in known.comparison.entries:
        if entry.removed:
            for measure in MEASURES:
                where = known.removed.index(entry.removed), names.index(entry.target)
                found[measure][where] = getattr(entry, measure)
    return found


def named(known: Demo) -> np.ndarray:
    """Return for each removal which targets it was named for, (removals, targets), bool."""
    names = list(known.comparison.settings.targets)
    found = np.zeros((len(known.removed), len(names)), bool)
    for entry in known.comparison.entries:
        if entry.removed and entry.owner:
            found[known.removed.index(entry.removed), names.index(entry.owner)] = True
    return found


def ceiling(known: Demo, measure: str) -> dict[str, object]:
    """Return how well the retrained models can be foretold: their noise, and rank correlations simulated from it.

    The noise of a target is the variance over training seeds with nothing removed. What removals do is simulated as the
    measured values drawn together to the variance that is left when it is taken off, `again` by two draws of such noise
    on it (retraining, and once more under another seed), `perfect` by one draw beside none (a preview without noise).
    """
    own: dict[str, list[float]] = {name: [] for name in known.comparison.settings.targets}
    for entry in known.comparison.entries:
        if entry.method == removals.FLOOR:
            own[entry.target].append(getattr(entry, measure))
    values, mine = truth(known)[measure], named(known)
    seeds = np.array([np.var(each, ddof=1) for each in own.values()])
    random = np.random.default_rng(0)
    noises = random.standard_normal((2, 200, *values.shape)) * np.sqrt(seeds)
    target_of = np.nonzero(mine)[1]
    own_values = values[mine]
    told: dict[str, object] = {"seed_variance": float(seeds.mean())}
    for name, measured, variance in (
        ("within_targets", values, seeds),
        ("own_targets", own_values[:, None], seeds[target_of].mean(keepdims=True)),
    ):
        middle, whole = measured.mean(0), measured.var(0, ddof=1)
        left = middle + (measured - middle) * np.sqrt(np.maximum(0, 1 - variance / whole))
        found: dict[str, list[float]] = {"again": [], "perfect": []}
        for one, other in zip(*noises, strict=True):
            if name == "own_targets":
                one, other = one[mine][:, None], other[mine][:, None]
            found["again"].append(float(statistics.spearman(left + one, left + other).mean()))
            found["perfect"].append(float(statistics.spearman(left, left + other).mean()))
        told[name] = {"variance": float(whole.mean())} | {kind: float(np.mean(each)) for kind, each in found.items()}
    return told


def interval(values: Callable[[np.ndarray], float], count: int) -> list[float]:
    """Return a number of all targets, and the ends of its 95 % interval, targets drawn with replacement."""
    drawn = np.random.default_rng(0).integers(count, size=(2000, count))
    low, high = np.nanquantile([values(one) for one in drawn], (0.025, 0.975))
    return [round(float(value), 4) for value in (values(np.arange(count)), low, high)]


def summed(known: Demo, method: str) -> np.ndarray:
    """Return the sums of a method's scores of the removed pictures, (removals, targets): no model is made for these."""
    comparison, found = known.comparison, []
    dataset = comparisons.dataset_of(comparison)
    assert dataset is not None
    for target in known.targets:
        features, encoder = (
            removals.features_of(comparison.settings, method),
            encoders.of_method(comparison.settings, method),
        )
        where = (method, dataset, comparison.settings.checkpoint, target, features)
        found.append(scores.attribution_scores(*where, encoder_weights=encoder).values)
    return np.array([[one[list(removed)].sum() for one in found] for removed in known.removed])


def agreement(values: np.ndarray, wanted: np.ndarray, own: np.ndarray) -> dict[str, list[float]]:
    """Return rank correlations of (removals, targets) with retraining, each with its interval over targets.

    Over the removals for each target, mean over targets; and over removals and targets that belong together (`own`).
    """
    each = statistics.spearman(values, wanted)

    def pooled(chosen: np.ndarray) -> float:
        a, b = (np.concatenate([v[own[:, j], j] for j in chosen])[:, None] for v in (values, wanted))
        return float(statistics.spearman(a, b)[0]) if len(a) > 2 else math.nan

    count = values.shape[1]
    return {
        "within_targets": interval(lambda chosen: float(each[chosen].mean()), count),
        "own_targets": interval(pooled, count),
    }


def report(known: Demo) -> None:
    """Print and write how far each variant agrees with retraining."""
    real, mine = truth(known), named(known)
    told: dict[str, Any] = {
        "torch": torch.__version__,
        "removals": len(known.removed),
        "targets": len(known.targets),
        "variants": {},
        "scores": {},
    }
    told["retraining"] = {measure: ceiling(known, measure) for measure in MEASURES}
    print("retraining", told["retraining"])
    for method in ("d-trak", "trak"):  # of which everything ships
        values = summed(known, method)
        told["scores"][method] = {m: agreement(-values if m == "cosine" else values, real[m], mine) for m in MEASURES}
        print("scores of", method, told["scores"][method])
    for name, variant in VARIANTS.items():
        done = [n for n in range(len(known.removed)) if (place(known, name) / f"{n}.npz").exists()]
        if len(done) < 6:
            continue
        stored = [np.load(place(known, name) / f"{n}.npz") for n in done]
        row: dict[str, Any] = {"about": variant.about, "removals": len(done), "passes": variant.steps * BATCH}
        row |= {unit: round(float(np.median([one[unit] for one in stored])), 2) for unit in ("wall", "cpu")}
        for measure in MEASURES:
            values, wanted = np.stack([one[measure] for one in stored]), real[measure][done]
            means = [round(float(each[mine[done]].mean()), 4) for each in (values, wanted)]
            row[measure] = agreement(values, wanted, mine[done]) | {"means_of_own_targets": means}
        told["variants"][name] = row
        print(name, row)
    files.write_json(RESULT, told)


if __name__ == "__main__":
    main()
