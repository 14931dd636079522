"""Where a recipe stands on a finding's chart, as a number and in words."""

from __future__ import annotations

from dtrak_core.lds.recipes import Recipe
from dtrak_core.models import checkpoints
from dtrak_core.ui.questions import Question

OUTPUT_NAMES = {
    "loss": "loss (TRAK)",
    "elbo": "weighted loss",
    "squared-output": "squared output (D-TRAK)",
    "mean-output": "mean output",
    "l1-norm": "l1 norm",
    "l2-norm": "l2 norm",
    "linf-norm": "largest entry",
    "squared-noise": "squared noise that it means",
    "squared-clean": "squared picture that it means",
    "mean-noise": "mean noise that it means",
    "mean-clean": "mean picture that it means",
}
COLUMNS = ("functions", "mixtures", "weights")  # whose points have no order


def where(chosen: str, recipe: Recipe, question: Question) -> str:
    """Return in words where a recipe stands on its chart."""
    if chosen in COLUMNS:
        output = recipe.target_output if chosen == "mixtures" else recipe.model_output
        return OUTPUT_NAMES[output or "loss"]
    stands = place(chosen, recipe, question)
    unit = {"eta": "η = {:g}", "timesteps": "{:g} timestep{s}", "dimension": "{:,.0f} dimensions"}
    return unit.get(chosen, "{:g} % of the training").format(stands, s="" if stands == 1 else "s")


def line(chosen: str, name: str) -> str:
    """Return in words what a group of columns has in common, nothing where there is one group."""
    return f"training side {OUTPUT_NAMES[name]}" if chosen == "mixtures" else name


def place(chosen: str, recipe: Recipe, question: Question) -> float:
    """Return where a recipe stands on the chart's horizontal axis."""
    assert recipe.features is not None
    match chosen:
        case "eta":
            return recipe.eta
        case "timesteps":
            return recipe.features.num_timesteps
        case "dimension":
            return recipe.features.proj_dim
        case _:
            kept = checkpoints.of_run(question.checkpoint.run)
            return next(one.share for one in kept if one.digest == recipe.features.checkpoint)
