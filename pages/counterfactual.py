"""Remove the training pictures that a method names, train again, draw the same seed, compare."""

from __future__ import annotations

import streamlit as st

from dtrak_core.counterfactual import comparisons
from dtrak_core.settings import key_of
from dtrak_core.ui import address, frame, panels
from dtrak_core.ui.counterfactual import compared, comparing, listed

dataset, checkpoint = frame.require_model("Counterfactual", "There is no model yet that could be trained again.")
st.write("What would this picture be if its most influential training pictures had never been there?")

asked = comparing.under_way(checkpoint)
finished = comparisons.listing(dataset, checkpoint.digest)
known = {one.key: one for one in finished}
by_name = {one.name: one.key for one in reversed(finished)}
link = address.get("comparison")
wanted = link if link in known else by_name.get(link, "")
comparing.panel(dataset, checkpoint, finished, opened=not finished and asked is None)
before = comparisons.outdated(dataset, checkpoint.digest, link) if link and not wanted else None
if link and not wanted and before is None and (asked is None or link != key_of("comparisons", asked)):
    instead = (
        "the one under way" if asked is not None else f"'{panels.plain(finished[0].name)}'" if finished else "none"
    )
    st.warning(f"This checkpoint has no comparison '{panels.plain(link)}'; showing {instead}.")
if before is not None:
    compared.show(before, dataset, checkpoint)
elif asked is not None and not wanted:
    compared.show(comparisons.read(asked), dataset, checkpoint)
elif finished:
    late = listed.pick(finished, wanted)
    compared.show(next(iter(late.values())), dataset, checkpoint, late)
