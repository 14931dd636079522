"""More draws on the target's side: LDS of D-TRAK, TRAK and DAS with target features averaged over R noise seeds.

    python benchmarks/target_draws.py        about 10 minutes on one core

On the shipped demo, all 128 targets, 50 timesteps, features of the training set as they are (one noise seed). For each
method and kind of target: the LDS at R = 1 and its difference at larger R, with the 95 % interval of the paired
difference by bootstrap over the subsets (fixed ranks, as the app's intervals), and the seconds a target's feature
takes. Written to benchmarks/results/target_draws.json.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["STUDIO_CACHE"] = tempfile.mkdtemp(prefix="target-draws-")

import numpy as np
import torch

from dtrak_core import api, files, statistics
from dtrak_core.features import features, kernel
from dtrak_core.features.feature_store import cross_products
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.lds import bootstrap, lds
from dtrak_core.methods import gradient_methods, gradient_scores, methods
from dtrak_core.models import networks
from dtrak_core.progress import quiet

RESULT = Path(__file__).parent / "results" / "target_draws.json"
METHODS, SEEDS, SHARES = ("d-trak", "trak", "das"), (1, 2, 4, 8), (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)


def main() -> None:
    report: dict[str, object] = {"threads": torch.get_num_threads(), "torch": torch.__version__, "timesteps": 50}
    benches = {kind: api.benchmark("demo", targets=kind) for kind in ("generated", "held-out")}  # type: ignore[arg-type]
    first = benches["generated"]
    denoiser = networks.load_denoiser(first.checkpoint)
    base = FeatureSettings(
        dataset=first.dataset.digest, checkpoint=first.checkpoint.digest, num_timesteps=50, proj_dim=3584,
        storage="int8",
    )  # fmt: skip
    for name in METHODS:
        method = methods.METHODS[name]
        wanted = gradient_methods.feature_settings(method, base.dataset, base.checkpoint, base)
        trained = features.compute_features(first.dataset, denoiser, wanted, quiet)
        opened = kernel.open_kernel(kernel.compute_kernel(trained, quiet))
        residuals = None
        if method.residual:
            found = features.compute_residuals(first.dataset, denoiser, wanted, quiet)
            residuals = np.asarray(found.array("residuals.npy"), np.float64)
        for kind, bench in benches.items():
            images, ids = np.stack([t.image for t in bench.targets]), [t.id for t in bench.targets]
            each, started = [], time.perf_counter()
            for seed in range(max(SEEDS)):
                own = FeatureSettings(**wanted.model_dump() | {"noise_seed": seed})
                each.append(features.featurise(denoiser, images, ids, own, lambda done: None))
            seconds = (time.perf_counter() - started) / len(ids) / max(SEEDS)
            products = cross_products(trained, np.concatenate(each)).reshape(max(SEEDS), len(ids), -1)
            losses = np.nanmean(bench.losses, axis=1)
            ranks = {}
            for share in (method.rank_share, *SHARES):
                for count in SEEDS:
                    scored = gradient_scores.of_products(
                        method, opened, products[:count].mean(0), np.empty(0), rank_share=share, residuals=residuals
                    )
                    ranks[share, count] = lds.predicted(scored.values, bench.masks)
            rows = []
            for share in dict.fromkeys((method.rank_share, *SHARES)):
                row = {
                    "rank_share": share,
                    "lds": {str(n): lds.spearman(ranks[share, n], losses).mean() for n in SEEDS},
                }
                row["gain"] = {str(n): paired(ranks[share, 1], ranks[share, n], losses) for n in SEEDS[1:]}
                rows.append(row)
            report[f"{name}, {kind}"] = {"targets": len(ids), "seconds_a_target_and_seed": seconds, "rows": rows}
            own_row = rows[0]
            print(name, kind, f"{seconds:.3f} s", own_row["lds"], own_row["gain"], flush=True)
    files.write_json(RESULT, report)


def paired(before: np.ndarray, after: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Return the gain in LDS and its 95 % BCa interval, subsets resampled, ranks fixed."""
    x, y, z = (statistics.ranks(values) for values in (before, after, losses))

    def gain(weights: np.ndarray) -> np.ndarray:
        return lds._of_weights(y, z, weights) - lds._of_weights(x, z, weights)

    whole = np.full((1, len(losses)), 1 / len(losses))
    mean = float(gain(whole)[0])
    low, high = bootstrap.interval(gain, len(losses), 0.95) or (mean, mean)
    return {"mean": mean, "low": low, "high": high}


if __name__ == "__main__":
    main()
