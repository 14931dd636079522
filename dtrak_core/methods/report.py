"""An answer as one HTML page to print or send: sentences, tables, pictures, how it was made; no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from dtrak_core.datasets import thumbnails
from dtrak_core.methods.credit_page import STYLE

Cells = Sequence[Sequence[Any]]


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


def table(caption: str, columns: Sequence[str], rows: Cells) -> str:
    """Return rows as a table; nothing without rows."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table></div>'


def pictures(shown: Sequence[tuple[np.ndarray, str, Sequence[str]]]) -> str:
    """Return pictures (H, W, 3) uint8 beside each other, each with what it is and the lines below it."""
    figures = []
    for image, alt, lines in shown:
        drawn = f'<img src="{thumbnails.address(np.asarray(image))}" alt="{escape(alt)}">'
        under = "<br>".join(escape(line) for line in lines if line)
        figures.append(f"<figure>{drawn}<figcaption>{under}</figcaption></figure>")
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ""
