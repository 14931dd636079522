"""The attribution methods: each a setting of one pipeline (design.md, section 5; reference.md, section 4).

    gradient     score = φ(z)ᵀ A φ(x_i),  φ the projected gradient of a model output function,
                 A = (ΦᵀΦ + λ I)⁻¹ where damped, else the identity; cosine divides by both norms
    pixels       inner product or cosine of the pictures in [-1, 1]
    embedding    inner product or cosine of an image encoder's embeddings

A higher score always means a stronger proponent. Similarities know nothing of the model that
made the picture: they are what a gradient method has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dtrak_core.errors import NotFoundError
from dtrak_core.settings import EmbeddingModel, ModelOutput


@dataclass(frozen=True)
class Method:
    """One method. `rank_share` is its default effective rank over N, None where nothing is damped."""

    id: str
    label: str
    family: Literal["gradient", "pixels", "embedding"]
    summary: str
    model_output: ModelOutput | None = None
    damped: bool = False
    cosine: bool = False
    rank_share: float | None = None
    embedding: EmbeddingModel | None = None


# The default shares lie where the best dampings of the paper and of the pilot lie (reference.md 10.7, data.md 1a).
METHODS: dict[str, Method] = {
    method.id: method
    for method in (
        Method(
            "d-trak",
            "D-TRAK",
            "gradient",
            "Compares how the squared size of the model's output depends on its weights, directions weighed by "
            "how common they are.",
            model_output="squared-output",
            damped=True,
            rank_share=0.15,
        ),
        Method(
            "trak",
            "TRAK",
            "gradient",
            "Compares how the training loss depends on the weights, directions weighed by how common they are.",
            model_output="loss",
            damped=True,
            rank_share=0.40,
        ),
        Method(
            "gradient-dot",
            "Gradient, dot product",
            "gradient",
            "Compares gradients of the training loss by their inner product, every direction alike.",
            model_output="loss",
        ),
        Method(
            "gradient-cosine",
            "Gradient, cosine",
            "gradient",
            "Compares gradients of the training loss by their angle, so that large ones do not win by size.",
            model_output="loss",
            cosine=True,
        ),
        Method(
            "clip-dot",
            "CLIP, dot product",
            "embedding",
            "Compares what the CLIP image encoder sees, by inner product; the model plays no part.",
            embedding="clip-vit-b-32",
        ),
        Method(
            "clip-cosine",
            "CLIP, cosine",
            "embedding",
            "Compares what the CLIP image encoder sees, by angle; the model plays no part.",
            cosine=True,
            embedding="clip-vit-b-32",
        ),
        Method(
            "lite0-dot",
            "EfficientNet-Lite0, dot product",
            "embedding",
            "Compares what a small ImageNet classifier sees, by inner product; it stands in where CLIP cannot be had.",
            embedding="efficientnet-lite0",
        ),
        Method(
            "lite0-cosine",
            "EfficientNet-Lite0, cosine",
            "embedding",
            "Compares what a small ImageNet classifier sees, by angle; it stands in where CLIP cannot be had.",
            cosine=True,
            embedding="efficientnet-lite0",
        ),
        Method(
            "raw-pixel-dot",
            "Raw pixels, dot product",
            "pixels",
            "Compares the pictures pixel by pixel, by inner product.",
        ),
        Method(
            "raw-pixel-cosine",
            "Raw pixels, cosine",
            "pixels",
            "Compares the pictures pixel by pixel, by angle.",
            cosine=True,
        ),
    )
}


def method_of(name: str) -> Method:
    """Return the method of this id, or raise NotFoundError listing all."""
    if name not in METHODS:
        raise NotFoundError(f"'{name}' is not a method. Methods: {', '.join(METHODS)}.")
    return METHODS[name]
