"""How well methods predict what training on other pictures does: the paper's tables and curves for this model."""

from __future__ import annotations

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.ui import frame, linked, panels, questions
from dtrak_core.ui.benchmark import detail, findings, known_table, measuring, methods_table

METHODS, FINDINGS, TARGET, AGREEMENT, KNOWN = "Methods", "Findings", "One target", "Agreement", "Known answers"

dataset, checkpoint = frame.require_model("Benchmark", "There is no model yet whose attributions could be measured.")
st.write("Which method best predicts how the model would change if it had learned from other pictures?")
panels.announce(("lds", "benchmark"), "Computed.")
question = questions.ask(dataset, checkpoint)
state = measuring.under_way(checkpoint)
if question is not None:
    known, measured = question.known, question.measured
    some = measured.learned
    whole = "the training set" if some is None else f"the {counted(some, 'picture')} that it has learned from"
    parts = counted(len(known.subsets), "random part")
    st.caption(
        f"Linear datamodeling score (LDS): the model was trained again on {parts}, each {100 * measured.share:.0f} % "
        f"of {whole}, {counted(known.done, 'training')} in all. A method's scores, added up over a part, predict each "
        "target's loss; the LDS is the rank correlation with the measured loss, 1 at best."
    )
if state is not None:
    measuring.follow(state)
more = st.expander(
    "Train more models", question is None and state is None, key="train-more", on_change="rerun", icon=":material/add:"
)
if more.open:
    with more:
        measuring.form(dataset, checkpoint, question.measured if question else None)
drawn = {
    METHODS: methods_table.show,
    FINDINGS: findings.show,
    TARGET: detail.one_target,
    AGREEMENT: detail.agreeing,
}
tabs = linked.bound(st.tabs, [*(drawn if question is not None else ()), KNOWN], key="part", on_change="rerun")
if question is not None:
    for tab, draw in zip(tabs[:-1], drawn.values(), strict=True):
        if tab.open:
            with tab:
                draw(question)
if tabs[-1].open:
    with tabs[-1]:
        known_table.show(dataset, checkpoint, question)
if question is not None:
    questions.provenance(question)
