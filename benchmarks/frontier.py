"""What a better answer costs: LDS over time and gradients spent, ours and the authors' way, on the shipped demo.

    python benchmarks/frontier.py FOLDER             about 4 minutes on 2 idle cores; gradients stay in FOLDER, so that
                                                     an interrupted run goes on and a second one takes the times alone
    python benchmarks/frontier.py FOLDER --dense     D-TRAK at K = 10 in the authors' way throughout, 2 minutes more

No model is trained: the demo's subset losses are stored. Ours: D-TRAK, TRAK and DAS at their usual damping, sparse
projection, a target's feature over 4 noises, K = 1 to 10 timesteps of all noise levels, for D-TRAK also of the lowest
fifth; at K = 50 the training features that ship. Features are linear in their draws, so each draw is projected once,
and means are taken of those that a K has. The authors': D-TRAK and TRAK at K = 1 to 50 of their timesteps (0,
1000 / K, ...), one noise, and of all dampings that whose LDS is highest for these targets, as they chose it. Their LDS
is of our sparse projection: which random matrix projects changes it by chance alone, and `--dense` says by how much
(dense Gaussian projection to 4,096, noise that follows a picture's place in a batch of 52).

Seconds are those of the gradients and projections of the training set and of one target; kernels and scores are left
out on both sides. Ours: a pass in each form (K, by timestep or not), times their number. Theirs: torch.func's vmap of
per-sample gradients in a batch of 52, and traker's BasicProjector on 200 of the columns, both likewise.

Stored as an artifact of kind `frontiers` in cache/demo, which the Benchmark page draws, and written to
benchmarks/results/frontier.json. After a rebuild of the demo this command makes it anew.
"""

from __future__ import annotations

import dataclasses
import json
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
from dtrak_core.amounts import counted
from dtrak_core.features import batches, draws, feature_store, features, kernel, losses, projected
from dtrak_core.features.gradients import per_example_gradients, pictures_per_batch
from dtrak_core.features.projection import Projector, project
from dtrak_core.features.settings import FeatureSettings, nth_seed
from dtrak_core.lds import frontier, lds, recipes
from dtrak_core.lds.frontier import FrontierSettings, Spent, Value
from dtrak_core.methods import gradient_methods, gradient_scores
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.models import networks
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.settings import key_of

RESULTS = Path(__file__).resolve().parent / "results" / "frontier.json"
WORK = Path(sys.argv[1]).resolve()
LINES: tuple[tuple[str, draws.Strategy], ...] = (
    ("d-trak", "uniform"), ("trak", "uniform"), ("das", "uniform"), ("d-trak", "low"),
)  # fmt: skip
FEW, ALL, NOISES = (1, 2, 5, 10), 50, 4
PROJ_DIM, COLUMNS, ROUNDS = 4096, 200, 2
Bench = dict[str, api.Benchmark]


def main() -> None:
    bench: Bench = {kind: api.benchmark("demo", targets=kind) for kind in ("generated", "held-out")}  # type: ignore[arg-type]
    first = bench["generated"]
    denoiser = networks.load_denoiser(first.checkpoint)
    if "--dense" in sys.argv:
        dense(bench, denoiser)
        return
    points = [*ours(bench, denoiser), *theirs(bench, denoiser)]
    taken = times(denoiser)
    points = [dataclasses.replace(one, seconds=round(cost(one, first, taken), 2)) for one in points]
    facts = {
        "how": how(first, denoiser),
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}",
        "by_level": by_level(bench, denoiser),
        "subsets": len(first.masks), "targets": {kind: len(one.targets) for kind, one in bench.items()},
        "dense": json.loads(dense_told.read_text()) if (dense_told := kept(first) / "dense.json").exists() else None,
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
    threads = f"{counted(torch.get_num_threads(), 'thread')} on {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
    shipped = recipes.usual(first.dataset, first.checkpoint, "d-trak").features
    assert shipped is not None
    return (
        f"{first.dataset.name}, checkpoint {first.checkpoint.name}: {len(first.dataset.train.images):,} training "
        f"pictures, gradients in {'bfloat16' if denoiser.half else 'float32'}, projected to {PROJ_DIM:,} numbers, at "
        f"{ALL} timesteps to the {shipped.proj_dim:,} that ship; {threads}. Ours: sparse projection, {NOISES} noises "
        "of the target, each method's usual damping. The authors' way: its time is that of per-sample gradients by "
        "vmap and a dense Gaussian projection, measured on a part and multiplied; its LDS is of our sparse projection, "
        "one noise, the damping whose LDS is highest. Low noise levels are the lowest fifth. Intervals (95 %) resample "
        f"the {len(first.masks)} subsets."
    )


def ours(bench: Bench, denoiser: Denoiser) -> Iterator[Spent]:
    """Yield our points, their seconds still 0."""
    first = bench["generated"]
    count = len(first.dataset.train.images)
    for name, strategy in LINES:
        method = METHODS[name]
        base = FeatureSettings(
            dataset=first.dataset.digest, checkpoint=first.checkpoint.digest, proj_dim=PROJ_DIM,
            timestep_strategy=strategy,
        )  # fmt: skip
        settings = gradient_methods.feature_settings(method, base.dataset, base.checkpoint, base)
        for timesteps in FEW if strategy == "uniform" else FEW[:-1]:
            values = scored(bench, denoiser, method, settings, draws.timesteps(strategy, timesteps))
            gradients = (count + NOISES) * timesteps
            yield Spent(name, False, strategy, timesteps, NOISES, gradients, 0.0, judged(bench, values))
        if strategy == "uniform" and not method.residual:
            yield Spent(
                name, False, strategy, ALL, NOISES, (count + NOISES) * ALL, 0.0,
                judged(bench, of_all(bench, denoiser, method)),
            )  # fmt: skip


def of_all(bench: Bench, denoiser: Denoiser, method: Method) -> np.ndarray:
    """Return the scores of all targets by the features that ship, the targets' over `NOISES` noises."""
    opened, cross = of_shipped(bench, denoiser, method, NOISES)
    return gradient_scores.of_products(method, opened, cross, np.empty(0)).values


def scored(bench: Bench, denoiser: Denoiser, method: Method, settings: FeatureSettings, grid: np.ndarray) -> np.ndarray:
    """Return the scores of all targets from draws at these timesteps, the targets' over `NOISES` noises."""
    opened, cross = products(bench, denoiser, settings, grid, NOISES)
    errors = np.sqrt(residuals(bench["generated"], denoiser, grid)).mean(0) if method.residual else None
    return gradient_scores.of_products(method, opened, cross, np.empty(0), residuals=errors).values


def products(
    bench: Bench, denoiser: Denoiser, settings: FeatureSettings, grid: np.ndarray, noises: int
) -> tuple[kernel.Kernel, np.ndarray]:
    """Return the kernel of the training features at these timesteps, and their products with the targets'."""
    each = [of_draw(bench, denoiser, settings, t, 0)[: -len(pictures(bench))] for t in grid]
    own = [of_draw(bench, denoiser, settings, t, seed)[-len(pictures(bench)) :]
           for t in grid for seed in range(noises)]  # fmt: skip
    trained = np.mean(each, axis=0, dtype=float)
    return kernel.in_memory(trained), np.mean(own, axis=0, dtype=float) @ trained.T


def by_level(bench: Bench, denoiser: Denoiser) -> dict[str, dict[str, float]]:
    """Return D-TRAK's LDS from one noise level alone, by timestep and kind of target."""
    settings, found = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, proj_dim=PROJ_DIM), {}
    for t in draws.timesteps("uniform", max(FEW)):
        values = judged(bench, scored(bench, denoiser, METHODS["d-trak"], settings, np.array([t])))
        found[str(t)] = {kind: round(value.lds, 3) for kind, value in values.items()}
    return found


def of_shipped(bench: Bench, denoiser: Denoiser, method: Method, noises: int) -> tuple[kernel.Kernel, np.ndarray]:
    """Return the kernel of the training features that ship, and their products with the targets' over some noises."""
    first = bench["generated"]
    usual = recipes.usual(first.dataset, first.checkpoint, method.id).features
    assert usual is not None
    settings = gradient_methods.feature_settings(method, usual.dataset, usual.checkpoint, usual)
    file = kept(first) / f"targets-{method.id}-{settings.num_timesteps}.npy"
    if not file.exists():
        ids = [t.id for one in bench.values() for t in one.targets]
        each = [features.featurise(denoiser, pictures(bench), ids, nth_seed(settings, seed), lambda done: None)
                for seed in range(NOISES)]  # fmt: skip
        save(file, np.stack(each))
    trained = store.get("features", key_of("features", settings))
    opened = kernel.open_kernel(store.get("kernels", key_of("kernels", settings)))
    return opened, feature_store.cross_products(trained, np.load(file)[:noises].mean(0))


def theirs(bench: Bench, denoiser: Denoiser) -> Iterator[Spent]:
    """Yield the authors' points, their seconds still 0, at the best damping for each kind of target."""
    first = bench["generated"]
    count = len(first.dataset.train.images)
    for name in recipes.ENDS:
        method = METHODS[name]
        base = FeatureSettings(dataset=first.dataset.digest, checkpoint=first.checkpoint.digest, proj_dim=PROJ_DIM)
        settings = gradient_methods.feature_settings(method, base.dataset, base.checkpoint, base)
        for timesteps in recipes.TIMESTEPS:
            if timesteps == ALL:
                opened, cross = of_shipped(bench, denoiser, method, 1)
            else:
                opened, cross = products(bench, denoiser, settings, draws.timesteps("uniform", timesteps), 1)
            yield Spent(
                name, True, "uniform", timesteps, 1, (count + 1) * timesteps, 0.0, best(bench, method, opened, cross)
            )


def best(bench: Bench, method: Method, opened: kernel.Kernel, cross: np.ndarray) -> dict[str, Value]:
    """Return the LDS by kind at the damping whose LDS is highest for that kind."""
    found = [
        judged(bench, gradient_scores.of_products(method, opened, cross, np.empty(0), rank_share=share).values)
        for share in gradient_scores.RANK_SHARES
    ]
    return {kind: max((one[kind] for one in found), key=lambda value: value.lds) for kind in bench}


def dense(bench: Bench, denoiser: Denoiser) -> None:
    """Write D-TRAK's LDS at K = 10 in the authors' way throughout, and as read off the stored predictions."""
    first = bench["generated"]
    count, method = len(first.dataset.train.images), METHODS["d-trak"]
    settings = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, projection="gaussian", proj_dim=PROJ_DIM)
    images = np.concatenate([first.dataset.train.images, pictures(bench)])
    places = [f"place:{i % AUTHORS_BATCH}" for i in [*range(count), *range(len(images) - count)]]
    rows = features.featurise(denoiser, images, places, settings, lambda done: None).astype(float)
    found = best(bench, method, kernel.in_memory(rows[:count]), rows[count:] @ rows[:count].T)
    sparse = next(
        one for one in theirs(bench, denoiser) if one.method == "d-trak" and one.timesteps == settings.num_timesteps
    )
    told = {kind: {"theirs": found[kind].lds, "sparse": sparse.lds[kind].lds} for kind in bench}
    files.write_json(kept(first) / "dense.json", told)
    print(told)


def of_draw(bench: Bench, denoiser: Denoiser, settings: FeatureSettings, t: int, seed: int) -> np.ndarray:
    """Return the projected gradients of one draw: of the training pictures (noise 0 alone), then of all targets."""
    file = kept(bench["generated"]) / f"{settings.model_output}-{t}-{seed}.npy"
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


def residuals(first: api.Benchmark, denoiser: Denoiser, grid: np.ndarray) -> np.ndarray:
    """Return the loss of each training picture at each of these timesteps, shape (K, N), for DAS."""
    file = kept(first) / f"residuals-{len(grid)}.npy"
    if not file.exists():
        images = first.dataset.train.images
        each = [losses.of_draws(denoiser, image, f"train:{i}", grid, 0, "") for i, image in enumerate(images)]
        save(file, np.stack(each, axis=1))
    found: np.ndarray = np.load(file)
    return found


def kept(first: api.Benchmark) -> Path:
    """Return the folder of what was computed with this checkpoint: a rebuilt demo has another."""
    return WORK / first.checkpoint.digest


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


def pictures(bench: Bench) -> np.ndarray:
    return np.concatenate([np.stack([t.image for t in one.targets]) for one in bench.values()])


def times(denoiser: Denoiser) -> dict[str, float]:
    """Return the seconds of a draw and of a projection, ours and theirs, medians of measurements in turns."""
    parameters = sum(p.numel() for p in denoiser.network.parameters())
    jobs: dict[str, tuple[Callable[[], object], int]] = {}
    for normalise in ("none", "timestep"):
        for timesteps in (*FEW, ALL):
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
