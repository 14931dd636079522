"""What a plan for several pictures still needs: said with its cost, computed by one button, then followed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.jobs import asking, jobs
from dtrak_core.jobs.jobs import Job
from dtrak_core.methods import costs, scores, set_scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.plans import Plan
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import panels


def offer(plan: Plan, checkpoint: Checkpoint, ready: int) -> None:
    """Draw how far the jobs of what a plan lacks are, or what they cost and the button that asks for them.

    Args:
        plan: Method, dataset and pictures; not refused.
        checkpoint: The model.
        ready: For how many of the pictures nothing has to be computed.
    """
    if reason := family_of(plan.method).lacking(plan.method):
        st.warning(panels.plain(reason))
        return
    usual = targets.way_of(checkpoint, plan.dataset.train)
    wanted = [
        job
        for sampled, some in asking.sets(plan, usual)
        for job in asking.jobs_for([set_scores.of_some(plan, some)], sampled)
    ]
    going = [key for key in map(jobs.key_of_job, wanted) if _going(key)]
    for key in going:
        panels.follow(key)
    if going:
        return
    with st.container(border=True):
        amount = costs.sentence(scores.estimate(plan.dataset, checkpoint, plan.missing, plan.targets))
        label, count = panels.plain(plan.method.label), counted(len(plan.targets), "picture")
        left = f"{ready} of {count} are ready" if ready else f"None of {count} is ready"
        after = "; what follows is of those" if ready else ""
        st.write(f"**{label}**: {left}{after}. The others: {amount}.")
        what = f"{plan.method.label} for {counted(len(plan.targets), 'picture')} of {checkpoint.name}"
        st.button("Compute", icon=":material/play_arrow:", on_click=_start, args=(wanted, what))


def _going(key: str) -> bool:
    return jobs.state(key).state not in ("idle", "done") and not panels.dismissed(key)


def _start(wanted: Sequence[Job], label: str) -> None:
    for job in wanted:
        panels.start(job, label)
