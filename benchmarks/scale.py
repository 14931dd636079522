"""Time, memory and disk of scoring as the training set grows to 50,000 pictures with features of 32,768 numbers.

    python benchmarks/scale.py                     half an hour to an hour on 2 cores, 8 GB of disk
    python benchmarks/scale.py --sizes 1000 2000 --width 4096      a smoke test

Only the linear algebra is scaled: features are the shipped demo's real ones (D-TRAK, 900 pictures), repeated, spread
over the wider space with random signs, each with noise of 30 % of its length added, stored as float16 as the app
stores them. For each size, in a process of its own whose peak memory is told: the kernel (decomposed whole up to
12,288, sketched above: kernel.py), scores of 16 targets at an effective rank of 10 % of N from it, then the same scores
solved exactly in passes over the disk (sketch.solve) with the top 50 streamed, and how well both agree. Prints the
growth of each, and writes benchmarks/results/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from scipy import stats

from dtrak_core import files, store
from dtrak_core.datasets import catalogue
from dtrak_core.features import feature_store, kernel, sketch
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact

SIZES, WIDTH, TARGETS, TOP = (1000, 2000, 5000, 10_000, 20_000, 50_000), 32_768, 16, 50
NOISE, SHARE = 0.3, 0.1
RESULTS = Path(__file__).resolve().parent / "results" / "scale.json"


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    asked.add_argument("--width", type=int, default=WIDTH)
    asked.add_argument("--one", type=int, default=0, help="measure one size here (what the others are started with)")
    asked.add_argument("--out", type=Path, default=RESULTS)
    given = asked.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.width)))
        return
    rows: list[dict[str, Any]] = []
    for size in given.sizes:
        command = [sys.executable, __file__, "--one", str(size), "--width", str(given.width)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    growth = {}
    if len(rows) > 1:
        for name in ("seconds", "solve_seconds", "peak_gb", "disk_gb"):
            slope = np.polyfit(np.log([row["n"] for row in rows]), np.log([max(row[name], 1e-6) for row in rows]), 1)[0]
            growth[name] = round(float(slope), 2)
            print(f"{name} grows as N^{slope:.2f}")
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads",
        "rows": rows,
        "exponents": growth,
    }
    files.write_json(given.out, report)


def measure(count: int, width: int) -> dict[str, Any]:
    """Return one row: n, k, seconds of kernel and scores, of the exact solution, peak_gb, disk_gb, agreement."""
    real = real_features()
    with tempfile.TemporaryDirectory(dir=os.environ.get("STUDIO_SCRATCH")) as folder:
        os.environ |= {"STUDIO_CACHE": folder, "STUDIO_DEMO": str(Path(folder) / "none")}
        features, targets = made(real, count, width), spread(real[:TARGETS], width, 10**6)
        del real
        began = time.perf_counter()
        artifact = kernel.compute_kernel(features, quiet)
        opened = kernel.open_kernel(artifact)
        cross = np.empty((TARGETS, count))
        for start, part in feature_store.blocks(features):
            cross[:, start : start + len(part)] = targets @ part.T
        damping = kernel.damping_for_rank(opened.spectrum, SHARE * count)
        scores = kernel.damped_scores(opened, cross, damping)
        seconds = time.perf_counter() - began
        began = time.perf_counter()

        def blocks() -> Any:
            return feature_store.blocks(features)

        known = sketch.leading(blocks, count, width, quiet)
        solutions, passes = sketch.solve(blocks, targets, damping, known, quiet)
        indices, _ = sketch.top(blocks, solutions, TOP)
        solved = time.perf_counter() - began
        exact = np.concatenate([solutions @ part.T for _, part in blocks()], axis=1)
        shared = [
            len(set(a) & set(b)) / TOP for a, b in zip(indices, np.argsort(-scores, axis=1)[:, :TOP], strict=True)
        ]
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {
        "n": count,
        "k": width,
        "form": artifact.manifest["form"],
        "seconds": round(seconds, 1),
        "solve_seconds": round(solved, 1),
        "passes": passes,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "disk_gb": round(disk / 1e9, 3),
        "rank_correlation": round(
            float(np.mean([stats.spearmanr(a, b)[0] for a, b in zip(scores, exact, strict=True)])), 4
        ),
        "top_50_shared": round(float(np.mean(shared)), 3),
    }


def real_features() -> np.ndarray:
    """Return the shipped demo's features of D-TRAK, (900, 3584) float32."""
    dataset = catalogue.by_name(catalogue.DEFAULT)
    known = [a for a in store.listing("features") if a.shipped and a.settings["model_output"] == "squared-output"]
    own = [a for a in known if a.settings["dataset"] == dataset.digest and "parts" not in a.settings]
    return np.concatenate([rows for _, rows in feature_store.blocks(own[0])])


def spread(rows: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Return rows spread over `width` numbers, with noise: real ones times random signs, again and again."""
    signs = np.random.default_rng(0).choice(np.float32([-1, 1]), width)
    wide = np.tile(rows, (1, -(-width // rows.shape[1])))[:, :width] * signs
    drawn = np.random.default_rng(seed).standard_normal(wide.shape, dtype=np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    found: np.ndarray = wide + NOISE * lengths / np.sqrt(width) * drawn
    return found


def made(real: np.ndarray, count: int, width: int) -> Artifact:
    """Store `count` features."""
    settings = FeatureSettings(dataset="0" * 16, checkpoint="1" * 16, proj_dim=width, storage="float16")
    key = key_of("features", settings)
    folder = store.partial("features", key)
    for number, size in enumerate(feature_store.shard_sizes(count)):
        first = number * feature_store.SHARD
        rows = real[np.arange(first, first + size) % len(real)]
        feature_store.write_shard(folder, number, spread(rows, width, number), settings.storage)
    return store.publish("features", key, settings, rows=count, width=width)


if __name__ == "__main__":
    main()
