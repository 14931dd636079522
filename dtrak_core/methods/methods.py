"""The attribution methods: each a setting of one pipeline (docs/design.md, "One pipeline").

    gradient     score = φ(z)ᵀ A φ(x_i) w_i,  φ the projected gradient of a model output function,
                 A = (ΦᵀΦ + λ I)⁻¹ where damped, else the identity; cosine divides by both norms
    influence    influence functions without projection, by EK-FAC (ekfac.py)
    patches      how much of the target's patches a picture's patches explain (patches.py)
    pixels       inner product or cosine of the pictures in [-1, 1]
    embedding    inner product or cosine of an image encoder's embeddings
    own          scores that the user brought (own_scores.py)

Where there are several checkpoints or models, the mean of their scores.

A higher score always means a stronger proponent. Similarities know nothing of the model that
made the picture: they are what a gradient method has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features.settings import SPOKEN, ModelOutput, TargetSide, Weighting
from dtrak_core.methods import own_scores
from dtrak_core.methods.settings import EmbeddingModel


@dataclass(frozen=True)
class Method:
    """One method of a family, whose row (`families.FAMILIES`) says how it works.

    `about` is its summary, with {function} in place of its model output function and {on} after another method's name.
    `rank_share` is its default effective rank over N, None where nothing is damped. `side` says what differs for the
    target. `divided_by` is |A φ_i| (relative IF) or |φ_i| (renormalised IF); `residual` multiplies by r_i / (1 - h_i)
    (DAS); `squared` squares the score. `shares` are the checkpoints of the run in percent; `models` is the number of
    models trained on half of the set that an ensemble has, 0 for the checkpoint itself.
    """

    id: str
    label: str
    family: str
    about: str
    model_output: ModelOutput | None = None
    damped: bool = False
    cosine: bool = False
    rank_share: float | None = None
    embedding: EmbeddingModel | None = None
    eta: float = 0.0
    side: TargetSide = field(default=TargetSide())
    normalise: Literal["none", "timestep"] = "none"
    weighting: Weighting = "alike"
    divided_by: Literal["none", "preconditioned", "feature"] = "none"
    residual: bool = False
    squared: bool = False
    shares: tuple[int, ...] = (100,)
    models: int = 0

    @property
    def summary(self) -> str:
        """Return what it does, in a sentence or two that name its model output function."""
        if self.model_output is None:
            return self.about
        on = "" if self.model_output == _TABLE[self.id].model_output else f" on {self.model_output}"
        return self.about.format(function=SPOKEN[self.model_output], on=on)

    @property
    def reads_kernel(self) -> bool:
        """Return whether its scores need the kernel: its decomposition, or the features' lengths that lie beside it."""
        return self.damped or self.cosine

    @property
    def generated_only(self) -> bool:
        """Return whether it explains only pictures that the model generated."""
        return self.side.trajectory


# The default shares lie where the best dampings of Zheng et al. 2024 and of the project's own trials lie.
_DAMPED = "Compares how {function} depends on the weights, directions weighed by how common they are."
_TABLE = {
    method.id: method
    for method in (
        Method(
            "d-trak",
            "D-TRAK",
            "gradient",
            _DAMPED,
            model_output="squared-output",
            damped=True,
            rank_share=0.15,
        ),
        Method(
            "trak",
            "TRAK",
            "gradient",
            _DAMPED,
            model_output="loss",
            damped=True,
            rank_share=0.40,
        ),
        Method(
            "d-trak-ensemble",
            "D-TRAK, 4 models",
            "gradient",
            "The mean of D-TRAK's scores{on} over four models, each trained on another half of the pictures.",
            model_output="squared-output",
            damped=True,
            rank_share=0.15,
            models=4,
        ),
        Method(
            "trak-ensemble",
            "TRAK, 4 models",
            "gradient",
            "The mean of TRAK's scores{on} over four models, each trained on another half of the pictures.",
            model_output="loss",
            damped=True,
            rank_share=0.40,
            models=4,
        ),
        Method(
            "das",
            "DAS",
            "gradient",
            "Compares how {function} depends on the weights, every noise level equally, and counts a picture for more "
            "the worse the model knows it.",
            model_output="mean-output",
            damped=True,
            rank_share=0.15,
            normalise="timestep",
            residual=True,
        ),
        Method(
            "das-squared",
            "DAS, squared",
            "gradient",
            "The square of DAS{on}, as its authors score: how far a picture moves {function}, either way.",
            model_output="mean-output",
            damped=True,
            rank_share=0.15,
            normalise="timestep",
            residual=True,
            squared=True,
        ),
        Method(
            "relative-if",
            "Relative influence",
            "gradient",
            "TRAK's score{on}, divided by how much the picture moves the model as a whole.",
            model_output="loss",
            damped=True,
            rank_share=0.40,
            divided_by="preconditioned",
        ),
        Method(
            "renormalised-if",
            "Renormalised influence",
            "gradient",
            "TRAK's score{on}, divided by the length of the picture's gradient.",
            model_output="loss",
            damped=True,
            rank_share=0.40,
            divided_by="feature",
        ),
        Method(
            "journey-trak",
            "Journey TRAK",
            "gradient",
            "TRAK{on}, with the target followed along the steps by which it was generated.",
            model_output="loss",
            side=TargetSide(trajectory=True),
            damped=True,
            rank_share=0.40,
        ),
        Method(
            "ek-fac",
            "EK-FAC influence",
            "influence",
            "Influence of the training loss through the curvature of every layer, without random projection.",
        ),
        Method(
            "tracin-cp",
            "TracInCP",
            "gradient",
            "The mean inner product of gradients of {function} at four checkpoints of the training.",
            model_output="loss",
            shares=(25, 50, 75, 100),
        ),
        Method(
            "gas",
            "GAS",
            "gradient",
            "The mean cosine of gradients of {function} at four checkpoints of the training.",
            model_output="loss",
            cosine=True,
            shares=(25, 50, 75, 100),
        ),
        Method(
            "gradient-dot",
            "Gradient, dot product",
            "gradient",
            "Compares gradients of {function} by their inner product, every direction alike.",
            model_output="loss",
        ),
        Method(
            "gradient-cosine",
            "Gradient, cosine",
            "gradient",
            "Compares gradients of {function} by their angle, so that large ones do not win by size.",
            model_output="loss",
            cosine=True,
        ),
        Method(
            "nda",
            "Patches (NDA)",
            "patches",
            "Compares small patches of the noised target with all patches of all pictures; the model plays no part.",
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


def _brought(named: own_scores.Named) -> Method:
    summary = f"Scores that were brought from elsewhere as '{named.name}'; they are shown as they were given."
    return Method(named.id, f"{named.name} (own scores)", "own", summary)


METHODS = own_scores.Listed(_TABLE, _brought)


def method_of(name: str) -> Method:
    """Return the method of this id, or raise NotFoundError listing all."""
    if not isinstance(name, str) or name not in METHODS:
        raise NotFoundError(f"{name!r} is not a method. Methods: {', '.join(METHODS)}.")
    return METHODS[name]


def with_output(method: Method, output: ModelOutput | None) -> Method:
    """Return a method with another model output function, on both sides; None leaves its own.

    Raises:
        SettingsError: If the method takes no gradients, or the function is a mixture, which has a number of its own.
    """
    if output in (None, method.model_output):
        return method
    if method.model_output is None:
        raise SettingsError(f"{method.label} takes no gradients, so it has no model output. Leave '{output}' out.")
    if output == "interpolated":
        raise SettingsError(
            "'interpolated' lies between squared-output and loss, and only a sweep of the Benchmark page says where. "
            "Choose one of both ends."
        )
    return replace(method, model_output=output, label=f"{method.label} on {output}")
