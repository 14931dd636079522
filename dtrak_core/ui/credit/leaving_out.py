"""Credit checked: what scores predict for whole groups, beside what training without them has changed."""

from __future__ import annotations

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.methods.credit_sheet import Sheet
from dtrak_core.methods.results import NOT_GIVEN
from dtrak_core.ui import address, frame, panels, plotting
from dtrak_core.ui.credit import credit_charts


def show(sheet: Sheet) -> None:
    """Say what leaving groups out has shown, or that nobody has tried yet, and lead to where it is tried."""
    st.header("Checked by leaving out")
    checked = sheet.checked
    st.write(panels.plain(checked["sentence"]))
    if checked["groups"]:
        groups = counted(len(checked["groups"]), "group")
        alt = f"Predicted and measured change of the loss for each picture, without {groups}. {checked['sentence']}"
        plotting.show(credit_charts.left_out(checked["groups"], checked["random"]), key="credit-left-out", alt=alt)
        rows = [
            {
                "Left out": row["name"],
                "Pictures": row["pictures"],
                "Predicted, each": row["predicted_each"],
                "Measured, each": row["measured_each"],
                "Predicted, all": row["predicted"],
                "Measured, all": row["measured"],
                "Models": row["models"],
                "Targets": row["targets"],
            }
            for row in checked["groups"]
        ]
        with st.expander("In numbers"):
            st.dataframe(rows, hide_index=True, alt=f"Predicted and measured change of the loss without {groups}")
        st.caption(
            "Measured: how much worse models that were trained without a group denoise the generated pictures, less "
            "what another training seed alone does. Every model counts once. Compared is the change for each picture "
            "left out (each), as that of a whole group (all) grows with its number of pictures, whoever made them."
        )
    who = st.session_state.get("who", "")
    if sheet.credit.by == "contributor" and who and who != NOT_GIVEN:
        st.page_link(
            frame.COUNTERFACTUAL,
            label=f"Train without {panels.plain(who)} and compare",
            icon=":material/compare:",
            query_params=address.leading(frame.COUNTERFACTUAL) | {"without": who},
        )
