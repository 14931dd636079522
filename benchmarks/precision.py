"""What bfloat16 saves and costs on this machine: seconds of training steps and features, ranks and LDS of the demo.

    python benchmarks/precision.py                   about 20 minutes on 2 idle cores
    python benchmarks/precision.py times             a part alone: times, quality or trainings

Times: float32 and bfloat16 in turns, medians, on the demo's network, the text-to-image demo's LoRA weights and the
paper's CIFAR network (32 px, 38.3 M parameters, random weights). Quality, on the shipped demo's 64 generated pictures:
Spearman correlation over training pictures of D-TRAK's and DAS's scores with float32's, LDS of both with interval, and
the final losses of trainings (an eighth of the demo's epochs) in float32 with three seeds beside bfloat16. To
benchmarks/results/precision.json.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["STUDIO_CACHE"] = tempfile.mkdtemp(prefix="precision-")

import numpy as np
import torch
from scipy import stats

from dtrak_core import api, files
from dtrak_core.datasets import catalogue
from dtrak_core.demo import schools
from dtrak_core.features import features, kernel
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods import gradient_methods, gradient_scores, methods
from dtrak_core.models import bases, checkpoints, lora, networks
from dtrak_core.models.denoiser import Condition, Denoiser
from dtrak_core.models.settings import ModelSettings, Precision, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.training import presets, training

RESULT = Path(__file__).parent / "results" / "precision.json"
DRAWS, BATCH = 50, 32


def main() -> None:
    bench = api.benchmark("demo")
    for part in sys.argv[1:] or PARTS:
        found = PARTS[part](bench)
        files.write_json(RESULT, json.loads(RESULT.read_bytes()) | found)
    print(RESULT.read_text())


def of_networks(bench: api.Benchmark) -> dict[str, object]:
    cifar = presets.PRESETS["cifar"].model
    assert isinstance(cifar, ModelSettings)
    large = networks.untrained(cifar, 32, 0, "")
    large.network.eval()
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "draws": DRAWS,
        "network of the demo": times(formats(networks.load_denoiser(bench.checkpoint)), 6, 9),
        "LoRA weights of the text-to-image demo": times(of_lora(), 6, 9, captions()),
        "CIFAR network of the paper": times(formats(large), 1, 3),
    }


def of_lora() -> dict[str, Denoiser]:
    """Return the text-to-image demo's LoRA weights in either format, and so the frozen weights under them."""
    dataset = catalogue.by_name(schools.DATASET)
    folder = checkpoints.by_name(schools.NAME, dataset.digest).folder
    base = bases.by_name(schools.BASE)
    return {kind: lora.load(base, folder, dataset.digest, kind) for kind in get_args(Precision)}


def captions() -> list[str]:
    """Return as many captions as a training step has pictures."""
    return list(catalogue.by_name(schools.DATASET).train.prompts[:BATCH])


def formats(denoiser: Denoiser) -> dict[str, Denoiser]:
    """Return a network that computes in either format, whichever its own is."""
    return {"float32": replace(denoiser, half=False), "bfloat16": replace(denoiser, half=True)}


def times(both: dict[str, Denoiser], pictures: int, rounds: int, told: Sequence[str] = ()) -> dict[str, float]:
    """Return milliseconds a picture and draw of a training step and a feature, and their ratios to float32's step."""
    where = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=DRAWS)
    x0 = torch.randn(BATCH, *both["float32"].shape)
    t, ids = torch.randint(1000, (BATCH,)), [f"train:{i}" for i in range(pictures)]
    jobs: dict[str, tuple[Callable[[], object], int]] = {}
    for name, denoiser in both.items():
        condition = denoiser.conditions(told)
        seen = condition.rows(slice(pictures))
        jobs[f"training step, {name}"] = (lambda d=denoiser, c=condition: step(d, x0, t, c), BATCH)  # type: ignore[misc]
        jobs[f"feature, {name}"] = (
            lambda d=denoiser, c=seen: per_example_gradients(d, x0[:pictures], ids, where, condition=c),  # type: ignore[misc]
            pictures * DRAWS,
        )
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):  # the first warms up
        for name, (job, count) in jobs.items():
            started = time.perf_counter()
            job()
            if number:
                taken[name].append(1000 * (time.perf_counter() - started) / count)
    found = {name: float(np.median(each)) for name, each in taken.items()}
    base = found["training step, float32"]
    return found | {f"{name} / training step, float32": value / base for name, value in found.items()}


def step(denoiser: Denoiser, x0: torch.Tensor, t: torch.Tensor, told: Condition) -> None:
    """Do the work of a training step but for the optimiser's."""
    denoiser.network.train()
    (denoiser.predict(x0, t, told) - x0).square().mean().backward()
    denoiser.network.zero_grad(set_to_none=True)
    denoiser.network.eval()


def quality(bench: api.Benchmark) -> dict[str, object]:
    """Return rank correlations of scores with float32's, and the LDS of both."""
    base = FeatureSettings(
        dataset=bench.dataset.digest, checkpoint=bench.checkpoint.digest, num_timesteps=DRAWS, proj_dim=3584
    )
    images, ids = np.stack([t.image for t in bench.targets]), [t.id for t in bench.targets]
    train = np.asarray(bench.dataset.train.images)
    names = [f"train:{i}" for i in range(len(train))]
    report: dict[str, object] = {}
    for name in ("d-trak", "das"):
        method = methods.METHODS[name]
        wanted = gradient_methods.feature_settings(method, base.dataset, base.checkpoint, base)
        scores = {}
        for kind, denoiser in formats(networks.load_denoiser(bench.checkpoint)).items():
            rows = features.featurise(denoiser, train, names, wanted, lambda done: None).astype(np.float64)
            own = features.featurise(denoiser, images, ids, wanted, lambda done: None).astype(np.float64)
            residuals = None
            if method.residual:
                found = features._residuals(bench.dataset, denoiser, named(wanted, kind), quiet)
                residuals = np.asarray(found.array("residuals.npy"), np.float64)
            scores[kind] = gradient_scores.of_products(
                method, kernel.in_memory(rows), own @ rows.T, np.empty(0), residuals=residuals
            ).values
        ranks = [float(stats.spearmanr(a, b).statistic) for a, b in zip(*scores.values(), strict=True)]
        judged = {kind: bench.lds(values) for kind, values in scores.items()}
        report[name] = {
            "rank correlation": {"mean": float(np.mean(ranks)), "least": min(ranks)},
            "lds": {kind: [one.value, one.low, one.high] for kind, one in judged.items()},
        }
        print(name, report[name], flush=True)
    return {"quality": report}


def named(settings: FeatureSettings, kind: str) -> FeatureSettings:
    """Return settings under another key for each precision, so that neither finds the other's."""
    return FeatureSettings(**settings.model_dump() | {"proj_seed": 1 if kind == "float32" else 2})


def trainings(bench: api.Benchmark) -> dict[str, object]:
    """Return final losses by precision, of seeds 1 to 3."""
    own = dict(bench.checkpoint.run.settings)
    model = ModelSettings(**own["model"])
    found: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for kind, losses in found.items():
        for seed in (1, 2, 3):
            asked = own | {
                "epochs": own["epochs"] // 8,
                "train_seed": seed,
                "model": model.model_dump() | {"precision": kind},
            }
            run = training.train(bench.dataset, TrainSettings(**asked), f"{kind}-{seed}", quiet)
            losses.append(run.manifest["final_loss"])
    return {"trainings": found}


PARTS: dict[str, Callable[[api.Benchmark], dict[str, object]]] = {
    "times": of_networks, "quality": quality, "trainings": trainings,
}  # fmt: skip

if __name__ == "__main__":
    main()
