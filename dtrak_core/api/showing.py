"""Answers of the library as HTML for a notebook: thumbnails with alternative texts, ranks and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.datasets import thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting, results
from dtrak_core.methods.results import Entry, Ranking
from dtrak_core.models.targets import Target

SIDE = 56  # pixels of a thumbnail on the page
TOP, BOTTOM = 8, 4  # proponents and opponents of a target
MOST = 8  # targets that are shown
STYLE = "display:inline-block;margin:0 6px 6px 0;text-align:center;vertical-align:top;font-size:11px"


def picture(image: np.ndarray, alt: str, below: str = "", side: int = SIDE) -> str:
    """Return a picture (H, W, 3), uint8, as PNG in the page, enlarged without smoothing, with a line below it."""
    drawn = (
        f'<img src="{thumbnails.address(image)}" alt="{escape(alt)}" title="{escape(alt)}" width="{side}" '
        f'height="{side}" style="image-rendering:pixelated;margin:0">'
    )
    return f'<span style="{STYLE}">{drawn}<br>{escape(below)}</span>'


def explanation(label: str, found: Sequence[tuple[Target, Ranking]], dataset: Dataset) -> str:
    """Return each target beside both ends of its ranking."""
    parts = [f"<b>{escape(label)}</b>, {len(dataset.train.rows):,} training pictures of {escape(dataset.name)}"]
    for target, ranking in found[:MOST]:
        repeats = "" if ranking.repeatability is None else f", repeatability {ranking.repeatability:.2f}"
        own = picture(target.image, f"Target {target.called}: {target.caption}", target.called, 2 * SIDE)
        ends = [
            ("Proponents", results.proponents(ranking, TOP)),
            ("Opponents", results.opponents(ranking, BOTTOM)),
        ]
        rows = "".join(
            f"<div>{words}<br>{''.join(_entry(entry, dataset) for entry in entries)}</div>"
            for words, entries in ends
            if entries
        )
        told = f"{escape(target.called)}{repeats}"
        parts.append(f'<div style="display:flex;gap:12px;margin:8px 0"><div>{own}</div><div>{told}{rows}</div></div>')
    if len(found) > MOST:
        parts.append(f"{counted(len(found) - MOST, 'more target')} not shown.")
    if terms := crediting.terms(dataset):
        parts.append(f"<small>{escape(terms)}</small>")
    return f"<div>{''.join(parts)}</div>"


def _entry(entry: Entry, dataset: Dataset) -> str:
    row = dataset.train.rows[entry.index]
    known = ", ".join(str(row[key]) for key in ("name", "label", "contributor") if row.get(key))
    alt = f"Rank {entry.rank}: training picture {entry.index}{f', {known}' if known else ''}, score {entry.score:.3g}"
    return picture(dataset.train.images[entry.index], alt, f"{entry.rank}. {entry.score:.2g}")


def table(rows: Sequence[Mapping[str, Any]], caption: str) -> str:
    """Return rows as a table with the columns of the first one."""
    columns = list(rows[0]) if rows else []
    head = "".join(f"<th>{escape(str(name))}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row[name])}</td>" for name in columns) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else escape(str(value))
