"""Attribution by retraining: empirical influence and datamodels, fitted on the models of an LDS. No torch here.

From masks m_s (which examples subset s holds) and a target's losses y_s under models trained on them
(Feldman and Zhang 2020; Ilyas et al. 2022):

    empirical influence    score(i) = mean of y_s without i - mean of y_s with i
    datamodel              y_s ≈ b - Σ_i score(i) m_si, by ridge regression, its penalty by cross-validation

Signs are ours: a positive score lowers the loss. The paper fits on models of their own, disjoint from those that the
LDS is measured on. Where there are none, `held_out_predictions` fits on three quarters of the models and predicts the
fourth, in turn, so that no model is predicted from its own loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dtrak_core.errors import SettingsError

PENALTIES = (0.1, 1.0, 10.0)  # as in the paper
FOLDS = 4
LEAST = 16  # subsets: of fewer, three quarters tell nothing
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]


def empirical_influence(masks: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return scores (M, N) from masks (S, N), bool, and losses (S, M); 0 where an example is in all subsets or none."""
    inside = masks.astype(np.float64)
    outside = 1 - inside
    counts = [side.sum(0) for side in (inside, outside)]
    means = [
        np.divide(
            side.T @ losses, count[:, None], out=np.zeros((masks.shape[1], losses.shape[1])), where=count[:, None] > 0
        )
        for side, count in zip((inside, outside), counts, strict=True)
    ]
    scores = means[1] - means[0]
    scores[(counts[0] == 0) | (counts[1] == 0)] = 0
    found: np.ndarray = scores.T
    return found


def ridge(masks: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return the coefficients of a ridge regression a target, with the sign turned, shape (M, N).

    Losses are standardised first, so that one grid of penalties suits all targets; the sizes are given back. Each
    target takes the penalty of the highest R², mean over up to 5 folds, as scikit-learn's RidgeCV does one by one.
    """
    spread = losses.std(0)
    scaled = (losses - losses.mean(0)) / np.where(spread > 0, spread, 1)
    x = masks.astype(np.float64)
    quality = np.zeros((len(PENALTIES), losses.shape[1]))
    for left in np.array_split(np.arange(len(x)), min(5, len(x))):
        rest = np.setdiff1d(np.arange(len(x)), left)
        total = np.square(scaled[left] - scaled[left].mean(0)).sum(0)
        for number, coefficients in enumerate(_ridges(x[rest], scaled[rest])):
            guess = (x[left] - x[rest].mean(0)) @ coefficients + scaled[rest].mean(0)
            missed = np.square(scaled[left] - guess).sum(0)
            # What does not vary is explained wholly, or not at all.
            varies = total > 0
            quality[number] += np.where(varies, 1 - missed / np.where(varies, total, 1), missed == 0)
    fits = _ridges(x, scaled).swapaxes(1, 2)
    chosen = quality.argmax(0)
    found: np.ndarray = -fits[chosen, np.arange(losses.shape[1])] * spread[:, None]
    return found


def _ridges(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coefficients of y (S, M) on x (S, N), both without their means, for each penalty, shape (P, N, M)."""
    centred, values = x - x.mean(0), y - y.mean(0)
    gram = centred @ centred.T
    return np.stack([centred.T @ np.linalg.solve(gram + p * np.eye(len(x)), values) for p in PENALTIES])


METHODS: Mapping[str, tuple[str, Fit]] = {
    "empirical-influence": ("Empirical influence", empirical_influence),
    "datamodel": ("Datamodel (ridge)", ridge),
}


def held_out_predictions(fit: Fit, masks: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return what each subset's losses are predicted to be, up to a constant, by a fit on the others, shape (S, M).

    Predictions are deviations from a subset of average contents. The mean loss of the models that were fitted on is
    left out: where a fold is high, the rest is low, and the mean would tell that.

    Raises:
        SettingsError: If there are fewer than `LEAST` subsets.
    """
    if len(masks) < LEAST:
        raise SettingsError(f"{len(masks)} subsets are too few to fit on a part of them. Train on at least {LEAST}.")
    predicted = np.empty(losses.shape)
    for fold in range(FOLDS):
        left = np.arange(len(masks)) % FOLDS == fold
        scores = fit(masks[~left], losses[~left])
        deviation = masks[left].astype(np.float64) - masks[~left].mean(0)
        predicted[left] = -(deviation @ scores.T)
    return predicted
