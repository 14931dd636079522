"""What tests of repeated rankings share: a stored `repeats` artifact of a target, opened."""

from __future__ import annotations

from dtrak_core import store
from dtrak_core.features.settings import FeatureSettings, feature_target, in_parts
from dtrak_core.methods import fader_scores
from dtrak_core.methods.fader_scores import Repeat, RepeatSettings
from dtrak_core.models.targets import Target
from dtrak_core.settings import key_of


def repeat_of(method: str, features: FeatureSettings, target: Target) -> Repeat | None:
    """Return how far a target's scores repeat, None where that is not stored."""
    own = feature_target(in_parts(features), target, fader_scores.SIDE)
    artifact = store.find("repeats", key_of("repeats", RepeatSettings(method=method, target=own)))
    return None if artifact is None else fader_scores.opened(artifact)
