"""Training a model: the form, the cost before the button is pressed, the job."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted, duration, size
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import is_grey
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import ProbeJob, TrainJob
from dtrak_core.models import bases, checkpoints
from dtrak_core.models.class_names import listed
from dtrak_core.models.precision import resolved
from dtrak_core.models.settings import Frozen, Layers, LoraSettings, Prediction, TrainSettings
from dtrak_core.settings import build
from dtrak_core.training import presets
from dtrak_core.ui import frame, panels
from dtrak_core.ui.generate import live

PREDICTIONS: dict[Prediction, str] = {"noise": "noise", "sample": "clean picture", "v": "v", "flow": "flow"}
LAYERS: dict[Layers, str] = {"attention": "attention", "all": "all"}
FROZEN: dict[Frozen, str] = {"stored": "as stored", "int8": "8 bits", "nf4": "4 bits"}
BUSY = 0.7  # cores that other work kept busy, from which a measurement says so


def form(dataset: Dataset) -> None:
    """Draw the choice of model and length, what they cost here, and the button."""
    count, size = len(dataset.train.rows), dataset.settings.resolution
    st.write(f"The model learns from the {count:,} training pictures of {panels.plain(dataset.name)}.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = list(presets.PRESETS)
        usual_preset = options.index(presets.USUAL.get(dataset.settings.kind, "demo"))
        preset = st.selectbox("Model", options, usual_preset, key=f"train-preset-{dataset.settings.kind}", width=150)
        base = _base(size) if presets.PRESETS[preset].model is None else ""
        if base is None:
            return
        usual = presets.train_settings(preset, dataset.digest, base)
        predicted, sees, form = _prediction(preset, usual), _seen(dataset, usual), _frozen(usual)
        layers = _layers(usual, base)
        epochs = st.number_input(
            "Epochs",
            1,
            100_000,
            usual.epochs,
            key=f"train-epochs-{preset}",
            width=140,
            help="How often the model sees every picture. More gives better pictures and takes longer.",
        )
        seed = st.number_input(
            "Training seed", 0, 2**31 - 1, 42, key="train-seed", width=150, help="Another seed gives another model."
        )
        parts = (preset, predicted, *sees, form if form != "stored" else "", "all" if layers == "all" else "", seed)
        called = "-".join(str(part) for part in parts if part not in ("", None))
        name = st.text_input("Name", called, max_chars=40, key=f"train-name-{called}", width=220)
    st.caption(presets.PRESETS[preset].summary)
    asked = {"epochs": int(epochs), "train_seed": int(seed)}
    how = (predicted, sees, resolved("auto"), form, layers)
    settings = presets.train_settings(preset, dataset.digest, base, *how, **asked)
    probe = ProbeJob(model=settings.model, resolution=size, batch_size=settings.batch_size)
    known = presets.probes(probe.model, probe.resolution, probe.batch_size)
    again = probe.model_copy(update={"number": presets.next_probe(known)})
    measured = known[-1] if known else None
    _tell(settings, count, measured)
    problem = _problem(name, dataset)
    if problem and name != _just_trained(dataset):
        st.error(problem)
    with st.container(horizontal=True):
        st.button(
            "Train",
            icon=":material/model_training:",
            disabled=bool(problem),
            on_click=_train,
            args=(settings, name),
        )
        label = "Measure the cost of a training step"
        word = "Estimate the cost" if measured is None else "Measure again"
        st.button(word, icon=":material/timer:", on_click=panels.start, args=(again, label))
    panels.follow(jobs.key_of_job(again))
    _training(dataset)


def _prediction(preset: str, usual: TrainSettings) -> Prediction | None:
    """Draw the choice of what a network of pixels predicts; return it where it is not the preset's own."""
    if isinstance(usual.model, LoraSettings):
        return None
    chosen = st.selectbox(
        "Predicts",
        list(PREDICTIONS),
        list(PREDICTIONS).index(usual.model.prediction),
        format_func=PREDICTIONS.get,
        key=f"train-prediction-{preset}",
        width=150,
        help="What the network puts out. The paper's networks predict the noise; a small one with many pixels does "
        "better with the clean picture. Flow is the way from picture to noise, as in Stable Diffusion 3 and Flux.",
    )
    return None if chosen == usual.model.prediction else chosen


def _frozen(usual: TrainSettings) -> Frozen:
    """Draw the choice of how the frozen weights under LoRA weights are held."""
    if not isinstance(usual.model, LoraSettings):
        return "stored"
    return st.selectbox(
        "Frozen weights",
        list(FROZEN),
        format_func=FROZEN.get,
        key="train-frozen",
        width=140,
        help="How the weights of the base's linear layers are held. In 8 or 4 bits a large base fits a smaller GPU; "
        "training and features then use slightly different weights.",
    )


def _layers(usual: TrainSettings, base: str) -> Layers:
    """Draw the choice of the layers that LoRA weights go to, where the base has others than its attention's."""
    if not isinstance(usual.model, LoraSettings) or not bases.has_blocks(base):
        return "attention"
    return st.selectbox(
        "Layers",
        list(LAYERS),
        format_func=LAYERS.get,
        key="train-layers",
        width=130,
        help="What LoRA weights change: the attention alone, as in the paper, or all layers of the network's blocks, "
        "which take in more of a small set and take longer.",
    )


def _seen(dataset: Dataset, usual: TrainSettings) -> dict[str, Any]:
    """Draw the choice of what a network of pixels sees, where there is one: classes of labels, grey pictures."""
    if isinstance(usual.model, LoraSettings):
        return {}
    names = panels.plain(listed(dataset.classes))
    classes = len(dataset.classes) > 1 and st.checkbox(
        "Class-conditional",
        key=f"train-classes-{dataset.digest}",
        help=f"The network is told each picture's label ({names}), and draws pictures of a class.",
    )
    grey = is_grey(dataset.train.images[:64]) and st.checkbox(
        "Grey", key=f"train-grey-{dataset.digest}", help="The network sees one colour instead of three."
    )
    return presets.seen(dataset, classes, grey)


def _base(size: int) -> str | None:
    """Draw the choice of the text-to-image model that LoRA weights are trained on; return its digest, None without.

    Those that draw pictures of another size are not offered, which is said.
    """
    known = bases.listing()
    names = {base.digest: f"{base.name}, {base.resolution} px" for base in known if base.resolution == size}
    if names:
        others = [base for base in known if base.resolution != size]
        told = f"Not offered: {', '.join(f'{base.name}, {base.resolution} px' for base in others)}. " if others else ""
        told += f"The pictures here have {size} px."
        return str(st.selectbox("Base", list(names), format_func=names.get, key="train-base", width=200, help=told))
    if known:
        st.info(panels.plain(bases.none_fits(known, size)))
    else:
        st.info(f"LoRA weights need a text-to-image base, and there is none here yet. {panels.plain(bases.GET_ONE)}.")
    frame.link(frame.ADD_MODEL, "Add a base", ":material/add:")
    return None


def _training(dataset: Dataset) -> None:
    """Show the training that goes on, or offer the model that this session has just trained."""
    panels.announce(("train",), "The model is trained.")
    job = panels.newest("train", dataset.digest)
    if job is not None:
        st.session_state["_trained"] = job.key
        panels.follow(job.key, lambda: live.show(job.key))
    elif (trained := _just_trained(dataset)) is not None:
        label = f"Use '{panels.plain(trained)}'"
        st.button(label, on_click=_use, args=(trained,), icon=":material/arrow_forward:")


def _just_trained(dataset: Dataset) -> str | None:
    """Return the name of the model that this session has trained last, None if that is not of this dataset."""
    key = st.session_state.get("_trained")
    if not key or jobs.state(key).state != "done":
        return None
    trained = jobs.job_of(key)
    return trained.name if isinstance(trained, TrainJob) and trained.train.dataset == dataset.digest else None


def _tell(settings: TrainSettings, count: int, measured: store.Artifact | None) -> None:
    if measured is None:
        st.info(
            "How long this takes and how much disk has not been measured on this machine. 'Estimate the cost' needs a "
            "few seconds."
        )
        return
    each, load = measured.manifest["seconds_per_picture_step"], measured.manifest.get("load", 0.0)
    busy = (
        f" Measured while other work kept {load:g} cores busy: measure again when it has ended." if load >= BUSY else ""
    )
    low, high = (
        duration(one * settings.epochs * count) for one in measured.manifest.get("seconds_between", [each] * 2)
    )
    long = f"{low} to {high}, the middle half of the steps measured," if low != high else f"About {low}"
    parameters = measured.manifest.get("parameters")  # of probes before they were counted, it is not known
    disk = f" {size(presets.disk(settings, parameters, count))} on disk." if parameters else ""
    st.info(
        f"{long} on this machine: {counted(settings.epochs, 'epoch')} of "
        f"{counted(count, 'picture')} at {1000 * each:.1f} ms each.{disk}{busy} You can close the page meanwhile, "
        "or cancel and resume."
    )


def _problem(name: str, dataset: Dataset) -> str:
    known = {one.name for one in checkpoints.listing(dataset.digest)}
    return panels.name_problem(name, "checkpoint", known, "demo-42")


def _train(settings: TrainSettings, name: str) -> None:
    with panels.noted("train"):
        panels.submit(
            build(TrainJob, train=settings, name=name), f"Train {name} for {counted(settings.epochs, 'epoch')}"
        )


def _use(name: str) -> None:
    st.session_state["checkpoint"] = name
    st.session_state["tab"] = "Draw pictures"
