"""What some methods still need: said with time and disk before the button is pressed, then followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dtrak_core.jobs import asking, jobs, launch
from dtrak_core.jobs.jobs import Job
from dtrak_core.methods import costs, embeddings, scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.scores import Needed
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.ui import panels
from dtrak_core.ui.answers import Answers, Question

WORKER_SECONDS = 8.0  # until a worker that has to be started has imported torch


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
    return asking.jobs_for(question.dataset, question.checkpoint.digest, (target.id,), target.sampled, chosen, bases)


def sentence(question: Question, method: str, parts: Sequence[Needed]) -> str:
    """Say what one method needs, how long that takes and how much disk."""
    label, count = panels.plain(METHODS[method].label), len(question.dataset.train.rows)
    kinds = {kind for kind, _, _ in parts}
    found = costs.estimate(question.dataset, question.checkpoint, parts)
    amount = costs.sentence(found, 0 if launch.lives() else WORKER_SECONDS)
    if kinds & {"features", "ekfac"}:
        return f"**{label}** looks at all {count:,} training pictures, once for this model: {amount}."
    if "embeddings" in kinds and len(parts) > 1:
        return f"**{label}** looks at all {count:,} training pictures, once for this dataset: {amount}."
    if "kernels" in kinds:
        return f"**{label}** needs its kernel, once for this model: {amount}."
    return f"**{label}** is ready for this model and needs this picture alone: {amount}."


def cost(question: Question, parts: Sequence[Needed]) -> tuple[float, int]:
    """Estimate seconds and bytes of missing artifacts."""
    found = costs.estimate(question.dataset, question.checkpoint, parts)
    return found.seconds, found.disk


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
        panels.start(job, f"Explain {question.target.called} of {question.checkpoint.name}")


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
