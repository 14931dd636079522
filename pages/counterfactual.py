"""Remove the training pictures that a method names, train again, draw the same seed, compare."""

from __future__ import annotations

import streamlit as st

from dtrak_core import comparisons
from dtrak_core.ui import compared, comparing, frame

dataset, checkpoint = frame.require_model("Counterfactual", "There is no model yet that could be trained again.")
st.write("What would this picture be if its most influential training pictures had never been there?")

asked = comparing.under_way(checkpoint)
finished = comparisons.listing(dataset, checkpoint.digest)
known = {one.key: one for one in finished}
wanted = st.query_params.get("comparison", "")
with st.expander("A new comparison", expanded=not finished and asked is None, icon=":material/add:"):
    comparing.form(dataset, checkpoint)
if asked is not None and wanted not in known:
    compared.show(comparisons.read(asked), dataset)
elif finished:
    chosen = known.get(wanted, finished[0])
    if len(finished) > 1:

        def named(key: str) -> str:
            one = known[key]
            return f"{one.name}: {len(one.originals)} targets, {', '.join(map(str, one.settings.remove))} removed"

        keys = list(known)
        picked = st.selectbox("Comparison", keys, keys.index(chosen.key), format_func=named)
        st.query_params["comparison"] = picked
        chosen = known[picked]
    compared.show(chosen, dataset)
