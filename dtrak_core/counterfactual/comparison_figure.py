"""A comparison of removals as one PNG: a row a target, the same seed drawn by each model (Zheng et al. 2024, figure 3).

Drawn with Pillow alone, so that it needs no browser. Of several draws of one removal the first is shown, and each
target stands beside the removals that were named for it.
"""

from __future__ import annotations

import io
import json

from PIL import Image, ImageDraw, PngImagePlugin

from dtrak_core.counterfactual import comparisons, entries
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.removals import FLOOR, IDENTITY
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting
from dtrak_core.methods.figure import CELL, GAP, GREY, INK, LINE, PAD, font, paste, wrapped

_HEAD, _WORDS = 52, 70  # pixels above the rows, and under each picture


def draw(comparison: Comparison, size: int, dataset: Dataset | None = None) -> bytes:
    """Draw the pictures of all targets for one number of removed pictures; outlined are those beyond the noise floor.

    A picture's distance l2 to the original is compared, as the page does first.

    Args:
        comparison: The comparison, finished or under way; what is not there yet is left blank.
        size: Number removed, one of `comparison.settings.remove`.
        dataset: The dataset, as of `comparison_document.document`.

    Returns:
        The PNG file, with the dataset's licence line under the pictures and in the text chunk `licence`, settings and
        medians in the chunk `provenance`, and whose pictures were removed in the chunk `credits`.
    """
    dataset = dataset or comparisons.dataset_of(comparison)
    terms = "" if dataset is None else crediting.terms(dataset)
    shown = [e for e in entries.of_size(comparison.entries, size) if e.method != IDENTITY and e.draw == 0]
    arms = entries.by_arm(shown)
    width = 2 * PAD + (1 + len(arms)) * (CELL + GAP)
    least = entries.floors(entries.of_size(comparison.entries, size), "l2")
    beyond = {
        id(e): e.method != FLOOR and e.target in least and entries.beyond_floor(e, least[e.target][0], "l2")
        for e in shown
    }
    told = [entries.outlined(least, " in pixel l2")] if any(beyond.values()) else []
    below = [line for text in (*told, terms) for line in wrapped(text, width - 2 * PAD)]
    bottom = _HEAD + PAD + len(comparison.originals) * (CELL + _WORDS)
    sheet = Image.new("RGB", (width, bottom + len(below) * LINE + PAD), "white")
    pen = ImageDraw.Draw(sheet)
    for column, words in enumerate(["Original", *map(entries.label, arms)]):
        _words(pen, words, PAD + column * (CELL + GAP), PAD)
    for row, (target, image) in enumerate(comparison.originals.items()):
        top = _HEAD + PAD + row * (CELL + _WORDS)
        paste(sheet, image, (PAD, top), CELL)
        pen.text((PAD + CELL // 2, top + CELL + 8), target, INK, font(16), anchor="ma")
        for column, own in enumerate(arms.values(), 1):
            entry = next((e for e in own if e.target == target), None)
            if entry is None:
                continue
            left = PAD + column * (CELL + GAP)
            paste(sheet, entry.image, (left, top), CELL)
            if beyond[id(entry)]:
                pen.rectangle((left - 4, top - 4, left + CELL + 3, top + CELL + 3), outline=INK, width=3)
            numbers = f"l2 {entry.l2:.1f}   cos {entry.cosine:.2f}"
            pen.text((left + CELL // 2, top + CELL + 8), numbers, INK, font(16), anchor="ma")
            loss = f"loss {entry.loss_change:+.3f}"
            pen.text((left + CELL // 2, top + CELL + 30), loss, GREY, font(16), anchor="ma")
    for place, line in enumerate(below):
        pen.text((PAD, bottom + place * LINE), line, GREY, font(16))
    notes, data = PngImagePlugin.PngInfo(), io.BytesIO()
    made = {"size": size, "settings": dict(comparison.stored)}
    made |= {"medians": comparisons.medians(comparison, size)}
    notes.add_itxt("provenance", json.dumps(made, sort_keys=True))
    if dataset is not None:
        by = [
            {"method": e.method, "target": e.target, "contributors": crediting.counted(e.removed, dataset.train.rows)}
            for e in shown
            if e.removed
        ]
        notes.add_itxt("credits", json.dumps(by, ensure_ascii=False))
    if terms:
        notes.add_itxt("licence", terms)
    sheet.save(data, "PNG", pnginfo=notes)
    return data.getvalue()


def _words(pen: ImageDraw.ImageDraw, words: str, left: int, top: int) -> None:
    """Write a column's name in at most two lines over its middle."""
    lines, most = [""], CELL + GAP - 6
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font(16)) <= most or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    pen.multiline_text((left + CELL // 2, top), "\n".join(lines[:2]), INK, font(16), anchor="ma", align="center")
