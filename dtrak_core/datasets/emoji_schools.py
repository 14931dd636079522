"""emoji-schools: 476 subjects, each as two design schools have drawn it, what LoRA weights of the text demo learn.

The pictures, 32 pixels a side, lie in data/emoji_schools.npz (`openmoji`, `fluent`: (476, 32, 32, 3), uint8), the facts
in data/emoji_schools.csv (code point, name, group, subgroup), the terms of use in data/emoji_schools.txt. They are 30 %
of the 1,586 subjects that OpenMoji, Noto, Twemoji and Fluent have all drawn; the demo's base has seen the others of
these two schools, and all of the other two (demo/schools.py, which draws them anew from the packages).

The school is a picture's contributor, the subject its family: two pictures of one family show the same by two hands.
Labels are OpenMoji's groups, so that random parts are drawn evenly among them and not one of each family.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core.datasets.content import Content, Split, drawn_apart, row_of
from dtrak_core.errors import SettingsError
from dtrak_core.progress import Count

FACTS = Path(__file__).parent / "data" / "emoji_schools.csv"
PICTURES, NOTICES = FACTS.with_suffix(".npz"), FACTS.with_suffix(".txt")
COLUMNS = ("hexcode", "name", "group", "subgroup")
RESOLUTION = 32
SCHOOLS = {"openmoji": "CC BY-SA 4.0", "fluent": "MIT"}  # by name, under which terms
LICENCE = "CC BY-SA 4.0 (OpenMoji), MIT (Fluent)"
CREDIT = (
    "Emojis of the school openmoji: designed by OpenMoji – the open-source emoji and icon project. License: CC BY-SA "
    "4.0. Emojis of the school fluent: Fluent Emoji, © Microsoft Corporation. License: MIT"
)
HELD_OUT, SPLIT_SEED = 96, 42


def load(resolution: int, on_progress: Count | None = None) -> Content:
    """Read the pictures: 856 for training, 96 held out.

    Raises:
        SettingsError: If they are asked for at another size than 32 pixels.
    """
    if resolution != RESOLUTION:
        raise SettingsError(f"emoji-schools comes at {RESOLUTION} pixels a side; {resolution} were asked for.")
    with np.load(PICTURES) as arrays:
        images = np.concatenate([arrays[school] for school in SCHOOLS])
    rows = facts()
    if on_progress is not None:
        on_progress(len(rows), len(rows))
    return Content(*drawn_apart(Split(images, rows), HELD_OUT, SPLIT_SEED), LICENCE, CREDIT)


def facts() -> list[dict[str, Any]]:
    """Return the row of each picture, all of one school and then all of the other."""
    with FACTS.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return [
        row_of(
            f"{school}/{line['hexcode']}",
            line["group"],
            name=line["name"],
            contributor=school,
            family=line["hexcode"],
            caption=caption(school, line["name"]),
            subgroup=line["subgroup"],
            licence=licence,
        )
        for school, licence in SCHOOLS.items()
        for line in lines
    ]


def caption(school: str, name: str) -> str:
    """Return what a text-to-image model is told of a school's picture: a fluent emoji of a fox."""
    head = name.partition(":")[0].partition(" with ")[0].partition(" of ")[0]
    plural = head.endswith("s") and not head.endswith(("ss", "us"))
    named = name if plural or not name[0].isascii() or not name[0].islower() else f"{_article(name)} {name}"
    return f"{_article(school)} {school} emoji of {named}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
