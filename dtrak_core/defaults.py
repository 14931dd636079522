"""Which feature settings are taken where the user names none: those whose features are already stored.

Pages and command line share this choice, so that both open the shipped demo's features.
"""

from __future__ import annotations

from dtrak_core import store
from dtrak_core.settings import FeatureSettings, ModelOutput, build


def feature_settings_for(dataset: str, checkpoint: str, model_output: ModelOutput) -> FeatureSettings:
    """Return the settings of the stored features of a checkpoint: the shipped ones, else the newest.

    Args:
        dataset: Digest of the dataset.
        checkpoint: Digest of the weights.
        model_output: The function whose gradient is taken.

    Returns:
        Stored settings, or the defaults where no such features are stored.
    """
    wanted = {"dataset": dataset, "checkpoint": checkpoint, "model_output": model_output}
    found = [artifact for artifact in store.listing("features") if wanted.items() <= artifact.settings.items()]
    if not found:
        return build(FeatureSettings, **wanted)
    return build(FeatureSettings, **max(found, key=lambda a: (a.shipped, a.manifest["date"])).settings)
