"""Scores for the pages: what is in the store is opened at once, what is not is told before a button is pressed.

The pages compute no feature and no embedding. They open finished artifacts, solve with the stored
kernel for the damping asked for, and keep the result under the artifacts' keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features.settings import FeatureSettings, ModelOutput
from dtrak_core.methods import certainty, defaults, embeddings, results, scores
from dtrak_core.methods.families import FAMILIES
from dtrak_core.methods.methods import METHODS, Method, with_output
from dtrak_core.methods.plans import Plan
from dtrak_core.methods.results import Ranking
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target


@dataclass(frozen=True)
class Question:
    """A target of a model, and how features are to be made where that is not the stored or usual way."""

    dataset: Dataset
    checkpoint: Checkpoint
    target: Target
    changes: Mapping[str, Any] = field(default_factory=dict)
    model_output: ModelOutput | None = None

    def method(self, name: str) -> Method:
        """Return a method; of gradients, with the model output function that was chosen instead of its own."""
        return METHODS[name] if METHODS[name].model_output is None else with_output(METHODS[name], self.model_output)

    def base(self, method: str) -> FeatureSettings:
        """Return the feature settings of a method: stored or usual ones, with the user's changes."""
        return defaults.base_for(self.dataset.digest, self.checkpoint.digest, self.method(method), self.changes)


@dataclass(frozen=True)
class Answers:
    """Rankings that are there, in the order asked for; what every method needs, and which must wait or cannot be."""

    rankings: tuple[Ranking, ...] = ()
    plans: Mapping[str, Plan] = field(default_factory=dict)

    @property
    def missing(self) -> dict[str, Plan]:
        """Return the plans of which something has to be computed first."""
        return {method: plan for method, plan in self.plans.items() if plan.missing}

    @property
    def refused(self) -> dict[str, str]:
        """Return why some methods cannot be used."""
        return {method: plan.refused for method, plan in self.plans.items() if plan.refused}


def resolve(question: Question, method: str) -> Plan:
    """Return what a method needs for a question."""
    dataset, checkpoint, base = question.dataset, question.checkpoint.digest, question.base(method)
    weights = embeddings.known_weights(model) if (model := METHODS[method].embedding) is not None else None
    return scores.resolve(question.method(method), dataset, checkpoint, [question.target], base, weights)


def ask(question: Question, methods: Sequence[str], ranks: Mapping[str, float] | None = None) -> Answers:
    """Return what is known of a target under these methods.

    Args:
        question: The target and its model.
        methods: Ids of methods, top row first.
        ranks: Effective rank over N for damped methods; a method's own default where absent.
    """
    plans = {method: resolve(question, method) for method in methods}
    rankings = []
    for method, plan in plans.items():
        if not plan.refused and not plan.missing:
            share = (ranks or {}).get(method, plan.method.rank_share) if plan.method.damped else None
            model, target = question.checkpoint, question.target
            base = "" if plan.features is None else plan.features.model_dump_json()
            key = (target.id, target.pixels, model.digest, model.name, base, plan.encoder_weights or "")
            ranking = _ranking(method, question.dataset.key, share, key, plan, model.name)
            # Looked up anew each time, for a job may add it.
            rankings.append(ranking if plan.features is None else certainty.marked(ranking, plan.features, target))
    return Answers(tuple(rankings), plans)


@st.cache_data(max_entries=256, show_spinner=False)
def _ranking(method: str, dataset: str, share: float | None, key: tuple[str, ...], _plan: Plan, _model: str) -> Ranking:
    """Score and order; `key` names all that the plan asks beyond method, dataset and damping."""
    scored = scores.of_one(scores.score(_plan, None, share), _plan.targets[0])
    made = {**scored.provenance, "checkpoint": f"{_model} ({_plan.checkpoint})"}
    how = (scored.damping, scored.effective_rank, made, FAMILIES[_plan.method.family].random)
    return results.ranking(method, _plan.method.label, scored.values, *how)
