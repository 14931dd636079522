"""Where a job leads: the page that shows what it made, and the picture that stands for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import streamlit as st

from dtrak_core import store
from dtrak_core.datasets import catalogue, thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import (
    AttributeJob,
    BaseJob,
    BenchmarkJob,
    CounterfactualJob,
    DatasetJob,
    EmbedJob,
    FaderJob,
    ImportJob,
    Job,
    JobState,
    LdsJob,
    LookJob,
    ProbeJob,
    SampleJob,
    ScoreJob,
    TrainJob,
)
from dtrak_core.jobs.question_jobs import MapJob, SuspicionJob, TrialJob
from dtrak_core.methods import maps
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.settings import Sampled
from dtrak_core.settings import key_of
from dtrak_core.ui import address, frame, named

FADERS = "Layers and noise levels"  # the tab of Attribution that shows what a job with those turned made
_TRAINS = {"tab": "Train a model"}


@dataclass(frozen=True)
class Lead:
    """A page, the address parameters that open what a job made, and a small picture of it where there is one."""

    page: str
    words: Mapping[str, str] = field(default_factory=dict)
    picture: np.ndarray | None = None

    def link(self) -> dict[str, str]:
        """Return the parameters of a link to it: with this run's view where it is of the same model.

        A page that finds its view whole in the address writes nothing to it, which would be one more step for Back.
        """
        view = address.view()
        if any(self.words.get(name, view.get(name)) != view.get(name) for name in ("dataset", "checkpoint")):
            return dict(self.words)
        other = address.DRAWN if "sample" in self.words else ()  # how another picture was drawn
        return {name: value for name, value in view.items() if name not in other} | dict(self.words)


def of(job: JobState) -> Lead | None:
    """Return where a job leads, None where what it was about is gone, or only another version of the app knows it."""
    return _of(job.key, job.attempt, job.state)


@st.cache_data(max_entries=256, ttl=20, show_spinner=False)  # what it was about may be deleted meanwhile
def _of(key: str, _attempt: int, _state: str) -> Lead | None:
    try:
        return _lead(jobs.job_of(key))
    except StudioError:
        return None


def _lead(job: Job) -> Lead:
    match job:
        case DatasetJob():
            stored = store.find("datasets", key_of("datasets", job.dataset))
            image = catalogue.load(stored).train.images[0] if stored is not None else None
            return Lead(frame.OVERVIEW, {"dataset": job.dataset.name}, image)
        case TrainJob():
            words = _of_dataset(job.train.dataset)
            run = store.find("checkpoints", key_of("checkpoints", job.train))
            if run is None:
                return Lead(frame.GENERATE, words | _TRAINS)
            grid = run.file("grid-100.png") if "grid-100.png" in run.manifest["files"] else None
            image = thumbnails.decode(grid.read_bytes()) if grid is not None else None
            return Lead(frame.GENERATE, words | {"checkpoint": job.name}, image)
        case ImportJob():
            dataset = _of_dataset(job.dataset)
            known = {one.name for one in checkpoints.listing(job.dataset)}
            there = job.name in known
            return Lead(frame.GENERATE, dataset | {"checkpoint": job.name}) if there else Lead(frame.ADD_MODEL)
        case BaseJob():
            return Lead(frame.GENERATE, _TRAINS)
        case LookJob():
            return Lead(frame.ADD_MODEL)
        case ProbeJob():
            return Lead(frame.GENERATE, _TRAINS)
        case SampleJob():
            return _target(frame.GENERATE, "", job.checkpoint, f"seed:{job.seeds[0]}", job)
        case AttributeJob():
            first = job.features[0]
            of_all = len(job.targets) > 1
            page = frame.CREDIT if of_all else frame.ATTRIBUTION
            drew = job.pictures_of or first.checkpoint
            return _target(page, first.dataset, drew, job.targets[0] if job.targets else "", job)
        case ScoreJob() | EmbedJob():
            page = frame.CREDIT if len(job.targets) > 1 else frame.ATTRIBUTION
            return _target(page, job.dataset, job.checkpoint, job.targets[0] if job.targets else "", job)
        case FaderJob():
            found = _target(frame.ATTRIBUTION, job.features.dataset, job.features.checkpoint, job.target, job)
            return Lead(found.page, {**found.words, "details": FADERS}, found.picture)
        case CounterfactualJob():
            asked = job.settings
            found = _target(frame.COUNTERFACTUAL, asked.dataset, asked.checkpoint, asked.targets[0], asked)
            return Lead(found.page, {**found.words, "comparison": key_of("comparisons", asked)}, found.picture)
        case SuspicionJob() | TrialJob():
            return _target(frame.DOCTOR, job.settings.dataset, job.settings.checkpoint, "", Sampled())
        case MapJob():
            features = job.settings.features
            model = "" if features is None else features.checkpoint
            found = _target(frame.MAP, job.settings.dataset, model, "", Sampled())
            return Lead(found.page, {**found.words, "by": maps.NAMES[job.settings.space]}, found.picture)
        case LdsJob() | BenchmarkJob():
            asked_for = job.settings
            return _target(frame.BENCHMARK, asked_for.dataset, asked_for.checkpoint, asked_for.targets[0], asked_for)


def _of_dataset(digest: str) -> dict[str, str]:
    """Return the parameter of the dataset that a name means today and that has this digest."""
    return {"dataset": _dataset(digest).name}


def _dataset(digest: str) -> Dataset:
    meant = [one for one in catalogue.newest_of(digest) if catalogue.by_name(one.name).digest == digest]
    return meant[0] if meant else catalogue.by_digest(digest)


def _target(page: str, dataset: str, checkpoint: str, target: str, sampled: Sampled) -> Lead:
    """Return the lead to a page with this target of this checkpoint, shown by the target's picture if it is there."""
    if not checkpoint:
        return Lead(page, _of_dataset(dataset))
    model = checkpoints.by_digest(checkpoint, dataset)
    own = _dataset(dataset or model.dataset)
    words = {"dataset": own.name, "checkpoint": model.name}
    if not target:
        return Lead(page, words, own.train.images[0])
    try:
        found = targets.resolve(own, checkpoint, target, sampled)
    except StudioError:  # not drawn yet, or deleted since
        return Lead(page, words)
    names = named.link_to(found) if page == frame.ATTRIBUTION else {}
    return Lead(page, words | names, found.image)
