"""Jobs that answer what people ask of a training set: which captions are doubted, and what removing pictures does."""

from __future__ import annotations

from typing import Literal

from dtrak_core.counterfactual.settings import TrialSettings
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
