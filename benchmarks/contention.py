"""What training, features and sampling cost where another program is busy on the same machine, against an idle one.

    python benchmarks/contention.py            some minutes; everything else on the machine must rest
    python benchmarks/contention.py --quick    a smoke test: its numbers mean nothing

OpenMP's threads spin where they wait for each other. Beside a busy program one of them has no core at times, and all
spin until it gets one back. Measured with each way of waiting, in a process of its own: a training step of the demo
network (batch 32), features of some pictures at 10 timesteps (sparse, 4,096) and pictures drawn by 10 steps of DDIM,
alone, beside one busy process, and beside it with our process niced by 5, as the engine does. Aim: at most 5 times what
it costs alone, as shipped: with short waits, and a thread for each core that is free. Products are in the format that
this machine trains in (precision.py). Prints, and writes benchmarks/results/contention.json. `spinning` is torch's
default.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from dtrak_core import files, store
from dtrak_core.engine import children, free_cores
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import processes
from dtrak_core.models import networks, precision
from dtrak_core.training import presets

QUICK = "--quick" in sys.argv
RESULTS = Path(__file__).resolve().parent / "results" / ("contention-quick.json" if QUICK else "contention.json")
BATCH, TIMESTEPS, PICTURES = 32, 10, 2 if QUICK else 16
DRAWN, STEPS = (2, 2) if QUICK else (16, 10)
SECONDS, FEWEST = (0.5, 2) if QUICK else (1.5, 4)  # of one measurement, and rounds in it
SHIPPED = "as shipped"
NAMES = (*processes.SHORT_WAITS, "OMP_WAIT_POLICY")
WAYS: dict[str, dict[str, str]] = {
    "spinning": {},
    "short waits": processes.SHORT_WAITS,
    SHIPPED: processes.SHORT_WAITS,
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BESIDE = {
    "alone": (False, 0),
    "beside a busy process": (True, 0),
    "niced, beside a busy process": (True, children.NICE),
}


def main() -> None:
    rows = []
    for way, variables in WAYS.items():
        for about, (busy, nice) in BESIDE.items():
            with beside() if busy else contextlib.nullcontext():
                told = measured(variables, nice, way == SHIPPED)
            rows.append({"way": way, "where": about, **told})
            print(f"{way}, {about}: step {told['step_ms']} ms, feature {told['feature_ms']} ms a draw, "
                  f"picture {told['picture_ms']} ms", flush=True)  # fmt: skip
    report = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "quick": QUICK,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(os.getloadavg()[0], 2),
        "versions": store.versions(),
        "rows": rows,
        "times_alone": ratios(rows),
    }
    files.write_json(RESULTS, report)
    print(f"Times what it costs alone, as shipped: {report['times_alone']} (aim: at most 5)")


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many times as long each takes beside a busy process as alone, as shipped; the worst."""
    own = [row for row in rows if row["way"] == SHIPPED]
    alone = next(row for row in own if row["where"] == "alone")
    names = {"training_step": "step_ms", "feature": "feature_ms", "picture": "picture_ms"}
    return {name: round(max(row[of] for row in own) / alone[of], 2) for name, of in names.items()}


@contextlib.contextmanager
def beside() -> Iterator[None]:
    """Keep one core busy meanwhile."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def measured(variables: dict[str, str], nice: int, following: bool) -> dict[str, Any]:
    """Measure in a process of its own, with these variables in its environment."""
    env = {name: value for name, value in os.environ.items() if name not in NAMES}
    env |= {"OMP_NUM_THREADS": str(processes.cores()), **variables}
    command = [sys.executable, __file__, *(["--quick"] if QUICK else []), "measure", str(nice), str(int(following))]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(nice: int, following: bool) -> dict[str, Any]:
    """Return the median milliseconds of a training step, of a feature's (picture, timestep), and of a drawn picture."""
    most = int(os.environ["OMP_NUM_THREADS"])
    follow = free_cores.follower(most) if following else lambda: None
    import torch

    from dtrak_core.features import features
    from dtrak_core.models import sampling

    os.nice(nice)
    torch.manual_seed(0)
    denoiser = replace(
        networks.denoiser_of(networks.build_unet(presets.DEMO, 16), presets.DEMO.fold),
        half=precision.resolved("auto") == "bfloat16",
    )
    optimiser = torch.optim.AdamW(denoiser.network.parameters(), lr=0.0)

    def step() -> None:
        x0 = torch.rand(BATCH, *denoiser.shape) * 2 - 1
        noise, t = torch.randn_like(x0), torch.randint(0, 1000, (BATCH,))
        loss = (denoiser.predict(denoiser.process.noised(x0, noise, t), t) - noise).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    settings = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=TIMESTEPS)
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, 16, 16, 3), dtype=np.uint8)
    ids = [f"train:{i}" for i in range(PICTURES)]
    stepped = seconds(step, follow)
    denoiser.network.eval()
    featured = seconds(lambda: features.featurise(denoiser, images, ids, settings, lambda done: None), follow)
    drawn = seconds(lambda: sampling.generate(denoiser, range(DRAWN), "ddim", STEPS, 0.0), follow)
    return {
        "threads": torch.get_num_threads(),
        "precision": "bfloat16" if denoiser.half else "float32",
        "step_ms": round(1000 * stepped, 1),
        "feature_ms": round(1000 * featured / (PICTURES * TIMESTEPS), 2),
        "picture_ms": round(1000 * drawn / DRAWN, 1),
    }


def seconds(work: Callable[[], object], follow: Callable[[], None]) -> float:
    """Return the median time of some rounds after a first, with a look at the cores before each, as the engine has."""
    work()
    taken: list[float] = []
    while len(taken) < FEWEST or sum(taken) < SECONDS:
        follow()
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


if __name__ == "__main__":
    if sys.argv[-3:-2] == ["measure"]:
        print(json.dumps(measure(int(sys.argv[-2]), sys.argv[-1] == "1")))
    else:
        main()
