"""Jobs that answer what people ask of a training set: captions doubted, pictures removed, pictures alike."""

from __future__ import annotations

from typing import Literal

from dtrak_core.counterfactual.settings import TrialSettings
from dtrak_core.methods.maps import MapSettings
from dtrak_core.methods.suspicions import SuspicionSettings
from dtrak_core.settings import Settings


class SuspicionJob(Settings):
    """Measure a model's losses of the training pictures under their own and under other captions."""

    kind: Literal["suspicion"] = "suspicion"
    settings: SuspicionSettings


class TrialJob(Settings):
    """Train without some pictures and without random ones, and measure the held-out loss."""

    kind: Literal["trial"] = "trial"
    settings: TrialSettings


class MapJob(Settings):
    """Lay out the training pictures by likeness; embeddings that it lacks are computed, gradients are not."""

    kind: Literal["map"] = "map"
    settings: MapSettings
