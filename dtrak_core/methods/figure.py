"""The paper's figure as one PNG: target at the left, a row of proponents, a rule, opponents for each method.

Drawn with Pillow alone, so that it needs no browser. The same rank stands in the same
column of every row; under each picture stand its training index, its share of the positive
total, because scores of two methods have no common scale, and its contributor.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from dtrak_core.methods import crediting
from dtrak_core.methods.results import NOT_RANDOM, Entry, Ranking, Row, opponents, proponents

CELL, GAP, PAD = 128, 16, 32
FEWEST, MOST = 2, 32  # columns of either end: fewer are narrower than their title, more make a PNG that few can open
LEFT = 2 * CELL
LINE, SMALL = 22, 18  # pixels of a line of small print, and of a name
PALE = 0.4  # of a picture's ink that is left where it is unsure
INK, GREY, RULE = (20, 20, 24), (96, 96, 104), (150, 150, 158)
SHARES = "%: share of this method's positive total"
LEAST_CERTAIN = "Opponents: the least certain part of a ranking"
MARKED = "Pale, ~: unsure, not at this end of the ranking in both halves of the draws."
UNKNOWN = "?: certainty not measured, whether it stands there in both halves of the draws."
FIXED = f"=: {NOT_RANDOM}."


def draw(
    target: np.ndarray,
    title: str,
    rankings: Sequence[Ranking],
    images: np.ndarray,
    counts: tuple[int, int],
    facts: Mapping[str, Any],
    families: Sequence[str] | None = None,
    rows: Sequence[Row] | None = None,
    terms: str = "",
) -> bytes:
    """Draw the figure.

    Args:
        target: The explained picture, uint8 (H, W, 3).
        title: Text under it.
        rankings: One ranking for each row, top to bottom.
        images: Training pictures, uint8 (N, H, W, 3).
        counts: Proponents and opponents a row; of each, at most `MOST` are drawn.
        facts: Provenance, kept in the PNG's text chunk `provenance`.
        families: Where given, only the first example of each family stands in a row.
        rows: Facts of the training pictures; their contributors stand under them, and in the text chunk `credits`.
        terms: Licence line of the training pictures, under the figure and in the text chunk `licence`.

    Returns:
        The PNG file.
    """
    first, last = (min(count, MOST) for count in counts)
    ends = [(proponents(one, first, families), opponents(one, last, families)) for one in rankings]
    first, last = (
        min(count, max(FEWEST, *(len(pair[end]) for pair in ends))) for end, count in enumerate((first, last))
    )
    people = {e.index: _contributor(rows, e.index) for pair in ends for entries in pair for e in entries}
    name = wrapped(title, LEFT, 18)
    head, line = 44, CELL + 92 + SMALL * (max(map(len, people.values()), default=1) - 1)
    told = [f"{SHARES}."] if people else []
    told += [f"{LEAST_CERTAIN}."] if any(against for _, against in ends) else []
    told += [MARKED] if any(one.steady is not None for one in rankings) else []
    told += [UNKNOWN] if any(one.steady is None and one.random for one in rankings) else []
    told += [FIXED] if any(not one.random for one in rankings) else []
    width = PAD + LEFT + PAD + (first + last) * (CELL + GAP) + PAD + PAD
    notes_below = [part for text in (*told, terms) for part in wrapped(text, width - 2 * PAD)]
    bottom = PAD + head + max(len(rankings) * line, LEFT + 60 + LINE * (len(name) - 1))
    sheet = Image.new("RGB", (width, bottom + len(notes_below) * LINE + PAD), "white")
    pen = ImageDraw.Draw(sheet)
    start = PAD + LEFT + PAD
    rule = start + first * (CELL + GAP) + PAD // 2
    _arrow(pen, start, rule - GAP - PAD // 2, PAD + 34, to_left=True)
    pen.text((start, PAD), "Proponents: helped most", INK, font(20))
    if last:
        _arrow(pen, rule + PAD // 2, rule + PAD // 2 + last * (CELL + GAP) - GAP, PAD + 34, to_left=False)
        pen.text((rule + PAD // 2, PAD), "Opponents: hindered most", INK, font(20))
        pen.line((rule, PAD + head, rule, bottom), RULE, 2)
    middle = PAD + head + (bottom - PAD - head) // 2
    paste(sheet, target, (PAD, middle - LEFT // 2 - 20), LEFT)
    for number, words in enumerate(name):
        pen.text((PAD + LEFT // 2, middle + LEFT // 2 - 10 + number * LINE), words, INK, font(18), anchor="ma")
    for place, one in enumerate(rankings):
        top = PAD + head + place * line
        pen.text((start, top + 6), _heading(one), INK, font(20))
        for entries, left in zip(ends[place], (start, rule + PAD // 2), strict=True):
            for column, entry in enumerate(entries):
                place_of = (left + column * (CELL + GAP), top + 36)
                _cell(sheet, pen, images, entry, people[entry.index], place_of, one.random)
        if last and not ends[place][1]:
            pen.text((rule + PAD // 2, top + 36), "no negative score", GREY, font(16))
    for place, text in enumerate(notes_below):
        pen.text((PAD, bottom + place * LINE), text, GREY, font(16))
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("provenance", json.dumps(facts, sort_keys=True, default=str))
    if rows is not None and (credits := {i: str(rows[i]["contributor"]) for i, by in people.items() if by}):
        notes.add_itxt("credits", json.dumps(credits, ensure_ascii=False))
    if terms:
        notes.add_itxt("licence", terms)
    data = io.BytesIO()
    sheet.save(data, "PNG", pnginfo=notes)
    return data.getvalue()


def _heading(ranking: Ranking) -> str:
    """Return a row's title: the method, its damping as effective rank, and how far the ranking repeats."""
    rank = (
        ""
        if ranking.effective_rank is None
        else f", effective rank {ranking.effective_rank:,.0f} of {len(ranking.values):,}"
    )
    return (
        ranking.label + rank + ("" if ranking.repeatability is None else f", repeatability {ranking.repeatability:.2f}")
    )


def _cell(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    images: np.ndarray,
    entry: Entry,
    by: Sequence[str],
    place: tuple[int, int],
    random: bool,
) -> None:
    left, top = place
    unsure = entry.steady is False
    image = images[entry.index]
    if unsure:
        image = (255 - (255 - image.astype(np.float32)) * PALE).astype(np.uint8)
    paste(sheet, image, (left, top), CELL)
    mark = " ~" if unsure else "" if entry.steady else " ?" if random else " ="
    text = f"#{entry.index}   {crediting.percent(entry.share)}{mark}"
    pen.text((left + CELL // 2, top + CELL + 8), text, INK, font(16), anchor="ma")
    for number, line in enumerate(by):
        pen.text((left + CELL // 2, top + CELL + 28 + number * SMALL), line, GREY, font(14), anchor="ma")


def _contributor(rows: Sequence[Row] | None, index: int) -> list[str]:
    """Return who made a training picture, in lines that fit under it; none where that is not told."""
    return [] if rows is None else wrapped(str(rows[index].get("contributor", "")), CELL + GAP - 4, 14)


def wrapped(text: str, width: int, size: int = 16) -> list[str]:
    """Return text in lines of at most so many pixels, cut between words, and inside one that is wider."""
    lines: list[str] = []
    for word in text.split():
        if lines and font(size).getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        while font(size).getlength(word) > width and len(word) > 1:
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font(size).getlength(word[:n]) <= width)
            lines.append(word[:fits])
            word = word[fits:]
        lines.append(word)
    return lines


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
