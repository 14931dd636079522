"""The opening of Overview: one generated picture, the training pictures behind it, and where to go from there."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from dtrak_core.counterfactual import comparisons
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import methods
from dtrak_core.methods.results import Ranking
from dtrak_core.models import descriptions
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import address, answers, frame, gallery, named, picking, rows, tuning
from dtrak_core.ui.answers import Question

METHODS = {  # each in one line
    "d-trak": "asks which training pictures act on the model's output as this picture does (Zheng et al. 2024)",
    "trak": "asks the same of the model's training loss, as is usual elsewhere (Park et al. 2023)",
}
STEPS = (
    (frame.GENERATE, "1. Let the model draw a picture", ":material/draw:"),
    (frame.ATTRIBUTION, "2. See the training pictures behind it", ":material/account_tree:"),
    (frame.COUNTERFACTUAL, "3. Train without them and compare", ":material/compare:"),
)
CARDS = 3  # a row
COLUMNS = 8
OTHERS = 16  # pictures to choose another target from


def show(dataset: Dataset, checkpoint: Checkpoint) -> list[Ranking]:
    """Draw the answer for one picture; return its rankings, empty where there is none yet."""
    drawn = picking.drawn(checkpoint)
    if not drawn:
        frame.undrawn(checkpoint)
        return []
    shown = picking.current(dataset, checkpoint, named.sampled(checkpoint))
    if shown is None:
        return []
    helped = "helped it draw this one most" if shown.id.startswith("seed:") else "would help it most to draw this one"
    st.write(
        f"{descriptions.origin(shown, checkpoint, len(dataset.train.rows))} D-TRAK and TRAK name those that {helped}, "
        "the strongest first. Click any of them."
    )
    with st.container(horizontal=True):
        for page, label, icon in STEPS:
            frame.link(page, label, icon)
    ranks = {method: tuning.usual_rank(methods.METHODS[method], checkpoint) for method in METHODS}
    answer = answers.ask(Question(dataset, checkpoint, shown), list(METHODS), ranks)
    listed = [
        replace(rows.row(found, dataset, (COLUMNS, 0)), note=f"{found.label} {METHODS[found.method]}.")
        for found in answer.rankings
    ]
    label = f"Training pictures behind {shown.caption or shown.id}"
    link = named.leading(frame.ATTRIBUTION, shown)
    opened = {p.key: rows.parse(p.key, list(METHODS)) for row in listed for p in row.proponents}
    views = {rows.TARGET: link} | {key: link | {"example": str(to[1])} for key, to in opened.items() if to}
    gallery.figure(
        "showcase", label, rows.target(shown), listed, (COLUMNS, 0), ways=gallery.Ways(frame.ATTRIBUTION, views)
    )
    if answer.missing:
        lacking = " and ".join(methods.METHODS[method].label for method in answer.missing)
        st.info(f"What {lacking} names for this picture has not been computed yet.")
        st.page_link(frame.ATTRIBUTION, label="Compute it", icon=":material/arrow_forward:", query_params=link)
    with st.container(horizontal=True):
        st.page_link(
            frame.ATTRIBUTION, label="Look closer at this picture", icon=":material/search:", query_params=link
        )
        if key := comparisons.first(dataset, checkpoint.digest, shown):
            st.page_link(
                frame.COUNTERFACTUAL, label="See what it becomes without them", icon=":material/compare:",
                query_params=address.leading(frame.COUNTERFACTUAL) | {"comparison": key, "row": shown.id},
            )  # fmt: skip
    more = f" (the first {OTHERS} of {len(drawn):,}; Attribution shows all)" if len(drawn) > OTHERS else ""
    st.caption(f"Or choose another picture that the model drew{more}:")
    listed_first = sorted(drawn, key=lambda t: t.id != named.FIRST)[:OTHERS]
    pictures = [gallery.Picture(t.mark, t.image, f"Show the picture of {t.caption}") for t in listed_first]
    chosen = gallery.grid("others", "Other generated pictures", pictures, chosen=shown.mark, cell=40, action="choose")
    if chosen and chosen != shown.mark:
        named.choose(next(t for t in listed_first if t.mark == chosen))
        st.rerun()
    return list(answer.rankings)


def cards() -> None:
    """Draw the pages as cards, each with what it is for."""
    st.header("What you can do here")
    others = list(zip(frame.FILES, frame.pages(), strict=False))[1:]
    for start in range(0, len(others), CARDS):
        for column, (file, page) in zip(st.columns(CARDS), others[start : start + CARDS], strict=False):
            with column.container(border=True, height="stretch", gap="xsmall"):
                frame.link(file, page.title, page.icon)
                st.caption(page.help)


def own(trained: bool) -> None:
    """Draw the ways to pictures and models of one's own."""
    with st.container(border=True, horizontal=True):
        frame.link(frame.ADD_PICTURES, "Use your own pictures", ":material/add_photo_alternate:")
        frame.link(frame.GENERATE, "Train a model of your own", ":material/model_training:", tab="Train a model")
        if trained:
            frame.link(frame.ADD_MODEL, "Add a model made elsewhere", ":material/add:")
