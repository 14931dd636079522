"""What the first look at Benchmark would wait for, computed while another page is looked at (readying.py)."""

from __future__ import annotations

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import questions
from dtrak_core.ui.benchmark import methods_table


def look(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Compute what the table of methods opens with, plain and with scores squared, as the page keeps it."""
    question = questions.ask(dataset, checkpoint)
    if question is not None:
        methods_table.ahead(question)
