"""Time, memory and disk of scoring as the training set grows to 50,000 pictures with features of 32,768 numbers.

    python benchmarks/scale.py                     half an hour to an hour on 2 cores, 8 GB of disk
    python benchmarks/scale.py --sizes 20000       this row; the others stay as they are
    python benchmarks/scale.py --workers 20000     one worker and two, in this size
    python benchmarks/scale.py --sizes 1000 2000 --width 4096 --out /tmp/scale.json      a smoke test

Only the linear algebra is scaled: features are the shipped demo's real ones of D-TRAK, repeated, spread
over the wider space with random signs, each with noise of 30 % of its length added, stored as float16 as the app
stores them. For each size, in a process of its own whose peak memory is told: the kernel (decomposed whole up to
12,288, sketched above: kernel.py), scores of 16 targets at an effective rank of 10 % of N from it, then the same scores
solved exactly in passes over the disk (sketch.solve) with the top 50 streamed, and how well both agree. A row tells
what it got of the machine: threads, the load as it began, and cores, seconds of processor over seconds. `--workers`
times kernel and exact solution by Dask workers of one thread each, features read from the disk anew each time. Prints
the growth of each, and writes benchmarks/results/scale.json after each row.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from distributed import Client, LocalCluster
from scipy import stats

from dtrak_core import files, store
from dtrak_core.datasets import catalogue
from dtrak_core.engine import parts, tasks
from dtrak_core.engine.children import default_threads
from dtrak_core.features import feature_store, kernel, passes, sketch
from dtrak_core.features.passes import Piece, Workers
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import job_files
from dtrak_core.jobs.job_kinds import AttributeJob
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact

SIZES, WIDTH, TARGETS, TOP = (1000, 2000, 5000, 10_000, 20_000, 50_000), 32_768, 16, 50
NOISE, SHARE = 0.3, 0.1
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
RESULTS = Path(__file__).resolve().parent / "results" / "scale.json"


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    asked.add_argument("--width", type=int, default=WIDTH)
    asked.add_argument("--workers", type=int, default=0, metavar="N", help="compare two workers with one, in this size")
    asked.add_argument("--one", type=int, default=0, help="measure one size here (what the others are started with)")
    asked.add_argument("--out", type=Path, default=RESULTS)
    given = asked.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.width)))
        return
    report: dict[str, Any] = json.loads(given.out.read_bytes()) if given.out.exists() else {"rows": []}
    report["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    if given.workers:
        report["workers"] = compared(given.workers, given.width)
        files.write_json(given.out, report)
        return
    for size in given.sizes:
        command = [sys.executable, __file__, "--one", str(size), "--width", str(given.width)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(row, flush=True)
        rows = [one for one in report["rows"] if one["n"] != size]
        report |= {"rows": sorted([*rows, row], key=lambda one: one["n"])}
        report["exponents"] = growth(report["rows"])
        files.write_json(given.out, report)
    print("\n".join(f"{name} grows as N^{slope:.2f}" for name, slope in report["exponents"].items()))


def growth(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the exponents by which what the rows tell grows with N; none of a single row."""
    names = ("seconds", "solve_seconds", "peak_gb", "disk_gb") if len(rows) > 1 else ()
    sizes = np.log([row["n"] for row in rows])
    return {
        name: round(float(np.polyfit(sizes, np.log([max(row[name], 1e-6) for row in rows]), 1)[0]), 2) for name in names
    }


def measure(count: int, width: int) -> dict[str, Any]:
    """Return one row: n, k, seconds of kernel and scores, of the exact solution, peak_gb, disk_gb, agreement."""
    real, load, at, busy = real_features(), os.getloadavg()[0], time.perf_counter(), time.process_time()
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
        cores = (time.process_time() - busy) / (time.perf_counter() - at)
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
        "date": time.strftime("%Y-%m-%d"),
        "threads": default_threads(),
        "load": round(load, 1),
        "cores": round(cores, 2),
    }


def compared(count: int, width: int) -> list[dict[str, Any]]:
    """Return seconds of a kernel and of the exact solution by one worker and by two, of one thread each."""
    real = real_features()
    with tempfile.TemporaryDirectory(dir=os.environ.get("STUDIO_SCRATCH")) as folder:
        os.environ |= {"STUDIO_CACHE": folder, "STUDIO_DEMO": str(Path(folder) / "none")} | dict.fromkeys(THREADS, "1")
        features, targets = made(real, count, width), spread(real[:TARGETS], width, 10**6)
        del real
        rows = []
        for workers in (1, 2):
            for file in features.path.iterdir():
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with by_dask(workers, features) as told, passes.spread(told):
                rows.append({"n": count, "k": width, "workers": workers, "load": round(os.getloadavg()[0], 1)})
                rows[-1] |= timed(features, targets)
            print(rows[-1], flush=True)
    return rows


def timed(features: Artifact, targets: np.ndarray) -> dict[str, Any]:
    """Return seconds of the sketch, of the pictures' part in its directions, of the exact solution, in passes."""
    count, width = feature_store.shape(features)
    blocks, marks, passed = functools.partial(feature_store.blocks, features), [time.time()], list[float]()
    spread_out = passes.product(features)

    def product(v: np.ndarray, on_rows: Callable[[int], None]) -> np.ndarray:
        began = time.time()
        found = spread_out(v, on_rows)
        passed.append(time.time() - began)
        return found

    known = sketch.leading(blocks, count, width, quiet, product=product)
    marks.append(time.time())
    total = sum(np.square(lengths).sum() for _, _, lengths in passes.rows_times(features, known.vectors, quiet))
    marks.append(time.time())
    others = min(count, width) - len(known.values)
    tail = np.full(others, (total - known.values.sum()) / max(others, 1))
    damping = kernel.damping_for_rank(np.concatenate([known.values, tail]), SHARE * count)
    _, needed = sketch.solve(blocks, targets, damping, known, quiet, product=product)
    marks.append(time.time())
    seconds = dict(zip(("sketch", "directions", "exact"), np.round(np.diff(marks), 1).tolist(), strict=True))
    inside = round(sum(passed) + marks[2] - marks[1], 1)
    return seconds | {"all": round(marks[-1] - marks[0], 1), "in_passes": inside, "passes": needed}


@contextlib.contextmanager
def by_dask(count: int, features: Artifact) -> Iterator[Workers]:
    """Yield so many Dask workers, which do pieces of passes as the engine's do."""
    job = AttributeJob(features=(FeatureSettings(**features.settings),), targets=("held-out:0",))
    order = {"root": str(store.root()), "key": "scale", "attempt": 1, "threads": 1, "job": job.model_dump(mode="json")}
    place = job_files.folder() / order["key"]
    place.mkdir(parents=True, exist_ok=True)
    with (
        LocalCluster(
            n_workers=count, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):

        def work(pieces: Sequence[Piece]) -> None:
            each = [order | {"do": "part", "part": dataclasses.asdict(part)} for part in parts.of_pass(pieces)]
            answers = client.gather([client.submit(tasks.run_part, one, i, pure=False) for i, one in enumerate(each)])
            assert all(answer["state"] == "done" for answer in answers), answers

        yield Workers(count, place / job_files.PASSES, work)


def real_features() -> np.ndarray:
    """Return the shipped demo's features of D-TRAK, (N, k) float32."""
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
    sizes = feature_store.shard_sizes(count)
    for number, size in enumerate(sizes):
        first = number * sizes[0]
        rows = real[np.arange(first, first + size) % len(real)]
        feature_store.write_shard(folder, number, spread(rows, width, number), settings.storage)
    return store.publish("features", key, settings, rows=count, width=width)


if __name__ == "__main__":
    main()
