"""Is what the model draws copied from its training pictures, and is one's own work among them?"""

from __future__ import annotations

import streamlit as st

from dtrak_core.methods import set_scores
from dtrak_core.ui import example, frame, linked
from dtrak_core.ui.copies import generated, work

QUESTIONS = {"generated": "Are they copies?", "work": "Is my work in it?"}

dataset, checkpoint = frame.require_model("Copies", "There is no model yet that could have copied anything.")
asked = linked.bound(
    st.segmented_control,
    "Question",
    list(QUESTIONS),
    default="work" if work.WORK in st.query_params else "generated",
    format_func=QUESTIONS.get,
    key="question",
    required=True,
    label_visibility="collapsed",
)
drawn = set_scores.drawn(checkpoint.digest)
if asked == "work":
    st.write("Is a work among the training pictures, and which generated pictures did it help?")
    work.show(dataset, checkpoint, drawn)
elif drawn:
    st.write("Which generated pictures lie closer to one training picture than they should?")
    generated.show(dataset, checkpoint, drawn)
else:
    frame.undrawn(checkpoint)
example.show(dataset, [])
