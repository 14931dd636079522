"""All training pictures laid out by likeness: coloured, searched, chosen by a loop, looked at, removed."""

from __future__ import annotations

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.jobs.question_jobs import MapJob
from dtrak_core.methods import costs, map_sheet, maps
from dtrak_core.ui import computing, example, frame, keeping, linked, panels, plotting, taking
from dtrak_core.ui.map import chosen, colouring, map_chart

DRAG = {"lasso": "Loop", "select": "Box", "zoom": "Zoom"}

selection = frame.require()
dataset, checkpoint = selection.dataset, selection.checkpoint
st.title("Map")
with st.container(horizontal=True, vertical_alignment="bottom"):
    space = linked.bound(
        st.segmented_control,
        "Pictures near each other are alike in",
        maps.SPACES,
        default="lite0",
        format_func=maps.NAMES.get,
        key="by",
        required=True,
        help="What EfficientNet-Lite0 sees in them, their pixels, or the gradients of the model's own output.",
    )
    shown = colouring.explained(dataset, checkpoint)
    colour = colouring.choice(dataset, shown)
panels.announce(("map", "attribute"), "Computed.")
by = space or "lite0"
if reason := maps.refusal(by, dataset, checkpoint):
    st.info(panels.plain(reason), icon=":material/block:")
    st.stop()
settings = maps.settings_of(by, dataset, checkpoint)
found = maps.find(settings)
if found is None:
    plan = maps.plan_of(by, dataset, checkpoint)
    if plan is not None and plan.missing and checkpoint is not None:
        computing.offer(plan, checkpoint, 0)
    else:
        cost = costs.sentence(maps.cost(dataset, settings))
        before = f"This map is not computed yet: {cost}."
        panels.offer(MapJob(settings=settings), "Compute", f"Map of {dataset.name}", lambda: st.caption(before))
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    wanted = linked.bound(st.text_input, "Find", key="find", placeholder="name, label, contributor", width=260)
    drag = st.segmented_control("Drag to", list(DRAG), default="lasso", format_func=DRAG.get, key="drag", required=True)
    hits = colouring.hits(dataset, wanted)
    if wanted:
        st.button(
            f"Choose {counted(len(hits), 'hit')} of {len(dataset.train.rows):,}",
            icon=":material/select_all:",
            on_click=chosen.take,
            args=(hits,),
            disabled=not hits,
        )
left, right = st.columns([3, 2], gap="medium")
indices = taking.taken(dataset)
with left:
    figure, alt, rings = colouring.figure(found, dataset, colour, shown)
    rings += [map_chart.Ring("hits", f"found: {len(hits):,}", hits), map_chart.Ring("chosen", "chosen", indices)]
    map_chart.ringed(figure, found, rings).update_layout(dragmode=drag or "lasso")
    key = f"map-{by}-{colour}"
    event = plotting.show(figure, key, alt, on_select="rerun", selection_mode=("lasso", "box", "points"))
    chosen.lassoed(key, event)
    st.caption(panels.plain(found.sentence))
with right:
    chosen.show(dataset, checkpoint, indices, shown)
st.header("Keep the map")
keeping.files(map_sheet.Sheet(found, dataset), map_sheet.WRITERS, f"map-{dataset.name}-{by}", "map")
example.show(dataset, [shown.ranking] if shown else [], shown.target if shown else None)
