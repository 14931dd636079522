"""A comparison of removals on the page: what it says, a target's pictures side by side, boxes over all targets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.counterfactual import comparison_figure, comparisons, verdicts
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import LATENT_L2, Entry, by_arm, label, of_size
from dtrak_core.counterfactual.removals import IDENTITY
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.ui import gallery, panels, plotting
from dtrak_core.ui.counterfactual import comparison_charts

_ROW, _OPEN, _CLICKED = "counterfactual-row", "_opened_entry", "_clicked_points"
_ORIGINAL = "original"
ROUNDING = 0.05  # pixel l2 that some 8-bit steps make, where the original was drawn on another machine


def show(comparison: Comparison, dataset: Dataset) -> None:
    """Show all of a comparison, finished or under way."""
    if said := comparisons.changed(comparison):
        st.warning(panels.plain(said), icon=":material/history:")
    if not comparison.entries:
        st.info("No training has finished yet. Results appear here one by one.")
        return
    if len(comparison.entries) < comparison.expected:
        st.caption(f"{len(comparison.entries)} of {comparison.expected} pictures so far.")
    size = _size(comparison)
    moved = any(entry.method != IDENTITY for entry in comparison.entries)
    if moved:
        _judged(comparison, size)
    place = st.container()  # above the charts, whose points choose what stands here
    if moved:
        _distances(comparison, size)
    with place:
        _rows(comparison, dataset, size)
    if moved:
        _exports(comparison, dataset, size)


def _size(comparison: Comparison) -> int:
    sizes = sorted(comparison.settings.remove)
    if len(sizes) == 1:
        return sizes[0]
    chosen = st.segmented_control(
        "Training pictures removed", sizes, default=sizes[-1], key="counterfactual-size", persist_state="session"
    )
    return chosen or sizes[-1]


def _distances(comparison: Comparison, size: int) -> None:
    st.header("How far the pictures moved")
    st.caption(
        "Each point is one target, drawn again with its own seed by a model that was trained without the removed "
        "pictures. The noise floor is the same training set with another training seed."
    )
    said = st.empty()
    left, right = st.columns(2)
    with left:
        clicked = plotting.show(
            comparison_charts.boxes(comparison, size, "l2"),
            key="boxes-l2",
            alt=comparison_charts.told(comparison, size, "l2"),
            on_select="rerun",
            selection_mode="points",
        )
    with right:
        plotting.show(
            comparison_charts.boxes(comparison, size, "cosine"),
            key="boxes-cosine",
            alt=comparison_charts.told(comparison, size, "cosine"),
        )
    latent = LATENT_L2 in comparisons.measures(comparison)
    if latent:
        plotting.show(
            comparison_charts.boxes(comparison, size, "latent_l2"),
            key="boxes-latent",
            alt=comparison_charts.told(comparison, size, "latent_l2"),
        )
        st.caption("Latent l2: how far apart the autoencoder sees the pictures, the paper's measure on ArtBench.")
    left, right = st.columns(2, vertical_alignment="center")
    with left:
        plotting.show(
            comparison_charts.boxes(comparison, size, "loss_change"),
            key="boxes-loss",
            alt=comparison_charts.told(comparison, size, "loss_change"),
        )
    with right:
        st.caption(
            "The change of the loss: how much worse the retrained model denoises the original picture. It is a mean "
            "over many noises, so chance in the training moves it far less than it moves a drawn picture."
        )
    points = clicked["selection"]["points"] if clicked else []
    # A point stays selected: only when it is newly so does it choose the target, which the list may change again.
    if points != st.session_state.get(_CLICKED, []):
        st.session_state[_CLICKED] = points
        named = str(np.ravel(points[0].get("customdata", ""))[0]) if points else ""
        if named in comparison.originals:
            st.session_state[_ROW] = named
    said.markdown(
        f"Pictures of **{panels.plain(_target(comparison))}** stand above the charts; a click on a point of pixel l2 "
        "shows those of its target."
    )
    if len(comparison.settings.remove) > 1:
        alt = "Median pixel l2 by number of training pictures removed, a line a method"
        plotting.show(comparison_charts.doses(comparison, "l2"), key="doses", alt=alt)
    _medians(comparison, size)


def _medians(comparison: Comparison, size: int) -> None:
    table = []
    for arm, row in _numbers(comparison.key, len(comparison.entries), size, comparison)[0].items():
        ends = row["l2_interval"]
        table.append(
            {
                "removed": label(arm),
                "pixel l2": f"{row['l2']:.2f}",
                "95 % interval": "too few targets" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}",
                "cosine": f"{row['cosine']:.3f}",
                **({"latent l2": f"{row[LATENT_L2]:.2f}"} if LATENT_L2 in row else {}),
                "loss change": f"{row['loss_change']:+.4f}",
                "targets": row["n"],
            }
        )
    with st.expander("Medians in numbers"):
        st.dataframe(table, hide_index=True)
        st.caption(
            "Medians over targets, several draws of one target averaged first. Intervals are bootstrapped over "
            f"targets, for these models. Cosine is of the {comparison.settings.encoder} embeddings."
        )


def _judged(comparison: Comparison, size: int) -> None:
    """Say in a sentence a measure and removal what was found, and what chance gives."""
    st.header("What it says")
    if why := comparisons.unjudged(comparison):
        st.info(f"No verdict: {why}.")
        return
    _, told, count = _numbers(comparison.key, len(comparison.entries), size, comparison)
    for measure, lines in told.items():
        st.markdown("\n".join([f"**{verdicts.NAMES[measure]}**\n", *(f"- {line}" for line in lines)]))
    chance = (
        f"by chance {count * verdicts.LEVEL:.1f} of the {count} here are below {verdicts.LEVEL:g}. " if count else ""
    )
    st.caption(
        "Every model has drawn every target. *Specific*: the pictures named for a target change it more than those "
        "named for other targets; p is the share of the models' permutations that show as much"
        f"{'; ' if chance else '. '}{chance}*Random removal* takes as many pictures as the removal that it is compared "
        "with. Intervals resample models and targets."
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _numbers(
    key: str, count: int, size: int, _comparison: Comparison
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]], int]:
    """Return medians, verdicts in words and their number of p-values, once for each number of finished pictures."""
    told = comparisons.sentences(_comparison, size, panels.plain)
    judged = [
        one for name in told for one in comparisons.statistics(_comparison, size, name).values() if one.specific_p
    ]
    return comparisons.medians(_comparison, size), told, len(judged)


def _rows(comparison: Comparison, dataset: Dataset, size: int) -> None:
    st.header("The same seed, other training pictures")
    listed, target = list(comparison.originals), _target(comparison)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(listed) > 1:
            target = st.selectbox("Target", listed, key=_ROW, width=200)
            if st.query_params.get("row", listed[0]) != target:  # each writing is a step that Back undoes
                st.query_params["row"] = target
        differing = st.toggle("Show the pixel difference", key="counterfactual-difference")
    original = comparison.originals[target]
    own = [e for e in of_size(comparison.entries, size) if e.target == target]
    shown = [gallery.Picture(_ORIGINAL, original, f"Original picture of {target}", ("Original", target))]
    for arm, several in by_arm([e for e in own if e.method != IDENTITY]).items():
        shown += [_picture(e, label(arm), original, differing) for e in several]
    clicked = gallery.grid("counterfactual-row-pictures", f"Pictures of {target}", shown, cell=112)
    check = next((e for e in own if e.method == IDENTITY), None)
    if check is not None:
        why = ": a colour step or two, as another processor rounds" if 0 < check.l2 < ROUNDING else ""
        st.caption(f"Check: nothing removed, same training seed and same seed give distance {check.l2:.3f}{why}.")
    removable = {_key(e): e for e in own if e.removed}
    if clicked in removable:
        st.session_state[_OPEN] = clicked
    opened = removable.get(st.session_state.get(_OPEN, ""))
    if opened is None:
        st.caption("Click a picture to see which training pictures were removed for it.")
        return
    st.markdown(f"**{counted(len(opened.removed), 'picture')} removed: {panels.plain(label(opened.method))}**")
    pictures = [
        gallery.Picture(str(i), np.asarray(dataset.train.images[i]), f"Training picture {i}", (str(i),))
        for i in opened.removed
    ]
    gallery.grid("counterfactual-removed", "Removed training pictures", pictures, cell=48)


def _target(comparison: Comparison) -> str:
    """Return the target whose pictures are shown: the chosen one, else the link's, else the first."""
    listed = list(comparison.originals)
    if st.session_state.get(_ROW) not in listed:
        linked = st.query_params.get("row", "")
        st.session_state[_ROW] = linked if linked in listed else listed[0]
    return str(st.session_state[_ROW])


def _picture(entry: Entry, name: str, original: np.ndarray, differing: bool) -> gallery.Picture:
    image = entry.image
    if differing:  # grey is no difference
        image = ((entry.image.astype(np.int16) - original.astype(np.int16)) // 2 + 128).clip(0, 255).astype(np.uint8)
    return gallery.Picture(
        _key(entry),
        image,
        f"{name}: pixel l2 {entry.l2:.2f}, cosine {entry.cosine:.3f}",
        (name, f"l2 {entry.l2:.2f}", f"cos {entry.cosine:.3f}", f"loss {entry.loss_change:+.4f}"),
    )


def _key(entry: Entry) -> str:
    return f"{entry.method}/{len(entry.removed)}/{entry.draw}"


def _exports(comparison: Comparison, dataset: Dataset, size: int) -> None:
    name = comparison.name or comparison.key
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: comparisons.to_csv(comparison, dataset),
            f"{name}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "JSON",
            lambda: json.dumps(comparisons.document(comparison, dataset), indent=1).encode(),
            f"{name}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "PNG",
            lambda: comparison_figure.draw(comparison, size, dataset),
            f"{name}.png",
            "image/png",
            icon=":material/image:",
            on_click="ignore",
        )
    facts = comparison.facts
    panels.strip(
        {
            "comparison": comparison.key,
            "checkpoint": comparison.settings.checkpoint,
            "made": str(facts.get("date", ""))[:10],
            "encoder": comparison.settings.encoder,
        }
    )
