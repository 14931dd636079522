"""Which training pictures are doubles, odd, least helpful or wrongly captioned, and what removing them does."""

from __future__ import annotations

import streamlit as st

from dtrak_core.ui import frame, taking
from dtrak_core.ui.doctor import suspects, without

dataset, checkpoint = frame.require_model("Doctor", "There is no model yet that could say which pictures matter.")
st.write("Which training pictures are suspicious, and is the model better off without them?")
chosen = suspects.check()
taken = taking.taken(dataset)
found = suspects.found(chosen, dataset, checkpoint)
if found is not None:
    suspects.choose(found, dataset, taken)
without.show(dataset, checkpoint, taken)
if found is not None:
    st.header("Keep the answer")
    without.keep(found, dataset, checkpoint)
