"""What a better answer costs: LDS over time and gradients spent, ours and the authors' way, on the shipped demo.

    python benchmarks/frontier.py FOLDER     about 25 minutes on 2 idle cores; gradients stay in FOLDER, so that an
                                             interrupted run goes on, and a second one only takes the times anew
    python benchmarks/frontier.py FOLDER --gradients    these alone, where the machine is busy

No model is trained: the demo's subset losses are stored. Ours: D-TRAK, TRAK and DAS at their usual damping, sparse
projection, K = 1 to 50 timesteps, a target's feature over 1 and over 8 noises. Features are linear in their draws, so
each draw is projected once and means are taken of those that a K has. The authors': D-TRAK and TRAK at K = 1, 10 and
100 of their timesteps (0, 1000 / K, ...), noise that follows a picture's place in a batch of 52, dense Gaussian
projection to 4,096, and of all dampings the one whose LDS is highest, for each kind of target by itself.

Seconds are those of the gradients and projections of the training set and of one target, kernels and scores left out on
both sides. Ours: a pass of 320 draws in each form (K, by timestep or not), times their number. Theirs: torch.func's
vmap of per-sample gradients in a batch of 52, and traker's BasicProjector on 200 of the columns, both likewise.

Stored as an artifact of kind `frontiers` in cache/demo, which the Benchmark page draws, and written to
benchmarks/results/frontier.json. After a rebuild of the demo this command makes it anew.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["STUDIO_CACHE"] = str(Path(sys.argv[1]).resolve() / "cache")

import numpy as np
import torch
from features import AUTHORS_BATCH, per_sample_gradients, seconds
from trak.projectors import BasicProjector, ProjectionType

from dtrak_core import api, files, store
from dtrak_core.features import batches, draws, features, kernel, losses, projected
from dtrak_core.features.gradients import per_example_gradients, pictures_per_batch
from dtrak_core.features.projection import Projector, project
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.lds import frontier, lds
from dtrak_core.lds.frontier import FrontierSettings, Spent, Value
from dtrak_core.methods import gradient_methods, gradient_scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import networks
from dtrak_core.models.denoiser import Denoiser

RESULTS = Path(__file__).resolve().parent / "results" / "frontier.json"
WORK = Path(sys.argv[1]).resolve()
OURS, THEIRS = ("d-trak", "trak", "das"), ("d-trak", "trak")
TIMESTEPS, THEIR_TIMESTEPS, NOISES = (1, 2, 5, 10, 25, 50), (1, 10, 100), (1, 8)
PROJ_DIM, COLUMNS, ROUNDS = 4096, 200, 5
Bench = dict[str, api.Benchmark]


def main() -> None:
    bench: Bench = {kind: api.benchmark("demo", targets=kind) for kind in ("generated", "held-out")}  # type: ignore[arg-type]
    first = bench["generated"]
    denoiser = networks.load_denoiser(first.checkpoint)
    points = [*ours(bench, denoiser), *theirs(bench, denoiser)]
    if "--gradients" in sys.argv:
        return
    taken = times(denoiser)
    points = [dataclasses.replace(one, seconds=round(cost(one, first, taken), 2)) for one in points]
    facts = {
        "how": how(first, denoiser),
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}",
        "subsets": len(first.masks), "targets": {kind: len(one.targets) for kind, one in bench.items()},
        "milliseconds": {name: round(1000 * value, 3) for name, value in taken.items()},
    }  # fmt: skip
    settings = FrontierSettings(dataset=first.dataset.digest, checkpoint=first.checkpoint.digest)
    os.environ |= {"STUDIO_CACHE": str(store.demo_root()), "STUDIO_DEMO": str(WORK / "none")}
    frontier.publish(settings, points, facts)
    files.write_json(RESULTS, facts | {"points": [dataclasses.asdict(one) for one in points]})
    for one in points:
        print(one, flush=True)


def how(first: api.Benchmark, denoiser: Denoiser) -> str:
    """Return the small print."""
    return (
        f"{first.dataset.name}, checkpoint {first.checkpoint.name}: {len(first.dataset.train.images):,} training "
        f"pictures, {'bfloat16' if denoiser.half else 'float32'}, gradients and projections to {PROJ_DIM:,} numbers on "
        f"{torch.get_num_threads()} processor cores. Ours at each method's usual damping; the authors' way (per-sample "
        f"gradients by vmap, dense Gaussian projection) at the damping whose LDS is highest, its time measured on a "
        f"part and multiplied. Intervals resample the {len(first.masks)} subsets."
    )


def ours(bench: Bench, denoiser: Denoiser) -> Iterator[Spent]:
    """Yield our points, their seconds still 0."""
    first = bench["generated"]
    count = len(first.dataset.train.images)
    for name in OURS:
        method = METHODS[name]
        base = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=max(TIMESTEPS), proj_dim=PROJ_DIM)
        settings = gradient_methods.feature_settings(method, "0" * 16, "0" * 16, base)
        errors = residuals(first, denoiser, max(TIMESTEPS)) if method.residual else None
        for timesteps in TIMESTEPS:
            grid = draws.timesteps("uniform", timesteps)
            trained = np.mean([of_draw(bench, denoiser, settings, t, 0)[:count] for t in grid], axis=0, dtype=float)
            opened = kernel.in_memory(trained)
            for noises in NOISES:
                each = [of_draw(bench, denoiser, settings, t, seed)[-all_targets(bench) :]
                        for t in grid for seed in range(noises)]  # fmt: skip
                cross = np.mean(each, axis=0, dtype=float) @ trained.T
                own = None if errors is None else np.sqrt(errors[np.isin(draws.timesteps("uniform", 50), grid)]).mean(0)
                values = gradient_scores.of_products(method, opened, cross, np.empty(0), residuals=own).values
                gradients = (count + noises) * timesteps
                yield Spent(name, False, timesteps, noises, gradients, 0.0, judged(bench, values))


def theirs(bench: Bench, denoiser: Denoiser) -> Iterator[Spent]:
    """Yield the authors' points, their seconds still 0."""
    first = bench["generated"]
    count = len(first.dataset.train.images)
    for name in THEIRS:
        method = METHODS[name]
        for timesteps in THEIR_TIMESTEPS:
            file = WORK / f"authors-{name}-{timesteps}.npy"
            if not file.exists():
                base = FeatureSettings(
                    dataset="0" * 16, checkpoint="0" * 16, num_timesteps=timesteps, proj_dim=PROJ_DIM,
                    projection="gaussian",
                )  # fmt: skip
                settings = gradient_methods.feature_settings(method, "0" * 16, "0" * 16, base)
                images = np.concatenate([first.dataset.train.images, pictures(bench)])
                places = [f"place:{i % AUTHORS_BATCH}" for i in [*range(count), *range(all_targets(bench))]]
                save(file, features.featurise(denoiser, images, places, settings, lambda done: None))
            rows = np.load(file).astype(float)
            trained, cross = rows[:count], rows[count:] @ rows[:count].T
            opened = kernel.in_memory(trained)
            best: dict[str, Value] = {}
            for share in gradient_scores.RANK_SHARES:
                values = gradient_scores.of_products(method, opened, cross, np.empty(0), rank_share=share).values
                for kind, value in judged(bench, values).items():
                    if kind not in best or value.lds > best[kind].lds:
                        best[kind] = value
            yield Spent(name, True, timesteps, 1, (count + 1) * timesteps, 0.0, best)


def of_draw(bench: Bench, denoiser: Denoiser, settings: FeatureSettings, t: int, seed: int) -> np.ndarray:
    """Return the projected gradients of one draw: of the training pictures (noise 0 alone), then of all targets."""
    file = WORK / f"{settings.model_output}-{t}-{seed}.npy"
    if not file.exists():
        own = FeatureSettings(**settings.model_dump() | {"noise_seed": seed})
        images, ids = pictures(bench), [t.id for one in bench.values() for t in one.targets]
        if seed == 0:
            images = np.concatenate([bench["generated"].dataset.train.images, images])
            ids = [*(f"train:{i}" for i in range(len(images) - len(ids))), *ids]
        made = batches.gradients(denoiser, images, ids, own, lambda done: None, grid=np.array([t]))
        save(file, projected.rows(features.projectors_of(denoiser, own), made, len(images), 1))
    found: np.ndarray = np.load(file)
    return found


def residuals(first: api.Benchmark, denoiser: Denoiser, timesteps: int) -> np.ndarray:
    """Return the loss of each training picture at each timestep, shape (K, N), for DAS."""
    file, grid = WORK / "residuals.npy", draws.timesteps("uniform", timesteps)
    if not file.exists():
        images = first.dataset.train.images
        each = [losses.of_draws(denoiser, image, f"train:{i}", grid, 0, "") for i, image in enumerate(images)]
        save(file, np.stack(each, axis=1))
    found: np.ndarray = np.load(file)
    return found


def save(file: Path, rows: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    store.write_array(file, rows.astype(np.float32))
    print(file.name, flush=True)


def judged(bench: Bench, values: np.ndarray) -> dict[str, Value]:
    """Return the LDS of scores of all targets, by kind."""
    found, start = {}, 0
    for kind, one in bench.items():
        judgement = lds.evaluate(values[start : start + len(one.targets)], one.masks, np.nanmean(one.losses, axis=1))
        found[kind] = Value(judgement.mean, judgement.low, judgement.high)
        start += len(one.targets)
    return found


def all_targets(bench: Bench) -> int:
    return sum(len(one.targets) for one in bench.values())


def pictures(bench: Bench) -> np.ndarray:
    return np.concatenate([np.stack([t.image for t in one.targets]) for one in bench.values()])


def times(denoiser: Denoiser) -> dict[str, float]:
    """Return the seconds of a draw and of a projection, ours and theirs, medians of measurements in turns."""
    parameters = sum(p.numel() for p in denoiser.network.parameters())
    jobs: dict[str, tuple[Callable[[], object], int]] = {}
    for normalise in ("none", "timestep"):
        for timesteps in TIMESTEPS:
            wanted = FeatureSettings(
                dataset="0" * 16, checkpoint="0" * 16, num_timesteps=timesteps, normalise=normalise,
            )  # fmt: skip
            n = pictures_per_batch(denoiser, timesteps)
            x0, ids, out = torch.randn(n, *denoiser.shape), [f"train:{i}" for i in range(n)], torch.empty(n, parameters)
            jobs[f"ours {normalise} {timesteps}"] = (
                lambda x0=x0, ids=ids, out=out, wanted=wanted: per_example_gradients(  # type: ignore[misc]
                    denoiser, x0, ids, wanted, out=out
                ),
                n * timesteps,
            )
    flat = torch.randn(AUTHORS_BATCH, parameters)
    sparse = Projector("sparse", PROJ_DIM, 42, parameters)
    dense = BasicProjector(parameters, COLUMNS, 42, ProjectionType.normal, torch.device("cpu"), block_size=100)
    vmapped, x = per_sample_gradients(denoiser), torch.randn(AUTHORS_BATCH, *denoiser.shape)
    jobs["sparse projection"] = (lambda: project(sparse, flat), AUTHORS_BATCH)
    jobs["theirs"] = (lambda: vmapped(x), AUTHORS_BATCH)
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(ROUNDS + 1):  # the first warms up
        for name, (job, count) in jobs.items():
            once = seconds(job) / count
            if number:
                taken[name].append(once)
    found = {name: statistics.median(each) for name, each in taken.items()}
    a_column = seconds(lambda: dense.project(flat, model_id=0)) / AUTHORS_BATCH / COLUMNS
    return found | {"dense projection": a_column * PROJ_DIM}


def cost(one: Spent, first: api.Benchmark, taken: dict[str, float]) -> float:
    """Return the seconds of a point: gradients and projections of the training set and one target."""
    count = len(first.dataset.train.images)
    if one.authors:
        return (count + 1) * (one.timesteps * taken["theirs"] + taken["dense projection"])
    draw = taken[f"ours {METHODS[one.method].normalise} {one.timesteps}"]
    return (count + one.noises) * (one.timesteps * draw + taken["sparse projection"])


if __name__ == "__main__":
    main()
