"""Attribution by retraining: empirical influence and datamodels, fitted on the models of an LDS. No torch here.

From masks m_s (which examples subset s holds) and a target's losses y_s under models trained on them
(Feldman and Zhang 2020; Ilyas et al. 2022):

    empirical influence    score(i) = mean of y_s without i - mean of y_s with i
    datamodel              y_s ≈ b - Σ_i score(i) m_si, by ridge regression, its penalty by cross-validation

Signs are ours: a positive score lowers the loss. The paper fits on models of their own, disjoint from those that the
LDS is measured on. Where there are none, `held_out_predictions` fits on three quarters of the models and predicts the
fourth, in turn, so that no model is predicted from its own loss.

Such predictions change with the losses that they are fitted on, so what chance gives them is found by fitting anew on
permuted losses (`permuted`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dtrak_core.errors import SettingsError
from dtrak_core.statistics import permutations, spearman

PENALTIES = (0.1, 1.0, 10.0)  # as in the paper
FOLDS = 4
LEAST = 16  # subsets: of fewer, three quarters tell nothing
REFITS = 300  # permutations of the losses, the first of them none
AT_ONCE = 20  # of them
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]


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
        for number, coefficients in enumerate(_ridges(x[rest], np.eye(len(rest)))):
            guess = (x[left] - x[rest].mean(0)) @ coefficients @ scaled[rest] + scaled[rest].mean(0)
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


def _influences(masks: np.ndarray) -> Predict:
    """Return `held_out_predictions` of empirical influence for these masks: they are linear in the losses."""
    table = held_out_predictions(empirical_influence, masks, np.eye(len(masks)))
    return lambda losses: table @ losses


def _regressions(masks: np.ndarray) -> Predict:
    """Return `held_out_predictions` of a ridge regression: masks count by their products alone."""
    turned, sizes, _ = np.linalg.svd(masks.astype(np.float64), full_matrices=False)
    return lambda losses: held_out_predictions(ridge, turned * sizes, losses)


METHODS: Mapping[str, tuple[str, Fit, Callable[[np.ndarray], Predict]]] = {
    "empirical-influence": ("Empirical influence", empirical_influence, _influences),
    "datamodel": ("Datamodel (ridge)", ridge, _regressions),
}  # label, scores from masks and losses, and what predicts subsets from the others for given masks


def permuted(predict: Predict, losses: np.ndarray) -> np.ndarray:
    """Return each target's LDS where its losses are permuted over subsets and fitted anew, shape (`REFITS`, M).

    The first row is of the losses as they are. Subsets are drawn independently of each other, so where their contents
    say nothing of the losses, each row is as likely as the first. Targets are permuted together.

    Args:
        predict: Returns the held-out predictions (S, K) of losses (S, K), whose columns do not depend on each other.
        losses: Shape (S, M).
    """
    orders, found = permutations(len(losses), False, REFITS - 1), []
    for start in range(0, REFITS, AT_ONCE):
        moved = losses[orders[start : start + AT_ONCE]].swapaxes(0, 1).reshape(len(losses), -1)
        found.append(spearman(predict(moved), moved).reshape(-1, losses.shape[1]))
    return np.concatenate(found)
