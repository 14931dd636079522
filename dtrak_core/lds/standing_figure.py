"""The table of an LDS as one PNG: a row a method, marks with intervals, what chance gives, and what is reachable.

Drawn with Pillow alone, so that it needs no browser.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, PngImagePlugin

from dtrak_core.lds import standing_sheet, standings
from dtrak_core.lds.standing_sheet import Sheet
from dtrak_core.methods import report
from dtrak_core.methods.figure import GREY, INK, LINE, PAD, RULE, font, wrapped

AXIS, HEAD, ROW, MARK = 760, 84, 40, 6  # pixels: axis, above the rows, a row, half a mark
COLOURS = {"generated": (139, 39, 222), "held-out": (196, 104, 56)}
CHANCE = (222, 222, 226)
STEPS = (0.02, 0.05, 0.1, 0.2, 0.5)  # between two ticks, as few as 10 of which fill the axis


def to_png(sheet: Sheet, date: str = "") -> bytes:
    """Draw the LDS of each method with its interval, best first; below it, of what it is and how it was measured.

    Returns:
        The PNG file, with the answer as JSON (`standing_sheet.document`) in the text chunk `provenance`.
    """
    told = standing_sheet.document(sheet, date)
    kinds = [words for words in standings.KINDS if words in told["targets"]]
    best: dict[str, tuple[bool, float]] = {}
    for row in told["rows"]:
        best[row["label"]] = max(best.get(row["label"], (False, -1.0)), (row["targets"] == kinds[0], row["lds"]))
    names = sorted(best, key=lambda name: best[name], reverse=True)
    left = PAD + round(max((font(18).getlength(name) for name in names), default=0)) + PAD
    width, bottom = left + AXIS + 2 * PAD, HEAD + ROW * len(names)
    made = sheet.facts | {"written": f"{told['date']}, version {told['versions']['dtrak-studio']}"}
    said = [*filter(None, [told["leak"]]), "; ".join(f"{name} {words}" for name, words in made.items()) + "."]
    said.insert(0, "Linear datamodeling score (LDS): 1 is best. Lines are 95 % intervals over subsets (BCa).")
    below = [line for text in said for line in wrapped(text, width - 2 * PAD)]
    sheet_of = Image.new("RGB", (width, bottom + 64 + LINE * len(below) + PAD), "white")
    pen = ImageDraw.Draw(sheet_of)
    across = _axis(pen, told, left, bottom)
    floors = {words: told["targets"][words]["noise_floor"] for words in kinds}
    _legend(pen, floors, left, any(row["by_chance"] for row in told["rows"]))
    for words, floor in floors.items():
        if floor is not None:
            _dashed(pen, across(floor), HEAD, bottom, COLOURS[words], 6 if words == kinds[0] else 2)
    for place, name in enumerate(names):
        middle = HEAD + ROW * place + ROW // 2
        pen.text((left - PAD // 2, middle), name, INK, font(18), anchor="rm")
        for row in (row for row in told["rows"] if row["label"] == name):
            _row(pen, row, middle + (-8 if row["targets"] == kinds[0] else 8), across)
    for number, line in enumerate(below):
        pen.text((PAD, bottom + 64 + LINE * number), line, GREY, font(16))
    notes, data = PngImagePlugin.PngInfo(), io.BytesIO()
    notes.add_itxt("provenance", json.dumps(told, ensure_ascii=False, allow_nan=False))
    sheet_of.save(data, "PNG", pnginfo=notes)
    return data.getvalue()


def _axis(pen: ImageDraw.ImageDraw, told: Mapping[str, Any], left: int, bottom: int) -> Callable[[float], float]:
    """Draw ticks and their numbers; return what places an LDS."""
    values = [0.0, *(facts["noise_floor"] or 0.0 for facts in told["targets"].values())]
    for row in told["rows"]:
        chance = row["by_chance"] or {"low": 0.0, "high": 0.0}
        values += [row["lds"], *(row["interval"] or ()), chance["low"], chance["high"]]
    span = max(values) - min(values)
    step = next((one for one in STEPS if span <= 10 * one), STEPS[-1])
    first, last = math.floor(min(values) / step), max(math.ceil(max(values) / step), 1)

    def across(value: float) -> float:
        return left + AXIS * (value / step - first) / (last - first)

    for tick in range(first, last + 1):
        x = across(tick * step)
        pen.line((x, HEAD, x, bottom), RULE if tick == 0 else CHANCE, 2 if tick == 0 else 1)
        pen.text((x, bottom + 8), f"{tick * step:.2f}", GREY, font(16), anchor="ma")
    pen.text((left + AXIS // 2, bottom + 32), "LDS", INK, font(16), anchor="ma")
    return across


def _legend(pen: ImageDraw.ImageDraw, floors: Mapping[str, float | None], left: int, by_chance: bool) -> None:
    """Say above the rows what marks, bars and lines are."""
    x, y = float(left), PAD
    for words in floors:
        _mark(pen, words, x + MARK, y)
        x = _named(pen, f"{words} targets", x + 4 * MARK, y)
    if by_chance:
        pen.rectangle((x, y - 4, x + 28, y + 4), CHANCE)
        x = _named(pen, "by chance, 95 %", x + 36, y)
    x, y = float(left), PAD + LINE
    for number, (words, floor) in enumerate(floors.items()):
        if floor is not None:
            _dashed(pen, x + MARK, y - 10, y + 10, COLOURS[words], 6 if number == 0 else 2)
            x = _named(pen, f"reachable, {words}: {floor:.2f}", x + 4 * MARK, y)


def _named(pen: ImageDraw.ImageDraw, words: str, left: float, middle: float) -> float:
    """Write beside a sign what it is; return where the next may stand."""
    pen.text((left, middle), words, INK, font(16), anchor="lm")
    return left + font(16).getlength(words) + PAD


def _row(pen: ImageDraw.ImageDraw, row: Mapping[str, Any], y: int, across: Callable[[float], float]) -> None:
    if row["by_chance"] is not None:
        pen.rectangle((across(row["by_chance"]["low"]), y - 4, across(row["by_chance"]["high"]), y + 4), CHANCE)
    if row["interval"] is not None:
        low, high = row["interval"]
        pen.line((across(low), y, across(high), y), COLOURS[row["targets"]], 2)
    _mark(pen, row["targets"], across(row["lds"]), y)


def _mark(pen: ImageDraw.ImageDraw, words: str, x: float, y: float) -> None:
    """Draw a disc for generated targets, a diamond for held-out ones."""
    if words == "generated":
        pen.ellipse((x - MARK, y - MARK, x + MARK, y + MARK), COLOURS[words])
    else:
        corners = [(x, y - MARK - 1), (x + MARK + 1, y), (x, y + MARK + 1), (x - MARK - 1, y)]
        pen.polygon(corners, COLOURS[words])


def _dashed(pen: ImageDraw.ImageDraw, x: float, top: int, bottom: int, ink: tuple[int, int, int], dash: int) -> None:
    for y in range(top, bottom, 2 * dash):
        pen.line((x, y, x, min(y + dash, bottom)), ink, 1)


WRITERS: dict[str, Callable[[Sheet], bytes]] = {
    ".csv": standing_sheet.to_csv,
    ".json": standing_sheet.to_json,
    ".tex": standing_sheet.to_latex,
    ".png": to_png,
}


def writer(path: Path) -> Callable[[Sheet], bytes]:
    """Return what writes an LDS into a file of this name, by its ending.

    Raises:
        SettingsError: If it has another ending.
    """
    return report.writer(path, WRITERS, "an LDS")
