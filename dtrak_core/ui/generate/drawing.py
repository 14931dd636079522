"""Drawing pictures from seeds: what is to be drawn and its cost, the job, and the pictures as they appear."""

from __future__ import annotations

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import job_costs
from dtrak_core.jobs.jobs import SampleJob
from dtrak_core.methods import costs
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target
from dtrak_core.settings import build
from dtrak_core.ui import frame, gallery, named, panels

MOST = 64  # pictures a click
PER_PAGE = 64
AT_ONCE = 8  # pictures a batch: they appear this many at a time
GUIDANCE = (1.0, 100.0)  # as Sampled takes it: a model may have drawn with any of it
SAMPLERS = {"ddim": "DDIM: same seed, same path", "ddpm": "DDPM: new noise at every step"}


def form(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Draw the choices, the button that starts the job, and what it costs."""
    st.write("Each seed gives one picture, always the same one. Choose how many to draw.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if checkpoint.prompted:
            _prompts(checkpoint, dataset)
        st.number_input("Pictures", 1, MOST, 16, key="draw-count", persist_state="session", width=130)
        st.number_input("First seed", 0, 2**31 - 1 - MOST, 0, key="draw-first", persist_state="session", width=150)
        most = checkpoints.most_steps(checkpoint)
        if checkpoints.process_of(checkpoint)[0] != "flow":  # which has one way, Euler's steps
            st.selectbox(
                "Sampler",
                list(SAMPLERS),
                format_func=SAMPLERS.get,
                key="draw-sampler",
                persist_state="session",
                width=260,
            )
        key, usual = _steps(checkpoint)
        if st.session_state.get(key, most) > most:
            st.session_state[key] = most
        st.number_input(
            "Sampling steps",
            1,
            most,
            min(usual, most),
            key=key,
            persist_state="session",
            width=150,
            help="More steps, finer pictures, longer wait. The paper uses 50 with DDIM and 1,000 with DDPM.",
        )
        st.button("Draw", icon=":material/draw:", on_click=_submit, args=(checkpoint,))
    st.caption(_cost(checkpoint))


def _cost(checkpoint: Checkpoint) -> str:
    """Return in words what the chosen pictures cost, less those that are stored."""
    seeds, chosen = _seeds(), sampled(checkpoint)
    missing = job_costs.undrawn(checkpoint, seeds, chosen)
    if not missing:
        return "All of it is stored: nothing has to be drawn."
    cost = costs.sentence(costs.drawing(checkpoint, missing, chosen))
    if missing == len(seeds):
        return f"{counted(missing, 'picture')}: {cost}."
    return f"{len(seeds) - missing} of {counted(len(seeds), 'picture')} are stored. The others: {cost}."


def sampled(checkpoint: Checkpoint) -> Sampled:
    """Return the sampler that is chosen, and the prompts or classes of a model that has some."""
    state = st.session_state
    key, own = _steps(checkpoint)
    flow = checkpoints.process_of(checkpoint)[0] == "flow"  # the session may hold how another model was drawn
    usual = {
        "sampler": "ddim" if flow else state.get("draw-sampler", "ddim"),
        "sampling_steps": min(int(state.get(key, own)), checkpoints.most_steps(checkpoint)),
    }
    if not checkpoint.prompted:  # prompts of another model may still be in the session
        return Sampled(**usual)
    if checkpoint.classes:
        known = checkpoint.classes
        named = tuple(name for name in state.get(f"draw-classes-{checkpoint.digest}", ()) if name in known)
        chosen = named or known[: targets.MOST_CLASSES]
        guidance = float(state.get(f"draw-guidance-{checkpoint.digest}", 1)) if checkpoint.guided else 1.0
        return Sampled(**usual, prompts=chosen, guidance=guidance)
    prompts = tuple(line.strip() for line in str(state.get("draw-prompts", "")).splitlines() if line.strip())
    return Sampled(**usual, prompts=prompts, guidance=float(state.get(f"draw-guidance-{checkpoint.base}", 7.5)))


def _steps(checkpoint: Checkpoint) -> tuple[str, int]:
    """Return where the session keeps the sampling steps, and how many are usual: text-to-image bases have their own."""
    if not checkpoint.base:
        return "draw-steps", Sampled().sampling_steps
    return f"draw-steps-{checkpoint.base}", targets.own_way(checkpoint.digest).sampling_steps


def _prompts(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Draw the fields of a text-to-image model, or of a class-conditional one."""
    usual = targets.way_of(checkpoint, dataset.train) if checkpoint.classes else targets.usual(checkpoint.digest)
    if checkpoint.classes:
        first = [name for name in dict.fromkeys(usual.prompts) if name in checkpoint.classes]
        st.multiselect(
            "Classes",
            checkpoint.classes,
            first or checkpoint.classes[: targets.MOST_CLASSES],
            key=f"draw-classes-{checkpoint.digest}",
            persist_state="session",
            width=420,
            help="Seeds take the classes in turn: the first seed the first one, and so on. "
            "If none is chosen, up to 16 of all are drawn.",
        )
        if checkpoint.guided:
            st.number_input(
                "Guidance", *GUIDANCE, usual.guidance, 0.5, key=f"draw-guidance-{checkpoint.digest}",
                persist_state="session", width=140,
                help="How closely the class is followed; 1 takes the model's own prediction.",
            )  # fmt: skip
        return
    st.text_area(
        "Prompts, one a line",
        "\n".join(dict.fromkeys(usual.prompts or dataset.train.examples(4))),
        key="draw-prompts",
        persist_state="session",
        height=100,
        width=420,
        help="Seeds take the lines in turn: the first seed the first one, and so on from the top again.",
    )
    st.number_input(
        "Guidance", *GUIDANCE, usual.guidance, 0.5, key=f"draw-guidance-{checkpoint.base}", persist_state="session",
        width=140,
        help="How closely the prompt is followed; 1 takes the model's own prediction. The paper draws with 7.5.",
    )  # fmt: skip


def results(checkpoint: Checkpoint) -> None:
    """Show the pictures drawn so far, with the progress of the job that draws more; a click explains one."""
    panels.announce(("sample",), "The pictures are drawn.")
    job = panels.newest("sample", checkpoint.digest)
    if job is not None:
        before = _stored()

        def grown() -> None:
            if _stored() > before:  # the pictures are drawn anew only where there are more
                st.rerun()

        panels.follow(job.key, grown)
    _pictures(checkpoint)


def _stored() -> int:
    """Return how many generated pictures are stored, of whatever model, without opening one."""
    return sum(entry.suffix == "" for entry in store.entries(store.root() / "samples"))


def _pictures(checkpoint: Checkpoint) -> None:
    chosen = sampled(checkpoint)
    found = targets.samples(checkpoint.digest, chosen.model_copy(update={"prompts": ()}))
    if not found:
        st.info("Nothing has been drawn with these settings yet. Press 'Draw'.")
        return
    st.caption(f"{counted(len(found), 'picture')}. Click one to see which training pictures made it.")
    # Those that are chosen above stand first: they are what was just asked for.
    found.sort(key=lambda t: not _asked(t, chosen))
    shown = gallery.page(found, "drawn-page", most=PER_PAGE)
    pictures = [gallery.Picture(t.mark, t.image, f"Explain the picture of {t.caption}", _under(t)) for t in shown]
    ways = gallery.Ways(frame.ATTRIBUTION, {t.mark: named.leading(frame.ATTRIBUTION, t) for t in shown})
    gallery.grid("drawn", "Generated pictures", pictures, cell=80, ways=ways)


def _under(drawn: Target) -> tuple[str, ...]:
    """Return what stands under a picture: its seed, and its prompt where it has one."""
    seed = drawn.id.replace(":", " ")
    return (seed, drawn.prompt) if drawn.prompt else (seed,)


def _asked(drawn: Target, chosen: Sampled) -> bool:
    """Say whether a picture is of the seeds and prompts that are chosen."""
    seed = targets.seed_of(drawn.id)
    return seed in _seeds() and drawn.prompt == chosen.prompt_of(seed)


def _seeds() -> range:
    """Return the seeds that are chosen."""
    first = int(st.session_state["draw-first"])
    return range(first, first + int(st.session_state["draw-count"]))


def _submit(checkpoint: Checkpoint) -> None:
    seeds, chosen = _seeds(), sampled(checkpoint)
    with panels.noted("draw"):
        job = build(
            SampleJob,
            checkpoint=checkpoint.digest,
            **chosen.drawing(),
            seeds=tuple(seeds),
            pictures_per_batch=AT_ONCE,
        )
        panels.submit(job, f"Draw {counted(len(seeds), 'picture')} with {checkpoint.name}")
