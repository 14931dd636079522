"""Draw pictures from seeds, or train a model. Both are jobs: they go on when the page is closed."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import frame, lacking, linked, panels
from dtrak_core.ui.generate import drawing, trainer

selection = frame.require()
st.title("Generate")
draw, train = linked.bound(st.tabs, ["Draw pictures", "Train a model"], key="tab", on_change="rerun")
if draw.open:
    with draw:
        if selection.checkpoint is None:
            lacking.why(selection.dataset)
            st.info("There is no model to draw with yet.")
            way, to = ":material/arrow_forward:", {"tab": "Train a model"}
            st.button("Train a model", key="to-train", icon=way, on_click=st.session_state.update, args=(to,))
        else:
            drawing.form(selection.dataset, selection.checkpoint)
            drawing.results(selection.checkpoint)
if train.open:
    with train, panels.reported():
        trainer.form(selection.dataset)
