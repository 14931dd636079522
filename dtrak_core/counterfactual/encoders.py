"""Which weights of image encoders a comparison or a benchmark leans on. No torch here.

An encoder gives a comparison one of its measures, and similarities among methods have encoders too: with other
weights it is another question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dtrak_core.counterfactual.settings import CounterfactualSettings, EncoderWeights
from dtrak_core.methods import embeddings
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.settings import EmbeddingModel


def of_methods(names: Iterable[str]) -> EncoderWeights:
    """Return the digests of the weights that the encoders of methods have here, where they are known."""
    return _told({model: embeddings.known_weights(model) for model in _encoders(names)})


def leaned_on(settings: CounterfactualSettings) -> list[EmbeddingModel]:
    """Return the encoders of a comparison: of its measure, and of the similarities that rank."""
    return sorted({settings.encoder, *_encoders(settings.methods)})


def weights_of(settings: CounterfactualSettings, model: EmbeddingModel) -> str:
    """Return the digest of an encoder's weights as the settings have it, else of those that it has here."""
    told: str | None = dict(settings.encoder_weights).get(model)
    return embeddings.known_weights(model) if told is None else told


def of_method(settings: CounterfactualSettings, method: str) -> str | None:
    """Return the digest of the weights of a similarity's encoder, None for other methods."""
    model = METHODS[method].embedding
    return None if model is None else weights_of(settings, model)


def settled(settings: CounterfactualSettings) -> CounterfactualSettings:
    """Return the settings with the weights that each encoder has here, where they do not say and these are known."""
    told = _told({model: weights_of(settings, model) for model in leaned_on(settings)})
    return settings.model_copy(update={"encoder_weights": told})


def obtained(settings: CounterfactualSettings) -> CounterfactualSettings:
    """Return the settings with all weights, which are got from their hub where they are not here.

    Raises:
        DataError: If an encoder cannot be had.
        SettingsError: If it has other weights here than the settings say.
    """
    for model in leaned_on(settings):
        embeddings.obtained(model)
    found = settled(settings)
    for model in leaned_on(found):
        embeddings.refuse_other(model, weights_of(found, model))
    return found


def _encoders(names: Iterable[str]) -> set[EmbeddingModel]:
    found = (METHODS[name].embedding for name in names if name in METHODS)
    return {model for model in found if model is not None}


def _told(known: Mapping[EmbeddingModel, str]) -> EncoderWeights:
    return tuple((model, known[model]) for model in sorted(known) if known[model] not in ("", embeddings.UNKNOWN))
