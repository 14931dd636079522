"""What features and kernels cost, side by side, in one run.

    python benchmarks/features.py            about ten minutes on 2 idle cores
    python benchmarks/features.py --paper    part 5 alone, three minutes; the rest of the results stays
    python benchmarks/features.py --demo     parts 1 to 3 alone, a minute; the rest of the results stays
    python benchmarks/features.py --quick    a smoke test with small sizes: its numbers mean nothing

Prints, and writes to benchmarks/results/features.json:

1. The cost of a feature per (picture, timestep) over that of a plain training step per picture, for the demo network,
   in float32 and in bfloat16, measured in turns so that a busy machine disturbs both alike. Aim: 1.15.
2. The share of the projection in it. Aim: 10 %.
3. The same work the authors' way: torch.func's vmap of per-sample gradients, one timestep at a
   time, and traker's BasicProjector (dense Gaussian, made anew in blocks of 100 columns). Needs
   `pip install traker`; left out where it is missing. Its projection is timed on a few blocks and
   multiplied by their number, since all blocks cost the same.
4. All 27 dampings of the paper for 1,000 targets at N = 5,000, k = 8,192: one eigendecomposition of
   the dual form against 27 inversions of the primal. Those are timed once at a smaller k and
   extrapolated: inversion by k^3, products with the features by k^2.
5. The paper's CIFAR network (38.3 M parameters, 32 px), K = 10 timesteps and k = 32,768: a feature's draw over a
   training step, and the share of the projection in a feature, in turns, in float32 and in bfloat16. Aims: 1.15 and
   5 %. Beside them the authors' way as in 3, its projection timed on a sixteenth of the parameters and 100 columns
   for their batch of 52 pictures. Aim: 100 times ours. Of our dense projections a few blocks are timed and
   multiplied by their number: the constants of dtrak_core/methods/costs.py.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor
from torch.func import functional_call, grad, vmap

from dtrak_core import files, store
from dtrak_core.features import feature_store, kernel, projection
from dtrak_core.features.gradients import per_example_gradients, pictures_per_batch
from dtrak_core.features.projection import Projector, project
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import networks
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import presets

QUICK, PAPER, DEMO = "--quick" in sys.argv, "--paper" in sys.argv, "--demo" in sys.argv
RESULTS = Path(__file__).resolve().parent / "results" / ("features-quick.json" if QUICK else "features.json")
ROUNDS = 2 if QUICK else 9
PROJ_DIM = 256 if QUICK else 4096
AUTHORS_BATCH = 4 if QUICK else 52
AUTHORS_BLOCKS = 2
TRAINING_BATCH = 32  # that of the demo preset
PAPER_TIMESTEPS = 10
N, K, K_PRIMAL, TARGETS = (200, 400, 100, 10) if QUICK else (5000, 8192, 2048, 1000)
DAMPINGS = [factor * 10.0**power for power in range(-2, 7) for factor in (1, 2, 5)]


def main() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    if PAPER:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        files.write_json(RESULTS, kept | {"paper": paper()})
        return
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "quick": QUICK,
        "machine": {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "processor": platform.processor()},
        "load_before": round(os.getloadavg()[0], 2),
        "versions": store.versions(),
    }
    denoiser = networks.denoiser_of(networks.build_unet(presets.DEMO, 16), presets.DEMO.fold)
    report["network"] = {"preset": "demo", "parameters": sum(p.numel() for p in denoiser.network.parameters())}
    for name, one in {"features": denoiser, "features_bfloat16": replace(denoiser, half=True)}.items():
        say(f"\n{'bfloat16' if one.half else 'float32'}:")
        report[name] = [features(one, count) for count in ((2,) if QUICK else (10, 50))]
    report["authors"] = authors(denoiser)
    if "projection_ms_a_picture" in report["authors"]:
        for name, times in (("features", "times_ours"), ("features_bfloat16", "times_ours_bfloat16")):
            ours = report[name][0]
            theirs = report["authors"]["gradient_ms"] + report["authors"]["projection_ms_a_picture"] / ours["timesteps"]
            report["authors"][times] = round(theirs / ours["feature_ms"], 1)
            say(f"In all {theirs:.1f} ms a draw, {theirs / ours['feature_ms']:.0f} times ours in {name}.")
    report["load_after"] = round(os.getloadavg()[0], 2)
    if DEMO:
        report = (json.loads(RESULTS.read_text()) if RESULTS.exists() else {}) | report
    else:
        report |= {"kernel": kernels(), "paper": paper()}
    files.write_json(RESULTS, report)
    say(f"\nWritten to {RESULTS.relative_to(RESULTS.parent.parent.parent)}.")


def features(denoiser: networks.Denoiser, timesteps: int) -> dict[str, Any]:
    """Time training steps, gradients and projections in turns; return medians in ms."""
    settings = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=timesteps, proj_dim=PROJ_DIM)
    pictures = pictures_per_batch(denoiser, timesteps)
    x0 = torch.rand(pictures, *denoiser.shape) * 2 - 1
    ids = [f"train:{i}" for i in range(pictures)]
    projector = Projector("sparse", PROJ_DIM, 42, sum(p.numel() for p in denoiser.network.parameters()))
    optimiser = torch.optim.AdamW(denoiser.network.parameters(), lr=0.0)
    memory = torch.empty(pictures, projector.num_parameters)

    def train() -> None:
        denoiser.network.train()
        for _ in range(max(1, pictures * timesteps // TRAINING_BATCH)):
            training_step(denoiser, optimiser)
        denoiser.network.eval()

    steps = max(1, pictures * timesteps // TRAINING_BATCH) * TRAINING_BATCH
    per_draw = 1000 / (pictures * timesteps)
    rounds = []
    for _ in range(ROUNDS + 1):
        trained = seconds(train) * 1000 / steps
        made = seconds(lambda: per_example_gradients(denoiser, x0, ids, settings, out=memory)) * per_draw
        projected = seconds(lambda: project(projector, memory)) * per_draw
        rounds.append((trained, made, projected))
    denoiser.network.zero_grad(set_to_none=True)
    trained, made, projected = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    ratio = statistics.median((m + p) / t for t, m, p in rounds[1:])
    best = min(m + p for _, m, p in rounds[1:]) / min(t for t, _, _ in rounds[1:])
    found = {
        "timesteps": timesteps,
        "pictures_at_once": pictures,
        "training_step_ms": round(trained, 3),
        "gradient_ms": round(made, 3),
        "projection_ms": round(projected, 3),
        "feature_ms": round(made + projected, 3),
        "feature_over_training_step": round(ratio, 3),
        "feature_over_training_step_best_rounds": round(best, 3),
        "projection_share": round(projected / (made + projected), 4),
        "proj_dim": PROJ_DIM,
        "rounds": len(rounds) - 1,
    }
    say(
        f"T = {timesteps}: feature {made + projected:.2f} ms a (picture, timestep), training step {trained:.2f} ms a "
        f"picture: {ratio:.2f} times (aim 1.15). Projection to {PROJ_DIM}: {found['projection_share']:.1%} (aim 10 %)."
    )
    return found


def training_step(denoiser: networks.Denoiser, optimiser: torch.optim.Optimizer) -> None:
    """One plain training step: noise, forward, backward, clipping, AdamW."""
    x0 = torch.rand(TRAINING_BATCH, *denoiser.shape) * 2 - 1
    noise, t = torch.randn_like(x0), torch.randint(0, 1000, (TRAINING_BATCH,))
    loss = (denoiser.predict(denoiser.process.noised(x0, noise, t), t) - noise).square().mean()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(denoiser.network.parameters(), 1.0)
    optimiser.step()


def paper() -> dict[str, Any]:
    """Time steps, gradients and projections of the paper's CIFAR network in turns, and the authors' way; in seconds."""
    width = 256 if QUICK else presets.PAPER_FEATURES["proj_dim"]
    model, side = (presets.DEMO, 16) if QUICK else (presets.CIFAR, 32)
    exact = networks.denoiser_of(networks.build_unet(model, side).eval(), model.fold)
    count = sum(p.numel() for p in exact.network.parameters())
    projector = Projector("sparse", width, 42, count)
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "parameters": count,
        "proj_dim": width,
        "timesteps": PAPER_TIMESTEPS,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
    }
    for name, denoiser in {"float32": exact, "bfloat16": replace(exact, half=True)}.items():
        found[name] = of_paper(denoiser, projector)
        say(
            f"{count:,} parameters to {width:,}, {name}: {found[name]['gradient_s_a_draw']:.3f} s a gradient, a "
            f"feature's draw {found[name]['feature_over_training_step']:.2f} training steps (aim 1.15), projection "
            f"{found[name]['sparse_share_of_feature']:.2%} of it (aim 5 %)."
        )
    found["authors"] = authors_of_paper(exact, count, width)
    for name in ("float32", "bfloat16"):
        if "feature_s" in found["authors"]:
            times = found["authors"]["feature_s"] / found[name]["feature_s"]
            found["authors"][f"times_ours_{name}"] = round(times, 1)
            say(f"The authors' way: {found['authors']['feature_s']:.0f} s a feature, {times:.0f} times ours in {name}.")
    return found | dense_costs(count, width)


def of_paper(denoiser: networks.Denoiser, projector: Projector) -> dict[str, float]:
    """Time one number format of the paper's network."""
    settings = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=PAPER_TIMESTEPS)
    x0, memory = torch.rand(1, *denoiser.shape), torch.empty(1, projector.num_parameters)
    optimiser = torch.optim.AdamW(denoiser.network.parameters(), lr=0.0, fused=True)
    rounds = []
    for _ in range(2 if QUICK else 3):
        denoiser.network.train()
        trained = seconds(lambda: training_step(denoiser, optimiser)) / TRAINING_BATCH
        denoiser.network.eval()
        made = seconds(lambda: per_example_gradients(denoiser, x0, ["train:0"], settings, out=memory))
        rounds.append((trained, made, seconds(lambda: project(projector, memory))))
    denoiser.network.zero_grad(set_to_none=True)
    trained, made, projected = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return {
        "training_step_s_a_picture": round(trained, 4),
        "gradient_s_a_draw": round(made / PAPER_TIMESTEPS, 4),
        "sparse_s_a_picture": round(projected, 4),
        "feature_s": round(made + projected, 3),
        "feature_over_training_step": round(
            statistics.median((m + p) / PAPER_TIMESTEPS / t for t, m, p in rounds[1:]), 3
        ),
        "sparse_share_of_feature": round(statistics.median(p / (m + p) for _, m, p in rounds[1:]), 5),
    }


def authors_of_paper(denoiser: networks.Denoiser, count: int, width: int) -> dict[str, Any]:
    """Time vmap's per-sample gradients of the paper's network, and a part of traker's projection to `width`."""
    batch = 2 if QUICK else 8
    # As the authors do, who take fused attention away: vmap has no rule for it and goes picture by picture.
    for layer in denoiser.network.modules():
        if isinstance(layer, Attention):
            layer.set_processor(AttnProcessor())
    gradients = functools.partial(per_sample_gradients(denoiser), torch.randn(batch, *denoiser.shape))
    made = min(seconds(gradients) for _ in range(2)) / batch
    found: dict[str, Any] = {"batch": batch, "gradient_s_a_draw": round(made, 4)}
    try:
        from trak.projectors import BasicProjector, ProjectionType
    except ImportError:
        return found
    part, columns = count // 16, 100
    dense = BasicProjector(part, columns, 42, ProjectionType.normal, torch.device("cpu"), block_size=columns)
    flat = torch.randn(AUTHORS_BATCH, part)
    once = seconds(lambda: dense.project(flat, model_id=0)) / AUTHORS_BATCH
    projected = once * (count / part) * (width / columns)
    return found | {
        "projection_s_a_picture": round(projected, 1),
        "projection_measured": f"{part:,} parameters, {columns} columns, {AUTHORS_BATCH} pictures",
        "extrapolation": f"times {count / part:.1f} x {width / columns:.1f}: all blocks cost the same",
        "feature_s": round(PAPER_TIMESTEPS * made + projected, 1),
    }


def dense_costs(count: int, width: int) -> dict[str, float]:
    """Return what our dense projections cost an entry of their matrix, from a few blocks."""
    found = {}
    total = torch.zeros(feature_store.SHARD, width)
    part = torch.randn(feature_store.SHARD, projection.BLOCK)
    for kind in projection.DENSE:
        drawing = functools.partial(projection._block, Projector(kind, width, 42, count), 0)
        drawn = statistics.median(seconds(drawing) for _ in range(7))
        found[f"{kind}_s_an_entry"] = drawn / (projection.BLOCK * width)
    matrix = torch.from_numpy(drawing())
    product = statistics.median(seconds(lambda: total.addmm_(part, matrix)) for _ in range(7))
    found["product_s_an_entry_and_gradient"] = product / (projection.BLOCK * width * feature_store.SHARD)
    return found


def per_sample_gradients(denoiser: networks.Denoiser) -> Callable[[Tensor], Tensor]:
    """Return the authors' gradients: torch.func's vmap over samples, of D-TRAK's function, at one timestep."""
    weights = {name: value.detach() for name, value in denoiser.network.named_parameters()}

    def output(weights: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
        return functional_call(denoiser.network, weights, (x[None], t[None]), {"return_dict": False})[0].square().mean()

    per_sample = vmap(grad(output), in_dims=(None, 0, 0))

    def gradients(x: Tensor) -> Tensor:
        found = per_sample(weights, x, torch.full((len(x),), 500))
        return torch.cat([g.flatten(1) for g in found.values()], dim=1)

    return gradients


def authors(denoiser: networks.Denoiser) -> dict[str, Any]:
    """Time vmap's per-sample gradients and traker's projection; return ms."""
    per_sample, x, flat = per_sample_gradients(denoiser), torch.randn(AUTHORS_BATCH, *denoiser.shape), [torch.empty(0)]

    def gradients() -> None:
        flat[:] = [per_sample(x)]

    made = min(seconds(gradients) for _ in range(1 if QUICK else 3)) * 1000 / AUTHORS_BATCH
    say(f"\nThe authors' way: vmap {made:.2f} ms a (picture, timestep).")
    result: dict[str, Any] = {"batch": AUTHORS_BATCH, "gradient_ms": round(made, 3)}
    try:
        from trak.projectors import BasicProjector, ProjectionType
    except ImportError:
        say("traker is not installed, so its projection was left out (pip install traker).")
        return result
    columns = 100 * AUTHORS_BLOCKS
    dense = BasicProjector(flat[0].shape[1], columns, 42, ProjectionType.normal, torch.device("cpu"), block_size=100)
    measured = seconds(lambda: dense.project(flat[0], model_id=0)) * 1000 / AUTHORS_BATCH
    a_picture = measured * PROJ_DIM / columns
    result |= {
        "projection_ms_a_picture": round(a_picture, 2),
        "projection_measured_columns": columns,
        "extrapolation": f"times {PROJ_DIM / columns:g}: every block of 100 columns costs the same",
    }
    say(f"BasicProjector: {a_picture:.0f} ms a picture for {PROJ_DIM} columns ({columns} measured).")
    return result


def kernels() -> dict[str, Any]:
    """Time all dampings for all targets, dual; and one primal inversion at a smaller k; return seconds."""
    random = np.random.default_rng(0)
    # A spectrum that falls as gradients' do, so that the dampings matter.
    rows = random.standard_normal((N, K), dtype=np.float32) * np.geomspace(30, 0.03, K, dtype=np.float32)
    cross = (rows[:TARGETS] + random.standard_normal((TARGETS, K), dtype=np.float32)).astype(np.float64) @ rows.T
    settings = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, proj_dim=K)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STUDIO_CACHE"] = folder
        key = key_of("features", settings)
        for number, start in enumerate(range(0, N, feature_store.SHARD)):
            part = rows[start : start + feature_store.SHARD]
            feature_store.write_shard(store.partial("features", key), number, part, "float32")
        stored = store.publish("features", key, settings, rows=N, width=K)
        decomposing = seconds(lambda: kernel.compute_kernel(stored, quiet))
        opened = kernel.open_kernel(store.get("kernels", key_of("kernels", settings)))
        kernel.damped_scores(opened, cross[0], 1.0)  # reads the file once
        scoring = seconds(lambda: [kernel.damped_scores(opened, cross, damping) for damping in DAMPINGS])
        one = min(seconds(lambda: kernel.damped_scores(opened, cross[0], 10.0)) for _ in range(5))
        whole = seconds(
            lambda: kernel.effective_rank(opened.eigenvalues, kernel.damping_for_rank(opened.eigenvalues, N / 5))
        )
        dual = decomposing + scoring
        say(
            f"\nKernel, N = {N:,}, k = {K:,}, {TARGETS:,} targets, {len(DAMPINGS)} dampings, dual form: "
            f"{decomposing:.1f} s to decompose and store, {scoring:.1f} s to score, {dual:.1f} s in all.\n"
            f"One target, one damping: {one * 1000:.0f} ms; a damping for an effective rank: {whole * 1000:.1f} ms."
        )
    small = rows[:, :K_PRIMAL]
    gram = torch.from_numpy(small.T @ small) + 10 * torch.eye(K_PRIMAL)
    phi, z = torch.from_numpy(small), torch.from_numpy(small[:TARGETS].copy())
    invert = min(seconds(lambda: torch.linalg.inv(gram)) for _ in range(2))
    multiply = min(seconds(lambda: (z @ gram) @ phi.T) for _ in range(2))
    times = K / K_PRIMAL
    more = (K**2 + N * K) / (K_PRIMAL**2 + N * K_PRIMAL)
    primal = len(DAMPINGS) * (invert * times**3 + multiply * more)
    say(
        f"27 primal inversions in float32, the authors' way: {primal:.0f} s, {primal / dual:.1f} times as long.\n"
        f"Extrapolated from k = {K_PRIMAL:,}: {invert:.2f} s an inversion (times {times:g}^3), {multiply:.2f} s of "
        f"products (times {more:.1f})."
    )
    return {
        "rows": N,
        "width": K,
        "targets": TARGETS,
        "dampings": len(DAMPINGS),
        "dual_decompose_s": round(decomposing, 2),
        "dual_score_s": round(scoring, 2),
        "dual_total_s": round(dual, 2),
        "one_target_one_damping_ms": round(one * 1000, 1),
        "damping_for_rank_ms": round(whole * 1000, 2),
        "primal_measured_width": K_PRIMAL,
        "primal_one_inversion_s": round(invert, 3),
        "primal_one_product_s": round(multiply, 3),
        "primal_total_s_extrapolated": round(primal, 1),
        "extrapolation": "27 x (inversion x (k / m)^3 + products x (k^2 + N k) / (m^2 + N m)), m the measured width",
        "primal_over_dual": round(primal / dual, 1),
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
