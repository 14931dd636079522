"""Near-copies among what the model has drawn: sentences, a chart, pairs, what removal did, files to keep."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted, ranges_of
from dtrak_core.counterfactual import comparisons, copy_sheet
from dtrak_core.counterfactual.copy_sheet import Sheet
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import copies
from dtrak_core.methods.copies import Copy, Space
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import computing, frame, gallery, keeping, linked, named, panels, plotting
from dtrak_core.ui.copies import copy_charts

LIKE = 6  # near-duplicates beside a pair
_PAIR = "pair"  # address parameter: the picture that is looked at


def show(dataset: Dataset, checkpoint: Checkpoint, drawn: Sequence[Target]) -> None:
    """Draw all of it for the pictures that the model has drawn."""
    space = spaces()
    panels.announce(("embed",), "Computed.")
    plan = copies.plan_of(space, dataset, checkpoint, drawn)
    if plan is not None and plan.missing:
        computing.offer(plan, checkpoint, 0)
        return
    told = _sheet_of(dataset, checkpoint, drawn, space)
    st.markdown("\n".join(f"- {line}" for line in copy_sheet.sentences(told, panels.plain)))
    if len(told.copies.reference):
        close = len(told.copies.close)
        alt = f"ρ of {len(drawn)} generated and {len(told.copies.reference)} held-out pictures. {close} have p ≤ 0.05."
        plotting.show(copy_charts.ratios(told.copies), key="copies-ratios", alt=alt)
        st.caption("Left of most held-out pictures: suspiciously close to one training picture.")
    _pairs(told)
    _keep(told)


def spaces() -> Space:
    """Draw the choice of where distances are measured."""
    chosen: Space | None = linked.bound(
        st.segmented_control,
        "Compared by",
        copies.SPACES,
        default="pixels",
        format_func=copies.NAMES.get,
        key="space",
        required=True,
        help="Pixels find exact copies; embeddings of another network find copies that were moved or recoloured.",
    )
    return chosen or "pixels"


def _sheet_of(dataset: Dataset, checkpoint: Checkpoint, drawn: Sequence[Target], space: Space) -> Sheet:
    marks = tuple((target.id, target.pixels) for target in drawn)
    stamp = store.stamp(("comparisons", "embeddings"))
    return _sheet((dataset.key, checkpoint.digest, checkpoint.name, space, *stamp), marks, dataset, checkpoint, drawn)


@st.cache_resource(max_entries=16, show_spinner=False)
def _sheet(
    about: tuple[str, ...],
    marks: tuple[tuple[str, str], ...],
    _dataset: Dataset,
    _checkpoint: Checkpoint,
    _drawn: Sequence[Target],
) -> Sheet:
    space: Space = next(one for one in copies.SPACES if one == about[3])
    found = copies.find(space, _dataset, _checkpoint, _drawn)
    return copy_sheet.sheet(found, _dataset, _checkpoint, comparisons.listing(_dataset, _checkpoint.digest))


def _pairs(told: Sheet) -> None:
    found = told.copies.found
    marks = {one.target.mark: place for place, one in enumerate(found)}
    asked = st.query_params.get(_PAIR, "")
    place = marks.get(asked, 0)
    if asked and asked not in marks:
        st.warning(f"'{panels.plain(asked)}' is not among these pictures; showing the closest.")
    chosen = found[place]
    _pair(told, place)
    st.header("All pictures, the closest first")
    clicked = gallery.grid(
        "copies",
        "Generated pictures, the closest to a training picture first",
        [
            gallery.Picture(one.target.mark, one.target.image, f"Look at {one.target.called}: {copy_sheet.words(one)}",
                            _lines(one))
            for one in gallery.page(found, f"copies-page-{told.copies.space}", place)
        ],
        chosen=chosen.target.mark,
        cell=64,
        action="choose",
    )  # fmt: skip
    if clicked in marks and clicked != chosen.target.mark:
        st.query_params[_PAIR] = clicked
        st.rerun()


def _lines(copy: Copy) -> tuple[str, ...]:
    return (f"ρ {copy.ratio:.2f}", "" if copy.p is None else f"p {copy.p:.2g}")


def _pair(told: Sheet, place: int) -> None:
    copy, gone, dataset = told.copies.found[place], told.removed[place], told.dataset
    name = copy_sheet.name_of(dataset, copy.nearest)
    by = dataset.train.rows[copy.nearest].get("contributor") or ""
    st.header(f"{copy.target.called.capitalize()} and {panels.plain(name)}")
    shown = [gallery.Picture("own", copy.target.image, f"The picture of {copy.target.called}", ("generated",))]
    shown.append(training(dataset, copy.nearest, "nearest"))
    shown += [training(dataset, i, "nearly equal") for i in copy.alike if i != copy.nearest][:LIKE]
    for title, entries in (
        ("without it", gone.without), ("without random ones", gone.random), ("another seed", gone.floor),
    ):  # fmt: skip
        shown += [
            gallery.Picture(f"{title} {n}", one.image, f"{copy.target.called}, trained {title}", (title,))
            for n, one in enumerate(entries[:2])
        ]
    clicked = gallery.grid("copies-pair", "The generated picture and its nearest training picture", shown, cell=150)
    if clicked is not None and clicked.isdecimal():
        st.query_params["example"] = clicked
    held_out, p = len(told.copies.reference), ""
    if copy.p is not None:
        p = copy_sheet.too_few(held_out).rstrip(".") or copy_sheet.as_close(copy.p, held_out)
    st.write(f"ρ = {copy.ratio:.2f}{'; ' * bool(p)}{p}.{f' By {panels.plain(by)}.' if by else ''} {gone.sentence}")
    with st.container(horizontal=True):
        if copy.target.id.startswith("seed:"):
            away = ranges_of(copy.alike)
            more = len(copy.alike) - 1
            these = f"{name} and {counted(more, 'near-duplicate')}" if more else name
            st.page_link(
                frame.COUNTERFACTUAL,
                label=f"What if {panels.plain(these)} had never been there?",
                icon=":material/compare:",
                query_params=named.leading(frame.COUNTERFACTUAL, copy.target) | {"pictures": away},
                help="Train again without them and draw the same seed. Counterfactual opens filled in.",
            )
        st.page_link(
            frame.ATTRIBUTION,
            label="Explain this picture",
            icon=":material/account_tree:",
            query_params=named.leading(frame.ATTRIBUTION, copy.target),
        )


def training(dataset: Dataset, index: int, line: str) -> gallery.Picture:
    """Return a training picture as a gallery shows it, opened by its number."""
    name = copy_sheet.name_of(dataset, index)
    return gallery.Picture(str(index), dataset.train.images[index], f"Training picture {name}", (line, name))


def _keep(told: Sheet) -> None:
    st.header("Keep the answer")
    st.caption(panels.plain(copy_sheet.protocol(told)))
    name = f"copies-{told.checkpoint.name}-{told.copies.space}".replace("@", "-")
    keeping.files(told, copy_sheet.WRITERS, name, "copies")
