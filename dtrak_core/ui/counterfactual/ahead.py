"""What the first look at Counterfactual would wait for, computed while another page is looked at (readying.py)."""

from __future__ import annotations

from dtrak_core.counterfactual import comparisons
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui.counterfactual import verdict


def look(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Compute the verdict on the comparison that the page opens with, as the page keeps it."""
    finished = comparisons.listing(dataset, checkpoint.digest)
    if finished:
        verdict.ahead(finished[0])
