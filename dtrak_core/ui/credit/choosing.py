"""Over which generated pictures, by which method and by what: all in the link."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.amounts import counted, numbers_of, ranges_of
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError, shortened
from dtrak_core.methods import certainty, set_credit
from dtrak_core.methods.methods import METHODS, Method
from dtrak_core.methods.set_credit import By
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import address, gallery, linked, panels, tuning

NAMES = {"contributor": "Contributor", "label": "Label", "family": "Family", "picture": "Single picture"}
_SEEDS, _PROMPTS, _NEXT = "seeds", "prompts", "_credit_seeds"
MOST = 100_000  # seeds that a link may name


def method() -> Method:
    """Draw the choice of a method whose scores have a sign."""
    signed = [name for name, one in METHODS.items() if not set_credit.refusal(one)]
    left_out = [METHODS[name].label for name in METHODS if name not in signed]
    chosen = linked.bound(
        st.selectbox,
        "Method",
        signed,
        format_func=lambda name: METHODS[name].label,
        key="method",
        width=260,
        help=f"Left out, as squared scores have no sign: {', '.join(left_out)}. What hindered would count like what "
        "helped.",
    )
    return METHODS[chosen or signed[0]]


def by(dataset: Dataset) -> By:
    """Draw the choice by what training pictures are grouped."""
    known = set_credit.groupings(dataset.train.rows)
    chosen: By | None = linked.bound(
        st.segmented_control, "Credit by", known, default=known[0], format_func=NAMES.get, key="by", required=True
    )
    return chosen if chosen in known else known[0]


def damping(method: Method, checkpoint: Checkpoint, count: int) -> float | None:
    """Draw the damping, which is of the whole view; return effective rank over N, None where nothing is damped.

    The slider has a key of its own: two pages' sliders of one key would lose the value on the way between them.
    """
    if not method.damped:
        return None
    tuning.settle_damping(method, checkpoint)
    view = f"{address.RANK}{method.id}"
    own = f"credit-{view}"
    st.session_state[own] = st.session_state[view]
    st.slider(
        f"{method.label}: effective rank",
        certainty.PERCENT.start,
        certainty.PERCENT[-1],
        format="%d %%",
        key=own,
        width=260,
        on_change=_damped,
        args=(view, own),
        help=f"Damping, as the share of the {count:,} possible directions that still count.",
    )
    return float(st.session_state[view]) / 100


def _damped(view: str, own: str) -> None:
    st.session_state[view] = st.session_state[own]


def pictures(drawn: Sequence[Target]) -> list[Target]:
    """Draw the choice of generated pictures, by thumbnails, seeds and prompts; return those chosen, or all."""
    if (clicked_to := st.session_state.pop(_NEXT, None)) is not None:
        st.session_state[_SEEDS] = clicked_to
    place = st.popover(f"Choose among {counted(len(drawn), 'picture')}", icon=":material/photo_library:")
    linked.bound(
        st.text_input,
        "Seeds",
        key=_SEEDS,
        placeholder=f"all {len(drawn):,}",
        width=160,
        help="Numbers and ranges, like 0-15 or 3,7,20-23. Empty means all that the model drew its usual way.",
    )
    prompts = list(dict.fromkeys(target.prompt for target in drawn if target.prompt))
    wanted: Sequence[str] = ()
    if len(prompts) > 1:
        wanted = linked.bound(st.multiselect, "Prompts", prompts, key=_PROMPTS, placeholder="all", width=420)
    asked, seeds = [target for target in drawn if not wanted or target.prompt in wanted], _numbers()
    here = next((i for i, target in enumerate(asked) if targets.seed_of(target.id) in seeds), 0)
    with place:
        shown = gallery.page(asked, "credit-page", here)
        clicked = gallery.grid(
            "choices",
            "Generated pictures; a click takes one in or out",
            [gallery.Picture(one.mark, one.image, f"Take in {one.caption or one.id}") for one in shown],
            chosen=[one.mark for one in shown if targets.seed_of(one.id) in seeds],
            cell=40,
            action="choose",
        )
    if clicked:
        st.session_state[_NEXT] = ranges_of(seeds ^ {targets.seed_of(one.id) for one in shown if one.mark == clicked})
        st.rerun()  # the field can be set only before it is drawn
    if lacking := seeds - {targets.seed_of(target.id) for target in drawn}:
        told = panels.plain(shortened(ranges_of(lacking)))
        st.warning(f"The model has not drawn these seeds its usual way: {told}. They are left out.")
    return [target for target in asked if not seeds or targets.seed_of(target.id) in seeds]


def _numbers() -> set[int]:
    """Return the seeds that the field names; what is no list of seeds is said, and means all."""
    text = str(st.session_state.get(_SEEDS) or "").strip()
    try:
        return set(numbers_of(text, "seeds", MOST)) if text else set()
    except SettingsError as error:
        st.warning(f"{panels.plain(error)} Showing all pictures.")
        return set()
