"""One picture of a comparison, opened: beside its original at large size, how far it moved, what was removed for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.counterfactual import comparisons, removals, verdicts
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import Entry, beyond_floor, floors, label, of_size
from dtrak_core.counterfactual.removals import FLOOR, IDENTITY
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting
from dtrak_core.models import targets
from dtrak_core.ui import crisp, frame, gallery, named, panels

PAIR, ROW = "pair", "row"  # address parameters: the opened picture; a target, in older links
_FOCUS, _OPENED = "_pair_focus", "_pair_opened"
_LARGE = 384  # pixels of each picture
_LEAST = 130  # and at least, so that they stand side by side on a telephone
_MOST = 200  # removed pictures that are shown
_DIGITS = verdicts.DIGITS | {"loss_change": "+.4f"}


def key_of(entry: Entry) -> str:
    """Return what names a picture of a comparison in the address."""
    return f"{entry.target}/{entry.method}/{len(entry.removed)}/{entry.draw}"


def named_target(comparison: Comparison, target: str) -> str:
    """Return what a target is called under its picture: seed, and prompt where it was drawn from one."""
    prompts = removals.sample_of(target, comparison.settings).prompts
    return f"seed {targets.seed_of(target)}" + (f": {prompts[0]}" if prompts else "")


def ask(key: str) -> None:
    """Open a picture, in the address too, so that it can be sent."""
    st.session_state[_OPENED] = st.query_params[PAIR] = key


def focus() -> tuple[str, int] | None:
    """Return which picture takes the keyboard's focus back after the dialog was closed."""
    found: tuple[str, int] | None = st.session_state.get(_FOCUS)
    return found


def size_named(comparison: Comparison, shown: int | None) -> int | None:
    """Return for which number of removed pictures the one stands that the address names; None at the number shown."""
    asked = st.query_params.get(PAIR, "")
    sizes = [entry.size for entry in comparison.entries if key_of(entry) == asked]
    return sizes[0] if sizes and shown not in sizes and 0 not in sizes else None


def show(comparison: Comparison, dataset: Dataset, size: int) -> None:
    """Open the picture that the address names, if it names one."""
    own = [entry for entry in of_size(comparison.entries, size) if entry.method != IDENTITY]
    known = {key_of(entry): entry for entry in own}
    asked = st.query_params.get(PAIR, "")
    if not asked and (row := st.query_params.get(ROW, "")):
        asked = next((key for key, entry in known.items() if entry.target == row and entry.removed), row)
    target = asked.removesuffix("/original")
    if target in comparison.originals:  # the original alone says less than beside what became of it
        asked = next((key for key, entry in known.items() if entry.target == target and entry.removed), "")
    if asked in known:
        _dialog(comparison, dataset, own, asked)
    elif asked:
        st.warning(f"The address names a picture '{panels.plain(asked)}', which this comparison does not have.")


def _closed() -> None:
    for name in (PAIR, ROW):
        st.query_params.pop(name, None)
    before = st.session_state.get(_FOCUS, ("", 0))
    st.session_state[_FOCUS] = (st.session_state.get(_OPENED, ""), before[1] + 1)


@st.dialog("Before and after", width="medium", on_dismiss=_closed)
def _dialog(comparison: Comparison, dataset: Dataset, own: Sequence[Entry], asked: str) -> None:
    known = {key_of(entry): entry for entry in own}
    chosen = known[asked]
    arms = list(dict.fromkeys(e.method for e in own if e.target == chosen.target))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = st.segmented_control(
            "What was removed",
            arms,
            default=chosen.method,
            format_func=lambda arm: panels.plain(label(arm)),
            key=f"pair-arm-{asked}",
            required=True,
        )
        several = [e for e in own if (e.target, e.method) == (chosen.target, method)]
        place = 0
        if len(several) > 1:
            first = several.index(chosen) if chosen in several else 0
            places = list(range(len(several)))
            place = st.segmented_control(
                "Draw",
                places,
                default=first,
                format_func=lambda i: str(i + 1),
                key=f"pair-draw-{asked}-{method}",
                required=True,
            )
        differing = st.toggle("Show the difference", key="pair-difference")
    entry = several[place or 0]
    original, image = comparison.originals[entry.target], entry.image
    if differing:  # grey is no difference
        image = ((image.astype(np.int16) - original.astype(np.int16)) // 2 + 128).clip(0, 255).astype(np.uint8)
    told = label(entry.method) + (
        f", {len(entry.removed):,} removed" if entry.removed else ": nothing removed, another training seed"
    )
    whose = f"Original, {named_target(comparison, entry.target)}"
    with st.grid(2, min_column_width=_LEAST):
        for shown, words in ((original, whose), (image, told)):
            crisp.show(shown, _LARGE, words, panels.plain(words), fill=True)
    st.markdown(_numbers(comparison, own, entry))
    _removed(dataset, entry)
    _explain(comparison, entry)


def _numbers(comparison: Comparison, own: Sequence[Entry], entry: Entry) -> str:
    """Return a table of how far the picture moved in each measure, beside the noise floor of its target."""
    lines = ["| | this picture | noise floor | |", "|:--|--:|--:|:--|"]
    for measure in comparisons.measures(comparison):
        value, digits = getattr(entry, measure), _DIGITS[measure]
        floor, said = floors(own, measure).get(entry.target), ""
        if floor is not None and entry.method != FLOOR:
            said = "beyond" if beyond_floor(entry, floor[0], measure) else "within"
        least = "–" if floor is None else f"{floor[0]:{digits}}"
        lines.append(f"| {verdicts.NAMES[measure]} | {value:{digits}} | {least} | {said} |".replace(" -", " −"))
    return "\n".join(lines)


def _removed(dataset: Dataset, entry: Entry) -> None:
    if not entry.removed:
        return
    by = crediting.counted(entry.removed, dataset.train.rows)
    makers = [f"{panels.plain(name)} ({count})" for name, count in by.items()]
    who = (
        f", by {', '.join(makers[:4])}{f' and {len(makers) - 4} more' if len(makers) > 4 else ''}"
        if len(by) > 1
        else ""
    )
    st.markdown(f"**{counted(len(entry.removed), 'picture')} removed**{who}")
    pictures = [
        gallery.Picture(str(i), np.asarray(dataset.train.images[i]), f"Training picture {i}", (f"#{i}",))
        for i in entry.removed[:_MOST]
    ]
    gallery.grid("counterfactual-removed", "Removed training pictures", pictures, cell=44)
    if len(entry.removed) > _MOST:
        st.caption(f"The first {_MOST} of {len(entry.removed):,}; the files hold all.")


def _explain(comparison: Comparison, entry: Entry) -> None:
    """Lead to the training pictures behind the target, where it is still stored."""
    found = targets.find_sample(removals.sample_of(entry.target, comparison.settings))
    if found is not None:
        st.page_link(
            frame.ATTRIBUTION,
            label="See the training pictures behind it",
            icon=":material/account_tree:",
            query_params=named.leading(frame.ATTRIBUTION, found),
        )
