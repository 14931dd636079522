"""How far rankings repeat, where that was not measured: offered with its cost, then followed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import AttributeJob, Job
from dtrak_core.methods import certainty, fader_scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.results import Ranking
from dtrak_core.settings import build
from dtrak_core.ui import panels
from dtrak_core.ui.answers import Question
from dtrak_core.ui.attribution import compute, fader_panel


def panel(question: Question, rankings: Sequence[Ranking], faders_open: bool) -> None:
    """Offer to measure the certainty of the rankings that lack it, or show how far that is.

    The job is of all rankings that can have one, so that its key stays the same while one after the other gets it. It
    computes features in parts where they are not stored; the open tab of the faders offers those itself. Where there
    can be none, the reason is said instead.
    """
    able = {
        one.method: fader_panel.settings_of(question, question.method(one.method))
        for one in rankings
        if _able(question, one.method)
    }
    unfit = dict.fromkeys(reason for features in able.values() if (reason := fader_panel.unfit(features)))
    if unfit and not faders_open:  # whose tab says the same
        st.caption(f"How far rankings repeat cannot be measured. {' '.join(unfit)}")
    able = {method: features for method, features in able.items() if not fader_panel.unfit(features)}
    unknown = {one.method for one in rankings if one.steady is None}
    lacking = {m: f for m, f in able.items() if m in unknown and not certainty.measured(m, f, question.target)}
    missing = {method: fader_panel.lacking(question, features) for method, features in lacking.items()}
    if not lacking or (faders_open and any(missing.values())):
        return
    about = f"Certainty for {question.target.called} of {question.checkpoint.name}"
    target = question.target
    job = build(AttributeJob, features=tuple(able.values()), targets=(target.id,), **target.sampled.drawing())
    key = jobs.key_of_job(job)
    if jobs.state(key).state not in ("idle", "done") and not panels.dismissed(key):
        panels.follow(key)
        return
    with st.container(border=True):
        labels = " and ".join(panels.plain(METHODS[method].label) for method in lacking)
        st.write(f"How far the ranking by {labels} repeats has not been measured at this damping.")
        told = [compute.sentence(question, method, parts) for method, parts in missing.items() if parts]
        if told:
            st.markdown("\n".join(f"- {line}" for line in told))
        else:
            st.caption("Everything needed is stored: this takes a few seconds.")
        st.button("Measure certainty", icon=":material/play_arrow:", on_click=_start, args=(job, about))


def _able(question: Question, method: str) -> bool:
    """Say whether a method's ranking has halves of draws that can be compared."""
    if METHODS[method].model_output is None:
        return False
    features = fader_panel.settings_of(question, question.method(method))
    of = fader_scores.method_of_features(features)
    return of is not None and of.id == method and fader_scores.has_halves(features)


def _start(job: Job, label: str) -> None:
    """Ask for the job, again where an earlier version ended it without measuring."""
    key = jobs.key_of_job(job)
    if jobs.state(key).state == "done":
        panels.asked(jobs.resume, key)
    else:
        panels.start(job, label)
