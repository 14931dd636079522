"""Present mode (`?present=1`): one picture and one method in large type, walked through by the arrow keys.

Its address holds all that it shows, as every page's does: the picture, the method (`by`), the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.counterfactual import comparisons, verdicts
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.entries import Entry, label, of_size
from dtrak_core.counterfactual.removals import FLOOR, RANDOM
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.methods import results
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, descriptions, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import address, answers, crisp, frame, gallery, lacking, linked, named, panels, tuning, what_if

PRESENT, STEP, BY = "present", "step", "by"
STEPS = ("The picture", "Who helped", "Without them", "Verdict")
LARGE, SMALL, SHOWN = 400, 200, 6  # pixels of the target and of proponents; how many of these
_STYLE = (Path(__file__).parent / "presenting.css").read_text()


def asked() -> bool:
    """Say whether the address asks for it."""
    return st.query_params.get(PRESENT) == "1"


def link() -> None:
    """Draw the link that leads to it, with the view, in the sidebar."""
    with st.sidebar:
        words = {name: value for name, value in address.view().items() if name != "comparison"}
        st.page_link(frame.OVERVIEW, label="Present", icon=":material/slideshow:", query_params=words | {PRESENT: "1"})


def show() -> None:
    """Draw the step that the address names, and the buttons that walk."""
    st.html(f"<style>{_STYLE}</style>")
    try:
        dataset = catalogue.by_name(st.query_params.get("dataset", catalogue.DEFAULT))
    except StudioError:  # the sentence follows
        _way_out()
        raise
    names = [one.name for one in checkpoints.listing(dataset.digest)]
    if not names:
        panels.nothing("No model has learned from these pictures yet.", frame.GENERATE, "Train one")
        _way_out()
        return
    named_model = st.query_params.get("checkpoint", "")
    if named_model and named_model not in names:
        lacking.checkpoint(dataset, named_model, names[0])
    checkpoint = checkpoints.by_name(named_model if named_model in names else names[0], dataset.digest)
    changed = address.enter(checkpoint.digest)
    address.put({"dataset": dataset.name, "checkpoint": checkpoint.name})
    named.check(checkpoint)
    tuning.settle(checkpoint, changed)
    known = comparisons.listing(dataset, checkpoint.digest)
    way = named.sampled(checkpoint)
    drawn = targets.samples(checkpoint.digest, way.model_copy(update={"prompts": ()}))
    compared = [one for one in drawn if any(comparisons.is_of(each.settings, one) for each in known)]
    listed = compared or drawn
    target = _target(dataset, checkpoint, listed, drawn)
    if target is None:
        frame.undrawn(checkpoint, way)
        _way_out()
        return
    chosen = [name for name in address.get("methods").split(",") if name in METHODS]
    by = st.query_params.get(BY, "")
    method = by if by in chosen else chosen[0]
    if by and by != method:
        _wrong(BY, "Method", METHODS[method].label)
    step = _step()
    address.write()
    _walk(step, method, chosen, target, listed)
    comparison = next((one for one in known if _tells(one, target, method)), None)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        crisp.show(target.image, LARGE, f"The picture of {target.caption or target.id}")
    left.caption(panels.plain(target.caption or target.id))
    with right:
        if step == 1:
            st.title("Which training pictures made this one?")
            st.write(descriptions.origin(target, checkpoint, len(dataset.train.rows)))
        elif step == 2:
            _helped(dataset, checkpoint, target, method)
        elif comparison is None:
            _untried(step, target, method)
        elif step == 3:
            _without(comparison, target, method)
        else:
            _judged(comparison, method)


def _target(
    dataset: Dataset, checkpoint: Checkpoint, listed: Sequence[Target], drawn: Sequence[Target]
) -> Target | None:
    """Return the picture of the view, else the first listed, with a warning where the view names one that is not here.

    The view then keeps what it names: it is the user's again on the way out.
    """
    if wanted := named.target(""):
        way = named.sampled(checkpoint)
        alike = targets.samples(checkpoint.digest, way, drawn)
        try:
            found = next((one for one in alike if one.id == wanted), None)
            return found or targets.resolve(dataset, checkpoint.digest, wanted, way)
        except StudioError as error:
            st.warning(panels.plain(error) + (" Showing another picture." if listed else ""))
    elif listed:
        address.put(named.link_to(listed[0]))
    return next(iter(listed), None)


def _step() -> int:
    said = st.query_params.get(STEP, "1")
    if said in map(str, range(1, len(STEPS) + 1)):
        return int(said)
    _wrong(STEP, "Step", "1")
    return 1


def _wrong(name: str, label: str, shown: str) -> None:
    linked.wrong(label, st.query_params.pop(name), shown)


def _walk(step: int, method: str, chosen: Sequence[str], target: Target, listed: Sequence[Target]) -> None:
    """Draw where one is, and the buttons that lead on, each with its key."""
    place = next((i for i, one in enumerate(listed) if one.mark == target.mark), -1)
    after = listed[(place + 1) % len(listed)] if listed else target
    other = chosen[(chosen.index(method) + 1) % len(chosen)]
    with st.container(horizontal=True, vertical_alignment="center"):
        for words, shortcut, off, said in (
            ("Back", "Left", step == 1, {STEP: str(step - 1)}),
            ("On", "Right", step == len(STEPS), {STEP: str(step + 1)}),
            (f"By {METHODS[other].label}", "Down", other == method, {BY: other}),
            ("Another picture", "Up", after.mark == target.mark, named.link_to(after) | {STEP: "1"}),
        ):
            st.button(
                words,
                key=f"present-{shortcut}",
                shortcut=shortcut,
                disabled=off,
                on_click=_say,
                args=(said,),
                type="tertiary",
            )
        _way_out()
    st.caption(f"{step} of {len(STEPS)} · {STEPS[step - 1]}" + (f" · {METHODS[method].label}" if step > 1 else ""))


def _way_out() -> None:
    st.button("Leave", key="present-leave", shortcut="Esc", on_click=_leave, type="tertiary")


def _say(words: Mapping[str, str]) -> None:
    if "sample" in words:  # how the picture before was drawn
        address.drop(*address.DRAWN)
        for name in address.DRAWN:
            st.query_params.pop(name, None)
    st.query_params.update(words)


def _leave() -> None:
    for name in (PRESENT, STEP, BY):
        st.query_params.pop(name, None)


def _tells(comparison: Comparison, target: Target, method: str) -> bool:
    """Say whether a finished comparison took away what the method names for this picture."""
    took = any(e.target == target.id and e.owner == target.id and e.method == method for e in comparison.entries)
    return comparison.finished and took and comparisons.is_of(comparison.settings, target)


def _helped(dataset: Dataset, checkpoint: Checkpoint, target: Target, method: str) -> None:
    st.title(f"{METHODS[method].label} names these")
    question = answers.Question(dataset, checkpoint, target)
    found = answers.ask(question, [method], address.ranks([method])).rankings
    if not found:
        st.write("What it names for this picture has not been computed yet.")
        frame.link(frame.ATTRIBUTION, "Compute it", ":material/play_arrow:")
        return
    first = results.proponents(found[0], SHOWN)
    with st.container(horizontal=True):
        for entry in first:
            facts = dataset.train.rows[entry.index]
            name = facts["name"] or facts["label"] or f"number {entry.index}"
            alt = f"Training picture {entry.index}: {name}"
            with st.container(width=SMALL):
                crisp.show(dataset.train.images[entry.index], SMALL, alt, fill=True)
                st.caption(panels.plain(f"{name} · unsure" if entry.steady is False else name))
    st.write(f"Of {len(dataset.train.rows):,} training pictures these helped most, the strongest first.")
    if any(entry.steady is False for entry in first):
        st.caption(f"unsure: {gallery.UNSURE}")


def _untried(step: int, target: Target, method: str) -> None:
    st.title(STEPS[step - 1])
    st.write("No finished comparison has taken away what this method names for this picture.")
    what_if.link(target, [method], SHOWN)


def _without(comparison: Comparison, target: Target, method: str) -> None:
    size = max(comparison.settings.remove)
    own = [e for e in of_size(comparison.entries, size) if e.target == target.id]
    shown = [next((e for e in own if e.method == arm), None) for arm in (method, RANDOM, FLOOR)]
    taken = next(e for e in own if e.method == method)
    st.title(f"The same seed without the {counted(len(taken.removed), 'picture')}")
    for column, entry in zip(st.columns(3), shown, strict=True):
        if entry is not None:
            with column:
                crisp.show(entry.image, LARGE, f"{_arm(entry)}: pixel l2 {entry.l2:.2f}", fill=True)
            column.write(f"**{panels.plain(_arm(entry))}**  \nmoved by {entry.l2:.2f}")
    st.caption("Moved: pixel l2 to the picture at the left. The last one shows what another training seed alone does.")


def _arm(entry: Entry) -> str:
    if entry.method == FLOOR:
        return "Nothing removed"
    if entry.method == RANDOM:
        return f"Without {counted(len(entry.removed), 'random one')}"
    return f"Without what {label(entry.method)} names"


def _judged(comparison: Comparison, method: str) -> None:
    st.title("Is it more than chance?")
    if why := comparisons.unjudged(comparison):
        st.write(f"No verdict: {why}.")
        return
    for measure, sentence in _sentences(comparison.key, method, comparison).items():
        st.write(f"**{verdicts.NAMES[measure]}**: {sentence}")
    count = len(comparison.settings.targets)
    st.caption(
        f"Over all {count} pictures of this comparison. p: how often chance shows as much; below {verdicts.LEVEL:g} it "
        "is called specific."
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _sentences(key: str, method: str, _comparison: Comparison) -> dict[str, str]:
    """Return what a comparison says of a method, by measure."""
    size, found = max(_comparison.settings.remove), {}
    for measure in ("l2", "loss_change"):
        judged = comparisons.statistics(_comparison, size, measure).get(method)
        if judged is not None:
            found[measure] = verdicts.sentence(method, judged, measure, panels.plain)
    return found
