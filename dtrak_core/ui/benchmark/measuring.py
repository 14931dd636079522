"""The form that asks for an LDS: subsets, seeds and targets, its cost before the click."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.jobs import job_costs, jobs
from dtrak_core.jobs.jobs import JobState, LdsJob
from dtrak_core.lds import subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import costs
from dtrak_core.models import targets as drawn
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.settings import build
from dtrak_core.ui import panels

SUBSETS, SEEDS, TARGETS = (8, 16, 32, 64), (1, 2, 3), (8, 16, 32, 64)


def form(dataset: Dataset, checkpoint: Checkpoint, before: LdsSettings | None) -> None:
    """Draw the form; what was measured before stands in it, and more of it goes on from there."""
    held_out = len(dataset.held_out.rows)
    most = max(count for count in TARGETS if count <= max(held_out, TARGETS[0]))
    measured = before and max(sum(name.startswith(kind) for name in before.targets) for kind in ("seed:", "held-out:"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        subsets = _choice(
            "Subsets", SUBSETS, before.num_subsets if before else 32, "Each is half of what the model learned from."
        )
        seeds = _choice(
            "Training seeds", SEEDS, before.train_seeds if before else 1,
            "With two or more, it can be said how high an LDS can be here.",
        )  # fmt: skip
        targets = _choice(
            "Targets of each kind",
            [count for count in TARGETS if count <= most],
            measured or most,
            "This many generated and this many held-out pictures.",
        )
    names = [f"seed:{seed}" for seed in range(targets)] + [f"held-out:{i}" for i in range(min(targets, held_out))]
    learned = subset_models.learned_by(checkpoint)
    where: dict[str, Any] = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "learned": learned}
    if checkpoint.prompted:
        known = drawn.way_of(checkpoint, dataset.train)
        where |= {"prompts": known.prompts, "guidance": known.guidance, "sampling_steps": known.sampling_steps}
    shared = before.model_dump() if before is not None and targets == measured else {**where, "targets": tuple(names)}
    settings = build(LdsSettings, **{**shared, "num_subsets": subsets, "train_seeds": seeds})
    try:
        missing = subset_models.lacking(settings)
        cost = job_costs.of_lds(dataset, checkpoint, settings)
    except StudioError as error:  # an imported model cannot be trained again
        st.info(panels.plain(error))
        return
    said = f": {costs.sentence(cost)}, one after the other" if missing else ""
    st.caption(f"{len(missing)} of {subsets * seeds} models remain to be trained{said}.")
    st.button(
        "Train and measure",
        icon=":material/play_arrow:",
        disabled=not missing,
        on_click=panels.start,
        args=(LdsJob(settings=settings), f"LDS of {checkpoint.name}: {subsets * seeds} models"),
    )


def under_way(checkpoint: Checkpoint) -> JobState | None:
    """Return the job that measures this checkpoint's LDS now, or ended badly."""
    return panels.newest("lds", checkpoint.digest)


def follow(state: JobState) -> None:
    """Show how far the models are; the page is drawn again when another one is finished."""
    settings = jobs.job_of(state.key)
    assert isinstance(settings, LdsJob)
    missing = len(subset_models.lacking(settings.settings))

    def redraw() -> None:
        if len(subset_models.lacking(settings.settings)) < missing:
            st.rerun()

    panels.follow(state.key, redraw)


def _choice(label: str, options: Sequence[int], usual: int, words: str) -> int:
    """Draw a choice of numbers, the usual one among them: what was measured may have been asked for elsewhere."""
    chosen = st.segmented_control(
        label, sorted({*options, usual}), default=usual, key=f"lds-{label}-{usual}", help=words, required=True
    )
    return int(chosen or usual)
