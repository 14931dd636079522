"""How often an interval of an LDS holds the truth, by simulation: ranks fixed (ours), or taken anew in each resample.

    python benchmarks/intervals.py        some minutes on one core

Predictions and losses of 64 targets over 32 subsets are drawn from a normal distribution of known correlation, 60
times. The truth is the expected LDS at 32 subsets. A 95 % interval should hold it in 95 % of the draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from scipy import stats

from dtrak_core import statistics
from dtrak_core.lds import bootstrap, lds

SUBSETS, TARGETS, ROUNDS = 32, 64, 60


def main() -> None:
    random = np.random.default_rng(1)
    print("correlation  expected LDS   ranks fixed: held, width   ranks anew: held, width")
    for correlation in (0.0, 0.2, 0.6, 0.9):
        found, fixed, anew = [], [], []
        for _ in range(ROUNDS):
            guess = random.normal(size=(SUBSETS, TARGETS))
            noise = random.normal(size=guess.shape)
            losses = correlation * guess + np.sqrt(1 - correlation**2) * noise
            value = lds.judge(guess, losses)
            found.append(value.mean)
            fixed.append((value.low, value.high))
            anew.append(ranked_anew(guess, losses))
        truth = float(np.mean(found))
        cells = [f"{held(ends, truth):14.2f} {np.diff(ends, axis=1).mean():6.3f}" for ends in (fixed, anew)]
        print(f"{correlation:11.1f} {truth:13.3f} {cells[0]:>26} {cells[1]:>26}", flush=True)


def ranked_anew(guess: np.ndarray, losses: np.ndarray) -> tuple[float, float]:
    """Return the BCa interval with ranks taken anew in every resample, as scipy's spearmanr on it would."""
    ends = stats.bootstrap(
        (np.arange(len(guess)),),
        lambda drawn: float(statistics.spearman(guess[drawn], losses[drawn]).mean()),
        vectorized=False,
        n_resamples=bootstrap.RESAMPLES // 4,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(ends.low), float(ends.high)


def held(ends: list[tuple[float | None, float | None]] | list[tuple[float, float]], truth: float) -> float:
    """Return how often the intervals hold the truth."""
    return float(np.mean([low is not None and high is not None and low <= truth <= high for low, high in ends]))


if __name__ == "__main__":
    main()
