"""The opening of Overview: one generated picture, the training pictures behind it by D-TRAK and by TRAK."""

from __future__ import annotations

import streamlit as st

from dtrak_core import program
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import methods
from dtrak_core.methods.results import Ranking
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import address, answers, frame, gallery, named, panels, picking, rows, tuning
from dtrak_core.ui.answers import Question

METHODS = ("d-trak", "trak")
COLUMNS = 8
OTHERS = 16  # pictures to choose another target from


def show(dataset: Dataset, checkpoint: Checkpoint) -> list[Ranking]:
    """Draw the answer for one picture; return its rankings, empty where there is none yet."""
    drawn = picking.drawn(checkpoint)
    if not drawn:
        panels.nothing("This model has not drawn a picture yet.", frame.GENERATE, "Draw some")
        return []
    shown = picking.current(dataset, checkpoint, named.sampled(checkpoint))
    if shown is None:
        return []
    st.write(
        f"A small diffusion model drew the large picture. It had learned from {len(dataset.train.rows):,} "
        "pictures. D-TRAK and TRAK name those that helped this one most, the strongest first. Click any of them."
    )
    ranks = {method: tuning.usual_rank(methods.METHODS[method], checkpoint) for method in METHODS}
    answer = answers.ask(Question(dataset, checkpoint, shown), METHODS, ranks)
    listed = [rows.row(found, dataset, (COLUMNS, 0), note=False) for found in answer.rankings]
    label = f"Training pictures behind {shown.caption or shown.id}"
    link = named.leading(frame.ATTRIBUTION, shown)
    opened = {p.key: rows.parse(p.key, METHODS) for row in listed for p in row.proponents}
    views = {rows.TARGET: link} | {key: link | {"example": str(to[1])} for key, to in opened.items() if to}
    gallery.figure(
        "showcase", label, rows.target(shown), listed, (COLUMNS, 0), ways=gallery.Ways(frame.ATTRIBUTION, views)
    )
    if answer.missing:
        lacking = " and ".join(methods.METHODS[method].label for method in answer.missing)
        st.info(f"What {lacking} names for this picture has not been computed yet. Attribution offers to do it.")
    st.page_link(frame.ATTRIBUTION, label="Look closer at this picture", icon=":material/search:", query_params=link)
    st.caption("Or choose another picture that the model drew:")
    listed_first = sorted(drawn, key=lambda t: t.id != named.FIRST)[:OTHERS]
    pictures = [gallery.Picture(t.mark, t.image, f"Show the picture of {t.caption}") for t in listed_first]
    chosen = gallery.grid("others", "Other generated pictures", pictures, chosen=shown.mark, cell=40, action="choose")
    if chosen and chosen != shown.mark:
        named.choose(next(t for t in listed_first if t.mark == chosen))
        st.rerun()
    return list(answer.rankings)


def next_steps(trained: bool) -> None:
    """Draw the things one can do now, each with a link."""
    with st.container(border=True):
        if trained:
            st.page_link(
                frame.ATTRIBUTION, label="Explain a picture, method by method", icon=":material/account_tree:",
                query_params=address.leading(frame.ATTRIBUTION),
            )  # fmt: skip
            st.page_link(
                frame.GENERATE, label="Let the model draw new pictures", icon=":material/draw:",
                query_params=address.leading(frame.GENERATE) | {"tab": "Draw pictures"},
            )  # fmt: skip
        st.page_link(
            frame.GENERATE,
            label="Train a model of your own",
            icon=":material/model_training:",
            query_params=address.view() | {"tab": "Train a model"},
        )
        own = st.expander("Use your own pictures", key="own", on_change="rerun", icon=":material/folder_open:")
        if own.open:
            own.write(
                "A folder of pictures, a zip of one, or an .npz file becomes a dataset. It then stands in the sidebar."
            )
            own.code(program.command("dataset --name mine --source path/to/pictures"), language="bash")
