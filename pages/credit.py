"""Whose training pictures made what the model has drawn: credit over a set of generated pictures."""

from __future__ import annotations

import streamlit as st

from dtrak_core.methods import set_scores
from dtrak_core.ui import example, frame
from dtrak_core.ui.credit import asking, choosing, leaving_out, shown

dataset, checkpoint = frame.require_model(
    "Credit", "There is no model yet whose pictures could be credited to anybody."
)
st.write("Whose training pictures made what this model draws, and how sure is that?")
drawn = set_scores.drawn(checkpoint.digest)
if not drawn:
    frame.undrawn(checkpoint)
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    method = choosing.method()
    by = choosing.by(dataset)
    chosen = choosing.pictures(drawn)
share = choosing.damping(method, checkpoint, len(dataset.train.rows))
plan = asking.panel(dataset, checkpoint, method, chosen)
if plan is not None:
    sheet = shown.sheet(plan, checkpoint, share, by)
    shown.sentences(sheet)
    shown.chart(sheet)
    shown.closer(sheet)
    leaving_out.show(sheet)
    shown.keep(sheet)
example.show(dataset, [])
