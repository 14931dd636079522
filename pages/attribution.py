"""The paper's figure made alive: a target, and for each method the training pictures that helped or hindered it."""

from __future__ import annotations

import streamlit as st

from dtrak_core.models import checkpoints
from dtrak_core.ui import answers, example, frame, gallery, named, panels, picking, rows, tuning, what_if
from dtrak_core.ui.attribution import certainty_panel, compute, details, method_lines
from dtrak_core.ui.leads import FADERS

METHODS = "choice-of-methods"

dataset, checkpoint = frame.require_model("Attribution", "There is no model yet whose pictures could be explained.")

sampled = named.sampled(checkpoint)
target = picking.current(dataset, checkpoint, sampled)
if target is None:
    panels.nothing("There is no picture to explain yet.", frame.GENERATE, "Draw some")
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    source = picking.source(target)
    choice = st.popover("Methods", icon=":material/list:", key=METHODS, on_change="rerun")
    with choice, st.container(width=560):
        methods = tuning.methods()
    with st.popover("Rows and features", icon=":material/tune:"):
        counts = tuning.counts()
        families = tuning.families(dataset)
        changes = tuning.changes(dataset, checkpoint)
        output = tuning.model_output()
picking.choose(source, dataset, checkpoint, sampled, target)

place = st.container()
ranks = tuning.ranks(methods, checkpoint, len(dataset.train.rows))
question = answers.Question(dataset, checkpoint, target, changes, output)
answer = answers.ask(question, methods, ranks)
if choice.open:
    with choice, st.container(width=560):
        method_lines.show(question)
with place:
    asked = {method: question.method(method) for method in methods}
    ready = {
        one.method: rows.row(one, dataset, counts, about=asked[one.method].summary, families=families)
        for one in answer.rankings
    }
    listed = [ready.get(name) or rows.waiting(one.label) for name, one in asked.items() if name not in answer.refused]
    label = f"Training pictures behind {target.caption or target.id}"
    clicked = gallery.figure("figure", label, rows.target(target), listed, counts, focus=example.focus())
    with st.container(horizontal=True):
        what_if.link(target, list(ready), counts[0])
        frame.link(frame.MAP, "See on the map", ":material/scatter_plot:", **({"colour": "Score"} if ready else {}))
    if note := checkpoints.unlearned(checkpoint, len(dataset.train.rows)):
        st.info(panels.plain(note))
    compute.panel(question, answer)
    certainty_panel.panel(question, answer.rankings, st.session_state.get("details") == FADERS)
if answer.rankings:
    details.tabs(question, answer.rankings, counts, families)
    details.provenance(question, answer.rankings)

if clicked == rows.TARGET:
    example.show_target(target)
else:
    example.open_at(clicked, methods)
    example.show(dataset, answer.rankings, target)
