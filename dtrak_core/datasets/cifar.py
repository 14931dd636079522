"""CIFAR-2 and CIFAR-10 with the paper's classes, sizes and index draws (Zheng et al. 2024).

CIFAR-2 is automobile and horse: 5,000 of their 10,000 training pictures and 1,000 of the test
split, both drawn with equal shares. CIFAR-10 is all 50,000 and 1,000 of the test split.

The authors' indices count the rows of a data hub's copy. That copy has the five training
files in the order in which they lie in the original archive, which is not the order of their
numbers, so the files are put in archive order here. Whether the draws then begin as the
authors' notebooks print them is checked. `origin` is that row number.

The pictures come from the authors' home of CIFAR-10, by torchvision, once; torchvision is
imported only when they are prepared.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dtrak_core import store
from dtrak_core.datasets import subsets
from dtrak_core.datasets.content import Content, Split, check_size, row_of
from dtrak_core.datasets.images import fit
from dtrak_core.errors import DataError
from dtrak_core.progress import Count

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

ARCHIVE_ORDER = (4, 3, 2, 5, 1)  # of data_batch_*, for an archive that was unpacked and thrown away
SEED = 42
LICENCE = "No licence stated by its authors; for research"
CREDIT = "CIFAR-10: Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"


@dataclass(frozen=True)
class Plan:
    """What the paper takes: classes by number (none: all), sizes, and how its draws begin."""

    classes: tuple[int, ...]
    train: int
    held_out: int
    train_begins: tuple[int, ...]
    held_out_begins: tuple[int, ...]


PLANS = {
    "cifar2": Plan(
        (1, 7),
        5_000,
        1_000,
        (17488, 17769, 25061, 7882, 4701, 38681, 11482, 37495, 39588, 5729),
        (7405, 5226, 1363, 6615, 7612),
    ),
    "cifar10": Plan((), 50_000, 1_000, (0, 1, 2, 3, 4), (9128, 5468, 62, 2465, 2810)),
}


def load(kind: str, resolution: int, on_progress: Count | None = None) -> Content:
    """Download CIFAR-10 if it is not there, and take the paper's part of it.

    Args:
        kind: `cifar2` or `cifar10`.
        resolution: Pixels a side; the pictures have 32.
        on_progress: Called with the number of pictures taken and their total.

    Raises:
        DataError: If they would not fit into memory, torchvision is missing, the download fails, or the archive is not
            the paper's.
    """
    plan = PLANS[kind]
    folder = store.root() / "downloads"
    total = plan.train + plan.held_out
    check_size(total, resolution)
    if on_progress is not None:
        on_progress(0, total)
    train = _take(_open(folder, True), batch_order(folder), plan.classes, plan.train, plan.train_begins, resolution)
    if on_progress is not None:
        on_progress(plan.train, total)
    held_out = _take(_open(folder, False), (1,), plan.classes, plan.held_out, plan.held_out_begins, resolution)
    if on_progress is not None:
        on_progress(total, total)
    return Content(train, held_out, LICENCE, CREDIT)


def batch_order(folder: Path) -> tuple[int, ...]:
    """Return the numbers of the training files in the order in which the archive holds them."""
    try:
        with tarfile.open(folder / "cifar-10-python.tar.gz") as archive:
            files = [Path(name).name for name in archive.getnames()]
    except FileNotFoundError:
        return ARCHIVE_ORDER
    return tuple(int(name.removeprefix("data_batch_")) for name in files if name.startswith("data_batch_"))


def _open(folder: Path, train: bool) -> CIFAR10:
    try:
        from torchvision.datasets import CIFAR10
    except ImportError as error:
        raise DataError(f"CIFAR-10 is read by torchvision, which cannot be imported ({error}).") from None
    try:
        return CIFAR10(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"CIFAR-10 could not be downloaded ({str(error).rstrip('.')}). Its home must be reachable once; or put "
            "cifar-10-python.tar.gz into cache/downloads yourself."
        ) from None


def _take(
    data: CIFAR10, order: tuple[int, ...], classes: tuple[int, ...], size: int, begins: tuple[int, ...], resolution: int
) -> Split:
    """Draw one split: pictures in archive order, of the plan's classes, by the paper's seed."""
    in_order = np.concatenate([np.array_split(np.arange(len(data.data)), len(order))[number - 1] for number in order])
    targets = np.asarray(data.targets)[in_order]
    pool = np.flatnonzero(np.isin(targets, classes)) if classes else np.arange(len(targets))
    drawn = pool[subsets.draw(len(pool), size, SEED, targets[pool].tolist())]
    if tuple(drawn[: len(begins)].tolist()) != begins:
        raise DataError(
            f"The draw begins with {', '.join(map(str, drawn[:5]))}, the paper's with "
            f"{', '.join(map(str, begins[:5]))}. Not the original archive: delete cache/downloads and try again."
        )
    images = data.data[in_order[drawn]]
    fitted = images if resolution == 32 else np.stack([fit(Image.fromarray(image), resolution) for image in images])
    rows = [row_of(int(i), data.classes[targets[i]], name=f"{data.classes[targets[i]]} {i}") for i in drawn]
    return Split(np.ascontiguousarray(fitted), rows)
