"""Explain targets: which training pictures made a diffusion model's picture, as an array and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.api import showing
from dtrak_core.api.inputs import Wanted, chosen_checkpoint, chosen_dataset, chosen_targets, chosen_way, first_of_each
from dtrak_core.api.working import bar, done
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import asking
from dtrak_core.methods import certainty, defaults, families, results, scores
from dtrak_core.methods.methods import METHODS, Method, method_of
from dtrak_core.methods.plans import Plan
from dtrak_core.methods.results import Entry, Ranking
from dtrak_core.models import checkpoints
from dtrak_core.models import targets as known_targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target

# Set by others than `features`.
ELSEWHERE = ("dataset", "checkpoint", "model_output", "eta", "normalise", "weighting", "parts")


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Scores of all N training examples for M targets.

    `scores` is float64 (M, N), by training index: positive for what helped to make the target. Sizes compare within one
    method alone. `damping` λ and `effective_rank` Σ s / (s + λ) are None where nothing is damped. `repeatability` (M,)
    is the Spearman correlation over training examples of the scores from either half of the draws, NaN where it was not
    measured; `steady` has for each target a bool (N,), which examples are among the first 5 % of both halves' rankings
    or among the last of both, None where that was not measured.
    """

    method: str
    label: str
    scores: np.ndarray
    targets: tuple[Target, ...]
    dataset: Dataset
    damping: float | None
    effective_rank: float | None
    repeatability: np.ndarray
    steady: tuple[np.ndarray | None, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def ranks(self) -> np.ndarray:
        """Return each example's rank for each target, int64 (M, N): 1 for the highest score, equal ones by index."""
        order = np.argsort(-self.scores, axis=1, kind="stable")
        found = np.empty_like(order)
        np.put_along_axis(found, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
        return found

    def ranking(self, target: int = 0) -> Ranking:
        """Return the ranking for the target at this place, of which `results` makes tables, credit and files."""
        random = self.method not in METHODS or families.family_of(METHODS[self.method]).random
        how = (self.damping, self.effective_rank, self.provenance, random)
        made = results.ranking(self.method, self.label, self.scores[target], *how)
        repeats = float(self.repeatability[target])
        known = {"repeatability": None if math.isnan(repeats) else repeats, "steady": self.steady[target]}
        return Ranking(**{**vars(made), **known})

    def proponents(self, target: int = 0, top: int = 8) -> list[Entry]:
        """Return the examples with the highest positive scores for a target, best first: rank, index, score, share."""
        return results.proponents(self.ranking(target), top)

    def opponents(self, target: int = 0, top: int = 8) -> list[Entry]:
        """Return the examples with the most negative scores for a target, lowest first."""
        return results.opponents(self.ranking(target), top)

    def __repr__(self) -> str:
        """Return in a line what was explained."""
        targets, examples = self.scores.shape
        about = f"{counted(targets, 'target')}, {examples:,} training pictures of {self.dataset.name}"
        return f"Explanation({self.label}: {about})"

    def _repr_html_(self) -> str:
        """Return targets and both ends of their rankings as thumbnails, for a notebook."""
        return showing.explanation(self.label, [(t, self.ranking(i)) for i, t in enumerate(self.targets)], self.dataset)


def explain(
    dataset: Dataset | str,
    checkpoint: Checkpoint | str,
    targets: Wanted | Sequence[Wanted],
    method: str = "d-trak",
    output: Any = None,
    *,
    features: Mapping[str, Any] | None = None,
    damping: float | None = None,
    rank_share: float | None = None,
    sampled: Sampled | None = None,
    engine: bool = False,
    progress: bool = True,
) -> Explanation:
    """Score every training example for every target.

        score(z, i) = φ(z)ᵀ (ΦᵀΦ + λ I)⁻¹ φ(x_i)        φ the projected gradient of the method's model output function

    for D-TRAK and TRAK (Zheng et al. 2024, section 3; Park et al. 2023, section 3); `methods.METHODS` tells how the
    others differ. What is stored is found; what is not is computed and stored, as by pages and command line.

    Args:
        dataset: The training set, or its name.
        checkpoint: The model, or its name.
        targets: One or several of: a seed (the model's picture of it), an id (`seed:3`, `held-out:7`, `train:12`), a
            target of an earlier answer, a picture of one's own of the dataset's size (an array (H, W, 3) or Pillow's).
        method: Id of a method, such as "d-trak", "trak", "raw-pixel-cosine"; "own:NAME" for scores of `add_scores`.
        output: A model output function of one's own, (prediction, noise, x0, t) -> values: tensors (B, C, H, W) in
            model space, noise levels (B,) int64, one value a draw (B,), whose gradient then is the feature. It is put
            into the method in place of its own; row b of the values may depend on row b alone. Nothing of it is stored.
        features: What replaces stored or usual settings of features: num_timesteps, proj_dim, projection, noise_seed,
            proj_seed, timestep_strategy, storage (`FeatureSettings`).
        damping: λ in units of the kernel's eigenvalues, greater than 0.
        rank_share: Effective rank over N, between 0 and 1, instead of λ; neither takes the method's own.
        sampled: How pictures of seeds are drawn: sampler, sampling_steps, eta, prompts, guidance.
        engine: Whether the engine computes, in processes of its own; else this process does.
        progress: Whether a bar is drawn.

    Raises:
        NotFoundError: If a dataset, checkpoint, method or target is not known.
        SettingsError: If a setting cannot work, a method cannot be used for these targets, or `output` does not return
            what it should.
        DataError: If a picture of one's own has another shape, type or scale.
    """
    of = chosen_dataset(dataset)
    by, chosen = chosen_checkpoint(checkpoint, of), method_of(method)
    if output is not None:
        from dtrak_core.api import own_output

        own_output.check(chosen)
        if not callable(output):
            raise SettingsError(f"output is of type {type(output).__name__}; expected a function, or None.")
        if engine:
            raise SettingsError("The engine cannot be handed a function of this process. Leave engine=True out.")
    _check_damping(chosen, damping, rank_share)
    if taken := [name for name in features or {} if name in ELSEWHERE]:
        raise SettingsError(f"'{taken[0]}' is set by dataset, checkpoint and method, not by features. Leave it out.")
    base = defaults.base_for(of.digest, by.digest, chosen, features or {})
    if reason := scores.refusal(chosen, by.digest, None, of.digest):
        raise SettingsError(reason)
    how = chosen_way(sampled, of, by)
    wanted = chosen_targets(targets, of, by, how, engine, progress)
    for target in wanted:
        if reason := scores.refusal(chosen, by.digest, target, of.digest):
            raise SettingsError(reason)
    if output is not None:
        return _by_function(output, chosen, of, by, wanted, base, (damping, rank_share), progress)
    plan = scores.resolve(chosen, of, by.digest, wanted, base)
    if plan.missing:
        compute(plan, base, engine, progress)
        plan = scores.resolve(chosen, of, by.digest, wanted, base)
    found = scores.score(plan, damping, rank_share)
    repeats, steady = _certainty(plan, found.effective_rank)
    made = (found.damping, found.effective_rank, repeats, steady, found.provenance)
    return Explanation(chosen.id, chosen.label, found.values, tuple(wanted), of, *made)


def _check_damping(method: Method, damping: float | None, rank_share: float | None) -> None:
    """Refuse a damping that scores would refuse, before anything is computed."""
    if damping is not None and rank_share is not None:
        raise SettingsError(f"damping={damping!r} and rank_share={rank_share!r} were both given. Give one of them.")
    if damping is not None and not (_is_number(damping) and 0 < damping < math.inf):
        raise SettingsError(f"damping is {damping!r}; give a number greater than 0.")
    if rank_share is not None and not (_is_number(rank_share) and 0 < rank_share < 1):
        raise SettingsError(f"rank_share is {rank_share!r}; give a share between 0 and 1.")
    if (damping, rank_share) != (None, None) and not method.damped:
        raise SettingsError(f"{method.label} has no damping. Leave damping and rank_share out.")


def _is_number(given: Any) -> bool:
    return isinstance(given, Real) and not isinstance(given, bool)


def compute(plan: Plan, base: FeatureSettings | None, engine: bool, shown: bool) -> None:
    """Compute what a plan lacks; a job draws all of its generated targets alike."""
    method, of = plan.method, plan.dataset
    if reason := families.family_of(method).lacking(method):
        raise SettingsError(reason)
    targets = [plan.targets[place] for place in first_of_each(plan.targets)]
    lacking = [one for one in targets if scores.needed(method, of, plan.checkpoint, one, base)]
    for target in lacking:
        _check_known(target, of, plan.checkpoint)
    usual = known_targets.way_of(checkpoints.by_digest(plan.checkpoint, of.digest), of.train)
    sets = asking.by_drawing(lacking, usual)
    if not targets:  # of the training set alone
        sets = [(usual, [])]
    for sampled, alike in sets:
        part = scores.resolve(method, of, plan.checkpoint, alike, base)
        for job in asking.jobs_for([part], sampled):
            done(job, f"{method.label} for {counted(len(alike), 'target')}", engine, shown)


def _check_known(target: Target, of: Dataset, checkpoint: str) -> None:
    """Refuse a picture that a job, which knows it by its id, would take for another one.

    Raises:
        NotFoundError: If there is none of this id.
        SettingsError: If that is another picture.
    """
    if known_targets.resolve(of, checkpoint, target.id, target.sampled).pixels != target.pixels:
        raise SettingsError(
            f"{target.id} is another picture here than the one given: that is of another model or dataset. Give its "
            "pixels (target.image), which are taken as a picture of your own."
        )


def _certainty(plan: Plan, effective_rank: float | None) -> tuple[np.ndarray, tuple[np.ndarray | None, ...]]:
    """Return how far each target's ranking repeats (M,), and its steady pictures (N,), where they are stored."""
    if effective_rank is None or plan.features is None:
        return np.full(len(plan.targets), np.nan), (None,) * len(plan.targets)
    share = effective_rank / len(plan.dataset.train.rows)
    found = [certainty.find(plan.method.id, plan.features, target, share) for target in plan.targets]
    repeats = np.array([np.nan if one is None else one.repeatability for one in found])
    return repeats, tuple(None if one is None else one.steady for one in found)


def _by_function(
    output: Any,
    method: Method,
    of: Dataset,
    by: Checkpoint,
    wanted: Sequence[Target],
    base: FeatureSettings,
    damped: tuple[float | None, float | None],
    shown: bool,
) -> Explanation:
    from dtrak_core.api import own_output
    from dtrak_core.models import networks

    settings = scores.feature_settings(method, of.digest, by.digest, base)
    name, denoiser = getattr(output, "__name__", type(output).__name__), networks.load_denoiser(by)
    with bar(f"{method.label} of {name}", shown) as on_progress:
        found = own_output.compute(output, method, of, denoiser, settings, wanted, *damped, on_progress)
    facts = {"method": method.id, "output": name, "dataset": of.name, "dataset_digest": of.digest}
    facts |= {"checkpoint": by.digest, "feature_settings": settings.model_dump(mode="json", exclude={"model_output"})}
    scored, made = found.scored, (found.scored.damping, found.scored.effective_rank, found.repeatability, found.steady)
    return Explanation(method.id, f"{method.label} of {name}", scored.values, tuple(wanted), of, *made, facts)
