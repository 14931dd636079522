"""What pages ask of an LDS: which one, its losses so far, and predictions, kept while nothing new is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dtrak_core import store
from dtrak_core.counterfactual import encoders
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import asking, job_costs, jobs
from dtrak_core.kinds import KINDS
from dtrak_core.lds import lds, predictions, recipes, standing_sheet, standings, subset_models
from dtrak_core.lds.lds import Lds
from dtrak_core.lds.predictions import Predictions
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.subset_models import LdsSettings, Losses
from dtrak_core.methods import costs, making
from dtrak_core.methods.costs import Cost
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.settings import build, canonical_json, key_of
from dtrak_core.ui import linked, panels


@dataclass(frozen=True)
class Question:
    """A model's LDS: what was asked, and the losses that are known."""

    dataset: Dataset
    checkpoint: Checkpoint
    measured: LdsSettings
    known: Losses

    @property
    def key(self) -> str:
        """Return what changes with every new loss."""
        return f"{canonical_json(self.measured)} {self.known.done}"


def ask(dataset: Dataset, checkpoint: Checkpoint) -> Question | None:
    """Return the LDS of which most models are finished, None where there are too few."""
    found = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)
    if not found:
        return None
    stored = store.stamp(("subset-losses",))
    known = _losses(dataset.key, canonical_json(found[0]), stored, dataset)
    return Question(dataset, checkpoint, found[0], known) if len(known.subsets) >= lds.LEAST else None


@st.cache_data(max_entries=8, show_spinner=False)
def _losses(dataset: str, measured: str, stored: tuple[str, ...], _dataset: Dataset) -> Losses:
    return subset_models.read(_dataset, LdsSettings.model_validate_json(measured))


def find(recipe: Recipe, question: Question) -> Predictions | None:
    """Return a recipe's predictions, from memory where they were opened before."""
    settings = predictions.settings_for(recipe, question.measured)
    artifact = store.find("predictions", key_of("predictions", settings))
    return None if artifact is None else _opened(artifact.key, str(artifact.path))


@st.cache_resource(max_entries=256, show_spinner=False)
def _opened(key: str, path: str) -> Predictions:
    return predictions.read(store.get("predictions", key))


def evaluated(predicted: Predictions, question: Question, words: str, place: int | None = None) -> Lds:
    """Return the LDS of a recipe on targets of a kind, with its interval."""
    return _evaluated(canonical_json(predicted.recipe), question.key, words, place, predicted, question)


@st.cache_data(max_entries=1024, show_spinner=False)
def _evaluated(recipe: str, key: str, words: str, place: int | None, _found: Predictions, _question: Question) -> Lds:
    return predictions.evaluated(_found, _question.known, _question.measured, standings.KINDS[words], place)


def explains(predicted: Predictions, question: Question, words: str) -> bool:
    """Say whether a recipe predicts targets of a kind at all."""
    return bool(predictions.of_kind(predicted, question.known, question.measured, standings.KINDS[words])[0])


def kinds(question: Question) -> dict[str, dict[str, Any]]:
    """Return count, noise floor and chance by kind of target."""
    return _kinds(question.key, question)


@st.cache_data(max_entries=8, show_spinner=False)
def _kinds(key: str, _question: Question) -> dict[str, dict[str, Any]]:
    return standings.kinds(_question.known, _question.measured)


def kind(question: Question, key: str) -> str:
    """Draw the choice between generated and held-out targets; return the one chosen."""
    options = list(kinds(question))
    chosen = linked.bound(st.segmented_control, "Targets", options, default=options[0], key=key, required=True)
    return str(chosen or options[0])


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def unusable(method: str, measured: LdsSettings) -> str:
    """Return why a method's predictions cannot be computed, or nothing: an ensemble's models are trained for it."""
    return asking.unusable(METHODS[method], measured.dataset, measured.checkpoint, True, measured)


def costing(question: Question, lacking: Sequence[Recipe]) -> Cost:
    """Return what predictions of these recipes would cost: looked up again once something is computed, stored or lost.

    That means looking for what each of them needs of each target, some thousand artifacts.
    """
    names = " ".join(one.model_dump_json() for one in lacking)
    return _costing(names, canonical_json(question.measured), store.stamp(tuple(KINDS)), tuple(lacking), question)


@st.cache_data(max_entries=256, ttl=60, show_spinner=False)
def _costing(
    names: str, measured: str, stored: tuple[str, ...], _lacking: Sequence[Recipe], _question: Question
) -> Cost:
    return job_costs.of_recipes(_question.dataset, _question.checkpoint, _question.measured, _lacking)


def offer(question: Question, lacking: Sequence[Recipe], what: str, keep_scores: bool = False) -> None:
    """Offer to compute what is missing, or show how far that is."""
    gone = {one.digest for one in checkpoints.of_run(question.checkpoint.run) if one.left_out}
    here = [one for one in lacking if one.features is None or one.features.checkpoint not in gone]
    able = tuple(one for one in here if not unusable(one.method, question.measured))
    if not able:
        return
    told = {"keep_scores": keep_scores, "encoder_weights": encoders.of_methods(one.method for one in able)}
    job = build(jobs.BenchmarkJob, settings=question.measured, recipes=able, **told)

    def cost() -> None:
        st.caption(f"{costs.sentence(costing(question, able)).capitalize()}.")

    panels.offer(job, f"Compute {what}", f"Benchmark of {question.checkpoint.name}: {what}", cost)


def provenance(question: Question) -> None:
    """Show in small print where the numbers of the page come from."""
    about = question.dataset, question.checkpoint, question.measured, question.known
    panels.strip(standing_sheet.facts(*about, kinds(question)))


def features(used: Sequence[Recipe]) -> None:
    """Show in small print how the features of recipes are made; of those without gradients there is nothing to say."""
    made = {
        recipes.label(one): making.of_features(found) for one in used if (found := recipes.features_of(one)) is not None
    }
    if made:
        panels.strip(making.together(made))
