"""All pictures of a comparison: a row a target, a column a removal, outlined where one is beyond the noise floor."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.counterfactual import comparisons, removals
from dtrak_core.counterfactual.badges import SHORT
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import Entry, beyond_floor, by_arm, floors, label, of_size, outlined
from dtrak_core.counterfactual.removals import FLOOR, IDENTITY
from dtrak_core.ui import gallery, linked
from dtrak_core.ui.counterfactual import pairing

# Pixel l2 that a few 8-bit steps make, where the original was drawn on another machine: of the demo's 12 pictures, in
# bfloat16, at most 0.27, a quarter of the values by one step and the worst by five. Another training moves 2.4 or more.
ROUNDING = 0.5
FORMATS = {"l2": "l2 {:.2f}", "cosine": "cos {:.3f}", "loss_change": "loss {:+.4f}", "latent_l2": "latent {:.2f}"}
ALWAYS = ("l2", "cosine")  # under each picture, whatever is chosen


def show(comparison: Comparison, size: int) -> None:
    """Draw the matrix for one number of removed pictures; a click on a picture opens it beside its original."""
    st.header("The same seed, other training pictures")
    measure = linked.bound(
        st.segmented_control,
        "Numbers and outlines by",
        list(comparisons.measures(comparison)),
        default="l2",
        format_func=SHORT.get,
        key="counterfactual-measure",
        required=True,
    )
    own = of_size(comparison.entries, size)
    arms = by_arm([entry for entry in own if entry.method != IDENTITY])
    names = sorted(arms, key=lambda arm: (not arm.startswith(FLOOR), not arm.startswith(removals.RANDOM)))
    least, rows = floors(own, measure), dict[str, list[gallery.Picture | None]]()
    for target, original in comparison.originals.items():
        first = gallery.Picture(
            f"{target}/original", original, f"Original picture of {target}", (pairing.named_target(comparison, target),)
        )
        cells = [
            _cell([e for e in arms[arm] if e.target == target], label(arm), measure, least.get(target)) for arm in names
        ]
        rows[target] = [first, *cells]
    heads = ["Original", *("Nothing removed (noise floor)" if arm == FLOOR else label(arm) for arm in names)]
    clicked = gallery.matrix(
        "counterfactual-matrix", "Targets and removals", heads, rows, outlined(least), focus=pairing.focus()
    )
    check = [entry.l2 for entry in own if entry.method == IDENTITY]
    checked = ""
    if check:
        why = " (a few colour steps, as another processor rounds)" if 0 < max(check) < ROUNDING else ""
        checked = f" Check: nothing removed, same training seed and same seed give distance {max(check):.3f}{why}."
    st.caption(f"Click a picture to see it beside its original, and what was removed for it.{checked}")
    if clicked:
        pairing.ask(clicked)


def _cell(several: Sequence[Entry], arm: str, measure: str, floor: tuple[float, int] | None) -> gallery.Picture | None:
    """Return the first draw of an arm, with how many of its draws are beyond the floor where there are several.

    Pixel l2 and cosine stand under every picture, the measure chosen above them.
    """
    if not several:
        return None
    entry, removing = several[0], several[0].method != FLOOR
    beyond = [removing and floor is not None and beyond_floor(each, floor[0], measure) for each in several]
    told = dict.fromkeys((measure, *ALWAYS))
    lines = [FORMATS[one].format(getattr(entry, one)).replace("-", "−") for one in told]
    spoken = f"{arm}, {entry.target}: {', '.join(lines)}{', beyond the noise floor' if beyond[0] else ''}"
    if removing and floor is not None and len(several) > 1:
        lines.append(f"{sum(beyond)} of {len(several)} beyond")
        spoken += f", {sum(beyond)} of {len(several)} draws beyond the noise floor"
    return gallery.Picture(pairing.key_of(entry), entry.image, spoken, tuple(lines), outlined=beyond[0])
