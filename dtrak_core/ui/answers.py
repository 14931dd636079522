"""Scores for the pages: what is in the store is opened at once, what is not is told before a button is pressed.

The pages compute no feature and no embedding. They open finished artifacts, multiply the stored
eigendecomposition for the damping asked for, and keep the result under the artifacts' keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from dtrak_core import store
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods import certainty, defaults, embeddings, results, scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.results import Ranking
from dtrak_core.methods.scores import Needed
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target


@dataclass(frozen=True)
class Question:
    """A target of a model, and how features are to be made where that is not the stored or usual way."""

    dataset: Dataset
    checkpoint: Checkpoint
    target: Target
    changes: Mapping[str, Any] = field(default_factory=dict)

    def base(self, method: str) -> FeatureSettings:
        """Return the feature settings of a method: stored or usual ones, with the user's changes."""
        return defaults.base_for(self.dataset.digest, self.checkpoint.digest, METHODS[method], self.changes)


@dataclass(frozen=True)
class Answers:
    """Rankings that are there, in the order asked for; the missing artifacts of other methods; why some cannot be."""

    rankings: tuple[Ranking, ...] = ()
    missing: Mapping[str, Sequence[Needed]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def ask(question: Question, methods: Sequence[str], ranks: Mapping[str, float] | None = None) -> Answers:
    """Return what is known of a target under these methods.

    Args:
        question: The target and its model.
        methods: Ids of methods, top row first.
        ranks: Effective rank over N for damped methods; a method's own default where absent.
    """
    found: list[Ranking] = []
    missing: dict[str, Sequence[Needed]] = {}
    refused: dict[str, str] = {}
    for method in methods:
        if reason := scores.refusal(METHODS[method], question.checkpoint.digest, question.target):
            refused[method] = reason
            continue
        base = question.base(method)
        needed = scores.needed(method, question.dataset, question.checkpoint.digest, question.target, base)
        if needed:
            missing[method] = needed
            continue
        chosen = METHODS[method]
        share = (ranks or {}).get(method, chosen.rank_share) if chosen.damped else None
        model, target = question.checkpoint, question.target
        weights = "" if chosen.embedding is None else embeddings.known_weights(chosen.embedding)
        key = (target.id, target.pixels, model.digest, model.name, base.model_dump_json(), weights)
        found.append(_marked(_ranking(method, question.dataset.key, share, key, question), question))
    return Answers(tuple(found), missing, refused)


def _marked(ranking: Ranking, question: Question) -> Ranking:
    """Return a ranking with how far it repeats at its damping; looked up anew each time, for a job may add it."""
    one = METHODS[ranking.method]
    if one.family != "gradient":
        return ranking
    where = question.dataset.digest, question.checkpoint.digest
    return certainty.marked(ranking, scores.feature_settings(one, *where, question.base(one.id)), question.target)


@st.cache_data(max_entries=256, show_spinner=False)
def _ranking(method: str, dataset: str, share: float | None, key: tuple[str, ...], _question: Question) -> Ranking:
    """Score and order; `key` names all that the question asks beyond method, dataset and damping."""
    opened = catalogue.load(store.get("datasets", dataset))
    model = _question.checkpoint
    scored = scores.attribution_scores(
        method, opened, model.digest, _question.target, _question.base(method), rank_share=share
    )
    made = {**scored.provenance, "checkpoint": f"{model.name} ({model.digest})"}
    return results.ranking(method, METHODS[method].label, scored.values, scored.damping, scored.effective_rank, made)
