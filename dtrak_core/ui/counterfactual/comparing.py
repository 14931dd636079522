"""The form of a new comparison: targets, methods, how many to remove; its cost before the click."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.counterfactual import encoders, removal_sets, removals
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import label
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import shortened
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import CounterfactualJob
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.models import descriptions, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.known_facts import FACTS
from dtrak_core.models.settings import DIFFUSION_STEPS, Sampled
from dtrak_core.models.targets import Target
from dtrak_core.settings import build, key_of
from dtrak_core.ui import address, frame, panels, what_if
from dtrak_core.ui.counterfactual import choosing, offering, pairing

GROUPS = {
    "none": "The top pictures themselves",
    "family": "Their whole families",
    "contributor": "All of their contributors' pictures",
    "label": "Their whole labels",
}
TAKE_OVER = (DIFFUSION_STEPS, 700, 500, 300)  # timesteps, of which the page keeps one comparison each
_OTHERS = "Choose another under 'What is removed'."
_PANEL, _LINKED, _OF = "new-comparison", "_cf_linked", "_cf_dataset"
WITHOUT = "without"  # address parameter: whose pictures a link asks to remove
PICTURES = "pictures"  # and which training pictures, by their numbers


def panel(dataset: Dataset, checkpoint: Checkpoint, finished: Sequence[Comparison], opened: bool) -> None:
    """Draw the form in a panel that is open where there is nothing else to see, or where a link fills it in.

    Args:
        dataset: The training set.
        checkpoint: Its model.
        finished: The stored comparisons: one that answers the link already is offered.
        opened: Whether there is nothing else to see.
    """
    names = (WITHOUT, PICTURES, what_if.REMOVE, what_if.BY)
    linked = [st.query_params[name] for name in names if name in st.query_params]
    if linked and (_PANEL not in st.session_state or st.session_state.get(_LINKED) != linked):
        st.session_state[_PANEL] = True
    st.session_state[_LINKED] = linked
    st.session_state.setdefault(_PANEL, opened)
    place = st.expander("A new comparison", key=_PANEL, on_change="rerun", icon=":material/add:")
    if place.open:
        with place:
            if linked:
                _answered(checkpoint, finished)
            form(dataset, checkpoint, finished)


def _answered(checkpoint: Checkpoint, finished: Sequence[Comparison]) -> None:
    """Lead to the picture of a stored comparison that answers what the link asks, whatever the number removed."""
    known = choosing.drawn(checkpoint)
    target = known.get(choosing.asked(checkpoint, known))
    methods = st.query_params.get(what_if.BY, "").split(",")
    for one in finished if target is not None else ():
        own = [e for e in one.entries if e.target == target.id and e.owner == target.id and e.method in methods]
        same = targets.find_sample(removals.sample_of(target.id, one.settings)) if own and target else None
        if same is not None and target is not None and same.pixels == target.pixels:
            who, took = panels.plain(label(own[0].method)), counted(len(own[0].removed), "picture")
            st.page_link(
                frame.COUNTERFACTUAL,
                label=f"Trained already: {who}, {took} removed, in '{panels.plain(one.name)}'",
                icon=":material/compare:",
                query_params=address.view() | {"comparison": one.key, pairing.PAIR: pairing.key_of(own[0])},
            )
            return


def form(dataset: Dataset, checkpoint: Checkpoint, finished: Sequence[Comparison]) -> None:
    """Draw the form whose button starts the job, or leads to the finished comparison that answers it."""
    count = descriptions.learned_from(checkpoint, len(dataset.train.rows))
    drawn = choosing.drawn(checkpoint)
    if not drawn:
        frame.undrawn(checkpoint)
        return
    _fill_in(dataset)  # first: a link that names pictures to remove names the target too
    choosing.fill(checkpoint, drawn, count)
    chosen = choosing.pictures(drawn)
    st.pills(
        "Methods",
        list(METHODS),
        format_func=lambda m: METHODS[m].label,
        selection_mode="multi",
        key=choosing.METHODS_KEY,
        persist_state="session",
        help="Each removes the pictures that it ranks first, at its own usual damping.",
    )
    step = max(1, count // 10)
    st.pills(
        f"Removed, of {count:,}",
        sorted({n for n in (10, 30, step, 2 * step, 3 * step, *st.session_state[choosing.REMOVE_KEY]) if n < count}),
        format_func=lambda k: f"{k} ({k / count:.0%})",
        selection_mode="multi",
        key=choosing.REMOVE_KEY,
        persist_state="session",
        help="Several numbers give a dose-response curve.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _named(dataset, checkpoint)
        _protocol()
    _offer(dataset, checkpoint, chosen, finished)


def _named(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Draw the choice of removals that no method names, and of what goes with the pictures that one names."""
    count = len(dataset.train.rows)
    makers = Counter(name for row in dataset.train.rows if (name := row.get("contributor")))
    facts = [fact for fact in FACTS if any(row.get(fact) for row in dataset.train.rows)]
    if makers:
        st.selectbox(
            "And all pictures of",
            ["", *(name for name, _ in makers.most_common())],
            format_func=lambda name: f"{name} ({makers[name]} of {count})" if name else "Nobody in particular",
            key="cf-maker",
            persist_state="session",
            width=320,
            help="What if this contributor had not taken part? All of a contributor's pictures are one removal.",
        )
    st.text_input(
        "And these pictures",
        key="cf-pictures",
        persist_state="session",
        placeholder="none",
        width=200,
        help="Numbers of training pictures, like 3,17-19: all of them are one removal.",
    )
    if checkpoint.prompted and facts:
        st.pills(
            "And all that share the target's",
            facts,
            selection_mode="multi",
            key="cf-same",
            persist_state="session",
            help="All training pictures of the family, contributor or label that the target's prompt tells.",
        )
    else:  # chosen for another model
        st.session_state["cf-same"] = []
    st.selectbox(
        "What is removed", list(GROUPS), format_func=GROUPS.get, key="cf-group", width=300, persist_state="session"
    )


def _protocol() -> None:
    """Draw the choice of controls and seeds, and of where the retrained models take over."""
    st.number_input(
        "Random draws",
        1,
        10,
        2,
        key="cf-random",
        width=130,
        persist_state="session",
        help="Random removals of each size; more of them make the comparison more certain.",
    )
    st.number_input(
        "Training seeds",
        1,
        10,
        1,
        key="cf-seeds",
        width=150,
        persist_state="session",
        help="Every removal and every control is trained with each of them. None is the original's, so that with "
        "nothing removed they show how far a picture moves by chance.",
    )
    st.selectbox(
        "Taking over at τ",
        TAKE_OVER,
        format_func=lambda timestep: "1,000: all is drawn anew" if timestep == DIFFUSION_STEPS else str(timestep),
        key="cf-take-over",
        width=220,
        persist_state="session",
        help="A timestep of 1,000: above it the original model draws, below it the retrained one goes on. Lower "
        "keeps more of the composition. Another τ needs no further training.",
    )
    st.toggle("Also remove the lowest", value=True, key="cf-bottom", persist_state="session")


def _offer(dataset: Dataset, checkpoint: Checkpoint, chosen: Sequence[Target], finished: Sequence[Comparison]) -> None:
    """Say what the comparison costs, and draw the button that starts it, where enough is chosen."""
    with panels.reported():
        settings = _settings(dataset, checkpoint, chosen, offering.encoder())
        if settings is None:
            st.caption(f"Choose one to {choosing.MOST} targets, a method or contributor, and a number.")
            return
        if offering.led(settings, finished):
            return
        price = offering.price(dataset, checkpoint, settings)
        st.caption(f"{price} The job continues when this page is closed.")
        st.button(
            "Remove, retrain, compare",
            icon=":material/play_arrow:",
            on_click=_submit,
            args=(dataset, checkpoint, chosen),
        )


def _fill_in(dataset: Dataset) -> None:
    """Fill in once what a link asks to remove; the form may change it. Named pictures are asked for without methods."""
    if st.session_state.setdefault(_OF, dataset.digest) != dataset.digest:  # names and numbers were another's
        st.session_state.update({"cf-maker": "", "cf-pictures": "", "cf-same": [], "_cf_fixed": ("", "")})
        st.session_state[_OF] = dataset.digest
    asked = (st.query_params.get(WITHOUT, ""), st.query_params.get(PICTURES, ""))
    if asked == st.session_state.get("_cf_fixed", ("", "")):
        return
    st.session_state["_cf_fixed"] = asked
    if asked[0] in {row.get("contributor") for row in dataset.train.rows}:
        st.session_state["cf-maker"] = asked[0]
    elif asked[0]:
        st.warning(f"No training picture is by '{panels.plain(shortened(asked[0]))}', whom the address names.")
    if asked[1]:
        st.session_state.pop(choosing.OF_KEY, None)
        st.session_state.update({"cf-pictures": asked[1], choosing.METHODS_KEY: [], "cf-maker": ""})


def under_way(checkpoint: Checkpoint) -> CounterfactualSettings | None:
    """Follow the newest comparison that is under way or ended badly; return its settings."""
    for key in panels.announce(("counterfactual",), "The comparison is finished."):
        ended = jobs.job_of(key)
        assert isinstance(ended, CounterfactualJob)
        waited_for = key_of("comparisons", encoders.settled(ended.settings))
        address.put({"comparison": waited_for})
    job = panels.newest("counterfactual", checkpoint.digest)
    if job is None:
        return None
    before = _stored()
    panels.follow(job.key, lambda: st.rerun() if _stored() != before else None)
    asked = jobs.job_of(job.key)
    assert isinstance(asked, CounterfactualJob)
    return asked.settings


def _stored() -> int:
    """Return how many pictures of retrained models there are: when it changes, there is something new to show."""
    folder = store.root() / "outcomes"
    return sum(each.suffix == "" for each in folder.iterdir()) if folder.is_dir() else 0


def _settings(
    dataset: Dataset, checkpoint: Checkpoint, chosen: Sequence[Target], encoder: EmbeddingModel | None = None
) -> CounterfactualSettings | None:
    state = st.session_state
    fixed = [f"{removal_sets.CONTRIBUTOR}{name}" for name in [state.get("cf-maker")] if name]
    fixed += [f"{removal_sets.PICTURES}{numbers}" for numbers in [state.get("cf-pictures", "").strip()] if numbers]
    fixed += [f"{removal_sets.SAME}{fact}" for fact in state.get("cf-same", ())]
    methods, remove = (*state[choosing.METHODS_KEY], *fixed), state[choosing.REMOVE_KEY]
    if not (1 <= len(chosen) <= choosing.MOST and methods and remove):
        return None
    removals.check_group(dataset, state["cf-group"], _OTHERS)  # it may have been chosen for another dataset
    usual = targets.usual(checkpoint.digest) if checkpoint.prompted else Sampled()
    asked = {
        "targets": tuple(target.id for target in chosen),
        "remove": tuple(sorted(remove)),
        "group": state["cf-group"],
        "random_draws": state["cf-random"],
        "train_seeds": state["cf-seeds"],
        "bottom": state["cf-bottom"],
        "take_over": state["cf-take-over"],
        **targets.together(chosen, usual).drawing(),
    }
    return removals.settings_for(dataset, checkpoint, methods, asked, encoder)


def _submit(dataset: Dataset, checkpoint: Checkpoint, chosen: Sequence[Target]) -> None:
    with panels.noted("compare"):
        settings = _settings(dataset, checkpoint, chosen)
        assert settings is not None  # the button is not drawn without
        removals.check(dataset, settings.methods, settings.group, _OTHERS)
        job = build(CounterfactualJob, settings=settings)
        st.session_state[_PANEL] = False
        address.drop("comparison")  # the new one is shown from here on
        panels.submit(job, f"Compare removals for {', '.join(settings.targets)}")
