"""Recipes: a method with all that can be changed about it, and the sweeps of the paper's findings. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from pydantic import Field

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import FeatureSettings, ModelOutput, TargetSide, Weighting
from dtrak_core.methods import defaults, gradient_methods
from dtrak_core.methods.methods import METHODS, Method, method_of
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Prediction
from dtrak_core.settings import Settings, build

OUTPUTS: tuple[ModelOutput, ...] = (
    "loss",
    "elbo",
    "squared-output",
    "mean-output",
    "l1-norm",
    "l2-norm",
    "linf-norm",
)  # in the order of the paper's table of constructions
ENDS_OF: dict[Prediction, tuple[ModelOutput, ...]] = {  # of what the network does not itself put out
    "noise": (),  # the paper's table as it is
    "sample": ("squared-noise",),
    "v": ("squared-noise", "squared-clean"),
    "flow": ("squared-noise", "squared-clean"),
}
ENDS: tuple[str, ...] = ("d-trak", "trak")  # the two methods that sweeps compare
TIMESTEPS = (1, 2, 5, 10, 20, 50)
SQUARED = ", scores squared"  # in a label
DIMENSIONS = (256, 1024, 4096, 16384)
ETAS = tuple(round(0.1 * step, 1) for step in range(11))
FEW = 10  # timesteps of a sweep that is about something else
Sweep = Literal["functions", "eta", "checkpoints", "timesteps", "dimension", "mixtures", "weights"]
WEIGHED: dict[str, dict[str, str]] = {  # how much say each noise level has
    "as trained": {"weighting": "training"},
    "every timestep alike": {},
    "normalised by timestep": {"normalise": "timestep"},
}
WEIGHED_OUTPUTS: tuple[ModelOutput, ...] = ("squared-output", "squared-noise", "mean-output", "mean-noise", "loss")


class Recipe(Settings):
    """How scores are made: a method, its features, and what differs from the method's own definition.

    `features` are the training side's timesteps, projection and checkpoint; None for methods without gradients.
    `model_output` and `target_*` replace the method's function on the training side and on the target's. `squared`
    squares scores before they are summed over a subset.
    """

    method: str
    features: FeatureSettings | None = None
    model_output: ModelOutput | None = None
    eta: float = Field(default=0.0, ge=0, le=1)
    target_output: ModelOutput | None = None
    target_eta: float = Field(default=0.0, ge=0, le=1)
    normalise: Literal["none", "timestep"] | None = None
    weighting: Weighting | None = Field(default=None, exclude_if=lambda value: value is None)
    squared: bool = False


def method_for(recipe: Recipe) -> Method:
    """Return the method as the recipe has it."""
    found = method_of(recipe.method)
    if recipe.model_output is not None:
        found = replace(found, model_output=recipe.model_output, eta=recipe.eta)
    if recipe.target_output is not None:
        found = replace(found, side=TargetSide(target_output=recipe.target_output, target_eta=recipe.target_eta))
    if recipe.normalise is not None:
        found = replace(found, normalise=recipe.normalise)
    if recipe.weighting is not None:
        found = replace(found, weighting=recipe.weighting)
    return found


def features_of(recipe: Recipe) -> FeatureSettings | None:
    """Return how the features of the training pictures are made, with the method's own function; None without any."""
    if recipe.features is None:
        return None
    features = recipe.features
    return gradient_methods.feature_settings(method_for(recipe), features.dataset, features.checkpoint, features)


def usual(dataset: Dataset, checkpoint: Checkpoint, method: str, squared: bool = False) -> Recipe:
    """Return a method's own recipe, with the features that are stored or usual for this checkpoint."""
    chosen = method_of(method)
    if chosen.model_output is None:
        return Recipe(method=chosen.id, squared=squared)
    base = defaults.base_for(dataset.digest, checkpoint.digest, chosen, {})
    return Recipe(method=chosen.id, features=base, squared=squared)


def with_timesteps(recipe: Recipe, count: int) -> Recipe:
    """Return the recipe with this number of timesteps; one without features stays."""
    if recipe.features is None:
        return recipe
    return _changed(recipe, num_timesteps=count)


def sweep(name: Sweep, dataset: Dataset, checkpoint: Checkpoint) -> dict[str, list[Recipe]]:
    """Return the recipes of one finding: for each line of its chart, those of its points.

    functions    each model output function, damped like D-TRAK; with the squared noise and picture that the output
                 means, where the network predicts neither noise nor that
    eta          from the squared output (0) to the loss (1), on both sides
    checkpoints  D-TRAK and TRAK at each checkpoint of the run
    timesteps    D-TRAK and TRAK over the number of timesteps
    dimension    D-TRAK and TRAK over the projection dimension
    mixtures     squared output and loss, chosen apart for the training side and the target's
    weights      where the network predicts the clean picture: functions of it and of the noise, and the loss, damped
                 like D-TRAK; weighed by timestep as in the training, alike, and with draws' gradients normalised
    """
    ends = {method: usual(dataset, checkpoint, method) for method in ENDS}
    few = {method: with_timesteps(recipe, FEW) for method, recipe in ends.items()}
    point: Callable[..., Recipe] = build_recipe
    match name:
        case "functions":
            outputs = (*OUTPUTS, *ENDS_OF[checkpoints.prediction_of(checkpoint)])
            return {"": [point(few["d-trak"], model_output=output) for output in outputs]}
        case "eta":
            lines = {f"{FEW} timesteps": few["d-trak"], "all timesteps": ends["d-trak"]}
            return {
                label: [point(one, model_output="interpolated", eta=eta) for eta in ETAS]
                for label, one in lines.items()
            }
        case "checkpoints":
            kept = sorted(checkpoints.of_run(checkpoint.run), key=lambda c: c.share)
            return {m: [_changed(few[m], checkpoint=one.digest) for one in kept] for m in ENDS}
        case "timesteps":
            return {m: [_changed(ends[m], num_timesteps=count) for count in TIMESTEPS] for m in ENDS}
        case "dimension":
            return {m: [_changed(few[m], proj_dim=width) for width in DIMENSIONS] for m in ENDS}
        case "mixtures":
            both: tuple[ModelOutput, ...] = ("squared-output", "loss")
            return {
                train: [point(ends["d-trak"], model_output=train, target_output=target) for target in both]
                for train in both
            }
        case "weights" if checkpoints.prediction_of(checkpoint) == "sample":
            return {
                words: [point(ends["d-trak"], model_output=output, **way) for output in WEIGHED_OUTPUTS]
                for words, way in WEIGHED.items()
            }
        case "weights":  # the training weighs nothing
            return {}


def build_recipe(recipe: Recipe, **changes: object) -> Recipe:
    """Return the recipe with changed fields, checked."""
    return build(Recipe, **recipe.model_dump() | changes)


def _changed(recipe: Recipe, **changes: object) -> Recipe:
    assert recipe.features is not None  # sweeps are of gradient methods
    return build_recipe(recipe, features=build(FeatureSettings, **recipe.features.model_dump() | changes))


def label(recipe: Recipe) -> str:
    """Return a method's label, with what the recipe changed."""
    return METHODS[recipe.method].label + (SQUARED if recipe.squared else "")
