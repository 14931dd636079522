"""Is my work in it? A picture is brought, looked for among the training pictures, and followed to what it helped."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted, ranges_of
from dtrak_core.counterfactual import comparisons, work_sheet
from dtrak_core.counterfactual.copy_sheet import name_of
from dtrak_core.counterfactual.work_sheet import Sheet
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.methods import crediting, defaults, scores, set_scores, works
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.plans import Plan
from dtrak_core.methods.works import Match
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import address, computing, frame, gallery, keeping, named, panels, taking, uploading

WORK, MINE = "work", "mine"  # address parameters: the picture that was brought, and which training pictures it is
METHOD = "d-trak"
HELPED = 24


def show(dataset: Dataset, checkpoint: Checkpoint, drawn: Sequence[Target]) -> None:
    """Draw all of it."""
    _bring(dataset)
    work = _brought(dataset, checkpoint)
    if work is None:
        return
    found = works.find(dataset, checkpoint, work)
    asked, standing = st.query_params.get(MINE), list(found.standing)
    members = standing if asked is None else taking.named(asked, len(dataset.train.rows))
    plan = _plan(dataset, checkpoint, drawn) if members and drawn else None
    told = _sheet(dataset, checkpoint, found, members, plan)
    st.markdown("\n".join(f"- {line}" for line in work_sheet.sentences(told, panels.plain)))
    _matches(dataset, found, members)
    if members:
        _helped(told)
        if plan is not None and plan.missing:
            computing.offer(plan, checkpoint, len(set_scores.ready(plan)))
        _lead_on(members, told)
    _keep(told)


def _bring(dataset: Dataset) -> None:
    side = dataset.settings.resolution
    kept = uploading.taken(
        f"Your work; it is cropped and reduced to {side} × {side} pixels, as the training pictures were",
        "work-upload",
        lambda raw, name: works.taken_in(dataset, raw, name),
    )
    if kept is None:
        return
    st.query_params.pop(MINE, None)
    st.query_params[WORK] = kept.pixels
    st.rerun()


def _brought(dataset: Dataset, checkpoint: Checkpoint) -> Target | None:
    asked = st.query_params.get(WORK, "")
    if not asked:
        st.caption("Nothing of it leaves this machine.")
        return None
    try:
        found = targets.resolve(dataset, checkpoint.digest, f"upload:{asked}")
    except StudioError as error:
        st.warning(panels.plain(error))
        return None
    if found.image.shape != dataset.train.images.shape[1:]:  # brought to another dataset
        st.info("This work was uploaded for a dataset of another size in pixels. Upload it again.")
        return None
    return found


def _plan(dataset: Dataset, checkpoint: Checkpoint, drawn: Sequence[Target]) -> Plan | None:
    method = METHODS[METHOD]
    base = defaults.base_for(dataset.digest, checkpoint.digest, method, {})
    plan = scores.resolve(method, dataset, checkpoint.digest, drawn, base)
    if plan.refused:
        st.info(panels.plain(plan.refused), icon=":material/block:")
        return None
    return plan


def _sheet(
    dataset: Dataset, checkpoint: Checkpoint, found: works.Work, members: Sequence[int], plan: Plan | None
) -> Sheet:
    if plan is None or not (ready := set_scores.ready(plan)):
        return work_sheet.sheet([found], members, dataset, checkpoint)
    part = set_scores.of_some(plan, ready)
    marks = tuple((target.id, target.pixels) for target in ready)
    stamp = store.stamp(("comparisons", "trials", "target-features"))
    features = "" if part.features is None else part.features.model_dump_json()
    about = (dataset.key, checkpoint.digest, checkpoint.name, part.method.id, features, found.target.pixels, *stamp)
    return _told(about, marks, tuple(members), found, part, checkpoint)


@st.cache_resource(max_entries=16, show_spinner=False)
def _told(
    about: tuple[str, ...],
    marks: tuple[tuple[str, str], ...],
    members: tuple[int, ...],
    _found: works.Work,
    _plan: Plan,
    _checkpoint: Checkpoint,
) -> Sheet:
    stored = comparisons.listing(_plan.dataset, _checkpoint.digest)
    return work_sheet.sheet([_found], members, _plan.dataset, _checkpoint, _plan, scores.score(_plan), stored)


def _matches(dataset: Dataset, found: works.Work, members: Sequence[int]) -> None:
    st.header("The closest training pictures")
    st.caption("Marked: what counts as your work. A click marks a picture, or takes the mark away.")
    own = gallery.Picture("own", found.target.image, "Your work", ("your work",))
    pictures = [own, *(_match(dataset, one) for one in found.matches)]
    chosen = [str(index) for index in members]
    clicked = gallery.grid("work-matches", "Your work and the closest training pictures", pictures, chosen=chosen,
                           cell=110, action="choose")  # fmt: skip
    if clicked is not None and clicked.isdecimal():
        st.query_params[MINE] = ranges_of(set(members) ^ {int(clicked)})
        st.rerun()


def _match(dataset: Dataset, match: Match) -> gallery.Picture:
    name = name_of(dataset, match.index)
    by = str(dataset.train.rows[match.index].get("contributor") or "")
    lines = (f"distance {match.distance:.2f}", name, by, "mirrored" if match.mirrored else "")
    return gallery.Picture(str(match.index), dataset.train.images[match.index], f"Training picture {name}", lines)


def _helped(told: Sheet) -> None:
    if told.help is None:
        return
    st.header("The generated pictures that it helped most")
    st.caption("Each with the part of its own credit that your work has.")
    pictures, views = [], {}
    for place in work_sheet.order(told.help)[:HELPED]:
        one, part = told.help.targets[place], crediting.percent(float(told.help.each[place]))
        pictures.append(gallery.Picture(one.mark, one.image, f"Explain {one.called}", (one.caption or one.id, part)))
        views[one.mark] = named.leading(frame.ATTRIBUTION, one)
    ways = gallery.Ways(frame.ATTRIBUTION, views)
    gallery.grid("work-helped", "Generated pictures that it helped most", pictures, cell=88, ways=ways)


def _lead_on(members: Sequence[int], told: Sheet) -> None:
    st.header("What if it had never been there?")
    asked = {"pictures": ranges_of(members)}
    view = address.leading(frame.COUNTERFACTUAL)
    if told.help is not None:
        view = named.leading(frame.COUNTERFACTUAL, told.help.targets[work_sheet.order(told.help)[0]])
    with st.container(horizontal=True):
        st.page_link(
            frame.COUNTERFACTUAL,
            label=f"Draw again without {counted(len(members), 'picture')}",
            icon=":material/compare:",
            query_params=view | asked,
            help="Counterfactual opens with the picture that it helped most, and this removal, filled in.",
        )
        st.page_link(
            frame.DOCTOR,
            label="Measure the loss without it",
            icon=":material/science:",
            query_params=address.leading(frame.DOCTOR) | {"take": ranges_of(members)},
        )


def _keep(told: Sheet) -> None:
    st.header("Keep the report")
    name = f"work-{told.dataset.name}-{told.checkpoint.name}".replace("@", "-")
    keeping.files(told, work_sheet.WRITERS, name, "work")
