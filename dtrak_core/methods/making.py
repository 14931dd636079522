"""How scores were made, in few words, from what is stored with them: the small print below an answer. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dtrak_core import store
from dtrak_core.features.settings import FeatureSettings

_STORED = {"features": "features", "embeddings": "embeddings", "own_scores": "own-scores"}  # provenance, and its kind


def of_features(features: FeatureSettings) -> dict[str, str]:
    """Return how features are made, by what is told: function, timesteps, projection, seeds, and how they are kept."""
    output = features.model_output + (f", η = {features.eta:g}" if features.model_output == "interpolated" else "")
    output += ", normalised by timestep" if features.normalise == "timestep" else ""
    output += ", weighed as in the training" if features.weighting == "training" else ""
    told = {
        "model output": output,
        "timesteps": f"{features.num_timesteps} ({features.timestep_strategy})",
        "noise seed": str(features.noise_seed),
        "projection": features.projection,
    }
    if features.projection != "none":
        told |= {
            "projection": f"{features.projection} to {features.proj_dim:,}",
            "projection seed": str(features.proj_seed),
        }
    return told | {"stored as": features.storage}


def of_scores(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return how scores were made, with date and version of what is stored for them, else with this version.

    Args:
        provenance: What made them, as `Scores` and `Ranking` keep it.
    """
    told: dict[str, str] = {}
    if (features := provenance.get("feature_settings")) is not None:
        told |= of_features(FeatureSettings(**features))
    if encoder := provenance.get("encoder"):
        told["encoder"] = f"{encoder} {provenance.get('encoder_weights', '')}".strip()
    keys = [(kind, str(provenance[name])) for name, kind in _STORED.items() if name in provenance]
    made = [found.manifest for kind, key in keys if (found := store.find(kind, key)) is not None]
    told |= {"made": made[0]["date"][:10]} if made else {}
    return told | {"with version": (made[0]["versions"] if made else store.versions())["dtrak-studio"]}


def together(made: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return facts of several methods, by their labels, as one's: where they differ, each says whose it is."""
    told = {}
    for name in dict.fromkeys(name for facts in made.values() for name in facts):
        whose: dict[str, list[str]] = {}
        for label, facts in made.items():
            if name in facts:
                whose.setdefault(facts[name], []).append(label)
        differ = "; ".join(f"{value} ({_listed(labels)})" for value, labels in whose.items())
        told[name] = differ if len(whose) > 1 else next(iter(whose))
    return told


def _listed(labels: Sequence[str]) -> str:
    return " and ".join(labels) if len(labels) < 3 else f"{labels[0]} and {len(labels) - 1} more"
