"""What some methods still need: said with time and disk before the button is pressed, then followed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.jobs import asking, jobs, launch
from dtrak_core.jobs.jobs import Job
from dtrak_core.methods import costs, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.methods.plans import Needed
from dtrak_core.ui import answers, panels
from dtrak_core.ui.answers import Answers, Question

WORKER_SECONDS = 8.0  # until a worker that has to be started has imported torch


def panel(question: Question, answer: Answers) -> None:
    """Say what the methods still need and offer to compute it, or show how far that is.

    A job is of all chosen methods of its kind, those included that can answer already: so its
    key stays the same while one method after the other becomes ready.
    """
    panels.announce(("attribute", "embed", "score"), "Computed.")
    for reason in dict.fromkeys(answer.refused.values()):
        st.info(panels.plain(reason), icon=":material/block:")
    able = {method: plan for method, plan in answer.missing.items() if _able(plan.method)}
    if not able:
        return
    kinds = {asking.together(plan.method) for plan in able.values()}
    alike = [plan for plan in answer.plans.values() if asking.together(plan.method) in kinds and not plan.refused]
    wanted = asking.jobs_for(alike, question.target.sampled)
    states = [jobs.state(jobs.key_of_job(job)) for job in wanted]
    shown = [s for s in states if s.state not in ("idle", "done") and not panels.dismissed(s.key)]
    if not shown:
        with st.container(border=True):
            st.markdown("\n".join(f"- {sentence(question, m, plan.missing)}" for m, plan in able.items()))
            st.button("Compute", icon=":material/play_arrow:", on_click=_start, args=(wanted, question))
    for state in shown:
        panels.follow(state.key, lambda: _redraw_when_ready(question, list(able)))


def _redraw_when_ready(question: Question, methods: Sequence[str]) -> None:
    """Draw the page again as soon as one of the methods can answer, while the others are still computed."""
    if any(not answers.resolve(question, method).missing for method in methods):
        st.rerun()


def sentence(question: Question, method: str, parts: Sequence[Needed]) -> str:
    """Say what one method needs, how long that takes and how much disk."""
    label, count = panels.plain(question.method(method).label), len(question.dataset.train.rows)
    kinds = {kind for kind, _, _ in parts}
    found = scores.estimate(question.dataset, question.checkpoint, parts, [question.target])
    amount = costs.sentence(found, 0 if launch.lives() else WORKER_SECONDS)
    if kinds & {"features", "ekfac"}:
        return f"**{label}** looks at all {count:,} training pictures, once for this model: {amount}."
    if "embeddings" in kinds and len(parts) > 1:
        return f"**{label}** looks at all {count:,} training pictures, once for this dataset: {amount}."
    if "kernels" in kinds:
        return f"**{label}** needs its kernel, once for this model: {amount}."
    return f"**{label}** is ready for this model; only this picture is missing: {amount}."


def _able(method: Method) -> bool:
    """Say whether what a method misses can be computed here; if not, say why and what to do."""
    problem = _lacking(method.id)
    if problem:
        st.warning(f"{panels.plain(method.label)} is left out. {panels.plain(problem)}")
    return not problem


@st.cache_data(max_entries=16, ttl=60, show_spinner=False)
def _lacking(method: str) -> str:
    return family_of(METHODS[method]).lacking(METHODS[method])


def _start(wanted: Sequence[Job], question: Question) -> None:
    for job in wanted:
        panels.start(job, f"Explain {question.target.called} of {question.checkpoint.name}")
