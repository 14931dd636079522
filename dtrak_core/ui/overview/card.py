"""A checkpoint at a glance: how its training went, what it draws, where it comes from."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import duration
from dtrak_core.datasets import thumbnails
from dtrak_core.models import descriptions
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import charts, crisp, panels, plotting

GRID = 420  # pixels of the 16 pictures of a training


def checkpoint(chosen: Checkpoint) -> None:
    """Show the loss curve, the pictures drawn along the training, and the facts."""
    facts, settings = chosen.run.manifest, chosen.run.settings
    st.write(descriptions.sentence(chosen))
    with st.container(horizontal=True, gap="large"):
        parameters = facts.get("parameters")
        if parameters:
            st.metric("Parameters", _short(parameters), help="Numbers that training adjusts.", width="content")
        if "epochs" in settings:
            st.metric("Epochs", settings["epochs"], help="Times it saw every training picture.", width="content")
        st.metric("Trained", f"{chosen.share} %", help="Share of the training at this checkpoint.", width="content")
        if facts.get("seconds"):
            took = duration(facts["seconds"])
            st.metric("Training time", took, help="On the machine that trained it.", width="content")
    lines = curve(chosen.run.key, str(chosen.run.path))
    left, right = st.columns([3, 2])
    if lines:
        first, last = lines[0], lines[-1]
        alt = f"Training loss from {first['loss']:.3f} down to {last['loss']:.3f} over {last['step']:,} steps"
        # Charts bring the largest library of all to the browser: none is drawn before it is asked for.
        training = left.expander("How the training went", key="training", on_change="rerun")
        if training.open:
            with training:
                plotting.show(charts.loss_curve(lines), key="loss", alt=alt)
    name = f"grid-{chosen.share:03d}.png"
    if name in facts["files"]:
        picture = thumbnails.decode(chosen.run.file(name).read_bytes())
        told = f"16 pictures drawn at {chosen.share} % of the training"
        with right:
            crisp.show(picture, GRID, told, f"The same 16 seeds at {chosen.share} % of the training.")
    panels.strip(descriptions.described(chosen))
    panels.strip(provenance(chosen))


def provenance(chosen: Checkpoint) -> dict[str, Any]:
    """Return what made a checkpoint, for the small print."""
    settings = chosen.run.settings
    return {
        "Checkpoint": f"{chosen.name} ({chosen.digest})",
        "step": f"{chosen.step:,}",
        "batch size": settings.get("batch_size"),
        "learning rate": settings.get("learning_rate"),
        "training seed": settings.get("train_seed"),
        "source": settings.get("source"),
        "assumed": "; ".join(chosen.assumed),
        **panels.made(chosen.run),
    }


@st.cache_data(max_entries=8)
def curve(key: str, _folder: str) -> list[dict[str, float]]:
    """Return the lines of a run's metrics, empty if it has none."""
    run = store.get("checkpoints", key)
    if "metrics.jsonl" not in run.manifest["files"]:
        return []
    return [json.loads(line) for line in run.file("metrics.jsonl").read_text().splitlines()]


def _short(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count:,}"
