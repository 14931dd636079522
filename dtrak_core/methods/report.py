"""An answer as a file: JSON, or one HTML page to print or send with sentences, tables, pictures; no scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dtrak_core.datasets import thumbnails
from dtrak_core.errors import SettingsError
from dtrak_core.files import check_place

Sheet = TypeVar("Sheet")
STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d1f23; background: #fff; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p.sub, small, dd, dt { color: #4a4e57 }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
caption { text-align: left; color: #4a4e57; padding-bottom: .3rem }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #d9dbe0; white-space: nowrap }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left; white-space: normal }
.bar { display: block; height: 6px; background: #2478c4; border-radius: 3px }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem }
figure { margin: 0; width: 84px }
figcaption { font-size: 11px; line-height: 1.3; overflow-wrap: anywhere; color: #4a4e57 }
img { width: 84px; height: 84px; object-fit: contain; image-rendering: pixelated; background: #f2f3f5 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem } dd { margin: 0; overflow-wrap: anywhere }
@media print { body { margin: 0; max-width: none } section { break-inside: avoid } .bar { print-color-adjust: exact } }
"""


def page(title: str, under: str, sentences: Sequence[str], body: str, facts: Mapping[str, Any]) -> bytes:
    """Return the page.

    Args:
        title: Its heading.
        under: A line below that.
        sentences: What is answered, the most important first.
        body: HTML of `section`.
        facts: What made it, in order; what is empty is left out.
    """
    lines = "".join(f"<li>{escape(line)}</li>" for line in sentences)
    made = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items() if value)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    shown = (
        f'<h1>{escape(title)}</h1><p class="sub">{escape(under)}</p><ul>{lines}</ul>{body}'
        f"<h2>How this was made</h2><dl>{made}</dl>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{shown}</main></body></html>\n'.encode()


def section(title: str, lead: str, *parts: str) -> str:
    """Return a heading, a sentence and HTML below it; nothing where there is none."""
    inside = "".join(parts)
    return f"<section><h2>{escape(title)}</h2><p>{escape(lead)}</p>{inside}</section>" if inside else ""


def pictures(shown: Sequence[tuple[np.ndarray, str, Sequence[str]]]) -> str:
    """Return pictures (H, W, 3) uint8 beside each other, each with what it is and the lines below it."""
    figures = "".join(_figure(*one) for one in shown)
    return f'<div class="pictures">{figures}</div>' if figures else ""


def _figure(image: np.ndarray, alt: str, lines: Sequence[str]) -> str:
    drawn = f'<img src="{thumbnails.address(np.asarray(image))}" alt="{escape(alt)}">'
    under = "<br>".join(escape(line) for line in lines if line)
    return f"<figure>{drawn}<figcaption>{under}</figcaption></figure>"


def to_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON, as people read it."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()


def writer(path: Path, writers: Mapping[str, Callable[[Sheet], bytes]], what: str) -> Callable[[Sheet], bytes]:
    """Return what writes a sheet into a file of this name, by its ending; `what` the file is no name for.

    Raises:
        SettingsError: If it has another ending, or cannot be written to.
    """
    if path.suffix.lower() not in writers:
        raise SettingsError(f"'{path}' is no name for {what}. Let it end in {', '.join(writers)}.")
    check_place(path)
    return writers[path.suffix.lower()]
