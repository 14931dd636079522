"""The project's question answered for one picture, the dataset and the model at a glance, the pages as cards."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import example, frame, lacking, left_out, panels
from dtrak_core.ui.overview import browser, card, showcase

selection = frame.require()
dataset, checkpoint = selection.dataset, selection.checkpoint
found = []
if checkpoint is None:
    st.title(panels.plain(dataset.name))
    lacking.why(dataset)
    panels.nothing("No model has learned from these pictures yet.", frame.GENERATE, "Train one")
else:
    st.title("Which training pictures made this one?")
    found = showcase.show(dataset, checkpoint)
    showcase.cards()

st.header("The training pictures")
browser.counts(dataset)
left_out.show(dataset.notes, dataset.skipped)


@st.fragment
def browse() -> None:
    """Browse without drawing the rest of the page again."""
    clicked = browser.browse(dataset)
    if clicked is not None:
        st.query_params["example"] = str(clicked)
    example.show(dataset, found)


browse()
browser.licence(dataset)
browser.drawn_here(dataset)
if checkpoint is not None:
    st.header("The model")
    card.checkpoint(checkpoint)
st.header("Your own")
showcase.own(checkpoint is not None)
