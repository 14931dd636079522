"""Attribution scores, from what is stored. No torch, no new pass over the data.

A question is resolved once (`resolve`) into a plan, which says what is missing or why there can be no scores; `score`
answers it. Gradient methods multiply the stored products c = Φ φ(z) by the stored kernel (kernel.py), so
another damping costs two matrix-vector products. Positive scores are proponents: with such an example in training, the
target's loss is expected to be lower. Sizes are comparable within one method and damping only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features.settings import FeatureSettings, no_trajectory
from dtrak_core.methods import costs
from dtrak_core.methods.costs import Cost
from dtrak_core.methods.families import FAMILIES
from dtrak_core.methods.gradient_methods import feature_settings, models_of, of_models
from dtrak_core.methods.methods import Method, method_of
from dtrak_core.methods.plans import Needed, Plan, Scores
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.settings import Settings, key_of

__all__ = [
    "Needed",
    "Plan",
    "Scores",
    "attribution_scores",
    "estimate",
    "feature_settings",
    "models_of",
    "needed",
    "refusal",
    "resolve",
    "score",
]


def resolve(
    method: str | Method,
    dataset: Dataset,
    checkpoint: str,
    targets: Sequence[Target] = (),
    base: FeatureSettings | None = None,
    encoder_weights: str | None = None,
    train: bool = False,
) -> Plan:
    """Return what a method needs for targets of a checkpoint: models, features, what is missing, or why it is refused.

    Args:
        method: A method or its id, see `methods.METHODS`.
        dataset: The training pictures.
        checkpoint: Digest of the model's weights; similarities ignore it.
        targets: The pictures to explain.
        base: Timesteps, projection and the rest of the features; the method sets the model output.
            None takes the defaults.
        encoder_weights: Digest of the weights of a similarity's encoder. None takes those that are set up here.
        train: Whether the models of an ensemble may be trained for it; all that such would need is missing then.
    """
    chosen = method if isinstance(method, Method) else method_of(method)
    features = feature_settings(chosen, dataset.digest, checkpoint, base) if chosen.model_output is not None else None
    plan = Plan(chosen, dataset, checkpoint, tuple(targets), features, encoder_weights)
    if reason := _unfit(chosen, dataset.digest, targets):
        return replace(plan, refused=reason)
    family = FAMILIES[chosen.family]
    try:
        models = family.models(chosen, checkpoint, dataset.digest, train)
    except (NotFoundError, SettingsError) as error:
        return replace(plan, refused=str(error))
    plan = plan if features is None else replace(plan, models=tuple(of_models(features, models)))
    keyed = {(kind, key_of(kind, settings)): settings for kind, settings in family.parts(plan)}
    missing = tuple((kind, key, one) for (kind, key), one in keyed.items() if store.find(kind, key) is None)
    if missing and (behind := left_behind(plan.method, plan.checkpoint, [one.checkpoint for one in plan.models])):
        return replace(plan, refused=behind)
    return replace(plan, missing=missing)


def left_behind(method: Method, checkpoint: str, models: Sequence[str]) -> str:
    """Say which of the weights that a method compares do not ship, nothing where all are here."""
    asked = set(models) - {checkpoint}
    if not asked:
        return ""
    kept = checkpoints.of_run(checkpoints.by_digest(checkpoint).run)
    names = [f"'{one.name}'" for one in kept if one.left_out and one.digest in asked]
    if not names:
        return ""
    return (
        f"{method.label} compares checkpoints, and the weights of {', '.join(names)} do not ship. Train a model "
        "of your own, which keeps them."
    )


def score(plan: Plan, damping: float | None = None, rank_share: float | None = None) -> Scores:
    """Score every training example for every target of a plan.

    Args:
        plan: What `resolve` returned.
        damping: λ, greater than 0. At most one of this and `rank_share` is given.
        rank_share: Effective rank over N, between 0 and 1. Neither: the method's default.

    Returns:
        Scores with values (M, N).

    Raises:
        NotFoundError: If the plan is refused, or something needed is not stored yet; the message names it.
        SettingsError: If a damping is given to a method that has none, or both are given.
    """
    if not plan.method.damped and damping is not None:
        raise SettingsError(f"{plan.method.label} has no damping, but {damping:g} was given. Leave it out.")
    if plan.refused:
        raise NotFoundError(plan.refused)
    found = FAMILIES[plan.method.family].score(plan, damping, rank_share)
    made = {"method": plan.method.id, "dataset": plan.dataset.name, "dataset_digest": plan.dataset.digest}
    return replace(found, provenance=made | dict(found.provenance))


def of_one(found: Scores, target: Target) -> Scores:
    """Return the scores (N,) of a plan's only target."""
    own = {"target": target.id, "pixels": target.pixels}
    return replace(found, values=found.values[0], provenance={**found.provenance, **own})


def attribution_scores(
    method: str | Method,
    dataset: Dataset,
    checkpoint: str,
    target: Target,
    base: FeatureSettings | None = None,
    damping: float | None = None,
    rank_share: float | None = None,
    encoder_weights: str | None = None,
) -> Scores:
    """Score every training example for one target; arguments as of `resolve` and `score`."""
    plan = resolve(method, dataset, checkpoint, [target], base, encoder_weights)
    return of_one(score(plan, damping, rank_share), target)


def needed(
    method: str | Method, dataset: Dataset, checkpoint: str, target: Target, base: FeatureSettings | None = None
) -> list[Needed]:
    """Return what has to be computed before this method can score this target: (kind, key, settings)."""
    return list(resolve(method, dataset, checkpoint, [target], base).missing)


def refusal(
    method: Method, checkpoint: str, target: Target | None = None, dataset: str = "", train: bool = False
) -> str:
    """Return in a sentence why a method cannot be used for a checkpoint's pictures, or for this one; else nothing.

    Args:
        method: The method.
        checkpoint: Digest of the weights.
        target: The picture; None asks about those that the checkpoint generates.
        dataset: Digest of the dataset, where it is known.
        train: Whether the models of an ensemble may be trained for it.
    """
    return (
        _unfit(method, dataset, [target] if target is not None else []) or models(method, checkpoint, dataset, train)[1]
    )


def unusable(method: Method, checkpoint: str, dataset: str, train: bool) -> str:
    """Return in a sentence why a benchmark cannot take a method, whatever this machine lacks; else nothing.

    Beyond what `refusal` says, the models that the method compares must be here. Arguments as of `refusal`.
    """
    if reason := _unfit(method, dataset, []):
        return reason
    asked, refused = models(method, checkpoint, dataset, train)
    return refused or left_behind(method, checkpoint, asked)


def models(method: Method, checkpoint: str, dataset: str, train: bool) -> tuple[list[str], str]:
    """Return the digests of the models that a method looks at, or none and in a sentence why it is refused."""
    try:
        return FAMILIES[method.family].models(method, checkpoint, dataset, train), ""
    except (NotFoundError, SettingsError) as error:
        return [], str(error)


def estimate(dataset: Dataset, checkpoint: Checkpoint, parts: Sequence[Needed], targets: Sequence[Target] = ()) -> Cost:
    """Return what it costs to compute artifacts that are missing (`Plan.missing`); each is counted once.

    Args:
        dataset: The training set.
        checkpoint: The model.
        parts: What is missing.
        targets: Those that it is of: methods that follow how a picture was drawn cost by its sampling steps.
    """
    price = {kind: of for family in FAMILIES.values() for kind, of in family.costs.items()}
    by_kind: dict[str, dict[str, Settings]] = {}
    for kind, key, settings in parts:
        by_kind.setdefault(kind, {})[key] = settings
    here = costs.Here(dataset, checkpoint, {one.pixels: one.sampled.sampling_steps for one in targets})
    return sum((price[kind](here, list(once.values())) for kind, once in by_kind.items()), Cost())


def _unfit(method: Method, dataset: str, targets: Sequence[Target]) -> str:
    """Say why a method cannot explain pictures of a dataset, or one of these, whatever the model; nothing if it can."""
    other = next((one for one in targets if not one.id.startswith("seed:")), None)
    if method.generated_only and other is not None:
        return f"{method.label} follows how a picture was generated, and {other.id} was not. Choose a generated one."
    if method.generated_only and (lost := next(filter(None, (no_trajectory(t.id, t.sampled) for t in targets)), "")):
        return lost
    unfit = FAMILIES[method.family].unfit
    return "" if unfit is None else unfit(method, dataset, targets)
