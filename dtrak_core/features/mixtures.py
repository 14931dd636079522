"""Features of interpolated model output functions as sums of stored ones. No torch here.

∇ mean((e - η ε)²) = (1 - η) ∇ mean(e²) + η ∇ mean((e - ε)²),    and projecting is linear
"""

from __future__ import annotations

import numpy as np

from dtrak_core import store
from dtrak_core.features import feature_store
from dtrak_core.features.settings import FeatureSettings, TargetSide, ends_of, feature_target, is_mixture
from dtrak_core.models.targets import Target
from dtrak_core.settings import key_of


def of_rows(settings: FeatureSettings, rows: slice) -> np.ndarray | None:
    """Return rows of interpolated features from stored ones of both ends, or None where these are not stored."""
    if not is_mixture(settings):
        return None
    ends = [store.find("features", key_of("features", one)) for one in ends_of(settings)]
    if ends[0] is None or ends[1] is None:
        return None
    return _mix(settings.eta, feature_store.rows(ends[0], rows), feature_store.rows(ends[1], rows))


def of_target(settings: FeatureSettings, target: Target, side: TargetSide) -> np.ndarray | None:
    """Return a target's interpolated feature (K,) from those of both ends, or None where these are not stored."""
    if not is_mixture(settings, side):
        return None
    wanted = [feature_target(one, target, side) for one in ends_of(settings)]
    ends = [store.find("target-features", key_of("target-features", one)) for one in wanted]
    if ends[0] is None or ends[1] is None:
        return None
    return _mix(settings.eta, feature_store.target_feature(ends[0]), feature_store.target_feature(ends[1]))


def _mix(eta: float, squared: np.ndarray, loss: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = (1 - eta) * squared + eta * loss
    return mixed.astype(np.float32)
