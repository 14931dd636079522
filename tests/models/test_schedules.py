"""Schedules: betas are diffusers' own, whatever scheduler wrote the config; what is no DDPM is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
)

from dtrak_core.errors import DataError
from dtrak_core.models import schedules
from dtrak_core.models.schedules import Sampler


@pytest.mark.parametrize(
    "theirs",
    [
        DDPMScheduler(),
        DDPMScheduler(beta_schedule="sigmoid"),
        DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.001, rescale_betas_zero_snr=True),
        PNDMScheduler(beta_schedule="squaredcos_cap_v2"),
        DDPMScheduler(num_train_timesteps=4000, beta_schedule="squaredcos_cap_v2"),
        DDIMScheduler(num_train_timesteps=3, trained_betas=[0.1, 0.2, 0.3]),
        EulerDiscreteScheduler(beta_end=0.01),
        DPMSolverMultistepScheduler(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_betas_are_those_of_the_scheduler_that_wrote_the_config(theirs: Any) -> None:
    config = dict(theirs.config) | {"_class_name": type(theirs).__name__, "of_a_fork": 1}
    found = schedules.read(config, "theirs")
    torch.testing.assert_close(found.process.betas, theirs.betas)
    torch.testing.assert_close(found.process.alphas_cumprod, theirs.alphas_cumprod)
    assert found.process.steps == found.config["num_train_timesteps"] == theirs.config.num_train_timesteps
    assert bool(found.assumed) == (type(theirs) not in (DDPMScheduler, DDIMScheduler))


def test_an_empty_config_is_the_papers() -> None:
    found = schedules.read({}, "theirs")
    torch.testing.assert_close(found.process.betas, torch.linspace(1e-4, 0.02, 1000))
    assert found.sampler == Sampler()
    assert DDPMScheduler.from_config(dict(found.config)).config.beta_schedule == "linear"
    again = schedules.read(dict(found.config), "theirs")
    assert again.config == found.config
    assert schedules.read({"set_alpha_to_one": False}, "theirs").config != found.config


@pytest.mark.parametrize(
    ("config", "prediction"),
    [
        ({}, "noise"),
        ({"prediction_type": None}, "noise"),
        ({"prediction_type": "sample"}, "sample"),
        ({"predict_epsilon": False}, "sample"),  # as configs said before there was a prediction_type
        ({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}, "v"),
        ({"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "v_prediction"}, "v"),
    ],
)
def test_what_is_predicted_is_read_and_kept(config: dict[str, Any], prediction: str) -> None:
    found = schedules.read(config, "theirs")
    assert found.process.prediction == prediction
    assert schedules.read(dict(found.config), "again").process.prediction == prediction
    theirs = DDPMScheduler.from_config(dict(found.config)).config.prediction_type
    assert theirs == {"noise": "epsilon", "sample": "sample", "v": "v_prediction"}[prediction]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"prediction_type": "edm"}, r"^'theirs' predicts 'edm'. Only models that predict the noise"),
        ({"prediction_type": "flow_prediction"}, "predicts 'flow_prediction' on noise levels of a DDPM. Only models"),
        (
            {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True},
            "predicts 'epsilon' on noise levels of flow matching. Only models",
        ),
        ({"_class_name": "FlowMatchLCMScheduler"}, "it is a distilled model of flow matching"),
        ({"_class_name": "CMStochasticIterativeScheduler"}, "it is a consistency model"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "it is a score model of an SDE"),
        ({"_class_name": "EDMEulerScheduler"}, "it is an EDM"),
        ({"_class_name": "MyScheduler"}, "it is not known to be a DDPM's"),
        ({"num_train_timesteps": 0}, "its schedule has 0 steps, not a whole number above 0"),
        ({"num_train_timesteps": "many"}, "its schedule has 'many' steps"),
        ({"trained_betas": []}, "its schedule has 0 steps"),
        ({"variance_type": "big"}, "cannot be used: variance_type is 'big'"),
        ({"timestep_spacing": "random"}, "cannot be used: timestep_spacing is 'random'"),
        ({"beta_schedule": "quadratic"}, "cannot be used: quadratic is not implemented"),
        ({"beta_end": "high"}, "scheduler_config.json of 'theirs' cannot be used"),
        ({"trained_betas": [float("nan")] * 1000}, "its betas give no finite schedule"),
        ({"beta_end": float("nan")}, "its beta_end is nan. Correct it."),
        ({"clip_sample_range": float("inf")}, "its clip_sample_range is inf. Correct it."),
        ({"thresholding": True, "dynamic_thresholding_ratio": 99.5}, "ratio is 99.5, not from 0 to 1"),
        ({"trained_betas": [-0.1, 0.2]}, "its betas are not all from 0 to 1"),
        ({"trained_betas": [1.5, 0.1]}, "its betas are not all from 0 to 1"),
    ],
)
def test_what_is_no_ddpm_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        schedules.read(config, "theirs")
    assert "\n" not in str(error.value)
