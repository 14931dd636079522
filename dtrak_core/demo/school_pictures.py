"""Which pictures of the four schools the text demo's base learns, and which its LoRA weights: those that ship.

            noto, twemoji           openmoji, fluent
70 %        base                    base
30 %        base                    LoRA: every word is known to the base, every pair of subject and school new
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.datasets import emoji_schools
from dtrak_core.datasets.emoji_schools import COLUMNS, FACTS, PICTURES, RESOLUTION, caption
from dtrak_core.demo import school_packages
from dtrak_core.demo.school_packages import Subject
from dtrak_core.progress import Count

WHOLE = ("noto", "twemoji")
SHARE, SPLIT_SEED = 0.3, 42


def parted(subjects: list[Subject]) -> tuple[list[Subject], list[Subject]]:
    """Return the subjects that the base sees of all schools, and those that LoRA weights learn, each in order."""
    count = round(SHARE * len(subjects))
    chosen = set(np.random.RandomState(SPLIT_SEED).permutation(len(subjects))[:count].tolist())
    seen, new = ([s for i, s in enumerate(subjects) if (i in chosen) == one] for one in (False, True))
    return seen, new


def of_base(folder: Path, on_progress: Count) -> tuple[np.ndarray, list[str]]:
    """Return what the base learns: pictures (N, 32, 32, 3), uint8, and their captions.

    Args:
        folder: Where the packages lie, or are fetched to.
        on_progress: Called with the number of pictures drawn of a school, and their total.
    """
    every = school_packages.subjects(folder)
    seen, _ = parted(every)
    images, captions = [], []
    for school in (*WHOLE, *emoji_schools.SCHOOLS):
        chosen = every if school in WHOLE else seen
        images.append(school_packages.drawn(chosen, school, folder, RESOLUTION, on_progress))
        captions += [caption(school, one.name) for one in chosen]
    return np.concatenate(images), captions


def write_shipped(folder: Path, on_progress: Count) -> None:
    """Write the pictures and facts of emoji-schools into the project, drawn from the packages."""
    _, new = parted(school_packages.subjects(folder))
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerows([COLUMNS, *((one.hexcode, one.name, one.group, one.subgroup) for one in new)])
    made: dict[str, Any] = {
        school: school_packages.drawn(new, school, folder, RESOLUTION, on_progress) for school in emoji_schools.SCHOOLS
    }
    pictures = io.BytesIO()
    np.savez_compressed(pictures, **made)
    store.write_bytes(FACTS, lines.getvalue().encode())
    store.write_bytes(PICTURES, pictures.getvalue())
