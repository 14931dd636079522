"""A dataset that is not here yet: what it is, where its pictures come from, and the button that prepares it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dtrak_core.datasets import catalogue, sources
from dtrak_core.datasets.settings import DatasetKind
from dtrak_core.errors import StudioError
from dtrak_core.files import expanded
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import DatasetJob
from dtrak_core.ui import local, panels

ABOUT: dict[DatasetKind, tuple[str, str]] = {
    "openmoji-people": ("Welcome to D-TRAK Studio", "The app starts with 926 portraits from OpenMoji, no two alike."),
    "openmoji-roles": ("OpenMoji roles", "492 portraits of people at work."),
    "emoji-schools": ("Emoji of two schools", "952 emoji: 476 subjects, each as OpenMoji and as Fluent draw it."),
    "cifar2": ("CIFAR-2", "The paper's 5,000 pictures of automobiles and horses, 32 × 32, and 1,000 held out."),
    "cifar10": ("CIFAR-10", "All 50,000 training pictures of ten classes, 32 × 32, and 1,000 held out."),
    "celeba": ("CelebA", "The paper's 5,000 faces, 64 × 64, and 1,000 held out."),
    "artbench2": ("ArtBench-2", "The paper's 5,000 paintings of two styles, 256 × 256, and 1,000 held out."),
    "artbench5": ("ArtBench-5", "The paper's 12,500 paintings of five styles, 256 × 256, and 1,000 held out."),
}
FROM = {
    "openmoji-people": "They are drawn on this machine, without a network.",
    "openmoji-roles": "They are drawn on this machine, without a network.",
    "emoji-schools": "They come with the app.",
    "cifar2": "They are downloaded once from the home of CIFAR-10 (170 MB).",
    "cifar10": "They are downloaded once from the home of CIFAR-10 (170 MB).",
    "celeba": "This needs the folder img_align_celeba with the aligned pictures and list_eval_partition.txt beside it; "
    "without a folder, a download by torchvision is tried.",
    "artbench2": "This needs the folder artbench-10-imagefolder (the 256x256 ImageFolder archive) and ArtBench-10.csv "
    "beside it, both linked from github.com/liaopeiyuan/artbench.",
    "artbench5": "This needs the folder artbench-10-imagefolder (the 256x256 ImageFolder archive) and ArtBench-10.csv "
    "beside it, both linked from github.com/liaopeiyuan/artbench.",
}


def page(name: str, error: StudioError) -> None:
    """Draw the page of a dataset that cannot be opened yet."""
    kind = next((known for known in ABOUT if known == name), None)
    if kind is None:
        st.error(panels.plain(error))
        return
    title, about = ABOUT[kind]
    st.title(title)
    st.write(f"{about} {FROM[kind]}")
    source = ""
    if kind in sources.FROM_FILES:
        if local.here():
            source = st.text_input("Folder on this machine", key=f"source-{kind}", placeholder="/data/…").strip()
        else:
            st.info("Its folder can be named only on the machine that the app runs on.")
        if source and not expanded(source).is_dir():
            st.error(f"There is no folder '{panels.plain(source)}' on the machine that the app runs on.")
            return
    place = str(expanded(source).resolve()) if source else ""
    settings = catalogue.built_in(kind)
    try:
        settings = catalogue.settled(settings, Path(place) if place else None)
    except StudioError as refused:  # said before it is begun; whoever puts it right presses the button
        st.error(panels.plain(refused))
    job = DatasetJob(dataset=settings, source=place)
    state = panels.follow(jobs.key_of_job(job))
    if not state.active:
        label = "Draw the portraits" if kind == catalogue.DEFAULT else "Prepare the pictures"
        needs = kind.startswith("artbench") and not source
        st.button(
            label, icon=":material/download:", disabled=needs, on_click=panels.start, args=(job, f"Prepare {title}"),
            help="Name the folder first." if needs else None,
        )  # fmt: skip
