"""Is what the model draws copied from its training pictures, and is one's own work among them?"""

from __future__ import annotations

import streamlit as st

from dtrak_core.methods import set_scores
from dtrak_core.ui import example, frame, panels
from dtrak_core.ui.copies import generated

dataset, checkpoint = frame.require_model("Copies", "There is no model yet that could have copied anything.")
st.write("Which generated pictures lie closer to one training picture than they should?")
drawn = set_scores.drawn(checkpoint.digest)
if drawn:
    generated.show(dataset, checkpoint, drawn)
else:
    panels.nothing("This model has not drawn a picture yet.", frame.GENERATE, "Draw some")
example.show(dataset, [])
