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
from dtrak_core.models.process import Process, rectified
from dtrak_core.models.settings import Prediction
from dtrak_core.progress import quiet

BETAS = torch.from_numpy(np.linspace(1e-4, 0.02, 1000))
PROCESSES = {name: Process(name, BETAS, torch.cumprod(1 - BETAS, 0)) for name in get_args(Prediction)}
PROCESSES["flow"] = rectified(torch.arange(1, 1001, dtype=torch.float64) / 1000, 1000)


def values_of(
    name: str, process: Process, f: np.ndarray, x0: np.ndarray, eps: np.ndarray, t: list[int], eta: float = 0.0
) -> np.ndarray:
    output, clean, noise = (torch.from_numpy(one) for one in (f, x0, eps))
    when = torch.tensor(t)
    x_t, target = process.noised(clean, noise, when), process.target(clean, noise, when)
    found = model_outputs.value(name, process, output, x_t, target, when, eta)  # type: ignore[arg-type]
    assert found.shape == (len(f),)
    return found.numpy()


@pytest.mark.parametrize("prediction", PROCESSES)
@pytest.mark.parametrize("name", get_args(ModelOutput))
def test_each_function_is_its_formula(name: str, prediction: Prediction) -> None:
    random = np.random.default_rng(1)
    f, x0, eps = random.normal(size=(3, 4, 3, 5, 5))
    t, eta = [0, 10, 500, 998], 0.3
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.cumprod(1 - betas)
    if prediction == "flow":  # of the DDPM with as much noise for as much picture
        ratios = (1000 / np.arange(1, 1001) - 1) ** 2
        bars = ratios / (1 + ratios)
        betas = 1 - bars / np.array([1, *bars[:-1]])
    found = values_of(name, PROCESSES[prediction], f, x0, eps, t, eta)
    for row, step in enumerate(t):
        one, clean, noise = f[row].ravel(), x0[row].ravel(), eps[row].ravel()
        a, s = np.sqrt(bars[step]), np.sqrt(1 - bars[step])
        if prediction == "flow":
            a, s = 1 - (step + 1) / 1000, (step + 1) / 1000
        noised = a * clean + s * noise
        # The target, and what the output says of the noise and of the picture.
        y, e, x = {
            "noise": (noise, one, (noised - s * one) / a),
            "sample": (clean, (noised - a * one) / s, one),
            "v": (a * noise - s * clean, a * one + s * noised, a * noised - s * one),
            "flow": (noise - clean, noised + a * one, noised - s * one),
        }[prediction]
        weight = betas[step] / (2 * (1 - betas[step]) * (1 - bars[step]))
        expected = {
            "loss": ((one - y) ** 2).mean(),
            "squared-output": (one**2).mean(),
            "elbo": weight * ((e - noise) ** 2).mean(),
            "mean-output": one.mean(),
            "l1-norm": np.abs(one).sum(),
            "l2-norm": np.linalg.norm(one),
            "linf-norm": np.abs(one).max(),
            "interpolated": ((one - eta * y) ** 2).mean(),
            "squared-noise": (e**2).mean(),
            "squared-clean": (x**2).mean(),
            "mean-noise": e.mean(),
            "mean-clean": x.mean(),
        }[name]
        assert found[row] == pytest.approx(
            expected, rel=1e-11 if name == "elbo" or name.endswith(("-noise", "-clean")) else 1e-12
        )


def test_squared_output_is_that_of_what_the_network_predicts() -> None:
    f, x0, eps = np.random.default_rng(5).normal(size=(3, 2, 3, 4, 4))
    for prediction, name in (("noise", "squared-noise"), ("sample", "squared-clean")):
        own = values_of("squared-output", PROCESSES[prediction], f, x0, eps, [3, 700])
        np.testing.assert_array_equal(values_of(name, PROCESSES[prediction], f, x0, eps, [3, 700]), own)


def test_elbo_weights_are_the_references() -> None:
    t = torch.tensor([0, 10, 100, 500, 999])
    weights = PROCESSES["noise"].elbo_weights(t)
    np.testing.assert_allclose(weights, [0.500, 0.068, 0.0100, 0.0055, 0.0102], rtol=0.02)


def test_an_infinite_weight_of_the_elbo_is_refused_before_anything_is_computed() -> None:
    zero = schedules.read({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True}, "zero")
    assert zero.process.alphas_cumprod[999] == 0
    every = np.arange(1000)
    with pytest.raises(SettingsError, match=r"infinite weight at timestep 999 .* Choose fewer or other timesteps"):
        model_outputs.refuse_infinite("elbo", every, zero.process)
    model_outputs.refuse_infinite("elbo", every[:999], zero.process)
    model_outputs.refuse_infinite("loss", every, zero.process)
    model_outputs.refuse_infinite("elbo", every, PROCESSES["noise"])


def test_an_end_that_the_output_tells_nothing_of_is_refused() -> None:
    every = np.arange(1000)
    config = {"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True, "prediction_type": "epsilon"}
    zero = schedules.read(config, "zero").process
    with pytest.raises(SettingsError, match=r"The clean picture is not known at timestep 999 .* Choose fewer"):
        model_outputs.refuse_infinite("squared-clean", every, zero)
    with pytest.raises(SettingsError, match=r"The clean picture is not known at timestep 999"):
        model_outputs.refuse_infinite("mean-clean", every, zero)
    model_outputs.refuse_infinite("squared-clean", every[:999], zero)
    model_outputs.refuse_infinite("squared-noise", every, zero)
    velocity = schedules.read(config | {"prediction_type": "v_prediction"}, "zero").process
    model_outputs.refuse_infinite("squared-clean", every, velocity)  # v tells of both ends everywhere
    model_outputs.refuse_infinite("squared-noise", every, velocity)
    with pytest.raises(SettingsError, match="The ELBO has an infinite weight at timestep 999"):
        model_outputs.refuse_infinite("elbo", every, velocity)
    flow = schedules.read({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow").process
    model_outputs.refuse_infinite("squared-clean", every, flow)
    model_outputs.refuse_infinite("squared-noise", every, flow)
    model_outputs.refuse_infinite("elbo", every[:999], flow)
    with pytest.raises(SettingsError, match="The ELBO has an infinite weight at timestep 999"):
        model_outputs.refuse_infinite("elbo", every, flow)  # σ = 1


def test_features_of_an_infinite_elbo_are_not_begun(pictures: Dataset, checkpoint: Checkpoint) -> None:
    denoiser = networks.load_denoiser(checkpoint)
    alphas = denoiser.process.alphas_cumprod.clone()
    alphas[999] = 0.0
    betas = denoiser.process.betas.clone()
    betas[999] = 1.0
    flawed = replace(denoiser, process=Process("noise", betas, alphas))
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest}
    settings = FeatureSettings(
        **where, model_output="elbo", timestep_strategy="cumulative", num_timesteps=1000, proj_dim=8
    )
    with pytest.raises(SettingsError, match="infinite weight at timestep 999"):
        features.compute_features(pictures, flawed, settings, quiet)


def test_interpolation_ends_at_trak_and_d_trak() -> None:
    random = np.random.default_rng(2)
    f, x0, eps = random.normal(size=(3, 2, 3, 4, 4))
    for process in PROCESSES.values():
        given = (process, f, x0, eps, [1, 2])
        np.testing.assert_allclose(values_of("interpolated", *given, 1.0), values_of("loss", *given))
        np.testing.assert_allclose(values_of("interpolated", *given, 0.0), values_of("squared-output", *given))
