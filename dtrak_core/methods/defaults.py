"""Which feature settings are taken where the user names none: those whose features are already stored.

Pages and command line share this choice, so that both open the shipped demo's features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dtrak_core import store
from dtrak_core.features.settings import FeatureSettings, ModelOutput
from dtrak_core.methods.methods import Method
from dtrak_core.settings import build


def feature_settings_for(dataset: str, checkpoint: str, model_output: ModelOutput) -> FeatureSettings:
    """Return the settings of the stored features of a checkpoint: the shipped ones, else the first that were made.

    Args:
        dataset: Digest of the dataset.
        checkpoint: Digest of the weights.
        model_output: The function whose gradient is taken.

    Returns:
        Stored settings of D-TRAK's or TRAK's features, so that methods are compared alike; where there are none, the
        defaults.
    """
    wanted = {"dataset": dataset, "checkpoint": checkpoint}
    stored = [artifact for artifact in store.listing("features") if wanted.items() <= artifact.settings.items()]
    plain = [a for a in stored if not {"normalise", "weighting", "parts"} & a.settings.keys()]
    known = [a for a in plain if a.settings["model_output"] in ("squared-output", "loss")]  # D-TRAK's and TRAK's
    own = [a for a in known if a.settings["model_output"] == model_output] or known
    if not own:
        return build(FeatureSettings, **wanted, model_output=model_output)
    # Not the newest: what a sweep or a trial has made since must not change what is usual.
    best = min(own, key=lambda a: (not a.shipped, a.manifest["date"]))
    return build(FeatureSettings, **{**best.settings, "model_output": model_output, "eta": 0.0})


def base_for(dataset: str, checkpoint: str, method: Method, changes: Mapping[str, Any]) -> FeatureSettings:
    """Return the feature settings of a method: stored or default ones, with the user's changes.

    Args:
        dataset: Digest of the dataset.
        checkpoint: Digest of the weights.
        method: Its model output function is taken; methods without gradients get D-TRAK's, which they ignore.
        changes: Settings that replace those; None leaves one as it is.
    """
    base = feature_settings_for(dataset, checkpoint, method.model_output or "squared-output")
    given = {name: value for name, value in changes.items() if value is not None}
    return build(FeatureSettings, **base.model_dump() | given)
