"""A dataset's content before and after it is stored: two splits of pictures with their rows.

A row holds what is known of one picture: `origin` (where it comes from), `label`, `name`,
`contributor`, `family` (pictures that are versions of one another) and `caption`, with an
empty string for what is not known, and whatever else the source tells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.datasets import duplicates
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError
from dtrak_core.settings import digest_of, key_of
from dtrak_core.store import Artifact

KIND, TRAIN, HELD_OUT = "datasets", "train", "held-out"
MIN_PICTURES = 8  # fewer cannot be split and trained on
MAX_BYTES = 4 * 2**30  # pixels of one dataset, or one array of a file, that are taken into memory
MAX_PICTURES = 2_000_000  # of one dataset; the facts of so many take a few gigabytes too
HOLD_OUT_SEED = 42
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")  # labels that are told apart by value
DARK = 8  # grey levels that are seen as black


@dataclass(frozen=True)
class Split:
    """Pictures, shape (N, H, W, 3), uint8, and one row of facts for each."""

    images: np.ndarray
    rows: list[dict[str, Any]]

    @property
    def labels(self) -> list[str]:
        """Return the label of each picture, in order."""
        return [row["label"] for row in self.rows]

    @property
    def prompts(self) -> list[str]:
        """Return what a text-to-image model is told of each picture, in order."""
        return [prompt_of(row) for row in self.rows]

    def examples(self, count: int = 16) -> tuple[str, ...]:
        """Return captions from all over the pictures, at most `count`, each once."""
        places = np.linspace(0, len(self.rows) - 1, count).astype(int)
        return tuple(dict.fromkeys(prompt for place in places if (prompt := prompt_of(self.rows[place]))))


@dataclass(frozen=True)
class LeftOut:
    """A file of the source that is not among the pictures, or a folder (ending in /) of `count` files, and why."""

    file: str
    reason: str
    count: int = 1


@dataclass(frozen=True)
class Content:
    """What a source gives: both splits, the terms of use, the files left out, and what was assumed, in sentences."""

    train: Split
    held_out: Split
    licence: str = ""
    credit: str = ""
    skipped: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # by number, where the source numbers them


def check_size(count: int, side: int) -> None:
    """Refuse `count` pictures of `side` x `side` that would not fit into memory, before any of them is read.

    Raises:
        DataError: If they are more than MAX_PICTURES or take more than MAX_BYTES.
    """
    taken = count * side * side * 3
    if count > MAX_PICTURES:
        raise DataError(
            f"{count:,} pictures are too many; at most {MAX_PICTURES:,} are allowed. Choose fewer pictures."
        )
    if taken > MAX_BYTES:
        raise DataError(
            f"{count:,} pictures of {side} x {side} take {taken / 2**30:.1f} GiB; at most "
            f"{MAX_BYTES // 2**30} are allowed. Choose a smaller resolution or fewer pictures."
        )


def notes_on(images: np.ndarray) -> list[str]:
    """Return a note where pictures, shape (N, H, W, 3), uint8, are nearly black: their values were of another scale."""
    most = int(images.max()) if images.size else 255
    return [f"The pictures are nearly black: no value is above {most} of 255. Rescale them."] if most < DARK else []


def grey(images: np.ndarray) -> np.ndarray:
    """Return the one colour of grey pictures (B, H, W, 3), uint8, shape (B, H, W, 1).

    Raises:
        DataError: If a picture is not grey.
    """
    if not is_grey(images):
        raise DataError(
            "The model sees grey pictures alone, and these have colours. Choose grey pictures, or a model of colours."
        )
    return np.ascontiguousarray(images[..., :1])


def is_grey(images: np.ndarray) -> bool:
    """Say whether pictures (B, H, W, 3) have no colours."""
    return bool((images == images[..., :1]).all())


def left_out_of(manifest: Mapping[str, Any]) -> tuple[LeftOut, ...]:
    """Return what the source of a stored dataset held beside its pictures.

    Before reasons were kept, broken files alone were named.
    """
    told = (
        {"file": one, "reason": "could not be read"} if isinstance(one, str) else one for one in manifest["skipped"]
    )
    return tuple(LeftOut(**one) for one in told)


def by_reason(left_out: Iterable[LeftOut]) -> dict[str, tuple[int, list[str]]]:
    """Return how many files were left out for each reason, and their names; the most frequent reason first."""
    found: dict[str, tuple[int, list[str]]] = {}
    for left in left_out:
        count, files = found.setdefault(left.reason, (0, []))
        files.append(f"{left.file} ({counted(left.count, 'file')})" if left.file.endswith("/") else left.file)
        found[left.reason] = (count + left.count, files)
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def row_of(origin: int | str, label: str, **facts: str) -> dict[str, Any]:
    """Return a row with every field that each picture has; what is not given is empty."""
    return {"origin": origin, "label": label, "name": "", "contributor": "", "family": "", "caption": ""} | facts


def prompt_of(row: Mapping[str, Any]) -> str:
    """Return a picture's caption; without one a sentence with its label, or nothing."""
    label = str(row["label"]).replace("_", " ").lower()
    return str(row["caption"]) or (f"a picture of {label}" if label else "")


def has_captions(kind: str, *splits: Split) -> bool:
    """Say whether captions belong to a dataset's identity: where there are any.

    OpenMoji's are part of this project and left out, as they were when the datasets that ship were stored.
    """
    return not kind.startswith("openmoji") and any(row["caption"] for split in splits for row in split.rows)


def content_digest(train: Split, held_out: Split, captioned: bool) -> str:
    """Return 16 hex digits of the pixels and labels of both splits, and of captions: the identity of a dataset.

    `captioned` False leaves the captions out, as did the datasets that were stored before text-to-image models.
    """
    parts: list[bytes | str] = []
    for split in (train, held_out):
        parts += [str(split.images.shape), np.ascontiguousarray(split.images).tobytes(), json.dumps(split.labels)]
        if captioned:
            parts.append(json.dumps([row["caption"] for row in split.rows]))
    return digest_of(*parts)


def facts_digest(train: Split) -> str:
    """Return 16 hex digits of each training picture's contributor and family, on which training does not depend."""
    return digest_of(json.dumps([[row.get("contributor", ""), row.get("family", "")] for row in train.rows]))


def hold_out(everything: Split) -> tuple[Split, Split]:
    """Hold out one picture in ten, at least one, by a seeded draw; the order stays as it was.

    Pictures that are equal by pixels are drawn as one, so that none is on both sides. Where each is there more often
    than one in ten, none is held out: a whole kind of pictures would be missing from training.

    Returns:
        The training split and the held-out split.
    """
    count = len(everything.rows)
    order, equal = np.random.RandomState(HOLD_OUT_SEED).permutation(count), duplicates.classes(everything.images)
    drawn = duplicates.drawn(order, equal, max(1, round(count / 10)))
    is_held_out = np.zeros(count, bool)
    is_held_out[drawn] = True
    train, held_out = (
        Split(everything.images[mask], [row for row, chosen in zip(everything.rows, mask, strict=True) if chosen])
        for mask in (~is_held_out, is_held_out)
    )
    return train, held_out


def drawn_apart(everything: Split, count: int, seed: int) -> tuple[Split, Split]:
    """Shuffle pictures, and hold out `count` of them, none that equals another by pixels (`duplicates.drawn`).

    Returns:
        The training split and the held-out split.
    """
    order = np.random.RandomState(seed).permutation(len(everything.rows))
    held_out = duplicates.drawn(order, duplicates.classes(everything.images), count)
    train, rest = (
        Split(everything.images[chosen], [everything.rows[i] for i in chosen])
        for chosen in (order[~np.isin(order, held_out)], held_out)
    )
    return train, rest


def keep(settings: DatasetSettings, read: Content) -> Artifact:
    """Store pictures that were read and checked, unless these settings are stored already."""
    key = key_of(KIND, settings)
    captioned = has_captions(settings.kind, read.train, read.held_out)
    facts = {"licence": read.licence, "credit": read.credit, "notes": read.notes, "captioned": captioned}
    with store.computing(KIND, key) as stored:
        if stored is not None:
            return stored
        folder = store.partial(KIND, key)
        for stem, split in ((TRAIN, read.train), (HELD_OUT, read.held_out)):
            store.write_array(folder / f"{stem}.npy", split.images)
            store.write_json(folder / f"{stem}.json", split.rows)
        return store.publish(
            KIND,
            key,
            settings,
            name=settings.name,
            digest=content_digest(read.train, read.held_out, captioned),
            counts={"train": len(read.train.rows), "held_out": len(read.held_out.rows)},
            labels=sorted(set(read.train.labels) | set(read.held_out.labels)),
            skipped=[asdict(left) for left in read.skipped],
            classes=read.classes,
            **facts,
        )


def split_of(artifact: Artifact, stem: str) -> Split:
    """Read one split of a stored dataset, `TRAIN` or `HELD_OUT`; its pictures are a read-only memory map."""
    return Split(np.asarray(artifact.array(f"{stem}.npy")), rows_of(artifact, stem))


def rows_of(artifact: Artifact, stem: str) -> list[dict[str, Any]]:
    """Read the rows of one split of a stored dataset, `TRAIN` or `HELD_OUT`."""
    rows: list[dict[str, Any]] = json.loads(artifact.read(f"{stem}.json"))
    return rows


def classes_of(labels: Iterable[str], numbered: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the classes of labels by number: as the source numbers them, else numbers by value, text by letter.

    Pictures without a label have no class.
    """
    left = {label for label in labels if label} - set(numbered)
    by_value = all(NUMBER.fullmatch(label) for label in left)
    return (*numbered, *sorted(left, key=lambda label: (Decimal(label) if by_value else 0, label)))
