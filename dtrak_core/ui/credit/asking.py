"""What a method still needs for a set of pictures: said with its cost, computed by one button, then followed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import defaults, embeddings, scores, set_scores
from dtrak_core.methods.methods import Method
from dtrak_core.methods.plans import Plan
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import computing, panels


def panel(dataset: Dataset, checkpoint: Checkpoint, method: Method, chosen: Sequence[Target]) -> Plan | None:
    """Return the plan of the pictures that are ready, None where none is; offer to compute what is missing."""
    panels.announce(("attribute", "embed", "score"), "Computed.")
    if not chosen:
        st.info("None of the generated pictures is chosen.")
        return None
    base = defaults.base_for(dataset.digest, checkpoint.digest, method, {})
    weights = embeddings.known_weights(method.embedding) if method.embedding is not None else None
    plan = scores.resolve(method, dataset, checkpoint.digest, chosen, base, weights)
    if plan.refused:
        st.info(panels.plain(plan.refused), icon=":material/block:")
        return None
    if not plan.missing:
        return plan
    ready = set_scores.ready(plan)
    computing.offer(plan, checkpoint, len(ready))
    return set_scores.of_some(plan, ready) if ready else None
