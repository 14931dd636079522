"""The opening of Overview: one generated picture, the training pictures behind it by D-TRAK and by TRAK."""

from __future__ import annotations

import streamlit as st

from dtrak_core import checkpoints, datasets, methods, program, targets
from dtrak_core.checkpoints import Checkpoint
from dtrak_core.datasets import Dataset
from dtrak_core.results import Ranking
from dtrak_core.settings import DatasetSettings
from dtrak_core.ui import address, answers, frame, gallery, panels, picking, rows, tuning
from dtrak_core.ui.answers import Question

METHODS = ("d-trak", "trak")
COLUMNS = 8
OTHERS = 16  # pictures to choose another target from


def show(dataset: Dataset, checkpoint: Checkpoint) -> list[Ranking]:
    """Draw the answer for one picture; return its rankings, empty where there is none yet."""
    drawn = targets.samples(checkpoint.digest)
    if not drawn:
        panels.nothing("This model has not drawn a picture yet.", frame.GENERATE, "Draw some")
        return []
    shown = picking.current(dataset, checkpoint, frame.how(checkpoint))
    if shown is None:
        return []
    st.write(
        f"A small diffusion model drew the large picture. It had learned from {len(dataset.train.rows):,} "
        "pictures. D-TRAK and TRAK name those that helped this one most, the strongest first. Click any of them."
    )
    ranks = {method: tuning.usual_rank(methods.METHODS[method], checkpoint) for method in METHODS}
    answer = answers.ask(Question(dataset, checkpoint, shown), METHODS, ranks)
    listed = [rows.row(found, dataset, (COLUMNS, 0), note=False) for found in answer.found]
    label = f"Training pictures behind {shown.caption or shown.id}"
    clicked = gallery.figure("showcase", label, rows.target(shown), listed, (COLUMNS, 0))
    if clicked:
        opened = rows.parse(clicked, METHODS)
        frame.to_attribution(shown, example=opened[1] if opened else None)
    if answer.missing:
        st.info("The training pictures behind this one have not been computed yet. Attribution offers to do it.")
    link = frame.view_of(shown)
    st.page_link(frame.ATTRIBUTION, label="Look closer at this picture", icon=":material/search:", query_params=link)
    st.caption("Or choose another picture that the model drew:")
    listed_first = sorted(drawn, key=lambda t: t.id != picking.FIRST)[:OTHERS]
    pictures = [gallery.Picture(t.mark, t.image, f"Show the picture of {t.caption}") for t in listed_first]
    chosen = gallery.grid("others", "Other generated pictures", pictures, chosen=shown.mark, cell=40, action="choose")
    if chosen and chosen != shown.mark:
        frame.choose_target(next(t for t in listed_first if t.mark == chosen))
        st.rerun()
    return list(answer.found)


def no_model(dataset: Dataset) -> None:
    """Say that no model has learned from these pictures, and of models of the dataset why they are not shown."""
    of_name = [c for c in checkpoints.listing() if c.run.manifest.get("dataset_name") == dataset.name]
    names = " and ".join(dict.fromkeys(f"'{panels.plain(c.name)}'" for c in of_name if c.share == 100))
    if any(c.run.shipped for c in of_name) and _as_shipped(dataset.settings):
        st.warning(
            "There is a model of these pictures, but they came out differently on this machine than those it learned "
            "from. Its results would not fit and are not shown. Rebuild them with 'make demo', or train a model here."
        )
    elif of_name:
        st.warning(
            f"The dataset '{panels.plain(dataset.name)}' has changed since {names} learned from it: pictures, labels, "
            "captions or their size in pixels are others now. Results would not fit and are not shown. Train again, "
            "prepare the dataset again as it was, or choose another dataset."
        )
    panels.nothing("No model has learned from these pictures yet.", frame.GENERATE, "Train one")


def _as_shipped(settings: DatasetSettings) -> bool:
    return settings.kind.startswith("openmoji") and settings.resolution == datasets.RESOLUTIONS[settings.kind]


def next_steps(trained: bool) -> None:
    """Draw the things one can do now, each with a link."""
    with st.container(border=True):
        if trained:
            st.page_link(frame.ATTRIBUTION, label="Explain a picture, method by method", icon=":material/account_tree:")
            st.page_link(frame.GENERATE, label="Let the model draw new pictures", icon=":material/draw:")
        st.page_link(
            frame.GENERATE,
            label="Train a model of your own",
            icon=":material/model_training:",
            query_params=address.view() | {"tab": "Train a model"},
        )
        with st.expander("Use your own pictures", icon=":material/folder_open:"):
            st.write(
                "A folder of pictures, a zip of one, or an .npz file becomes a dataset. It then stands in the sidebar."
            )
            st.code(program.command("dataset --name mine --source path/to/pictures"), language="bash")
