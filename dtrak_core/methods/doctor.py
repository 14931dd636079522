"""Which training pictures are suspicious, each by a reason of its own, from what is stored. No torch here.

    duplicates   distance in pixels to the nearest other picture
    look-alikes  cosine of embeddings with the nearest other picture
    self         leverage h_i(λ) of the kernel of gradients: how much a picture explains itself, as what is learned by
                 heart does (Feldman, Zhang 2020)
    unhelpful    mean score over held-out pictures: the lowest helped the model least with what it has not seen
    captions     loss under the own caption less that under others (suspicions.py)

All are ranked, the most suspicious first. None says that a picture is bad: only training without it does (trials.py).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from dtrak_core import store
from dtrak_core.datasets import alike
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features import kernel
from dtrak_core.methods import copies, defaults, gradient_scores, scores, similarities, suspicions
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.plans import Plan
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.settings import key_of

Check = Literal["duplicates", "look-alikes", "self", "unhelpful", "captions"]
CHECKS: tuple[Check, ...] = get_args(Check)
METHOD = "d-trak"  # whose kernel and scores are read
MOST = 32  # held-out pictures over which scores are averaged
_PRODUCTS = 2.5e10  # of numbers, up to which all pairs of pictures are compared; else those that hashes name


@dataclass(frozen=True)
class About:
    """What a check is called, what its value is, and what is to be seen."""

    title: str
    value: str
    sentence: str


ABOUT: dict[Check, About] = {
    "duplicates": About(
        "Duplicates", "distance", "Pictures that lie next to another one, by pixels: the same picture more than once?"
    ),
    "look-alikes": About(
        "Look-alikes", "cosine", "Pictures that another network sees as it sees another one: moved, mirrored, redrawn?"
    ),
    "self": About(
        "Explains itself", "leverage", "Pictures that the model can only have learned from themselves: odd ones out."
    ),
    "unhelpful": About(
        "Least helpful", "mean score", "Pictures that helped least with held-out pictures; not harmful, least helpful."
    ),
    "captions": About(
        "Doubtful captions", "excess loss", "Pictures that the model knows better by other pictures' captions."
    ),
}


@dataclass(frozen=True, eq=False)
class Suspects:
    """The training pictures by one check.

    `values` (N,) are what the check measures, NaN for what it says nothing of; `order` are the training indices that
    it ranks, the most suspicious first; `partner` (N,) the other picture of a pair, None where there is none. `facts`
    are what made them.
    """

    check: Check
    values: np.ndarray
    order: np.ndarray
    partner: np.ndarray | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def refusal(check: Check, dataset: Dataset, checkpoint: Checkpoint) -> str:
    """Say why a check cannot be made of a model; nothing where it can."""
    if check == "captions":
        return suspicions.refusal(checkpoint, dataset)
    if check == "unhelpful" and (reason := copies.no_reference(dataset)):
        return f"{reason}, so nothing says what a picture helped with."
    if check in ("self", "unhelpful"):
        return scores.refusal(METHODS[METHOD], checkpoint.digest, None, dataset.digest)
    return ""


def plan_of(check: Check, dataset: Dataset, checkpoint: Checkpoint) -> Plan | None:
    """Return what a check needs of a method, None where it needs none (captions have a job of their own)."""
    if check in ("duplicates", "captions"):
        return None
    if check == "look-alikes":
        return scores.resolve("lite0-cosine", dataset, checkpoint.digest)
    base = defaults.base_for(dataset.digest, checkpoint.digest, METHODS[METHOD], {})
    own = held_out(dataset) if check == "unhelpful" else []
    return scores.resolve(METHOD, dataset, checkpoint.digest, own, base)


def held_out(dataset: Dataset) -> list[Target]:
    """Return the held-out pictures over which scores are averaged: spread over all that no training picture equals."""
    found = copies.reference_of(dataset)
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, min(MOST, len(found))).astype(int))]


def find(check: Check, dataset: Dataset, checkpoint: Checkpoint) -> Suspects:
    """Return what a check says, from what is stored.

    Raises:
        NotFoundError: If something that it needs is not stored.
        SettingsError: If it cannot be made of this model.
    """
    if reason := refusal(check, dataset, checkpoint):
        raise SettingsError(reason)
    if check == "duplicates":
        return _duplicates(dataset, checkpoint)
    if check == "captions":
        values = suspicions.find(dataset, checkpoint)
        if values is None:
            raise NotFoundError("The model's losses under other captions are not stored. Measure them first.")
        made = suspicions.settings_of(dataset, checkpoint).model_dump(mode="json")
        return _ranked(check, values, checkpoint, facts=made)
    plan = plan_of(check, dataset, checkpoint)
    assert plan is not None
    if plan.missing:
        raise NotFoundError(f"What '{ABOUT[check].title}' needs is not stored. Compute it first.")
    if check == "look-alikes":
        rows = similarities.embedded_set(plan).astype(np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        partner, away = nearest_other(rows)
        return _ranked(
            check, 1 - (away**2) * rows.shape[1] / 2, checkpoint, partner, {"encoder": plan.method.embedding}
        )
    assert plan.features is not None
    made = {"method": METHOD, "feature_settings": plan.features.model_dump(mode="json")}
    if check == "self":
        opened = kernel.open_kernel(store.get("kernels", key_of("kernels", plan.features)))
        used = gradient_scores.damping_of(plan.method, opened.spectrum, len(dataset.train.rows))
        assert used is not None
        return _ranked(check, kernel.leverage(opened, used), checkpoint, facts={**made, "damping": used})
    found = scores.score(plan)
    facts = {**made, "damping": found.damping, "held_out": [one.id for one in plan.targets]}
    return _ranked(check, found.values.mean(0), checkpoint, facts=facts, lowest=True)


def nearest_other(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row (N, D) the nearest other one, and the root mean square of their differences."""
    rows = np.asarray(rows, np.float32)
    lengths = np.einsum("nd,nd->n", rows, rows)
    partner = np.empty(len(rows), int)
    step = max(1, 2**24 // len(rows))
    for start in range(0, len(rows), step):
        squares = lengths - 2 * (rows[start : start + step] @ rows.T)
        squares[np.arange(len(squares)), start + np.arange(len(squares))] = np.inf
        partner[start : start + step] = squares.argmin(1)
    away = np.sqrt(((rows.astype(np.float64) - rows[partner]) ** 2).mean(1))
    return partner, away


def _duplicates(dataset: Dataset, checkpoint: Checkpoint) -> Suspects:
    partner, away = _nearest(dataset.key, dataset.digest, alike.Held(dataset))
    facts = {"distance": "root mean square difference of pixels in [-1, 1], at most 32 a side"}
    return _ranked("duplicates", away, checkpoint, partner, facts, lowest=True)


@functools.lru_cache(maxsize=4)
def _nearest(_key: str, _digest: str, held: alike.Held) -> tuple[np.ndarray, np.ndarray]:
    images = held.dataset.train.images
    rows = alike.reduced(images)
    if len(rows) ** 2 * rows.shape[1] <= _PRODUCTS:
        return nearest_other(rows)
    return alike.nearest(images)


def _ranked(
    check: Check,
    values: np.ndarray,
    checkpoint: Checkpoint,
    partner: np.ndarray | None = None,
    facts: Mapping[str, Any] | None = None,
    lowest: bool = False,
) -> Suspects:
    """Return values with their order: of what the model has learned from, and the check says something of."""
    learned = checkpoints.learned(checkpoint)
    told = np.isfinite(values)
    if learned is not None:
        told &= np.isin(np.arange(len(values)), learned)
    order = np.argsort(values if lowest else -values, kind="stable")
    return Suspects(check, values, order[told[order]], partner, facts or {})
