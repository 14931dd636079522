"""Which stored comparison is shown: chosen by its name, and by the timestep at which its retrained models take over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.counterfactual import comparisons, taking_over
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.ui import address

TAU = "counterfactual-tau"
_OF = "_counterfactual_tau_of"  # the comparison for which the slider stands as it does


def pick(finished: Sequence[Comparison], wanted: str) -> dict[int, Comparison]:
    """Draw the choice of a comparison, put it into the address; return it with those that only take over elsewhere.

    Args:
        finished: All stored ones.
        wanted: Key of the one that the address names, empty for the first.

    Returns:
        The comparisons by timestep, the one to show first.
    """
    heads = taking_over.heads(finished)
    chosen = next((one for one in finished if one.key == wanted), heads[0])
    late = taking_over.kin(chosen, finished)
    if len(heads) > 1:
        named = {one.key: _named(one, taking_over.kin(one, finished)) for one in heads}
        head = next(one for one in heads if one in late.values())
        picked = st.selectbox("Comparison", list(named), list(named).index(head.key), format_func=named.get)
        if picked != head.key:
            chosen = next(one for one in heads if one.key == picked)
            late = taking_over.kin(chosen, finished)
    if st.session_state.get(TAU) not in late or st.session_state.get(_OF) not in [one.key for one in late.values()]:
        st.session_state[TAU] = chosen.settings.take_over
    elif wanted != st.session_state[_OF] and wanted == chosen.key:  # Back, or a link
        st.session_state[TAU] = chosen.settings.take_over
    chosen = late[st.session_state[TAU]]
    st.session_state[_OF] = chosen.key
    address.put({"comparison": chosen.key})
    return {chosen.settings.take_over: chosen} | late


def _named(one: Comparison, late: Mapping[int, Comparison]) -> str:
    """Return the line by which a comparison is chosen; several that only take over elsewhere are one."""
    levels = f", τ from {min(late)} to {max(late):,}" if len(late) > 1 else ""
    return f"{one.name}: {counted(len(one.originals), 'target')}, {comparisons.taken(one)} removed{levels}"


def slider(late: Mapping[int, Comparison]) -> None:
    """Draw the choice of the timestep at which the retrained model takes over, among those that are stored."""
    st.select_slider(
        "Taking over at timestep τ, of 1,000",
        sorted(late),
        key=TAU,
        help="The trainings are the same at every τ; only the drawing differs.",
    )
    st.caption(
        "Above τ the original model draws, below it the retrained one goes on: at 1,000 it draws all, and the lower τ, "
        "the more of the composition stays and only details answer."
    )
