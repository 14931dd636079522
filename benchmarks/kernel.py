"""All dampings and all ridge methods from one kernel, against an eigendecomposition and 27 inversions, in one run.

    python benchmarks/kernel.py                            a quarter of an hour on 2 idle cores
    python benchmarks/kernel.py ours:10000 decomposed:5000    these rows; the others stay as they are
    python benchmarks/kernel.py --quick                    a smoke test with small sizes: its numbers mean nothing

For N training examples and K = 8,192 numbers a feature (decaying spectrum, made up: only sizes matter here), and 100
targets. Ours: the stored kernel, of which the Gram matrix is told apart; the first ranking by TRAK and by DAS at an
effective rank of a tenth of N; then TRAK, relative influence, renormalised influence and DAS with its leverage at each
of the paper's 27 dampings. "decomposed" is the same with an eigendecomposition at every size. The authors' way:
(ΦᵀΦ + λ I)⁻¹, K x K in float32, once a damping, and its products; timed for one damping at a smaller K and
extrapolated, inversion by K³, products by K². Each size runs in a process of its own, whose peak memory is told, and
what it got of the machine: `threads`, the `load` as it began, and `cores`, seconds of processor over seconds. Prints,
and writes benchmarks/results/kernel.json after each row.
"""

from __future__ import annotations

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

from dtrak_core import files, store
from dtrak_core.engine.children import default_threads
from dtrak_core.features import feature_store, kernel
from dtrak_core.features.grams import gram_of
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import processes
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of

QUICK = "--quick" in sys.argv
SIZES = (300, 600) if QUICK else (1000, 5000, 10_000)
WIDTH, SMALLER = (400, 100) if QUICK else (8192, 2048)
TARGETS = 10 if QUICK else 100
DAMPINGS = [factor * 10.0**power for power in range(-2, 7) for factor in (1, 2, 5)]
WAYS = ("ours", "decomposed", "authors")
RESULTS = Path(__file__).resolve().parent / "results" / ("kernel-quick.json" if QUICK else "kernel.json")


def main() -> None:
    named = [argument for argument in sys.argv[1:] if argument != "--quick"]
    wanted = [named_row(name) for name in named] or [(way, count) for way in WAYS for count in SIZES]
    rows = {(row["way"], row["N"]): row for row in json.loads(RESULTS.read_bytes())["rows"]} if named else {}
    for way, count in wanted:
        command = [sys.executable, __file__, *(["--quick"] if QUICK else []), way, str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        rows[way, count] = json.loads(done.stdout.splitlines()[-1])
        print(rows[way, count], flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        files.write_json(
            RESULTS, {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "rows": [*rows.values()]}
        )
    for way, count in wanted:
        row = rows[way, count]
        if way != "authors":
            first = row["first"] - row["gram"]
            print(f"N = {count:,}, {way}: the first ranking {first:.1f} s beyond the Gram matrix, which took", end=" ")
            print(
                f"{row['gram']:.1f} s; everything {row['seconds']:.0f} s, without it {row['seconds'] - row['gram']:.0f}"
            )


def named_row(name: str) -> tuple[str, int]:
    """Return way and size from a name as ours:10000."""
    way, _, count = name.partition(":")
    if way not in WAYS or not count.isdecimal():
        sys.exit(f"'{name}' names no row. One is called {WAYS[0]}:{SIZES[0]}; the ways are {', '.join(WAYS)}.")
    return way, int(count)


def features_of(count: int) -> np.ndarray:
    """Return N features of K numbers with a decaying spectrum, float32."""
    random = np.random.default_rng(0)
    rank = min(count, WIDTH)
    scales = (1 / np.sqrt(np.arange(1, rank + 1))).astype(np.float32)
    mixed = random.standard_normal((count, rank), dtype=np.float32) * scales
    columns = random.standard_normal((rank, WIDTH), dtype=np.float32) if rank < WIDTH else None
    return mixed if columns is None else mixed @ columns / np.float32(rank**0.5)


def ours(count: int) -> dict[str, Any]:
    """Time the Gram matrix, a part of the kernel, the first rankings, and every method at every damping."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"STUDIO_CACHE": folder, "STUDIO_DEMO": f"{folder}/none"}
        settings = FeatureSettings(dataset="0" * 16, checkpoint="1" * 16, proj_dim=WIDTH)
        key = key_of("features", settings)
        rows = features_of(count)
        cross = rows[:TARGETS].astype(np.float64) @ rows.T.astype(np.float64)
        place, sizes = store.partial("features", key), feature_store.shard_sizes(count)
        for number, size in enumerate(sizes):
            feature_store.write_shard(place, number, rows[number * sizes[0] :][:size], "float32")
        artifact = store.publish("features", key, settings, rows=count, width=WIDTH)
        del rows
        started = time.perf_counter()
        gram_of(artifact, "dual" if count <= WIDTH else "primal", quiet)
        gram = time.perf_counter() - started
        started = time.perf_counter()
        opened = kernel.open_kernel(kernel.compute_kernel(artifact, quiet))
        damping = kernel.damping_for_rank(opened.spectrum, count / 10)
        kernel.damped_scores(opened, cross[:1], damping)
        first = time.perf_counter() - started
        kernel.damped_scores(opened, cross[:1], damping) / (1 - kernel.leverage(opened, damping))
        das = time.perf_counter() - started
        for damping in DAMPINGS:
            scores = kernel.damped_scores(opened, cross, damping)
            length = np.sqrt(kernel.preconditioned(opened, damping))
            leverage = kernel.leverage(opened, damping)
            tables = (scores, scores / length, scores / opened.norms, scores / (1 - leverage))
            assert all(table.shape == (TARGETS, count) for table in tables)
        total = time.perf_counter() - started
    return {"seconds": total, "gram": gram, "first": first, "first_das": das, "dampings": total - das}


def authors(count: int) -> dict[str, Any]:
    """Time one inversion at a smaller K, and extrapolate to K and to all dampings; the memory is that of K."""
    import torch

    torch.set_num_threads(processes.cores())
    rows = torch.from_numpy(features_of(count))
    started = time.perf_counter()
    gram = rows.T @ rows
    made = time.perf_counter() - started
    small = gram[:SMALLER, :SMALLER] + torch.eye(SMALLER)
    started = time.perf_counter()
    inverse = torch.linalg.inv(small)
    inverted = (time.perf_counter() - started) * (WIDTH / SMALLER) ** 3
    started = time.perf_counter()
    torch.matmul(rows[:TARGETS, :SMALLER], inverse @ rows[:, :SMALLER].T)
    products = (time.perf_counter() - started) * (WIDTH / SMALLER) ** 2
    torch.empty_like(gram).fill_(1.0)  # the inverse itself, of the full size, for the memory
    seconds = made + len(DAMPINGS) * (inverted + products)
    return {"seconds": seconds, "inversion": inverted, "products": products}


def alone(way: str, count: int) -> dict[str, Any]:
    """Return one row, measured in this process."""
    if way == "decomposed":
        kernel.SMALL = kernel.LARGEST
    load, began, busy = os.getloadavg()[0], time.perf_counter(), time.process_time()
    found = (authors if way == "authors" else ours)(count)
    cores = (time.process_time() - busy) / (time.perf_counter() - began)
    told = {name: round(value, 3) for name, value in found.items()}
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    state = {"threads": default_threads(), "load": round(load, 1), "cores": round(cores, 2)}
    return {"way": way, "N": count, **told, "peak_mb": peak, "date": time.strftime("%Y-%m-%d"), **state}


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[-2] in WAYS:
        print(json.dumps(alone(sys.argv[-2], int(sys.argv[-1]))))
    else:
        main()
