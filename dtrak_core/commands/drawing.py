"""How the command line is told to draw: of what was said and what was not, so that a model's own way can fill it in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import tyro

from dtrak_core.models.settings import Sampled
from dtrak_core.settings import build

Steps = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 50, or the family's own)")]
Guidance = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 7.5, or as before)")]


def said(
    *,
    sampler: Annotated[Literal["ddim", "ddpm"], tyro.conf.arg(help_behavior_hint="(default: ddim)")] = "ddim",
    sampling_steps: Steps = None,
    eta: Annotated[float, tyro.conf.arg(help_behavior_hint="(default: 0.0)")] = 0.0,
    prompts: tuple[str, ...] = (),
    seeds_a_prompt: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: 1)")] = 1,
    guidance: Guidance = None,
) -> Sampled:
    """Return how pictures are to be drawn; what was not said is not among its `model_fields_set`.

    Raises:
        SettingsError: If a value cannot be.
    """
    values: dict[str, Any] = {"sampler": sampler, "eta": eta, "prompts": prompts, "seeds_a_prompt": seeds_a_prompt}
    asked = {"sampling_steps": sampling_steps, "guidance": guidance}
    return build(Sampled, **values, **{name: value for name, value in asked.items() if value is not None})


Drawing = Annotated[Sampled, tyro.conf.arg(name="", constructor=said)]
