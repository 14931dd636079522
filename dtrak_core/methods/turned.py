"""Rankings with faders turned, and the layers' weights that scores choose: computed by a worker, stored. No torch here.

Each position of the faders has a kernel of its own (fader_scores.py), which takes N³ operations: a second for a
thousand pictures, a minute for ten thousand. A page reads what is stored and asks for what is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core import store
from dtrak_core.errors import SettingsError
from dtrak_core.features.fader_layout import Faders
from dtrak_core.features.settings import FeatureSettings, TargetFeatureSettings, feature_target
from dtrak_core.methods import fader_scores
from dtrak_core.methods.methods import Method
from dtrak_core.models.targets import Target
from dtrak_core.settings import Settings, key_of
from dtrak_core.store import Artifact


class TurnedSettings(Settings):
    """One target's scores at one position of the faders; without layers, the weights that are learned for them."""

    method: str
    target: TargetFeatureSettings
    layers: tuple[float, ...] = ()
    bands: tuple[float, ...] = ()


@dataclass(frozen=True)
class Turned:
    """Scores (N,), float64, with λ and effective rank."""

    values: np.ndarray
    damping: float
    effective_rank: float


def settings_of(features: FeatureSettings, target: Target, faders: Faders | None) -> TurnedSettings:
    """Return the settings of a target's ranking; of the layers' weights where there are no faders."""
    where = {"method": _method(features).id, "target": feature_target(features, target, fader_scores.SIDE)}
    if faders is None:
        return TurnedSettings(**where)
    return TurnedSettings(**where, layers=faders.layers, bands=faders.bands)


def compute(features: FeatureSettings, targets: Sequence[Target], faders: Faders | None) -> list[Artifact]:
    """Return rankings of targets with the faders as they are, or the weights learned for layers, from stored features.

    Returns:
        Artifacts of kind `turned`: scores.npy (N,) float64 with the facts damping and effective_rank; or layers.npy
        (G,) float64, which sum to G (`fader_scores.learned_layers`).

    Raises:
        NotFoundError: If the features in parts are not stored.
        SettingsError: If there are other weights than groups of layers and noise levels.
    """
    trained, method = store.get("features", key_of("features", features)), _method(features)
    if faders is not None:
        _check(faders, fader_scores.neutral(len(trained.manifest["groups"])))
    made = []
    for target in targets:
        settings = settings_of(features, target, faders)
        key = key_of("turned", settings)
        with store.computing("turned", key) as found:
            made.append(found or _computed(trained, method, features, target, faders, key, settings))
    return made


def find(features: FeatureSettings, target: Target, faders: Faders) -> Turned | None:
    """Return a target's scores at a position of the faders, or None where they are not stored."""
    artifact = store.find("turned", key_of("turned", settings_of(features, target, faders)))
    if artifact is None:
        return None
    facts = artifact.manifest
    return Turned(np.asarray(artifact.array("scores.npy")), facts["damping"], facts["effective_rank"])


def learned(features: FeatureSettings, target: Target) -> np.ndarray | None:
    """Return the weights of layers (G,) that were learned for a target, or None where they are not stored."""
    artifact = store.find("turned", key_of("turned", settings_of(features, target, None)))
    return None if artifact is None else np.asarray(artifact.array("layers.npy"))


def _computed(
    trained: Artifact,
    method: Method,
    features: FeatureSettings,
    target: Target,
    faders: Faders | None,
    key: str,
    settings: TurnedSettings,
) -> Artifact:
    own = fader_scores.target_rows(features, [target])
    if own is None:
        raise SettingsError(f"The features in parts of {target.id} are not stored. Compute the attribution first.")
    folder = store.partial("turned", key)
    if faders is None:
        store.write_array(folder / "layers.npy", fader_scores.learned_layers(trained, own, method))
        return store.publish("turned", key, settings)
    (values,), damping, rank = fader_scores.score(method, trained, own, faders)
    store.write_array(folder / "scores.npy", values)
    return store.publish("turned", key, settings, damping=damping, effective_rank=rank)


def _check(faders: Faders, neutral: Faders) -> None:
    for what, given, wanted in (
        ("layers", faders.layers, neutral.layers),
        ("noise levels", faders.bands, neutral.bands),
    ):
        if len(given) != len(wanted) or not any(given):
            raise SettingsError(
                f"The weights of {what} are {list(given)}; {len(wanted)} were expected, not all of them 0."
            )


def _method(features: FeatureSettings) -> Method:
    method = fader_scores.method_of_features(features)
    if method is None or features.parts != "faders":
        raise SettingsError("Faders turn D-TRAK's and TRAK's features in parts. Choose one of these methods.")
    return method
