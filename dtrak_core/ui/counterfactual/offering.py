"""What a new comparison costs and what of it is stored, said before the click; a finished one is shown instead."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.settings import CounterfactualSettings, answers
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import job_costs
from dtrak_core.jobs.job_costs import Removing
from dtrak_core.kinds import KINDS
from dtrak_core.methods import costs, embeddings
from dtrak_core.methods.settings import EmbeddingModel
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.settings import canonical_json
from dtrak_core.ui import address, frame, panels


def encoder() -> EmbeddingModel:
    """Return the encoder that a comparison has here; none is asked of the network, which can take seconds.

    So CLIP counts where its weights are here. Where they are got at the click, the trainings are the same.
    """
    return "clip-vit-b-32" if embeddings.here("clip-vit-b-32") else "efficientnet-lite0"


def led(settings: CounterfactualSettings, finished: Sequence[Comparison]) -> bool:
    """Lead to the finished comparison that answers this already; say whether there is one."""
    found = next((one for one in finished if one.crossed and answers(one.settings, settings)), None)
    if found is None:
        return False
    st.caption("Nothing is left to compute: a finished comparison has these settings, or more controls and seeds.")
    st.page_link(
        frame.COUNTERFACTUAL,
        label=f"Compared already: show '{panels.plain(found.name)}'",
        icon=":material/compare:",
        query_params=address.view() | {"comparison": found.key},
    )
    return True


def price(dataset: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings) -> str:
    """Return in words how many trainings a comparison takes, how many of them are stored, and what the rest costs."""
    stored = store.stamp(tuple(KINDS))
    found = _priced(dataset.key, checkpoint.digest, canonical_json(settings), stored, dataset, checkpoint, settings)
    number, cost = counted(found.trainings, "training"), costs.sentence(found.cost)
    if found.stored is None:
        return (
            f"At most {number}, {cost}. How many of them are stored is known once the methods have ranked the "
            "training pictures."
        )
    return f"{number}, {found.stored or 'none'} of them stored: {cost}."


@st.cache_data(max_entries=64, show_spinner="Looking at what is stored")
def _priced(
    dataset: str,
    checkpoint: str,
    settings: str,
    stored: tuple[str, ...],
    _dataset: Dataset,
    _checkpoint: Checkpoint,
    _settings: CounterfactualSettings,
) -> Removing:
    """Return what a comparison costs, once for each state of the store: to plan it, every target is ranked."""
    return job_costs.of_comparison(_dataset, _checkpoint, _settings)
