"""The gradient methods as a family: which models they look at, what that takes, their scores. Torch only to compute."""

from __future__ import annotations

from collections.abc import Sequence

from dtrak_core import store
from dtrak_core.errors import NotFoundError
from dtrak_core.features.settings import (
    FeatureSettings,
    TargetSide,
    ends_of,
    feature_target,
    is_mixture,
    target_gradients,
)
from dtrak_core.methods import gradient_scores
from dtrak_core.methods.methods import Method
from dtrak_core.methods.plans import Plan, Scores
from dtrak_core.models import checkpoints
from dtrak_core.progress import Progress
from dtrak_core.settings import Settings, digest_of, key_of
from dtrak_core.store import Artifact
from dtrak_core.training import ensembles


def feature_settings(
    method: Method, dataset: str, checkpoint: str, base: FeatureSettings | None = None
) -> FeatureSettings:
    """Return the feature settings of a gradient method: the base's, with the method's function and normalisation."""
    start = base or FeatureSettings(dataset=dataset, checkpoint=checkpoint)
    own = {
        "dataset": dataset,
        "checkpoint": checkpoint,
        "model_output": method.model_output,
        "eta": method.eta,
        "normalise": method.normalise,
        "weighting": method.weighting,
    }
    return FeatureSettings(**(start.model_dump() | own))


def models_of(
    method: Method, dataset: str, checkpoint: str, base: FeatureSettings | None = None
) -> list[FeatureSettings]:
    """Return the feature settings of each model that a gradient method looks at, in the order of training.

    Dataset and checkpoint are named by their digests.

    Raises:
        NotFoundError: If the run has not kept the checkpoints that the method compares, or a member of an ensemble
            is not trained yet.
    """
    wanted = feature_settings(method, dataset, checkpoint, base)
    return of_models(wanted, models(method, checkpoint, dataset))


def of_models(wanted: FeatureSettings, digests: Sequence[str]) -> list[FeatureSettings]:
    """Return feature settings at each of these models."""
    return [
        wanted if digest == wanted.checkpoint else FeatureSettings(**wanted.model_dump() | {"checkpoint": digest})
        for digest in digests
    ]


def models(method: Method, checkpoint: str, dataset: str = "", train: bool = False) -> list[str]:
    """Return the digests of the models that a method looks at, in the order of training.

    Args:
        method: A gradient method.
        checkpoint: Digest of the weights that it is asked about.
        dataset: Digest of the dataset, where it is known.
        train: Whether members of an ensemble may be trained for it: such that are not yet have digests of their own,
            under which nothing is stored.

    Raises:
        NotFoundError: See `models_of`.
        SettingsError: If the method has an ensemble and the checkpoint cannot be trained again.
    """
    if method.models:
        try:
            return ensembles.members(checkpoint, method.models, dataset)
        except NotFoundError:
            if not train:
                raise
        return [digest_of("to be trained", str(number)) for number in range(method.models)]
    if method.shares == (100,):
        return [checkpoint]
    kept = {one.share: one.digest for one in checkpoints.of_run(checkpoints.by_digest(checkpoint).run)}
    lacking = [share for share in method.shares if share not in kept]
    if lacking:
        raise NotFoundError(
            f"{method.label} compares checkpoints at {', '.join(f'{s} %' for s in method.shares)} of the training; "
            f"this run has none at {', '.join(f'{s} %' for s in lacking)}. Choose a model that was trained here, for "
            "at least 4 steps."
        )
    return [kept[share] for share in method.shares]


def parts(plan: Plan) -> list[tuple[str, Settings]]:
    """Return kind and settings of all that `compute` makes for a plan; an interpolation is the sum of its ends."""
    found: list[tuple[str, Settings]] = []
    for features in plan.models:
        for end in _summed(features):
            found.append(("features", end))
            found += [("target-features", feature_target(end, target, TargetSide())) for target in plan.targets]
        found += gradient_scores.of_training(plan.method, features)
        found += [gradient_scores.of_target(plan.method, features, target) for target in plan.targets]
    return found


def score(plan: Plan, damping: float | None, rank_share: float | None) -> Scores:
    """Return a plan's scores from stored features, see `scores.score`."""
    found = gradient_scores.score(plan.method, plan.models, plan.targets, damping, rank_share)
    if found.values.shape[1] != len(plan.dataset.train.images):
        raise NotFoundError(
            f"The stored features are of {found.values.shape[1]:,} pictures, the dataset has "
            f"{len(plan.dataset.train.images):,}. Compute them again."
        )
    facts = {
        "checkpoint": plan.checkpoint,
        "features": key_of("features", plan.models[-1]),
        "kernel": key_of("kernels", plan.models[-1]) if plan.method.reads_kernel else None,
        "feature_settings": plan.models[-1].model_dump(mode="json"),
    }
    return Scores(plan.method.id, found.values, found.damping, found.effective_rank, facts)


def compute(plan: Plan, on_progress: Progress) -> list[Artifact]:
    """Compute what the scores of a plan need: members of ensembles, features, kernels, residuals, target features."""
    from dtrak_core.features import directions, features, kernel
    from dtrak_core.models import networks
    from dtrak_core.training import retrained

    method, dataset, own = plan.method, plan.dataset, plan.targets
    assert plan.features is not None  # gradient methods have some
    if method.models:
        members = ensembles.member_trainings(plan.checkpoint, method.models, dataset.digest)
        for training in members:
            retrained.retrained(dataset, training, on_progress, lambda: members)
    made: list[Artifact] = []
    for wanted in of_models(plan.features, models(method, plan.checkpoint, dataset.digest)):
        denoiser = networks.load_denoiser(checkpoints.by_digest(wanted.checkpoint))
        for end in _summed(wanted):
            features.compute_features(dataset, denoiser, end, on_progress)
            features.compute_target_features(denoiser, end, own, on_progress)
        trained = features.compute_features(dataset, denoiser, wanted, on_progress)
        made.append(trained)
        if method.reads_kernel:
            made.append(kernel.compute_kernel(trained, on_progress))
            if method.residual or method.divided_by == "preconditioned":
                made += directions.compute(made[-1], on_progress)
        if method.residual:
            made.append(features.compute_residuals(dataset, denoiser, wanted, on_progress))
        made += features.compute_target_features(denoiser, wanted, own, on_progress, side=method.side)
    return made


def _summed(features: FeatureSettings) -> list[FeatureSettings]:
    """Return the settings of both ends of an interpolation, of which every mixture is a sum; none of other features."""
    return ends_of(features) if is_mixture(features) else []


def spent(plan: Plan) -> tuple[int, float]:
    """Return the gradients and seconds that a plan's features took: of the training set and of these targets."""
    gradients, seconds = 0, 0.0
    for features in plan.models:
        facts = store.get("features", key_of("features", features)).manifest
        targets = sum(target_gradients(feature_target(features, one, plan.method.side), one) for one in plan.targets)
        gradients += facts["gradients"] + targets
        seconds += facts["seconds"] * (1 + targets / max(1, facts["gradients"]))
    return gradients, seconds
