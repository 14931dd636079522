"""Settings of methods that keep no features: what embeddings, or one target's scores, depend on."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from dtrak_core.features.settings import drawn_anew
from dtrak_core.models.settings import DIFFUSION_STEPS, EvenGrid, Prediction
from dtrak_core.settings import Digest, Seed, Settings

TARGET_BYTES = 2**30  # memory for the preconditioned gradients of targets by EK-FAC

EmbeddingModel = Literal["clip-vit-b-32", "efficientnet-lite0"]


class EmbeddingSettings(Settings):
    """Embeddings of a whole training set, or of one target by its pixel digest.

    `weights` is the digest of the encoder's weights, empty for those of EfficientNet-Lite0 that ship.
    """

    model: EmbeddingModel
    weights: str = ""
    pixels: Digest


class PatchSettings(Settings):
    """Which target is compared patch by patch (patches.py), and how far it is noised."""

    dataset: Digest
    target: str
    pixels: Digest
    timestep: int = Field(default=100, ge=1, lt=DIFFUSION_STEPS)
    noise_seed: Seed = 0


class InfluenceSettings(Settings):
    """Which target's influence by EK-FAC, and over how many draws (ekfac.py).

    `weighted` says that the loss has weights by timestep: of networks that predict the clean picture. A training
    picture's noise is `drawn_anew`, see `TargetFeatureSettings`.
    """

    dataset: Digest
    checkpoint: Digest
    target: str
    pixels: Digest
    num_timesteps: EvenGrid = 50
    damping: float = Field(default=0.1, gt=0)
    noise_seed: Seed = 0
    weighted: bool = Field(default=False, exclude_if=lambda value: not value)
    drawn_anew: bool = Field(default=False, exclude_if=lambda value: not value)


def influence_settings(
    dataset: str, checkpoint: str, prediction: Prediction, length: int, target: str, pixels: str
) -> InfluenceSettings:
    """Return the settings of a target's influence for a model that predicts this, with a schedule of this length.

    A schedule of fewer timesteps than are usual has as many draws as the largest even grid that it holds.
    """
    usual = int(InfluenceSettings.model_fields["num_timesteps"].default)
    return InfluenceSettings(
        dataset=dataset,
        checkpoint=checkpoint,
        target=target,
        pixels=pixels,
        num_timesteps=max(n for n in range(1, min(usual, length) + 1) if DIFFUSION_STEPS % n == 0),
        weighted=prediction == "sample",
        drawn_anew=drawn_anew(target),
    )


def influence_at_once(parameters: int) -> int:
    """Return how many targets share a pass of EK-FAC over the training set, by a network of so many parameters."""
    return max(1, TARGET_BYTES // (4 * parameters))


def influence_gradients(pictures: int, targets: int, num_timesteps: int, parameters: int) -> int:
    """Return how many gradients the scores of targets by EK-FAC take together: their own, and those of the passes."""
    passes = math.ceil(targets / influence_at_once(parameters))
    return (targets + passes * pictures) * num_timesteps
