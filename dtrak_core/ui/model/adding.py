"""Adding a model: what it is, what it goes with, the job that takes it in."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import size
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import incoming, jobs
from dtrak_core.jobs.jobs import BaseJob, ImportJob, JobState, LookJob
from dtrak_core.models import bases, checkpoints, looks
from dtrak_core.models.looks import Recognised
from dtrak_core.settings import build
from dtrak_core.ui import bringing, frame, panels

WHAT = "model"
SOURCES = bringing.Asked(
    WHAT,
    "Where is it?",
    {"files": "A file", "path": "A path on this machine", "hub": "On the Hugging Face hub"},
    {
        "files": "LoRA weights with the files that belong to them, or a Stable Diffusion's single file",
        "path": "Folder or file on this machine",
        "hub": "Name on the Hugging Face hub",
    },
    incoming.MODELS,
    several=True,
)
EXAMPLE = "my-model"  # of a name
SIZES = (8, 512)  # pixels a side that a base can be taken in at
_ADDED = "_model-added"


def form(dataset: Dataset | None) -> None:
    """Draw what comes next: choosing a source, or what it is and what becomes of it."""
    st.write(
        "A model made elsewhere: a DDPM or flow of pixels in diffusers' layout, a text-to-image model as a base for "
        "LoRA weights, or LoRA weights themselves. No code in a file is run."
    )
    if bringing.under_way(WHAT, _choose):
        return
    source = looks.meant(bringing.source(WHAT))
    if not source:
        _added()
        bringing.choose(SOURCES)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{panels.plain(Path(source).name if Path(source).is_absolute() else source)}**")
        st.button("Choose another", icon=":material/undo:", on_click=bringing.forget, args=(WHAT,))
    found = _looked(source)
    if found is not None:
        _show(found)
        {"base": _as_base, "pixels": _as_pixels, "lora": _as_lora}[found.takes](source, found, dataset)


def _looked(source: str) -> Recognised | None:
    """Have a source looked at, once; return what it is, None where that is not known yet or was refused."""
    job = build(LookJob, source=source, state=looks.state_of(source))
    key, asked = jobs.key_of_job(job), (bringing.number(WHAT), source)
    if st.session_state.get("_model-asked") != asked:
        if not panels.started(job, f"Look at '{Path(source).name}'"):
            return None
        st.session_state["_model-asked"] = asked
    if (refused := jobs.state(key)).state == "failed":
        st.error(panels.plain(refused.message), icon=":material/error:")
        return None
    state = panels.follow(key)
    return looks.read(store.get(*state.artifacts[0])) if state.state == "done" else None


def _show(found: Recognised) -> None:
    """Say what it is, and what its files leave open."""
    lines = (f"**{heading.capitalize()}** {panels.plain(words)}" for heading, words in found.facts.items())
    st.markdown("  \n".join(lines))
    if found.assumed:
        st.caption(f"What its files leave open is assumed: {panels.plain('; '.join(found.assumed))}.")


def _as_base(source: str, found: Recognised, dataset: Dataset | None) -> None:
    low, high = SIZES
    usual = dataset.settings.resolution if dataset is not None and not found.side else found.side
    with st.container(horizontal=True, vertical_alignment="bottom"):
        side = st.number_input(
            "Size in pixels",
            low,
            high,
            min(max(usual, low), high),
            key=f"model-size-{bringing.number(WHAT)}",
            width=160,
            help="Side of its pictures, that of the datasets that LoRA weights learn from. At another size than its "
            "own a model draws worse.",
        )
        name = _named(source)
    own = int(side) if int(side) != found.side else 0
    copied = f"takes about {size(found.disk)} in the cache" if found.disk else "its files stay where they are"
    st.caption(f"Every part is opened and one picture sent through all of them; {copied}.")
    problem = panels.name_problem(name, "base", {base.name for base in bases.listing()}, EXAMPLE)
    _button(BaseJob, problem, name, source=source, resolution=own)


def _as_pixels(source: str, found: Recognised, dataset: Dataset | None) -> None:
    if dataset is None:
        st.info("Choose the dataset that it learned from in the sidebar first.")
        return
    st.write(f"It becomes a model of the dataset **{panels.plain(dataset.name)}**, chosen in the sidebar.")
    has, unfit = dataset.settings.resolution, ""
    if found.side not in (0, has):
        unfit = (
            f"It draws {found.side} pixels a side; the pictures of this dataset have {has}. Choose a dataset of "
            f"{found.side} pixels in the sidebar, or prepare one."
        )
    _take_in(source, found, dataset, "", unfit)


def _as_lora(source: str, found: Recognised, dataset: Dataset | None) -> None:
    if dataset is None:
        st.info("Choose the dataset that these weights learned from in the sidebar first.")
        return
    known, resolution = bases.listing(), dataset.settings.resolution
    fitting = {base.digest: f"{base.name}, {base.resolution} px" for base in known if base.resolution == resolution}
    if not fitting:
        why = (
            bases.none_fits(known, resolution) if known else "LoRA weights need their base, and there is none here yet."
        )
        st.info(f"{panels.plain(why)} Bases are added on this page too.")
        return
    st.write(f"They become a model of the dataset **{panels.plain(dataset.name)}**, chosen in the sidebar.")
    title = "Base that they were trained on"
    base = st.selectbox(title, list(fitting), format_func=fitting.get, key="model-base", width=320)
    _take_in(source, found, dataset, base)


def _take_in(source: str, found: Recognised, dataset: Dataset, base: str, unfit: str = "") -> None:
    name = _named(source)
    if found.disk:
        st.caption(f"Its weights are stored again, without code: about {size(found.disk)} in the cache.")
    known = {one.name for one in checkpoints.listing(dataset.digest)}
    problem = unfit or panels.name_problem(name, "checkpoint", known, EXAMPLE)
    _button(ImportJob, problem, name, source=source, dataset=dataset.digest, base=base)


def _named(source: str) -> str:
    plain = re.sub(r"[^a-z0-9._-]+", "-", Path(source).name.lower()).strip("._-")
    plain = re.sub(r"[.](safetensors|ckpt|bin|pt)$", "", plain)[:40] or "model"
    return st.text_input("Name", plain, max_chars=40, key=f"model-name-{bringing.number(WHAT)}", width=260)


def _button(kind: type[BaseJob] | type[ImportJob], problem: str, name: str, **told: object) -> None:
    if problem:
        st.error(problem)
    st.button(
        "Take it in", icon=":material/download_done:", disabled=bool(problem), on_click=_start,
        args=(kind, name, told),
    )  # fmt: skip


def _start(kind: type[BaseJob] | type[ImportJob], name: str, told: dict[str, object]) -> None:
    with panels.noted("take in a model"):
        job = build(kind, name=name, **told)
        bringing.begin(WHAT, job, f"Add '{name}'")


def _choose(state: JobState) -> None:
    """Choose the model that was taken in."""
    job = jobs.job_of(state.key)
    if isinstance(job, (BaseJob, ImportJob)):
        st.session_state[_ADDED] = (job.name, job.kind)
        if isinstance(job, ImportJob):
            frame.choose_next(checkpoint=job.name)


def _added() -> None:
    """Say what was added last, and what can be done with it."""
    name, kind = st.session_state.get(_ADDED, ("", ""))
    if not name:
        return
    if kind == "base":
        st.success(
            f"'{panels.plain(name)}' is ready: LoRA weights can be trained on it, or added for it.",
            icon=":material/check:",
        )
        frame.link(frame.GENERATE, "Train LoRA weights on it", ":material/model_training:", tab="Train a model")
        return
    st.success(f"'{panels.plain(name)}' is taken in and chosen in the sidebar.", icon=":material/check:")
    frame.link(frame.GENERATE, "Draw pictures with it", ":material/draw:")
