"""CelebA with the paper's draws (Zheng et al. 2024): 5,000 training and 1,000 validation pictures.

Read are the aligned pictures (img_align_celeba/*.jpg, 178 x 218) and list_eval_partition.txt, from a folder that the
user names, or once by torchvision's own download. As the paper prepares them: the middle 140 x 140 pixels, reduced to
64. `origin` is the row of the partition file, from 0. The held-out pictures are of partition 1, as the authors' code
takes them, not of the test partition.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dtrak_core import store
from dtrak_core.datasets import subsets
from dtrak_core.datasets.content import Content, Split, check_size, row_of
from dtrak_core.datasets.images import decoded, fit
from dtrak_core.errors import DataError, NotFoundError, first_line, words_of
from dtrak_core.progress import Count

PICTURES, PARTITIONS = "img_align_celeba", "list_eval_partition.txt"
ALIGNED = (178, 218)  # width and height
CROP = 140
SEED = 42
PARTS = {0: 5_000, 1: 1_000}  # how many are drawn of each partition
BEGINS = {0: (48803, 28992, 118843, 86803, 153263), 1: (167013, 179842, 176165, 167714, 180120)}
WHOLE = {0: 162_770, 1: 19_867}
LICENCE = "For non-commercial research alone, by its authors' terms"
CREDIT = "CelebA: Liu, Luo, Wang, Tang, Deep Learning Face Attributes in the Wild, ICCV 2015"
GET_IT = (
    f"Give --source with the folder that holds {PICTURES}/ and {PARTITIONS} (both from the home of CelebA: "
    "'Align&Cropped Images' and 'Train/Val/Test Partitions')"
)


def load(resolution: int, source: Path | None, on_progress: Count | None = None) -> Content:
    """Read the paper's part of CelebA.

    Args:
        resolution: Pixels a side; the paper has 64.
        source: Folder with the aligned pictures and the partition file; None downloads them by torchvision.
        on_progress: Called with the number of pictures read and their total.

    Raises:
        NotFoundError: If a file is not there; the sentence names it.
        DataError: If they would not fit into memory, the partition file is not CelebA's, or a picture cannot be read or
            is not of the aligned ones' size.
    """
    check_size(sum(PARTS.values()), resolution)
    folder = _downloaded() if source is None else source
    names, drawn = _drawn(folder)
    total, read, splits = sum(PARTS.values()), 0, []
    for part in PARTS:
        images = np.empty((len(drawn[part]), resolution, resolution, 3), np.uint8)
        for place, row in enumerate(drawn[part]):
            images[place] = _picture(folder / PICTURES / names[row], resolution)
            read += 1
            if on_progress is not None:
                on_progress(read, total)
        splits.append(Split(images, [row_of(int(row), "", name=names[row]) for row in drawn[part]]))
    return Content(splits[0], splits[1], LICENCE, CREDIT)


def files(folder: Path) -> list[Path]:
    """Return all files that are read of a copy of CelebA: the partition file, then the drawn pictures in order.

    The errors are those of `load`.
    """
    names, drawn = _drawn(folder)
    paths = [folder / PICTURES / names[row] for part in PARTS for row in drawn[part]]
    for path in paths:
        if not path.is_file():
            raise _lacking(path)
    return [folder / PARTITIONS, *paths]


def _drawn(folder: Path) -> tuple[list[str], dict[int, np.ndarray]]:
    """Return the names of all pictures, and for each part the rows of the partition file that are drawn."""
    table = folder / PARTITIONS
    if not table.is_file():
        raise NotFoundError(f"'{folder.name}' has no {PARTITIONS}. {GET_IT}.")
    try:
        rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{PARTITIONS} cannot be read ({words_of(error)}). {GET_IT}.") from None
    if any(len(row) != 2 or not row[1].isdecimal() for row in rows):
        raise DataError(f"{PARTITIONS} is not CelebA's: each line should be a file name and 0, 1 or 2. {GET_IT}.")
    partition = np.array([int(part) for _, part in rows])
    return [name for name, _ in rows], {part: _draw(partition, part) for part in PARTS}


def _lacking(path: Path) -> NotFoundError:
    return NotFoundError(f"'{path.parent.name}' has no {path.name}. {GET_IT}.")


def _draw(partition: np.ndarray, part: int) -> np.ndarray:
    pool = np.flatnonzero(partition == part)
    if len(pool) != WHOLE[part]:
        raise DataError(
            f"{PARTITIONS} has {len(pool):,} pictures in partition {part}; CelebA has {WHOLE[part]:,}. {GET_IT}."
        )
    drawn: np.ndarray = pool[subsets.draw(len(pool), PARTS[part], SEED)]
    if tuple(drawn[:5].tolist()) != BEGINS[part]:
        raise DataError(
            f"The draw of partition {part} begins with {', '.join(map(str, drawn[:5]))}, the paper's with "
            f"{', '.join(map(str, BEGINS[part]))}. The rows of {PARTITIONS} must be in the original order."
        )
    return drawn


def _picture(path: Path, resolution: int) -> np.ndarray:
    try:
        whole = decoded(path.read_bytes(), path.name, resolution)
    except FileNotFoundError:
        raise _lacking(path) from None
    except DataError as error:
        raise DataError(f"{error} Unpack the archive again.") from None
    if whole.size != ALIGNED:
        raise DataError(
            f"'{path.name}' is {whole.width} x {whole.height} pixels; CelebA's aligned pictures are "
            f"{ALIGNED[0]} x {ALIGNED[1]}, of which the middle is taken. {GET_IT}."
        )
    left, top = (whole.width - CROP) // 2, (whole.height - CROP) // 2
    return fit(whole.crop((left, top, left + CROP, top + CROP)), resolution)


def _downloaded() -> Path:
    folder = store.root() / "downloads"
    try:
        from torchvision.datasets import CelebA

        CelebA(str(folder), split="all", target_type=[], download=True)
    except Exception as error:  # torchvision, gdown and the network each raise their own kinds
        first = first_line(error)
        raise DataError(f"CelebA could not be downloaded ({first[:160]}). {GET_IT}.") from None
    return folder / "celeba"
