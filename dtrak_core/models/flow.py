"""Rectified flows: the noise levels of a training and of a sampling, of a scheduler_config.json of diffusers.

Levels of both are those of diffusers' FlowMatchEulerDiscreteScheduler, whatever its config says of shift (Esser et al.
2024, section 5.3.2; by the picture's size where it is dynamic), last level, and Karras, exponential or beta spacing.
That scheduler brings SciPy's statistics, which take a second to import: so where a flow is read, not before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from dtrak_core.errors import DataError, SettingsError
from dtrak_core.models.process import Process, rectified
from dtrak_core.models.settings import DIFFUSION_STEPS

if TYPE_CHECKING:
    from diffusers import FlowMatchEulerDiscreteScheduler

# Schedulers of flows. All are drawn by Euler's steps.
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")


@dataclass(frozen=True)
class Flow:
    """How a scheduler spaces the noise levels of a sampling.

    `config` are the settings of a FlowMatchEulerDiscreteScheduler. `evenly` says that the pipeline hands it levels from
    1 to 1 / steps, as Flux's does; else they are spaced between the highest and lowest of the training, as those of
    Stable Diffusion 3. `positions` of the network's input decide about a shift that is dynamic.
    """

    config: Mapping[str, Any]
    positions: int = 0
    evenly: bool = False

    def sigmas(self, sampling_steps: int) -> Tensor:
        """Return the noise levels visited, from noisy to clean, shape (sampling_steps + 1,), float32; the last is 0.

        Raises:
            SettingsError: If the config has no finite levels for so many steps.
        """
        levels = self._spaced(sampling_steps)
        if not bool(levels.isfinite().all()):
            raise SettingsError(
                f"This model's scheduler has no finite noise levels for {sampling_steps} sampling steps. Choose more."
            )
        return levels

    def _spaced(self, sampling_steps: int) -> Tensor:
        own, mu = scheduler(**self.config), None
        if own.config.use_dynamic_shifting:  # μ is a line through two sizes
            low, high = own.config.base_image_seq_len, own.config.max_image_seq_len
            least, most = own.config.base_shift, own.config.max_shift
            mu = least + (most - least) / (high - low) * (self.positions - low)
        given = np.linspace(1.0, 1 / sampling_steps, sampling_steps).tolist() if self.evenly else None
        with np.errstate(divide="ignore", invalid="ignore"):
            own.set_timesteps(sampling_steps, sigmas=given, mu=mu)
        levels: Tensor = own.sigmas
        return levels


def scheduler(**settings: Any) -> FlowMatchEulerDiscreteScheduler:
    """Return diffusers' scheduler of flows with these settings, and its own where they say nothing."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def euler(levels: Tensor, length: int) -> Process:
    """Return the process of the levels that a sampling of n steps visits, as rows 0 (the last step) to n - 1.

    Args:
        levels: Those of `Flow.sigmas`, shape (n + 1,).
        length: What the network is told of σ = 1.
    """
    return rectified(levels[:-1].flip(0), length)


def read(config: Mapping[str, Any], source: str) -> tuple[Process, Flow, dict[str, Any]]:
    """Return process, spacing and settled settings of a config of `FLOWS`, or of another's `use_flow_sigmas`.

    Raises:
        DataError: If it draws with fresh noise, counts its levels the other way round, or a value cannot work.
    """
    if config.get("stochastic_sampling"):
        raise DataError(
            f"'{source}' is drawn with fresh noise at every step (stochastic_sampling), as distilled models are. Only "
            "flows that are drawn by Euler's steps can be opened; give the model that it was distilled from."
        )
    if config.get("invert_sigmas"):
        raise DataError(
            f"'{source}' counts its noise levels the other way round (invert_sigmas), as models of video do. Only "
            "flows whose level 1 is noise can be opened."
        )
    known = [name for name in scheduler().config if not name.startswith("_")]
    given = {key: value for key, value in config.items() if key in known and value is not None}
    if "flow_shift" in config:
        given["shift"] = config["flow_shift"]
    steps = given.get("num_train_timesteps", DIFFUSION_STEPS)
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"num_train_timesteps is {steps!r}, not a whole number above 0")
    own = scheduler(**given)
    settled = {key: own.config[key] for key in sorted(known)}
    process, spacing = rectified(own.sigmas.flip(0), steps), Flow(settled, settled["base_image_seq_len"])
    for levels in (process.sigmas, spacing._spaced(10).flip(0)):
        assert levels is not None
        rising = bool((levels.diff() >= 0).all()) and float(levels[0]) >= 0 and math.isclose(float(levels[-1]), 1)
        if not rising:
            raise ValueError("its settings give no noise levels that rise from 0 to 1")
    return process, spacing, settled
