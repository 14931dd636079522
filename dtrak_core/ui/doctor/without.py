"""What training without the taken pictures does: a trial on held-out pictures, and the way to Counterfactual."""

from __future__ import annotations

import streamlit as st

from dtrak_core.amounts import counted, ranges_of
from dtrak_core.counterfactual import doctor_sheet, trials
from dtrak_core.counterfactual.trials import Trial
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.jobs.question_jobs import TrialJob
from dtrak_core.methods import costs
from dtrak_core.methods.doctor import Suspects
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import address, frame, keeping, panels


def show(dataset: Dataset, checkpoint: Checkpoint, taken: list[int]) -> None:
    """Draw what can be asked of the taken pictures, and what earlier trials have said."""
    st.header("What if they had never been there?")
    panels.announce(("trial",), "The trial is finished.")
    known = trials.listing(dataset, checkpoint)
    if taken:
        _ask(dataset, checkpoint, taken)
    else:
        st.write("Take some pictures above: a click on one, or the first 10 %.")
    if known:
        _table(known)


def _ask(dataset: Dataset, checkpoint: Checkpoint, taken: list[int]) -> None:
    st.write(f"{counted(len(taken), 'picture')} taken: #{', #'.join(ranges_of(taken).split(','))}.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        draws = st.number_input(
            "Random sets", 1, 30, 3, key="doctor-random", width=130, help="With 19 or more, p can be 0.05 or less."
        )
        seeds = st.number_input("Training seeds", 1, 10, 1, key="doctor-seeds", width=150)
    try:
        settings = trials.settings_for(dataset, checkpoint, taken, int(draws), int(seeds))
        amount = costs.sentence(trials.cost(dataset, checkpoint, settings))
    except StudioError as error:
        st.info(panels.plain(error), icon=":material/block:")
        return
    done = trials.find(settings)
    if done is not None:
        st.success(panels.plain(done.sentence), icon=":material/science:")
    else:
        models = (2 + settings.random_draws) * settings.train_seeds
        panels.offer(
            TrialJob(settings=settings),
            "Train without them, and without random ones",
            f"Train without {counted(len(taken), 'picture')}",
            lambda: st.caption(f"{counted(models, 'training')}, then the loss over held-out pictures: {amount}."),
        )
    st.page_link(
        frame.COUNTERFACTUAL,
        label="See generated pictures without them",
        icon=":material/compare:",
        query_params=address.leading(frame.COUNTERFACTUAL) | {"pictures": ranges_of(taken)},
        help="Counterfactual opens with this removal filled in.",
    )


def _table(known: list[Trial]) -> None:
    rows = [
        {
            "Removed": len(one.settings.removed),
            "Change of the loss": one.these - one.nothing,
            "Random, least": min(one.random) - one.nothing,
            "Random, most": max(one.random) - one.nothing,
            "Random sets": len(one.random),
            "p": one.p,
            "Pictures": ranges_of(one.settings.removed),
        }
        for one in known[: doctor_sheet.LISTED]
    ]
    alt = "Trainings without some pictures: change of the held-out loss, beside random ones"
    st.dataframe(rows, hide_index=True, alt=alt, column_config={
        name: st.column_config.NumberColumn(format="%+.5f") for name in ("Change of the loss", "Random, least",
        "Random, most")
    })  # fmt: skip
    more = f" The newest {doctor_sheet.LISTED} of {len(known):,}." if len(known) > doctor_sheet.LISTED else ""
    st.caption(f"Trainings without some pictures; the loss is over held-out pictures, and larger is worse.{more}")


def keep(some: Suspects, dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Offer the answer as files."""
    told = doctor_sheet.sheet([some], dataset, checkpoint)
    keeping.files(told, doctor_sheet.WRITERS, f"doctor-{dataset.name}-{some.check}", "doctor")
