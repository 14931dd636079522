"""How a map is coloured: by the scores of the picture to explain, where some are stored, or by what pictures are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import map_sheet, results
from dtrak_core.methods.maps import NAMES, Map
from dtrak_core.methods.methods import METHODS
from dtrak_core.methods.results import Ranking
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import address, answers, linked, named, picking
from dtrak_core.ui.map import map_chart
from dtrak_core.ui.map.map_chart import Ring

SCORE = "score"
OUTLINED = 12  # proponents


@dataclass(frozen=True, eq=False)
class Explained:
    """A picture to explain, and the first of the chosen methods whose scores of it are stored."""

    target: Target
    ranking: Ranking

    @property
    def called(self) -> str:
        """Return what the picture is called."""
        return self.target.caption or self.target.id


def explained(dataset: Dataset, checkpoint: Checkpoint | None) -> Explained | None:
    """Return the chosen picture with stored scores, None where there are none."""
    if checkpoint is None:
        return None
    target = picking.current(dataset, checkpoint, named.sampled(checkpoint))
    if target is None:
        return None
    methods = [name for name in address.get("methods").split(",") if name in METHODS]
    known = answers.ask(answers.Question(dataset, checkpoint, target), methods, address.ranks(methods)).rankings
    return Explained(target, known[0]) if known else None


def choice(dataset: Dataset, shown: Explained | None) -> str:
    """Draw the choice of a colour; return it, empty where there is nothing to choose."""
    options = [SCORE] * (shown is not None) + [str(fact) for fact in map_sheet.facts_of(dataset)]
    if not options:
        return ""
    chosen = linked.bound(
        st.segmented_control,
        "Colour",
        options,
        default=options[0],
        format_func=str.capitalize,
        key="colour",
        required=True,
        help="Score: how the picture to explain, chosen on Attribution, was helped or hindered by each.",
    )
    return str(chosen or options[0])


def figure(found: Map, dataset: Dataset, colour: str, shown: Explained | None) -> tuple[go.Figure, str, list[Ring]]:
    """Return the map in a colour, its words for screen readers, and the rings that belong to the colour."""
    about = f"Map of {len(found.rows):,} training pictures by {NAMES[found.settings.space]}"
    texts = _texts(dataset)
    if colour == SCORE and shown is not None:
        values = shown.ranking.values
        first = [entry.index for entry in results.proponents(shown.ranking, OUTLINED)]
        label = f"{shown.ranking.label}'s first {len(first)} for {shown.called}"
        alt = f"{about}, coloured by {shown.ranking.label}'s scores for {shown.called}: {(values > 0).sum():,} positive"
        return map_chart.by_scores(found, values, texts), alt, [Ring("proponents", label, first)]
    facts = map_sheet.facts_of(dataset)
    if colour not in facts:
        names, colours = ["pictures"] * len(texts), {"pictures": map_sheet.COLOURS[0]}
    else:
        names, colours = map_sheet.coloured(dataset, next(fact for fact in facts if fact == colour))
    counts = Counter(names)
    each = ", ".join(f"{name} {counts[name]:,}" for name in colours)
    return map_chart.by_names(found, names, colours, texts), f"{about}, coloured by {colour or 'nothing'}: {each}", []


def hits(dataset: Dataset, wanted: str) -> list[int]:
    """Return the training pictures in whose name, caption, label or contributor all these words stand."""
    parts = wanted.casefold().split()
    return [i for i, text in enumerate(_sought(dataset)) if all(part in text for part in parts)] if parts else []


def _sought(dataset: Dataset) -> list[str]:
    keys = ("name", "caption", "label", "contributor", "family")
    return ["\n".join(str(row.get(key) or "") for key in keys).casefold() for row in dataset.train.rows]


def _texts(dataset: Dataset) -> Sequence[str]:
    """Return what is said of each training picture where the pointer rests on it."""
    found = []
    for index, row in enumerate(dataset.train.rows):
        called = f"#{index} {row.get('name') or row.get('label') or ''}".strip()
        found.append(f"{called}, by {row['contributor']}" if row.get("contributor") else called)
    return found
