"""The dataset at a glance: counts, filters, a page of pictures."""

from __future__ import annotations

import math
from collections import Counter

import streamlit as st

from dtrak_core import program, store
from dtrak_core.datasets import catalogue, openmoji
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting
from dtrak_core.ui import gallery, linked, panels

PER_PAGE = 48
ALL = "all"


def counts(dataset: Dataset) -> None:
    """Show how many pictures there are, of what, by whom, and which are equal."""
    rows = dataset.train.rows
    height, width = dataset.train.images.shape[1:3]
    contributors, labels = len({row["contributor"] for row in rows} - {""}), len(set(dataset.train.labels) - {""})
    with st.container(horizontal=True, gap="large"):
        st.metric("Training pictures", f"{len(rows):,}", help="What models learn from.", width="content")
        st.metric(
            "Held out", f"{len(dataset.held_out.rows):,}", help="Kept out of training, for checks.", width="content"
        )
        if labels:
            st.metric("Labels", f"{labels:,}", help="Kinds of pictures.", width="content")
        if contributors:
            st.metric("Contributors", f"{contributors:,}", help="People who made the pictures.", width="content")
        st.metric("Size", f"{width} × {height}", help="Pixels of each picture, wide × high.", width="content")
    for sentence in catalogue.equal_pictures(dataset):
        st.caption(sentence)


def browse(dataset: Dataset) -> int | None:
    """Show the training pictures, filtered and a page at a time; return the index just clicked, else None."""
    rows = dataset.train.rows
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = _filter("Label", "label", [row["label"] for row in rows])
        contributor = _filter("Contributor", "contributor", [row["contributor"] for row in rows])
    found = [
        i for i, row in enumerate(rows) if label in (ALL, row["label"]) and contributor in (ALL, row["contributor"])
    ]
    if not found:
        st.info("No training picture has both. Choose 'all' in one of the filters.")
        return None
    pages = math.ceil(len(found) / PER_PAGE)
    page = linked.page(pages, "page")
    shown = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    st.caption(
        f"Pictures {(page - 1) * PER_PAGE + 1:,} to {(page - 1) * PER_PAGE + len(shown):,} of {len(found):,}. "
        "Click one to see it large."
    )
    pictures = [
        gallery.Picture(str(i), dataset.train.images[i], f"Training picture {i}: {rows[i]['name'] or rows[i]['label']}")
        for i in shown
    ]
    clicked = gallery.grid("browse", "Training pictures", pictures, cell=48)
    return None if clicked is None else int(clicked)


def licence(dataset: Dataset) -> None:
    """Show the terms of the pictures."""
    if line := crediting.terms(dataset):
        st.caption(panels.plain(line))


def drawn_here(dataset: Dataset) -> None:
    """Warn where this machine would draw the default dataset's pictures otherwise than the stored ones."""
    if dataset.settings.kind == "openmoji-people" and (differs := _difference(dataset.key)):
        again = " To make all of them again from this machine's pictures, run `make demo`." if program.CHECKOUT else ""
        st.warning(
            f"{differs} The app goes on with the stored pictures, which fit their model and features.{again}",
            icon=":material/difference:",
        )


@st.cache_data(max_entries=8, show_spinner=False)
def _difference(key: str) -> str:
    """Draw every 50th picture afresh and compare, once for each stored dataset."""
    return openmoji.is_same_as_package(store.get("datasets", key), every=50)


def _filter(title: str, key: str, values: list[str]) -> str:
    """Draw a filter whose options carry their counts, the most frequent first; return the chosen value."""
    found = Counter(value for value in values if value)
    options = [ALL, *[name for name, _ in found.most_common()]]
    for one in linked.said(key):
        if one not in options:
            linked.wrong(title, one, ALL)
    if len(found) < 2:
        return ALL

    def named(value: str) -> str:
        return f"all ({len(values):,})" if value == ALL else f"{value} ({found[value]:,})"

    # Not bound to the address by Streamlit, which would write the counts into it.
    asked = st.query_params.get(key, ALL)
    first = options.index(asked) if asked in options else 0
    widget = f"filter-{key}"
    chosen = st.selectbox(
        title,
        options,
        first,
        format_func=named,
        key=widget,
        on_change=_keep,
        args=(key, widget),
        persist_state="session",
    )
    return chosen or ALL


def _keep(key: str, widget: str) -> None:
    """Write a filter into the address."""
    value = st.session_state[widget]
    if value in (None, ALL):
        st.query_params.pop(key, None)
    else:
        st.query_params[key] = value
