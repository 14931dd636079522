"""The link that asks what a picture would be without the training pictures behind it: Counterfactual, filled in.

It names the target, the methods and how many of their first pictures to remove, and so does the address it leads to.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.models.targets import Target
from dtrak_core.ui import frame, named

REMOVE, BY = "remove", "remove-by"  # address parameters: how many, and by which methods
THESE = "What if these had never been there?"


def link(target: Target, methods: Sequence[str], count: int, label: str = THESE) -> None:
    """Draw the link, where the target was drawn by the model: no other picture can be drawn again.

    Args:
        target: The picture that is explained.
        methods: Ids of the methods whose pictures are to be removed; without any there is nothing to ask.
        count: How many of each method's first pictures.
        label: What the link says.
    """
    if not methods or count < 1 or not target.id.startswith("seed:"):
        return
    asked = {REMOVE: str(count), BY: ",".join(methods)}
    st.page_link(
        frame.COUNTERFACTUAL,
        label=label,
        icon=":material/compare:",
        query_params=named.leading(frame.COUNTERFACTUAL, target) | asked,
        help="Train again without them and draw the same seed. Counterfactual opens with this picture, method and "
        "number filled in, and says what it costs.",
    )
