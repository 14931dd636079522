"""A model's noise schedule and how its scheduler has pictures drawn, read from a scheduler_config.json of diffusers.

A schedule has any length. Betas are those of diffusers for every schedule that it knows (linear, scaled_linear,
squaredcos_cap_v2, laplace, sigmoid, trained betas, rescaled to zero terminal SNR); noise levels of flows are read in
flow.py. Values that a config leaves out are diffusers' own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from dtrak_core.models import lean  # noqa: F401 - what follows is imported without torch's compiler

# isort: split
import diffusers
import numpy as np
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from torch import Tensor

from dtrak_core.errors import DataError, first_line
from dtrak_core.models import flow
from dtrak_core.models.flow import Flow
from dtrak_core.models.process import Process
from dtrak_core.models.settings import DIFFUSION_STEPS, PREDICTIONS, Prediction

Spacing = Literal["leading", "linspace", "trailing"]
Variance = Literal["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"]
# Schedulers whose config says how a DDPM was trained, so that DDIM and DDPM draw from it too.
DDPMS = (
    "DDPMScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler", "PNDMScheduler",
    "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
OTHERS = {  # what schedulers of other models begin with, and what these models are
    "FlowMatchLCM": "a distilled model of flow matching that draws in a few steps of its own",
    "CM": "a consistency model, which draws in one step",
    "TCD": "a distilled model that draws in a few steps of its own",
    "LCM": "a distilled model that draws in a few steps of its own",
    "ScoreSde": "a score model of an SDE, whose noise levels are no DDPM's",
    "KarrasVe": "a score model of an SDE, whose noise levels are no DDPM's",
    "EDM": "an EDM, which predicts the picture at noise levels of its own",
    "VQDiffusion": "a model of discrete codes, not of pixels",
}
DIFFUSERS: dict[Prediction, str] = {ours: theirs for theirs, ours in PREDICTIONS.items()}


@dataclass(frozen=True)
class Sampler:
    """How a model's scheduler has pictures drawn; the defaults are those of the paper's DDPM.

    Timesteps are spaced as `spacing` says (Lin et al. 2024, table 2) and begin `offset` later where they are leading.
    The expected picture is clipped to [-clip, clip], or, with `threshold` (quantile, most), to each picture's own
    quantile and divided by it (Saharia et al. 2022, section 2.3); None does neither. `final_abar` is DDIM's abar of
    the finished picture, `variance` the noise that DDPM adds. A flow is drawn at the noise levels of `flow`, by Euler's
    steps, and nothing else here is of it.
    """

    spacing: Spacing = "leading"
    offset: int = 0
    clip: float | None = 1.0
    threshold: tuple[float, float] | None = None
    final_abar: float = 1.0
    variance: Variance = "fixed_small"
    flow: Flow | None = None

    def timesteps(self, sampling_steps: int, length: int = DIFFUSION_STEPS) -> list[int]:
        """Return the timesteps visited, from noisy to clean: 980, 960, ..., 0 for 50 steps of the paper's.

        Args:
            sampling_steps: Steps of the sampler, 1..length.
            length: T, the timesteps of the schedule.
        """
        last = length - 1
        match self.spacing:
            case "leading":
                begin: np.ndarray = np.arange(sampling_steps) * (length // sampling_steps) + self.offset
            case "linspace":
                begin = np.linspace(0, last, sampling_steps).round()
            case "trailing":
                # As diffusers counts them, down from 1,000, without the -1 that rounding leaves it at 61 steps, say.
                down = np.arange(length, 0, -length / sampling_steps)[:sampling_steps]
                begin = down.round()[::-1] - 1
        return [int(t) for t in begin.clip(0, last)[::-1]]


@dataclass(frozen=True)
class Schedule:
    """The process, tables of shape (T,), float32, on the CPU; the sampler; the config with all its values.

    `assumed` says in words what the config did not.
    """

    process: Process
    sampler: Sampler
    config: Mapping[str, Any]
    assumed: tuple[str, ...] = ()


def default_scheduler(prediction: Prediction = "noise") -> SchedulerMixin:
    """Return the paper's noise schedule: linear betas from 1e-4 to 0.02 (Ho et al. 2020, section 4).

    A flow's is σ = 1/T, 2/T, ..., 1.
    """
    if prediction == "flow":
        return flow.scheduler(num_train_timesteps=DIFFUSION_STEPS)
    return DDPMScheduler(
        num_train_timesteps=DIFFUSION_STEPS, beta_schedule="linear", beta_start=1e-4, beta_end=0.02,
        prediction_type=DIFFUSERS[prediction],
    )  # fmt: skip


def config_of(scheduler: SchedulerMixin) -> dict[str, Any]:
    """Return the config of a scheduler of diffusers, with its class."""
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


KNOWN = frozenset(name for name in DDPMScheduler().config if not name.startswith("_"))


def refuse_other(name: str, source: str) -> None:
    """Refuse a scheduler by its class unless it is of DDPMs or of flows.

    Raises:
        DataError: With what the model is.
    """
    if name in (*DDPMS, *flow.FLOWS):
        return
    about = next((text for begin, text in OTHERS.items() if name.startswith(begin)), "")
    told = f"it is {about}" if about else "it is not known to be a DDPM's"
    raise DataError(
        f"'{source}' is drawn by a {name}: {told}. Only DDPMs (DDPMScheduler or DDIMScheduler, say) and models of flow "
        "matching (FlowMatchEulerDiscreteScheduler) can be opened so far."
    )


def read(config: Mapping[str, Any], source: str) -> Schedule:
    """Return the schedule that a scheduler's config means.

    Args:
        config: The JSON of scheduler_config.json, of any scheduler of `DDPMS` or of `flow.FLOWS`.
        source: What the user calls the model.

    Raises:
        DataError: If the model predicts something else than noise, picture, v or flow, or a value cannot work.
    """
    name = str(config.get("_class_name", "DDPMScheduler"))
    refuse_other(name, source)
    predicts = "flow_prediction" if name in flow.FLOWS else str(config.get("prediction_type") or "epsilon")
    if not config.get("predict_epsilon", True):  # how configs said so before there was a prediction_type
        predicts = "sample"
    flows = name in flow.FLOWS or bool(config.get("use_flow_sigmas"))
    if predicts not in PREDICTIONS or flows != (predicts == "flow_prediction"):
        about = f" on noise levels of {'flow matching' if flows else 'a DDPM'}" if predicts in PREDICTIONS else ""
        raise DataError(
            f"'{source}' predicts '{predicts}'{about}. Only models that predict the noise (prediction_type 'epsilon'), "
            "the picture ('sample'), v ('v_prediction'), or flow on its own noise levels can be opened so far."
        )
    try:
        found = _flow(config, source) if flows else _ddpm(config, predicts)
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, MemoryError) as error:
        told = first_line(error)
        raise DataError(f"The scheduler_config.json of '{source}' cannot be used: {told}. Correct it.") from None
    way = "Euler's steps" if flows else "DDIM or DDPM"
    own = name in (flow.FLOWS[:1] if flows else DDPMS[:4])
    return replace(found, assumed=() if own else (f"drawn by {way} with the noise schedule of its {name}",))


def _flow(config: Mapping[str, Any], source: str) -> Schedule:
    process, spacing, settled = flow.read(config, source)
    stored = {"_class_name": flow.FLOWS[0], "_diffusers_version": diffusers.__version__, **settled}
    return Schedule(process, Sampler(clip=None, flow=spacing), stored)


def _ddpm(config: Mapping[str, Any], predicts: str) -> Schedule:
    given = {key: value for key, value in config.items() if key in KNOWN and value is not None}
    given["prediction_type"] = predicts
    if wrong := [key for key, value in given.items() if isinstance(value, float) and not math.isfinite(value)]:
        raise ValueError(f"its {wrong[0]} is {given[wrong[0]]}")
    betas = given.get("trained_betas")
    steps = len(betas) if isinstance(betas, list) else given.get("num_train_timesteps", DIFFUSION_STEPS)
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"its schedule has {steps!r} steps, not a whole number above 0")
    scheduler = DDPMScheduler(**given | {"num_train_timesteps": steps})
    sampler = _sampler(dict(scheduler.config), config, scheduler.alphas_cumprod)
    settled = {key: scheduler.config[key] for key in sorted(KNOWN)}
    if not config.get("set_alpha_to_one", True):
        settled["set_alpha_to_one"] = False
    return Schedule(
        Process(PREDICTIONS[predicts], scheduler.betas.float(), scheduler.alphas_cumprod.float()),
        sampler,
        {"_class_name": "DDPMScheduler", "_diffusers_version": diffusers.__version__, **settled},
    )


def _sampler(settled: Mapping[str, Any], config: Mapping[str, Any], abar: Tensor) -> Sampler:
    """Return the sampler, of values that are checked, since they are used only when a picture is drawn."""
    spacing, variance = settled["timestep_spacing"], settled["variance_type"]
    if spacing not in ("leading", "linspace", "trailing"):
        raise ValueError(f"timestep_spacing is '{spacing}', not leading, linspace or trailing")
    if variance not in get_args(Variance):
        raise ValueError(f"variance_type is '{variance}', none of {', '.join(get_args(Variance))}")
    if not bool(torch.isfinite(abar).all()):
        raise ValueError("its betas give no finite schedule")
    if not bool(((abar >= 0) & (abar <= 1)).all()):
        raise ValueError("its betas are not all from 0 to 1")
    clip = float(settled["clip_sample_range"]) if settled["clip_sample"] else None
    threshold = (
        (float(settled["dynamic_thresholding_ratio"]), float(settled["sample_max_value"]))
        if settled["thresholding"]
        else None
    )
    if threshold is not None and not 0 <= threshold[0] <= 1:
        raise ValueError(f"dynamic_thresholding_ratio is {threshold[0]:g}, not from 0 to 1")
    final = 1.0 if config.get("set_alpha_to_one", True) else float(abar[0])
    return Sampler(spacing, int(settled["steps_offset"]), clip, threshold, final, variance)


@functools.cache
def default(prediction: Prediction) -> Schedule:
    """Return the schedule of networks that are trained here: the paper's betas, of a flow σ = 1/T, 2/T, ..., 1."""
    return read(config_of(default_scheduler(prediction)), prediction)


PAPERS = default("noise")
