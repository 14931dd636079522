"""The pictures that are chosen on the map: which they are stands in the link; a look at them, and where they lead."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import streamlit as st

from dtrak_core.amounts import counted, ranges_of
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting, map_sheet, set_credit
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import address, frame, gallery, named, panels, taking, what_if
from dtrak_core.ui.map.colouring import Explained

MOST = 2_000  # pictures that a link can name
PAGE = 24  # pictures that are shown at once
_LASSO = "_map_lasso"


def take(numbers: Collection[int]) -> None:
    """Let the link take these pictures, as many as it can name."""
    taking.take(sorted(numbers)[:MOST])


def lassoed(key: str, event: Any) -> None:
    """Take what was newly lassoed in a chart: a selection stays with its chart, and must not undo a later choice.

    An empty one chooses nothing else: a chart that is drawn anew says that too.
    """
    points = event["selection"]["points"] if event else []
    found = sorted({int(np.ravel(point["customdata"])[0]) for point in points if "customdata" in point})
    before = st.session_state.setdefault(_LASSO, {})
    if found == before.get(key, []):
        return
    before[key] = found
    if not found:
        return
    if len(found) > MOST:
        st.toast(f"{counted(len(found), 'picture')} lie there; the first {MOST:,} are taken.")
    take(found)
    st.rerun()


def show(dataset: Dataset, checkpoint: Checkpoint | None, indices: Sequence[int], shown: Explained | None) -> None:
    """Draw what the chosen pictures are, the pictures, and what can be asked of them."""
    if not indices:
        st.markdown("**Nothing chosen yet.** Draw a loop around some dots, or find pictures by name.")
        return
    count = len(dataset.train.rows)
    told = f"**{counted(len(indices), 'picture')} chosen**, {crediting.percent(len(indices) / count)} of {count:,}"
    facts = map_sheet.facts_of(dataset)
    st.markdown(f"{told}: {panels.plain(map_sheet.within(dataset, indices, facts[0]))}." if facts else f"{told}.")
    if shown is not None:
        values = np.maximum(shown.ranking.values, 0)
        part = crediting.percent(float(values[list(indices)].sum() / (values.sum() or 1.0)))
        st.markdown(f"They hold {part} of {shown.ranking.label}'s positive score for {panels.plain(shown.called)}.")
    with st.container(horizontal=True):
        if checkpoint is not None:
            _ways(indices, shown)
        st.button("Choose none", icon=":material/close:", on_click=take, args=((),))
    _pictures(dataset, indices)


def _pictures(dataset: Dataset, indices: Sequence[int]) -> None:
    called = set_credit.names_of(dataset.train.rows, "picture")
    listed = [
        gallery.Picture(str(i), dataset.train.images[i], f"Look at training picture {called[i]}", (called[i],))
        for i in gallery.page(indices, "map-page", most=PAGE)
    ]
    clicked = gallery.grid("map-chosen", "Chosen training pictures; a click opens one", listed, cell=60)
    if clicked is not None:
        st.query_params["example"] = clicked


def _ways(indices: Sequence[int], shown: Explained | None) -> None:
    page, numbers = frame.COUNTERFACTUAL, ranges_of(indices)
    drawn = shown is not None and shown.target.id.startswith("seed:")
    leading = named.leading(page, shown.target) if shown is not None and drawn else address.leading(page)
    st.page_link(
        page,
        label=what_if.THESE,
        icon=":material/compare:",
        query_params=leading | {"pictures": numbers},
        help="Train again without them and draw the same seeds. Counterfactual opens with this removal filled in.",
    )
    st.page_link(
        frame.DOCTOR,
        label="Is the model better off without them?",
        icon=":material/stethoscope:",
        query_params=address.leading(frame.DOCTOR) | {taking.TAKE: numbers},
        help="Train without them and without random ones, and compare the loss over held-out pictures, on Doctor.",
    )
