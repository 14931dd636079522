"""Model output functions against their formulas in float64 numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.features import features, model_outputs
from dtrak_core.features.settings import FeatureSettings, ModelOutput
from dtrak_core.models import networks, schedules
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import quiet

SCHEDULE = networks.default_scheduler()


def values_of(name: str, e: np.ndarray, eps: np.ndarray, t: list[int], eta: float = 0.0) -> np.ndarray:
    found = model_outputs.value(
        name,  # type: ignore[arg-type]
        torch.from_numpy(e),
        torch.from_numpy(eps),
        torch.tensor(t),
        SCHEDULE.betas,
        SCHEDULE.alphas_cumprod,
        eta,
    )
    assert found.shape == (len(e),)
    return found.numpy()


@pytest.mark.parametrize("name", get_args(ModelOutput))
def test_each_function_is_its_formula(name: str) -> None:
    random = np.random.default_rng(1)
    e, eps, t, eta = random.normal(size=(4, 3, 5, 5)), random.normal(size=(4, 3, 5, 5)), [0, 10, 500, 999], 0.3
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.cumprod(1 - betas)
    for row, step in enumerate(t):
        one, noise = e[row].ravel(), eps[row].ravel()
        weight = betas[step] / (2 * (1 - betas[step]) * (1 - bars[step]))
        expected = {
            "loss": ((one - noise) ** 2).mean(),
            "squared-output": (one**2).mean(),
            "elbo": weight * ((one - noise) ** 2).mean(),
            "mean-output": one.mean(),
            "l1-norm": np.abs(one).sum(),
            "l2-norm": np.linalg.norm(one),
            "linf-norm": np.abs(one).max(),
            "interpolated": ((one - eta * noise) ** 2).mean(),
        }[name]
        # 1 - abar_0 = 1e-4 in float32 has four digits.
        assert values_of(name, e, eps, t, eta)[row] == pytest.approx(expected, rel=1e-3 if name == "elbo" else 1e-12)


def test_elbo_weights_are_the_references() -> None:
    t = torch.tensor([0, 10, 100, 500, 999])
    weights = model_outputs.elbo_weights(t, SCHEDULE.betas, SCHEDULE.alphas_cumprod)
    np.testing.assert_allclose(weights, [0.500, 0.068, 0.0100, 0.0055, 0.0102], rtol=0.02)


def test_an_infinite_weight_of_the_elbo_is_refused_before_anything_is_computed() -> None:
    zero = schedules.read({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True}, "zero")
    assert zero.alphas_cumprod[999] == 0
    every = np.arange(1000)
    with pytest.raises(SettingsError, match=r"infinite weight at timestep 999 .* Choose fewer or other timesteps"):
        model_outputs.refuse_infinite("elbo", every, zero.betas, zero.alphas_cumprod)
    model_outputs.refuse_infinite("elbo", every[:999], zero.betas, zero.alphas_cumprod)
    model_outputs.refuse_infinite("loss", every, zero.betas, zero.alphas_cumprod)
    model_outputs.refuse_infinite("elbo", every, SCHEDULE.betas, SCHEDULE.alphas_cumprod)


def test_features_of_an_infinite_elbo_are_not_begun(pictures: Dataset, checkpoint: Checkpoint) -> None:
    denoiser = networks.load_denoiser(checkpoint)
    alphas = denoiser.alphas_cumprod.clone()
    alphas[999] = 0.0
    betas = denoiser.betas.clone()
    betas[999] = 1.0
    flawed = replace(denoiser, betas=betas, alphas_cumprod=alphas)
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest}
    settings = FeatureSettings(
        **where, model_output="elbo", timestep_strategy="cumulative", num_timesteps=1000, proj_dim=8
    )
    with pytest.raises(SettingsError, match="infinite weight at timestep 999"):
        features.compute_features(pictures, flawed, settings, quiet)


def test_interpolation_ends_at_trak_and_d_trak() -> None:
    random = np.random.default_rng(2)
    e, eps = random.normal(size=(2, 3, 4, 4)), random.normal(size=(2, 3, 4, 4))
    np.testing.assert_allclose(values_of("interpolated", e, eps, [1, 2], 1.0), values_of("loss", e, eps, [1, 2]))
    np.testing.assert_allclose(
        values_of("interpolated", e, eps, [1, 2], 0.0), values_of("squared-output", e, eps, [1, 2])
    )
