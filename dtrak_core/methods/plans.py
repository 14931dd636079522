"""What a method needs for some targets of a checkpoint, looked up once, and the scores that come of it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods.methods import Method
from dtrak_core.models.targets import Target
from dtrak_core.settings import Settings

Needed = tuple[str, str, Settings]  # kind, key and settings of an artifact
Picture = tuple[str, str]  # a target's id and the digest of its pixels, empty where it is still to be drawn


@dataclass(frozen=True)
class Plan:
    """A method for targets of a checkpoint (`scores.resolve`): what scoring, jobs, costs and pages go by.

    `features` are the method's feature settings at the checkpoint itself, None where it has no gradients; `models` are
    those of each model that it looks at, in the order of training. `encoder_weights` is the digest of the weights of a
    similarity's encoder, None for those that are set up here. `refused` says why there can be no scores, else it is
    empty; `missing` is what has to be computed before there are.
    """

    method: Method
    dataset: Dataset
    checkpoint: str
    targets: tuple[Target, ...]
    features: FeatureSettings | None
    encoder_weights: str | None
    models: tuple[FeatureSettings, ...] = ()
    missing: tuple[Needed, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class Scores:
    """Scores of all training examples for one target (N,), or for several (M, N).

    `values` is float64, by training index. `damping` λ and `effective_rank`
    d(λ) are None where the method has none. `provenance` is plain JSON values.
    """

    method: str
    values: np.ndarray
    damping: float | None
    effective_rank: float | None
    provenance: Mapping[str, Any]


def scored(plan: Plan, values: np.ndarray, facts: Mapping[str, Any]) -> Scores:
    """Return the scores of a plan whose method has no damping, with facts of what made them beside its settings."""
    return Scores(plan.method.id, values, None, None, facts)
