"""Compute what recipes need, and what they predict for the models of an LDS."""

from __future__ import annotations

from collections.abc import Sequence

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.lds import predictions, subset_models
from dtrak_core.lds.recipes import Recipe, label, method_for
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import embeddings
from dtrak_core.methods.families import family_of
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact


def compute(
    dataset: Dataset, settings: LdsSettings, recipes: Sequence[Recipe], keep_scores: bool, on_progress: Progress
) -> list[Artifact]:
    """Return the predictions of recipes, computing features, members of ensembles and scores that are not stored.

    Args:
        dataset: The training set.
        settings: Targets, which are stored, and subsets.
        recipes: One after the other; what one has computed the next ones find.
        keep_scores: Also store the scores themselves.
        on_progress: Called with unit "gradients" or what else is counted, message naming the recipe.
    """
    made = []
    for number, recipe in enumerate(recipes):
        about, encoder = f"{label(recipe)}, {number + 1} of {len(recipes)}", method_for(recipe).embedding
        if encoder is not None:
            embeddings.obtained(encoder)  # its weights are part of what the predictions are stored under
        wanted = predictions.settings_for(recipe, settings)
        found = store.find("predictions", key_of("predictions", wanted))
        if found is None or keep_scores:
            own = subset_models.pictures(dataset, settings.model_copy(update={"targets": wanted.targets}))
            plan = predictions.plan_of(dataset, wanted, own, train=True)
            family_of(plan.method).compute(plan, _part(on_progress, about))
            found = predictions.compute(dataset, wanted, own)
            if keep_scores:
                predictions.compute_scores(dataset, predictions.scored_settings(recipe, settings), own)
        made.append(found)
    return made


def _part(on_progress: Progress, about: str) -> Progress:
    return lambda done, total, unit, message: on_progress(done, total, unit, f"{about}. {message}".rstrip(". "))
