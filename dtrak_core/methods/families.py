"""The families of methods: one row each, which says what its methods need, how they score and what they cost.

A new family is a row here and a file with its functions; its methods are rows of `methods.METHODS`. Scoring, jobs,
benchmark, pages and command line go by these rows and know no family by name. No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dtrak_core.methods import costs, gradient_methods, own_method, similarities, target_scores
from dtrak_core.methods.costs import CostOf
from dtrak_core.methods.methods import Method
from dtrak_core.methods.plans import Picture, Plan, Scores
from dtrak_core.models.targets import Target
from dtrak_core.progress import Progress
from dtrak_core.settings import Settings
from dtrak_core.store import Artifact


def _nothing(plan: Plan) -> list[tuple[str, Settings]]:
    return []


def _no_model(method: Method, checkpoint: str, dataset: str = "", train: bool = False) -> list[str]:
    return []


def _nothing_made(plan: Plan, on_progress: Progress) -> list[Artifact]:
    return []


@dataclass(frozen=True)
class Family:
    """How the methods of a family work.

    `score` returns the scores of a plan (`scores.score`). `parts` are kinds and settings of the artifacts that scores
    are made of: none where they need nothing stored. `models` returns the digests of the models that a method looks at
    (`gradient_methods.models`), and raises NotFoundError or SettingsError with the reason where it is to be refused.
    `compute` makes the parts, in a worker, and `job` is how it is asked to: `features` as gradients, `embeddings` by an
    encoder, `scores` by `compute`, `none` where nothing is computed. `costs` says by kind of artifact what several cost
    together. `lacking` says why nothing can be computed on this machine; what is stored answers nevertheless. `spent`
    returns the gradients and seconds that a plan took. `unfit` says why a method does not answer for a dataset (its
    digest, empty where unknown) and targets, None where it answers for all; `explained` returns those of some pictures
    that it answers for, None likewise. `random` says whether anything is drawn to make its scores.
    """

    score: Callable[[Plan, float | None, float | None], Scores]
    parts: Callable[[Plan], list[tuple[str, Settings]]] = _nothing
    models: Callable[[Method, str, str, bool], list[str]] = _no_model
    compute: Callable[[Plan, Progress], list[Artifact]] = _nothing_made
    job: Literal["features", "scores", "embeddings", "none"] = "none"
    costs: Mapping[str, CostOf] = field(default_factory=dict)
    lacking: Callable[[Method], str] = lambda method: ""
    spent: Callable[[Plan], tuple[int, float]] = lambda plan: (0, 0.0)
    unfit: Callable[[Method, str, Sequence[Target]], str] | None = None
    explained: Callable[[Method, Sequence[Picture]], list[Picture]] | None = None
    random: bool = True


FAMILIES: dict[str, Family] = {
    "gradient": Family(
        score=gradient_methods.score,
        parts=gradient_methods.parts,
        models=gradient_methods.models,
        compute=gradient_methods.compute,
        job="features",
        costs={
            "features": costs.each(costs.of_features),
            "kernels": costs.each(costs.of_kernel),
            "residuals": costs.each(costs.of_residuals),
            "target-features": costs.each(costs.of_target_features),
        },
        spent=gradient_methods.spent,
    ),
    "influence": Family(
        score=target_scores.influence_score,
        parts=target_scores.influence_parts,
        compute=target_scores.influence_compute,
        job="scores",
        costs={"ekfac": costs.of_influence},
        spent=target_scores.influence_spent,
    ),
    "patches": Family(
        score=target_scores.patch_score,
        parts=target_scores.patch_parts,
        compute=target_scores.patch_compute,
        job="scores",
        costs={"patches": costs.each(costs.of_patches)},
    ),
    "pixels": Family(score=similarities.pixel_score, random=False),
    "embedding": Family(
        score=similarities.embedding_score,
        parts=similarities.embedding_parts,
        compute=similarities.embedding_compute,
        job="embeddings",
        costs={"embeddings": costs.each(costs.of_embeddings)},
        lacking=similarities.encoder_lacking,
        random=False,
    ),
    "own": Family(score=own_method.score, unfit=own_method.unfit, explained=own_method.explained),
}


def family_of(method: Method) -> Family:
    """Return the row of a method's family."""
    return FAMILIES[method.family]
