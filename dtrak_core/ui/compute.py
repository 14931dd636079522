"""What some methods still need: said with time and disk before the button is pressed, then followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dtrak_core import asking, embeddings, engine, jobs, scores, store
from dtrak_core.fader_layout import PARTS
from dtrak_core.jobs import Job
from dtrak_core.methods import METHODS
from dtrak_core.scores import Needed
from dtrak_core.settings import EmbeddingModel, FeatureSettings
from dtrak_core.tables import duration, size
from dtrak_core.ui import panels
from dtrak_core.ui.answers import Answers, Question

FEATURE_OVER_TRAINING = 1.15  # cost of a feature per (picture, timestep) over a training step per picture
PATCH_SECONDS = 2e-4  # a training picture against one target, at 16 px
CURVATURE = 1.2  # EK-FAC: its two passes over the training set beside the gradients
EMBEDDING_SECONDS = 0.04  # a picture through an encoder on one core, where nothing better is known
WORKER_SECONDS = 8.0  # until a worker that has to be started has imported torch
BYTES = {"float32": 4, "float16": 2, "int8": 1}


def panel(question: Question, methods: Sequence[str], answer: Answers) -> None:
    """Say what the methods still need and offer to compute it, or show how far that is.

    A job is of all chosen methods of its kind, those included that can answer already: so its
    key stays the same while one method after the other becomes ready.
    """
    missing, refused = answer.missing, answer.refused
    panels.announce(("attribute", "embed", "score"), "Computed.")
    for reason in dict.fromkeys(refused.values()):
        st.info(panels.plain(reason), icon=":material/block:")
    able = {m: parts for m, parts in missing.items() if _able(m)}
    if not able:
        return
    kinds = {_kind(m) for m in able}
    wanted = jobs_for(question, [m for m in methods if _kind(m) in kinds and m not in refused])
    states = [jobs.state(jobs.key_of_job(job)) for job in wanted]
    shown = [s for s in states if s.state not in ("idle", "done") and not panels.dismissed(s.key)]
    if not shown:
        with st.container(border=True):
            st.markdown("\n".join(f"- {sentence(question, method, parts)}" for method, parts in able.items()))
            st.button("Compute", icon=":material/play_arrow:", on_click=_start, args=(wanted, question))
    for state in shown:
        panels.follow(state.key, lambda: _redraw_when_ready(question, able))


def _redraw_when_ready(question: Question, missing: Mapping[str, Sequence[Needed]]) -> None:
    """Draw the page again as soon as one of the methods can answer, while the others are still computed."""
    for method in missing:
        base = question.base(method)
        if not scores.needed(method, question.dataset, question.checkpoint.digest, question.target, base):
            st.rerun()


def jobs_for(question: Question, methods: Sequence[str]) -> list[Job]:
    """Return the jobs that make these methods answer."""
    chosen = [METHODS[method] for method in methods]
    bases = {method: question.base(method) for method in methods}
    target = question.target
    return asking.jobs_for(question.dataset, question.checkpoint.digest, (target.id,), target.how, chosen, bases)


def sentence(question: Question, method: str, parts: Sequence[Needed]) -> str:
    """Say what one method needs, how long that takes and how much disk."""
    label, count = panels.plain(METHODS[method].label), len(question.dataset.train.rows)
    kinds = {kind for kind, _, _ in parts}
    seconds, disk = cost(question, parts)
    if seconds is not None and not engine.lives():
        seconds += WORKER_SECONDS
    time = "time not known yet" if seconds is None else f"about {duration(seconds)}"
    amount = f"{time}, {size(disk)} on disk"
    if kinds & {"features", "ekfac"}:
        return f"**{label}** looks at all {count:,} training pictures, once for this model: {amount}."
    if "embeddings" in kinds and len(parts) > 1:
        return f"**{label}** looks at all {count:,} training pictures, once for this dataset: {amount}."
    if "kernels" in kinds:
        return f"**{label}** needs its kernel, once for this model: {amount}."
    return f"**{label}** is ready for this model and needs this picture alone: {amount}."


def cost(question: Question, parts: Sequence[Needed]) -> tuple[float | None, int]:
    """Estimate seconds (None if nothing was ever measured) and bytes of missing artifacts."""
    count = len(question.dataset.train.rows)
    seconds, disk = 0.0, 0
    each = gradient_seconds(question)
    known = True
    for kind, _, settings in parts:
        if kind == "embeddings":
            pictures = count if settings.pixels == question.dataset.digest else 1
            seconds += pictures * EMBEDDING_SECONDS
            disk += pictures * 1280 * 4
            continue
        if kind in ("patches", "ekfac"):
            known &= kind == "patches" or each is not None
            pictures = (count + 1) * settings.num_timesteps if kind == "ekfac" else 0
            seconds += PATCH_SECONDS * count if kind == "patches" else pictures * (each or 0) * CURVATURE
            disk += 8 * count
            continue
        if kind == "residuals":
            seconds += count * settings.num_timesteps * (each or 0) / 3  # forward passes alone
            disk += 4 * count
            continue
        features = settings if isinstance(settings, FeatureSettings) else settings.features
        width = features.proj_dim * (PARTS if features.parts == "faders" else 1)
        if kind == "features":
            known &= each is not None
            seconds += count * features.num_timesteps * (each or 0)
            disk += count * width * BYTES[features.storage]
        elif kind == "kernels":
            seconds += 2e-9 * count * count * max(width, count) / 10
            disk += count * min(count, width) * (4 if features.storage == "float32" else 2)
        else:
            known &= each is not None
            seconds += features.num_timesteps * (each or 0)
            disk += 4 * width + 8 * count
    return (seconds if known else None), disk


def gradient_seconds(question: Question) -> float | None:
    """Return what the gradient of one (picture, timestep) costs: measured for this model, or told from its training."""
    found = [
        artifact.manifest
        for artifact in store.listing("features")
        if artifact.settings["checkpoint"] == question.checkpoint.digest and artifact.manifest.get("gradients")
    ]
    if found:
        return float(found[-1]["seconds"]) / float(found[-1]["gradients"])
    step = question.checkpoint.seconds_per_picture_step
    return None if step is None else FEATURE_OVER_TRAINING * step


def _kind(method: str) -> tuple[Any, ...]:
    """Return what methods of one job have in common."""
    one = METHODS[method]
    return (one.embedding,) if one.family == "embedding" else (one.family == "gradient", one.side)


def _able(method: str) -> bool:
    """Say whether a method's encoder can be had here; if not, say why and what to do."""
    model = METHODS[method].embedding
    if model is None:
        return True
    problem = _available(model)
    if problem:
        st.warning(f"{panels.plain(METHODS[method].label)} is left out. {panels.plain(problem)}")
    return not problem


@st.cache_data(max_entries=4, ttl=60, show_spinner=False)
def _available(model: EmbeddingModel) -> str:
    return embeddings.available(model)


def _start(wanted: Sequence[Job], question: Question) -> None:
    for job in wanted:
        panels.start(job, f"Explain {question.target.id} of {question.checkpoint.name}")


def facts(question: Question, method: str) -> dict[str, Any]:
    """Return how a gradient method's features were made, for the small print; nothing for the others."""
    if METHODS[method].family != "gradient":
        return {}
    base = question.base(method)
    shown: dict[str, Any] = {
        "timesteps": f"{base.num_timesteps} ({base.timestep_strategy})",
        "projection": base.projection if base.projection == "none" else f"{base.projection} to {base.proj_dim:,}",
        "noise seed": base.noise_seed,
        "projection seed": base.proj_seed,
        "stored as": base.storage,
    }
    return shown
