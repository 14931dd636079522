"""One training example, opened: large beside the target, its rank under every method, its family.

One goes from picture to picture along the ranking in which it was opened.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dtrak_core.amounts import counted, whole
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting, patches, results
from dtrak_core.methods.results import Ranking
from dtrak_core.models import targets
from dtrak_core.models.targets import Target
from dtrak_core.ui import crisp, gallery, named, pair, panels, rows, what_if

_ROW, _FOCUS, _OPENED = "_row", "_focus", "_opened"
LARGE = 320  # pixels of the enlarged picture


def open_at(clicked: str | None, methods: Sequence[str]) -> None:
    """Open what was clicked in a figure: in the link, so that it can be sent."""
    found = None if clicked is None else rows.parse(clicked, methods)
    if found is not None:
        st.session_state[_ROW], st.session_state[_OPENED] = found[0], clicked
        st.query_params["example"] = str(found[1])


def focus() -> tuple[str, int] | None:
    """Return which picture takes the keyboard's focus back after the dialog was closed."""
    found: tuple[str, int] | None = st.session_state.get(_FOCUS)
    return found


def show(dataset: Dataset, rankings: Sequence[Ranking], target: Target | None = None) -> None:
    """Open the training example that the link names, if it names one."""
    asked = st.query_params.get("example")
    if asked is None:
        return
    last = len(dataset.train.rows) - 1
    if whole(asked, last) is None:
        st.warning(f"Training picture '{panels.plain(asked)}' does not exist: they are numbered 0 to {last:,}.")
        return
    _dialog(dataset, rankings, target)


def _closed() -> None:
    st.query_params.pop("example", None)
    before = st.session_state.get(_FOCUS, ("", 0))
    st.session_state[_FOCUS] = (st.session_state.get(_OPENED, ""), before[1] + 1)


def _go(index: int) -> None:
    st.query_params["example"] = str(index)


@st.dialog("Training picture", width="medium", on_dismiss=_closed)
def _dialog(dataset: Dataset, rankings: Sequence[Ranking], target: Target | None) -> None:
    index = int(st.query_params.get("example", "0"))
    facts = dataset.train.rows[index]
    name = facts["name"] or facts["label"] or f"number {index}"
    image = dataset.train.images[index]
    if target is None:
        crisp.show(image, LARGE, f"Training picture {index}: {name}")
    else:
        explained = target.caption or target.id
        pair.show(
            "pair",
            pair.Side(target.image, f"{explained}, to be explained", f"The picture to explain: {explained}"),
            pair.Side(image, f"#{index} {name}", f"Training picture {index}: {name}"),
        )
    if rankings:
        _steps(rankings, index)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.markdown(f"**#{index} {panels.plain(name)}**")
        lines = [("By", facts["contributor"]), ("Label", facts["label"]), ("From", facts["origin"])]
        st.markdown("  \n".join(f"{title} {panels.plain(value)}" for title, value in lines if value != ""))
        if st.button("Explain this one instead", help="Make it the target: which other training pictures act like it?"):
            named.choose(targets.of_split(dataset.train, "train", index))
            st.rerun()
    if rankings:
        right.markdown(
            _ranks(rankings, index),
            help="Rank 1 is the strongest proponent. The share is the score over the sum of a method's own positive "
            "ones; neither scores nor shares of two methods are comparable in size. 'In both halves': whether both "
            "halves of a method's draws have it among the first 5 %, or among the last.",
        )
    if target is not None:
        _without(rankings, target, index)
        _patches(dataset, target, index)
    _family(dataset, index)


def _ranks(rankings: Sequence[Ranking], index: int) -> str:
    """Return a table of an example's rank, score and share under each method."""
    lines = ["| Method | Rank | Score | Share | In both halves |", "|:--|--:|--:|--:|:--|"]
    for one in rankings:
        place = f"{results.rank(one, index):,} of {len(one.values):,}"
        score = f"{one.values[index]:.3g}".replace("-", "−")
        part, sure = crediting.percent(results.share(one, index)), results.mark(one, index)
        lines.append(f"| {panels.plain(one.label)} | {place} | {score} | {part} | {sure} |")
    return "\n".join(lines)


def _without(rankings: Sequence[Ranking], target: Target, index: int) -> None:
    """Ask what the target would be without this picture and those before it, where one of the methods ranks it high."""
    row = _row(rankings)
    if row is None or row.values[index] <= 0:
        return
    place = results.rank(row, index)
    these = "this one" if place == 1 else f"the first {place:,}"
    label = f"What if {these} had never been there?"
    what_if.link(target, [row.method], place, label)


def _row(rankings: Sequence[Ranking]) -> Ranking | None:
    """Return the ranking in which the picture was opened, else the first."""
    return next((one for one in rankings if one.method == st.session_state.get(_ROW)), next(iter(rankings), None))


def _patches(dataset: Dataset, target: Target, index: int) -> None:
    """Show which parts of the target this picture explains, where patches were compared: the rest is darkened."""
    heat = patches.map_of(dataset.digest, target, index)
    if heat is None:
        return
    seen = (target.image * (0.15 + 0.85 * heat[..., None])).astype(np.uint8)
    alt = f"{target.called}, bright where patches of training picture {index} explain it"
    crisp.show(seen, LARGE // 2, alt, f"What its patches explain of {target.called}: the brighter, the more")


def _steps(rankings: Sequence[Ranking], index: int) -> None:
    """Draw the buttons that step along the ranking in which the picture was opened."""
    row = _row(rankings)
    assert row is not None  # it is drawn only with rankings
    place = results.rank(row, index) - 1
    order = row.order
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, step, shortcut in (("Previous", -1, "Left"), ("Next", 1, "Right")):
            there = place + step
            st.button(
                label,
                key=f"step-{label}",
                shortcut=shortcut,
                disabled=not 0 <= there < len(order),
                on_click=_go,
                args=(int(order[min(max(there, 0), len(order) - 1)]),),
            )
        st.caption(f"Rank {place + 1:,} of {len(order):,} by {panels.plain(row.label)}")


def _family(dataset: Dataset, index: int) -> None:
    members = results.family(dataset.train.rows, index)
    if not members:
        return
    st.markdown(f"**Its family**: {counted(len(members), 'more version')} of the same picture")
    pictures = [
        gallery.Picture(
            str(i), dataset.train.images[i], f"Training picture {i}: {dataset.train.rows[i]['name']}", (f"#{i}",)
        )
        for i in members
    ]
    clicked = gallery.grid("family", "Pictures of the same family", pictures, cell=56)
    if clicked is not None:
        _go(int(clicked))
        st.rerun(scope="fragment")


@st.dialog("The picture to explain", width="small")
def show_target(shown: Target) -> None:
    """Show the target large, with what is known of it."""
    crisp.show(shown.image, LARGE, f"The picture to explain: {shown.caption}")
    made = targets.drawing_of(shown.row)
    panels.strip(
        {
            "Target": shown.id,
            "sampler": str(made.get("sampler", "")).upper(),
            "sampling steps": made.get("sampling_steps", ""),
            "name": shown.row.get("name", ""),
            "by": shown.row.get("contributor", ""),
            "pixels": shown.pixels,
        }
    )
