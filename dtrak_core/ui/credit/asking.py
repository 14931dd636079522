"""What a method still needs for a set of pictures: said with its cost, computed by one button, then followed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import asking, jobs
from dtrak_core.jobs.jobs import Job
from dtrak_core.methods import costs, defaults, embeddings, scores, set_scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import Method
from dtrak_core.methods.plans import Plan
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import panels


def panel(dataset: Dataset, checkpoint: Checkpoint, method: Method, chosen: Sequence[Target]) -> Plan | None:
    """Return the plan of the pictures that are ready, None where none is; offer to compute what is missing."""
    panels.announce(("attribute", "embed", "score"), "Computed.")
    if not chosen:
        st.info("None of the generated pictures is chosen.")
        return None
    base = defaults.base_for(dataset.digest, checkpoint.digest, method, {})
    weights = embeddings.known_weights(method.embedding) if method.embedding is not None else None
    plan = scores.resolve(method, dataset, checkpoint.digest, chosen, base, weights)
    if plan.refused:
        st.info(panels.plain(plan.refused), icon=":material/block:")
        return None
    if not plan.missing:
        return plan
    ready = set_scores.ready(plan)
    if reason := family_of(method).lacking(method):
        st.warning(panels.plain(reason))
    else:
        _offer(plan, checkpoint, len(ready))
    return set_scores.of_some(plan, ready) if ready else None


def _offer(plan: Plan, checkpoint: Checkpoint, ready: int) -> None:
    usual = targets.way_of(checkpoint, plan.dataset.train)
    wanted = [
        job
        for sampled, some in asking.by_drawing(plan.targets, usual)
        for job in asking.jobs_for([set_scores.of_some(plan, some)], sampled)
    ]
    going = [key for key in map(jobs.key_of_job, wanted) if _going(key)]
    for key in going:
        panels.follow(key)
    if going:
        return
    with st.container(border=True):
        amount = costs.sentence(scores.estimate(plan.dataset, checkpoint, plan.missing))
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
