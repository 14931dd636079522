"""Empirical influence and datamodels: against loops and scikit-learn, and on effects that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import RidgeCV

from dtrak_core import statistics
from dtrak_core.errors import SettingsError
from dtrak_core.lds import datamodels, lds


def world(subsets: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    masks = np.stack([random.permutation(np.arange(20) < 10) for _ in range(subsets)])
    effects = random.normal(size=(3, 20))
    losses = -(masks @ effects.T) + noise * random.normal(size=(subsets, 3))
    return masks, losses, effects


def held_out(name: str, masks: np.ndarray, losses: np.ndarray) -> float:
    guess = datamodels.held_out_predictions(datamodels.METHODS[name][1], masks, losses)
    return float(statistics.spearman(guess, losses).mean())


def test_empirical_influence_is_a_difference_of_means() -> None:
    masks, losses, _ = world(30, 0.5)
    masks[:, 4] = True
    found = datamodels.empirical_influence(masks, losses)
    for target in range(3):
        for i in (0, 7, 19):
            y = losses[:, target]
            assert found[target, i] == pytest.approx(y[~masks[:, i]].mean() - y[masks[:, i]].mean())
    assert (found[:, 4] == 0).all(), "what is in every subset was never left out"


def test_a_datamodel_is_a_ridge_regression_whose_penalty_is_cross_validated() -> None:
    masks, losses, _ = world(40, 0.5)
    found = datamodels.ridge(masks, losses)
    for target, y in enumerate(losses.T):
        expected = RidgeCV(alphas=(0.1, 1.0, 10.0), cv=5).fit(masks.astype(float), (y - y.mean()) / y.std())
        np.testing.assert_allclose(found[target], -expected.coef_ * y.std(), rtol=1e-6)


@pytest.mark.parametrize("name", list(datamodels.METHODS))
def test_known_effects_are_found_and_predict_held_out_subsets(name: str) -> None:
    masks, losses, effects = world(400, 0.1)
    fit = datamodels.METHODS[name][1]
    scores = fit(masks, losses)
    assert np.corrcoef(scores.ravel(), effects.ravel())[0, 1] > 0.9
    assert held_out(name, masks, losses) > 0.85


@pytest.mark.parametrize("name", list(datamodels.METHODS))
def test_noise_predicts_nothing_about_models_that_were_not_fitted(name: str) -> None:
    values = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        masks, _, _ = world(32, 0, seed)
        values.append(held_out(name, masks, random.normal(size=(32, 8))))
    assert abs(np.mean(values)) < 0.1
    fitted = lds.evaluate(datamodels.METHODS[name][1](masks, (noise := random.normal(size=(32, 8)))), masks, noise)
    assert fitted.mean > 0.5, "on the models it was fitted on, it would look good"


@pytest.mark.parametrize("name", list(datamodels.METHODS))
def test_chance_is_a_fit_on_permuted_losses(name: str) -> None:
    masks, losses, _ = world(24, 0.5)
    masks[:, 4] = True
    _, fit, prepare = datamodels.METHODS[name]
    found = datamodels.permuted(prepare(masks), losses)
    assert found.shape == (datamodels.REFITS, 3)
    orders = statistics.permutations(24, False, datamodels.REFITS - 1)
    for place in (0, 1, 57, datamodels.REFITS - 1):
        moved = losses[orders[place]]
        guess = datamodels.held_out_predictions(fit, masks, moved)
        np.testing.assert_allclose(found[place], statistics.spearman(guess, moved))
    assert lds.of_permutations(found.mean(1)).p < 0.05, "there are effects to be found"


def test_by_chance_p_is_uniform_and_the_band_holds_95_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of noise that targets share: their LDS differs between benchmarks as far as the band says."""
    monkeypatch.setattr(datamodels, "REFITS", 200)
    random, values, found = np.random.default_rng(6), [], []
    prepare = datamodels.METHODS["empirical-influence"][2]
    for seed in range(300):
        masks, _, _ = world(16, 0, 6000 + seed)
        losses = random.normal(size=(16, 1)) + random.normal(size=(16, 4))
        each = datamodels.permuted(prepare(masks), losses).mean(1)
        values.append(each[0])
        found.append(lds.of_permutations(each))
    assert stats.kstest([one.p for one in found], "uniform").pvalue > 0.05
    inside = [one.low <= value <= one.high for one, value in zip(found, values, strict=True)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
    assert np.mean([one.std for one in found]) == pytest.approx(np.std(values), rel=0.1)


def test_too_few_subsets_are_refused() -> None:
    masks, losses, _ = world(12, 0)
    with pytest.raises(SettingsError, match="at least 16"):
        held_out("datamodel", masks, losses)
