"""Flows: which configs are read, and which are refused with what they are. How they are drawn: test_sampling.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from dtrak_core.errors import DataError, SettingsError
from dtrak_core.models import flow, schedules
from dtrak_core.models.process import rectified

EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler"}


def test_a_process_of_flow_is_its_formula() -> None:
    process = rectified(torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64), 40)
    assert (process.steps, process.times.tolist()) == (3, [10, 20, 40])
    x0, noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 1, 2, 2)))
    t = torch.arange(3)
    x_t, y = process.noised(x0, noise, t), process.target(x0, noise, t)
    torch.testing.assert_close(x_t[0], 0.75 * x0[0] + 0.25 * noise[0])
    torch.testing.assert_close(y, noise - x0)
    torch.testing.assert_close(process.clean(x_t, y, t), x0)
    torch.testing.assert_close(process.noise(x_t, y, t), noise)
    assert process.loss_weights(t).tolist() == [1, 1, 1]
    assert process.to(torch.float32).times.dtype == torch.float32


def test_the_config_that_is_kept_opens_in_diffusers_and_here() -> None:
    found = schedules.read(EULER | {"shift": 3, "use_dynamic_shifting": None, "of_a_fork": 1}, "theirs")
    theirs = FlowMatchEulerDiscreteScheduler.from_config(dict(found.config))
    torch.testing.assert_close(theirs.sigmas.flip(0), found.process.sigmas, rtol=0, atol=0)
    assert schedules.read(dict(found.config), "again").config == found.config
    assert found.assumed == ()


def test_other_schedulers_of_flows_are_read_for_their_levels() -> None:
    theirs = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    found = schedules.read(schedules.config_of(theirs), "theirs")
    expected = FlowMatchEulerDiscreteScheduler(shift=3.0)
    torch.testing.assert_close(found.process.sigmas, expected.sigmas.flip(0), rtol=0, atol=0)
    assert found.assumed == ("drawn by Euler's steps with the noise schedule of its DPMSolverMultistepScheduler",)
    assert schedules.read({"_class_name": "FlowMatchHeunDiscreteScheduler"}, "theirs").assumed


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"stochastic_sampling": True}, "drawn with fresh noise at every step"),
        ({"invert_sigmas": True}, "counts its noise levels the other way round"),
        ({"shift": 0.0}, "give no noise levels that rise from 0 to 1"),
        ({"shift": -2.0}, "give no noise levels that rise from 0 to 1"),
        ({"shift": "wide"}, "scheduler_config.json of 'theirs' cannot be used"),
        ({"shift_terminal": 2.0}, "give no noise levels that rise from 0 to 1"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "Only one of"),
        ({"use_dynamic_shifting": True, "time_shift_type": "cubic"}, "`time_shift_type` must either be"),
        ({"use_dynamic_shifting": True, "max_image_seq_len": 256}, "cannot be used: (float )?division by zero"),
        ({"num_train_timesteps": 0}, "num_train_timesteps is 0, not a whole number above 0"),
        ({"num_train_timesteps": 10.5}, "num_train_timesteps is 10.5, not a whole"),
    ],
)
def test_levels_that_cannot_be_used_are_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        schedules.read(EULER | config, "theirs")
    assert "\n" not in str(error.value)


def test_a_last_level_needs_two_steps() -> None:
    spacing = flow.Flow({"shift_terminal": 0.1})
    assert spacing.sigmas(2).tolist() == pytest.approx([1, 0.1, 0])
    with pytest.raises(SettingsError, match="no finite noise levels for 1 sampling steps"):
        spacing.sigmas(1)
