"""Compute what recipes need, and what they predict for the models of an LDS."""

from __future__ import annotations

from collections.abc import Sequence

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import features, kernel
from dtrak_core.features.settings import ends_of
from dtrak_core.lds import predictions, subset_models
from dtrak_core.lds.recipes import Recipe, label, method_for
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import ekfac, embeddings, patches, scores
from dtrak_core.methods.methods import Method
from dtrak_core.models import checkpoints, networks, targets
from dtrak_core.progress import Progress
from dtrak_core.settings import key_of
from dtrak_core.store import Artifact
from dtrak_core.training import ensembles, retrained


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
            _prepare(dataset, settings.checkpoint, recipe, own, _part(on_progress, about))
            found = predictions.compute(dataset, wanted, own)
            if keep_scores:
                predictions.compute_scores(dataset, predictions.scored_settings(recipe, settings), own)
        made.append(found)
    return made


def _prepare(
    dataset: Dataset, checkpoint: str, recipe: Recipe, own: Sequence[targets.Target], on_progress: Progress
) -> None:
    """Compute what the scores of these targets need."""
    method = method_for(recipe)
    if method.family == "patches":
        patches.compute(dataset, own, on_progress)
    elif method.family == "influence":
        ekfac.compute(dataset, checkpoint, networks.load_denoiser(checkpoints.by_digest(checkpoint)), own, on_progress)
    elif method.family == "embedding":
        assert method.embedding is not None
        embeddings.embed_dataset(dataset, method.embedding, lambda d, t: on_progress(d, t, "pictures", ""))
        for target in own:
            embeddings.embed_target(method.embedding, target.image)
    elif method.family == "gradient":
        _features(dataset, checkpoint, method, recipe, own, on_progress)


def _features(
    dataset: Dataset,
    checkpoint: str,
    method: Method,
    recipe: Recipe,
    own: Sequence[targets.Target],
    on_progress: Progress,
) -> None:
    if method.models:
        for training in ensembles.member_trainings(checkpoint, method.models, dataset.digest):
            retrained.retrained(dataset, training, on_progress)
    assert recipe.features is not None  # recipes of gradient methods name them
    if method.model_output == "interpolated":
        _ends(dataset, recipe, own, on_progress)
    for wanted in scores.models_of(method, dataset.digest, recipe.features.checkpoint, recipe.features):
        denoiser = networks.load_denoiser(checkpoints.by_digest(wanted.checkpoint))
        trained = features.compute_features(dataset, denoiser, wanted, on_progress)
        if method.reads_kernel:
            kernel.compute_kernel(trained, on_progress)
        if method.residual:
            features.compute_residuals(dataset, denoiser, wanted, on_progress)
        features.compute_target_features(dataset, denoiser, wanted, own, on_progress, side=method.side)


def _ends(dataset: Dataset, recipe: Recipe, own: Sequence[targets.Target], on_progress: Progress) -> None:
    """Compute both ends of an interpolation, of which every mixture is then a sum."""
    assert recipe.features is not None
    denoiser = networks.load_denoiser(checkpoints.by_digest(recipe.features.checkpoint))
    for one in ends_of(recipe.features):
        features.compute_features(dataset, denoiser, one, on_progress)
        features.compute_target_features(dataset, denoiser, one, own, on_progress)


def _part(on_progress: Progress, about: str) -> Progress:
    return lambda done, total, unit, message: on_progress(done, total, unit, f"{about}. {message}".rstrip(". "))
