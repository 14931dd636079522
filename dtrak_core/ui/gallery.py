"""Clickable pictures: one component for grids and for the figure of proponents and opponents.

Every picture is a button with a name of its own, arrow keys move between pictures, Enter or
Space opens one. Nodes are updated in place, so that focus stays where it is; text is set as
text, never as HTML. Pictures are sent with their own pixels and enlarged by the browser
without smoothing. Which picture is which is said by the caller's `key`, never by position.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import streamlit as st

from dtrak_core.datasets.thumbnails import address
from dtrak_core.methods.figure import LEAST_CERTAIN, SHARES
from dtrak_core.methods.results import NOT_RANDOM

HERE = Path(__file__).parent
PER_PAGE = 48  # pictures that are shown at once
One = TypeVar("One")

UNSURE, UNKNOWN = "not at this end in both halves of the draws", "certainty not measured"


@dataclass(frozen=True)
class Picture:
    """One picture: `key` comes back on a click, `name` is read aloud, `lines` stand under it.

    A pale one is unsure; of an unknown one that was not measured; in what ranked a fixed one, nothing is random.
    What an outline means, its caller says.
    """

    key: str
    image: np.ndarray
    name: str
    lines: tuple[str, ...] = ()
    pale: bool = False
    unknown: bool = False
    fixed: bool = False
    outlined: bool = False


@dataclass(frozen=True)
class Ways:
    """Where clicks lead: a page, and by picture key the address parameters it is reached with.

    The browser itself follows them, as it follows the sidebar's links. Were the server told of the click instead and to
    switch the page, the address would change before the page does: one more step, which Back would stop at.
    """

    page: str
    views: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Row:
    """A row of the figure: title, one sentence, and its pictures at either side of the rule."""

    title: str
    note: str
    proponents: Sequence[Picture]
    opponents: Sequence[Picture] = ()
    no_proponents: str = ""
    no_opponents: str = ""


_COMPONENT = st.components.v2.component(
    "studio_gallery",
    html='<div class="gallery">\n</div>',
    css=(HERE / "gallery.css").read_text(),
    js=(HERE / "gallery.js").read_text(),
)


def grid(
    key: str,
    label: str,
    pictures: Sequence[Picture],
    *,
    chosen: str | Collection[str] = "",
    cell: int = 72,
    action: Literal["choose", "open"] = "open",
    ways: Ways | None = None,
) -> str | None:
    """Show pictures that wrap at the edge; return the key of the one just clicked, else None.

    Args:
        key: Widget key.
        label: What the group is, for screen readers.
        pictures: What to show.
        chosen: Key of the picture that is marked as chosen, or several.
        cell: Least width of a picture in CSS pixels.
        action: Whether a click chooses a picture or opens it.
        ways: The page that a click leads to; such a click is not returned.
    """
    row = {"title": "", "note": "", "parts": [{"items": [_item(p) for p in pictures], "empty": ""}]}
    return _mount(
        key,
        {
            "label": label,
            "cell": cell,
            "chosen": chosen if isinstance(chosen, str) else list(chosen),
            "action": action,
            "rows": [row],
        },
        None,
        ways,
    )


def page(listed: Sequence[One], key: str, place: int = 0, most: int = PER_PAGE) -> Sequence[One]:
    """Draw the choice of a page where one does not hold all; return what is on it.

    Args:
        listed: Everything that there is to show.
        key: Widget key.
        place: Of what is looked at, from 0; its page is the one that is open first.
        most: What a page holds.
    """
    pages = math.ceil(len(listed) / most)
    number = min(st.pagination(pages, default=place // most + 1, key=key), pages) if pages > 1 else 1
    return listed[(number - 1) * most : number * most]


def figure(
    key: str,
    label: str,
    target: Picture,
    rows: Sequence[Row],
    counts: tuple[int, int],
    *,
    focus: tuple[str, int] | None = None,
    ways: Ways | None = None,
) -> str | None:
    """Show the target at the left and a row a method, the same rank in the same column.

    Args:
        key: Widget key.
        label: What the figure shows, for screen readers.
        target: The explained picture.
        rows: One for each method.
        counts: Columns for proponents and for opponents; all rows keep them.
        focus: Key of a picture to focus, with a number that changes when it shall happen again.
        ways: The page that a click leads to; such a click is not returned.

    Returns:
        The key of the picture just clicked, else None.
    """
    listed = []
    for row in rows:
        parts = [{"items": [_item(p) for p in row.proponents], "empty": row.no_proponents}]
        if counts[1]:
            parts.append({"items": [_item(p) for p in row.opponents], "empty": row.no_opponents})
        listed.append({"title": row.title, "note": row.note, "parts": parts})
    heads = ["← Proponents: helped most", "Opponents: hindered most →"][: 2 if counts[1] else 1]
    shown = [picture for row in rows for picture in (*row.proponents, *row.opponents)]
    legend = [{"mark": "", "badge": "", "text": SHARES}] * bool(shown)
    legend += [{"mark": "", "badge": "", "text": LEAST_CERTAIN}] * any(row.opponents for row in rows)
    legend += [{"mark": "pale", "badge": "unsure", "text": f"Pale, dashed: {UNSURE}"}] * any(p.pale for p in shown)
    legend += [{"mark": "unknown", "badge": "?", "text": f"Dotted: {UNKNOWN}"}] * any(p.unknown for p in shown)
    legend += [{"mark": "fixed", "badge": "=", "text": f"Plain: {NOT_RANDOM}"}] * any(p.fixed for p in shown)
    data = {"label": label, "cell": 68, "action": "open", "rows": listed, "heads": heads, "columns": list(counts)}
    data["legend"] = legend
    return _mount(key, data | {"target": _item(target)}, focus, ways)


def matrix(
    key: str,
    label: str,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Picture | None]],
    legend: str,
    *,
    focus: tuple[str, int] | None = None,
) -> str | None:
    """Show a row of pictures for each thing under columns of one width; where there is no room for them, rows wrap.

    Args:
        key: Widget key.
        label: What the matrix shows, for screen readers.
        columns: Heads; where rows wrap, each picture says its own.
        rows: By what a row is of, its pictures, None where there is none yet.
        legend: What an outline means; shown where a picture has one.
        focus: Key of a picture to focus, with a number that changes when it shall happen again.

    Returns:
        The key of the picture just clicked, else None.
    """
    listed = []
    for name, own in rows.items():
        items = [
            _item(one) | {"lines": [columns[place], *(line for line in one.lines if line)], "place": place + 1}
            for place, one in enumerate(own)
            if one is not None
        ]
        listed.append({"title": "", "name": name, "note": "", "parts": [{"items": items, "empty": ""}]})
    outlined = any(one is not None and one.outlined for own in rows.values() for one in own)
    data = {"label": label, "cell": 48, "action": "open", "rows": listed, "across": list(columns)}
    return _mount(key, data | {"legend": [{"mark": "outlined", "text": legend}] * outlined}, focus, None)


def _item(picture: Picture) -> dict[str, Any]:
    return {
        "key": picture.key,
        "src": address(picture.image),
        "name": picture.name,
        "lines": [line for line in picture.lines if line],
        "pale": picture.pale,
        "unknown": picture.unknown,
        "fixed": picture.fixed,
        "outlined": picture.outlined,
    }


def _mount(key: str, data: dict[str, Any], focus: tuple[str, int] | None, ways: Ways | None) -> str | None:
    data["focus"] = list(focus) if focus else None
    if ways:
        data["ways"] = {"place": f"ways-{key}", "keys": list(ways.views)}
        with st.container(key=f"ways-{key}"):
            st.html("<style>[data-testid='stLayoutWrapper']:has(> [class*='st-key-ways-']) { display: none }</style>")
            for view in ways.views.values():
                st.page_link(ways.page, label="Open", query_params=view)
    # In a list, in which Streamlit looks for no tables: for that it imports pandas, which takes most of a second.
    result = _COMPONENT(key=key, data=[data], on_clicked_change=lambda: None)
    clicked = result.clicked
    return None if clicked is None else str(clicked)
