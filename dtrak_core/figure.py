"""The paper's figure as one PNG: target at the left, a row of proponents, a rule, opponents for each method.

Drawn with Pillow alone, so that it needs no browser. The same rank stands in the same
column of every row; under each picture stand its training index and its share of the
positive total, because scores of two methods have no common scale.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from dtrak_core.results import Entry, Ranking, opponents, proponents

CELL, GAP, PAD = 128, 16, 32
LEFT = 2 * CELL
INK, GREY, RULE = (20, 20, 24), (96, 96, 104), (150, 150, 158)


def draw(
    target: np.ndarray,
    title: str,
    found: Sequence[Ranking],
    images: np.ndarray,
    counts: tuple[int, int],
    facts: Mapping[str, Any],
    families: Sequence[str] | None = None,
) -> bytes:
    """Draw the figure.

    Args:
        target: The explained picture, uint8 (H, W, 3).
        title: Text under it.
        found: One ranking for each row, top to bottom.
        images: Training pictures, uint8 (N, H, W, 3).
        counts: Proponents and opponents a row.
        facts: Provenance, kept in the PNG's text chunk `provenance`.
        families: Where given, only the first example of each family stands in a row.

    Returns:
        The PNG file.
    """
    first, last = counts
    head, line = 44, CELL + 92
    width = PAD + LEFT + PAD + (first + last) * (CELL + GAP) + PAD + PAD
    height = PAD + head + max(len(found) * line, LEFT + 60) + PAD
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    start = PAD + LEFT + PAD
    rule = start + first * (CELL + GAP) + PAD // 2
    _arrow(pen, start, rule - GAP - PAD // 2, PAD + 34, to_left=True)
    pen.text((start, PAD), "Proponents: helped most", INK, font(20))
    if last:
        _arrow(pen, rule + PAD // 2, rule + PAD // 2 + last * (CELL + GAP) - GAP, PAD + 34, to_left=False)
        pen.text((rule + PAD // 2, PAD), "Opponents: hindered most", INK, font(20))
        pen.line((rule, PAD + head, rule, height - PAD), RULE, 2)
    middle = PAD + head + (height - 2 * PAD - head) // 2
    paste(sheet, target, (PAD, middle - LEFT // 2 - 20), LEFT)
    pen.text((PAD + LEFT // 2, middle + LEFT // 2 - 10), title, INK, font(18), anchor="ma")
    for place, one in enumerate(found):
        top = PAD + head + place * line
        pen.text((start, top + 6), one.label, INK, font(20))
        lists = ((proponents(one, first, families), start), (opponents(one, last, families), rule + PAD // 2))
        for entries, left in lists:
            for column, entry in enumerate(entries):
                _cell(sheet, pen, images, entry, left + column * (CELL + GAP), top + 36)
        if last and not lists[1][0]:
            pen.text((rule + PAD // 2, top + 36), "no negative score", GREY, font(16))
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("provenance", json.dumps(facts, sort_keys=True, default=str))
    data = io.BytesIO()
    sheet.save(data, "PNG", pnginfo=notes)
    return data.getvalue()


def _cell(sheet: Image.Image, pen: ImageDraw.ImageDraw, images: np.ndarray, entry: Entry, left: int, top: int) -> None:
    paste(sheet, images[entry.index], (left, top), CELL)
    text = f"#{entry.index}   {entry.share:.1%}"
    pen.text((left + CELL // 2, top + CELL + 8), text, INK, font(16), anchor="ma")


def paste(sheet: Image.Image, image: np.ndarray, place: tuple[int, int], side: int) -> None:
    """Paste a picture into a square, enlarged by whole pixels, or reduced where it is too large."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    times = side // max(picture.size)
    if times:
        picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    else:
        picture.thumbnail((side, side), Image.Resampling.BOX)
    left = place[0] + (side - picture.width) // 2
    top = place[1] + (side - picture.height) // 2
    sheet.paste(picture, (left, top))
    box = (left - 1, top - 1, left + picture.width, top + picture.height)
    ImageDraw.Draw(sheet).rectangle(box, outline=RULE)


def _arrow(pen: ImageDraw.ImageDraw, left: int, right: int, y: int, *, to_left: bool) -> None:
    pen.line((left, y, right, y), GREY, 2)
    tip, back = (left, left + 8) if to_left else (right, right - 8)
    pen.polygon([(tip, y), (back, y - 5), (back, y + 5)], GREY)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of figures, which comes with Pillow."""
    return ImageFont.load_default(size)
