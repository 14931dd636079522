"""The pictures that a check ranks first, to take some of them: which are taken stands in the link."""

from __future__ import annotations

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.counterfactual import doctor_sheet
from dtrak_core.counterfactual.copy_sheet import name_of
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs.question_jobs import SuspicionJob
from dtrak_core.methods import costs, doctor, set_scores, suspicions
from dtrak_core.methods.doctor import Check, Suspects
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import computing, gallery, linked, panels, taking

SHARE = 0.1  # of the training set, that one button takes


def check() -> Check:
    """Draw the choice of a check."""
    chosen: Check | None = linked.bound(
        st.segmented_control,
        "Look for",
        doctor.CHECKS,
        default="duplicates",
        format_func=lambda one: doctor.ABOUT[one].title,
        key="check",
        required=True,
    )
    return chosen or "duplicates"


def found(chosen: Check, dataset: Dataset, checkpoint: Checkpoint) -> Suspects | None:
    """Return what the check says, or offer to compute what it needs and return None."""
    st.caption(doctor.ABOUT[chosen].sentence)
    panels.announce(("attribute", "embed", "suspicion"), "Computed.")
    if reason := doctor.refusal(chosen, dataset, checkpoint):
        st.info(panels.plain(reason), icon=":material/block:")
        return None
    if chosen == "captions" and suspicions.find(dataset, checkpoint) is None:
        job = SuspicionJob(settings=suspicions.settings_of(dataset, checkpoint))
        told = costs.sentence(suspicions.cost(dataset, checkpoint))
        panels.offer(
            job, "Measure", f"Doubtful captions of {dataset.name}", lambda: st.caption(f"Not measured: {told}.")
        )
        return None
    plan = doctor.plan_of(chosen, dataset, checkpoint)
    if plan is not None and plan.missing:
        computing.offer(plan, checkpoint, len(set_scores.ready(plan)))
        return None
    return _found(
        chosen, (dataset.key, checkpoint.digest, *store.stamp(("features", "embeddings"))), dataset, checkpoint
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def _found(chosen: Check, about: tuple[str, ...], _dataset: Dataset, _checkpoint: Checkpoint) -> Suspects:
    return doctor.find(chosen, _dataset, _checkpoint)


def choose(some: Suspects, dataset: Dataset, before: list[int]) -> None:
    """Draw the pictures, a page at a time; a click takes one, or leaves it again."""
    st.write(panels.plain(doctor_sheet.sentence(some, dataset)))
    shown = gallery.page(_in_pairs(some), f"suspects-page-{some.check}")
    clicked = gallery.grid(
        "suspects",
        f"{doctor.ABOUT[some.check].title}, the most suspicious first; a click takes one or leaves it",
        [_picture(some, index, dataset) for index in shown],
        chosen=[str(index) for index in shown if index in before],
        cell=72,
        action="choose",
    )
    if clicked is not None and clicked.isdecimal():
        taking.take(set(before) ^ {int(clicked)})
        st.rerun()
    many = max(1, round(SHARE * len(some.order)))
    with st.container(horizontal=True):
        st.button(
            f"Take the first 10 % ({counted(many, 'picture')})",
            on_click=taking.take,
            args=(set(before) | set(some.order[:many].tolist()),),
        )
        st.button("Take none", on_click=taking.take, args=(set(),), disabled=not before)


def _in_pairs(some: Suspects) -> list[int]:
    """Return all pictures in order, each followed by the one beside which it lies, where the check is of pairs."""
    if some.partner is None:
        return [int(index) for index in some.order]
    found: dict[int, None] = {}
    for index in some.order.tolist():
        found |= {int(one): None for one in (index, some.partner[index]) if one >= 0}
    return list(found)


def _picture(some: Suspects, index: int, dataset: Dataset) -> gallery.Picture:
    name, value = name_of(dataset, index), doctor_sheet.value_of(some, index)
    lines = [value, name]
    if some.partner is not None and some.partner[index] >= 0:
        lines.append(f"beside {name_of(dataset, int(some.partner[index]))}")
    if some.check == "captions":
        row = dataset.train.rows[index]
        lines.append(str(row.get("caption") or row.get("label") or ""))
    return gallery.Picture(
        str(index), dataset.train.images[index], f"Take training picture {', '.join(lines)}", tuple(lines)
    )
