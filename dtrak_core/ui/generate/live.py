"""A training while it goes: the losses so far, and one seed's picture growing."""

from __future__ import annotations

import streamlit as st

from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import TrainJob
from dtrak_core.training import growing
from dtrak_core.ui import charts, crisp, plotting

LARGE, SMALL = 192, 48  # pixels of the newest picture, and of those before


def show(key: str) -> None:
    """Draw what the training of this job has learned so far; nothing before its first picture."""
    asked = jobs.job_of(key)
    lines, pictures = growing.so_far(asked.train) if isinstance(asked, TrainJob) else ([], {})
    if not pictures or len(lines) < 2:
        return
    newest = max(pictures)
    left, right = st.columns([2, 3], vertical_alignment="center")
    with left:
        crisp.show(pictures[newest], LARGE, f"The picture of one seed after {newest:,} training steps")
        st.caption(
            f"One seed's picture after {newest:,} training steps, drawn in {growing.SAMPLING_STEPS} sampling steps"
        )
    with right:
        alt = f"Training loss from {lines[0]['loss']:.3f} to {lines[-1]['loss']:.3f} over {lines[-1]['step']:,} steps"
        plotting.show(charts.loss_curve(lines), key=f"live-{key}", alt=alt)
    with st.container(horizontal=True, gap="xxsmall"):
        for step, image in pictures.items():
            crisp.show(image, SMALL, f"After {step:,} steps")
