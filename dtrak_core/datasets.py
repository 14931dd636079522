"""Named datasets: prepared once, stored, and opened by name or digest.

A dataset is an artifact of kind `datasets`: train.npy and held-out.npy (N, H, W, 3) uint8, and
train.json and held-out.json with one row of facts a picture (see splits.py). Its digest, of
the pixels and labels of both splits, is what checkpoints and features refer to; its name is
the user's. Two datasets may bear one name: the newest is then meant. This module needs no torch.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import artbench, celeba, cifar, openmoji, pictures, store
from dtrak_core.errors import NotFoundError, SettingsError, StoreError
from dtrak_core.settings import DatasetKind, DatasetSettings, build, digest_of, key_of
from dtrak_core.splits import Content, Split, content_digest, has_own_captions
from dtrak_core.store import Artifact

__all__ = [
    "DEFAULT",
    "Dataset",
    "Split",
    "by_digest",
    "by_name",
    "image_digest",
    "load",
    "names",
    "prepare",
    "source_settings",
]

KIND = "datasets"
DEFAULT = "openmoji-people"
PREPARE = "python -m dtrak_core dataset"
OWN_KINDS = ("folder", "npz")
RESOLUTIONS = {  # of the built-in datasets, where the user names none
    "openmoji-people": 16, "openmoji-roles": 32, "cifar2": 32, "cifar10": 32, "celeba": 64, "artbench2": 256,
    "artbench5": 256,
}  # fmt: skip
BUILT_IN = tuple(RESOLUTIONS)
FROM_FILES = ("celeba", "artbench2", "artbench5")  # built in, read from the user's copy
DIGEST_AT_ONCE = 64 * 2**20  # bytes of pixels up to which the digest is checked when a dataset is opened


@dataclass(frozen=True)
class Dataset:
    """A stored dataset: pictures and rows of both splits, and what it may be used for."""

    name: str
    key: str
    digest: str
    settings: DatasetSettings
    train: Split
    held_out: Split
    licence: str
    credit: str
    shipped: bool
    skipped: tuple[str, ...] = ()


def prepare(
    settings: DatasetSettings,
    source: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Artifact:
    """Store a dataset, unless these settings are stored already.

    Everything is read and checked before the first byte is written, so a source that is
    refused leaves nothing behind.

    Args:
        settings: Which pictures; for the user's own, made by `source_settings`.
        source: The folder or .npz of the user's own pictures; None for built-in datasets.
        on_step: Told the number of pictures read and their total.

    Raises:
        SettingsError: If name, kind and source do not go together.
        DataError: If the pictures cannot be read as asked.
    """
    key = key_of(KIND, settings)
    stored = store.find(KIND, key)
    if stored is not None:
        return stored
    content = _read(settings, source, on_step)
    captioned = has_own_captions(content.train)
    folder = store.partial(KIND, key)
    for stem, split in (("train", content.train), ("held-out", content.held_out)):
        store.write_array(folder / f"{stem}.npy", split.images)
        store.write_json(folder / f"{stem}.json", split.rows)
    return store.publish(
        KIND,
        key,
        settings,
        name=settings.name,
        digest=content_digest(content.train, content.held_out, captioned),
        captioned=captioned,
        counts={"train": len(content.train.rows), "held_out": len(content.held_out.rows)},
        labels=sorted(set(content.train.labels) | set(content.held_out.labels)),
        licence=content.licence,
        credit=content.credit,
        skipped=content.skipped,
    )


def source_settings(
    kind: DatasetKind, source: Path, name: str, resolution: int, on_broken: str = "refuse"
) -> DatasetSettings:
    """Return the settings for the user's own pictures, with the digest of the files as they are now.

    Raises:
        SettingsError: If the name is that of a built-in dataset or a value is refused.
        NotFoundError: If the folder or file is not there.
        DataError: If it is not a folder of pictures or an .npz.
    """
    if kind not in OWN_KINDS:
        raise SettingsError(f"'{kind}' is built in and has no source. Own pictures are of kind: folder, npz.")
    _check_name(name, kind)
    return build(
        DatasetSettings,
        kind=kind,
        name=name,
        resolution=resolution,
        on_broken=on_broken,
        source_digest=pictures.source_digest(kind, source),
    )


def names() -> list[str]:
    """Return the names that can be opened or prepared: stored ones, and the default."""
    return sorted({artifact.manifest["name"] for artifact in store.listing(KIND)} | {DEFAULT})


def by_name(name: str) -> Dataset:
    """Open the newest stored dataset of this name.

    Raises:
        NotFoundError: If there is none; the message lists the names or says how to prepare it.
    """
    found = [artifact for artifact in store.listing(KIND) if artifact.manifest["name"] == name]
    if found:
        return load(max(found, key=_age))
    if name == DEFAULT:
        raise NotFoundError(f"'{name}' has not been prepared yet. Prepare it with: {PREPARE}.")
    raise NotFoundError(f"There is no dataset '{name}'. Available: {', '.join(names())}.")


def by_digest(digest: str) -> Dataset:
    """Open a stored dataset by the digest of its pixels and labels.

    Raises:
        NotFoundError: If none has it, for example because it was deleted.
    """
    found = [artifact for artifact in store.listing(KIND) if artifact.manifest["digest"] == digest]
    if not found:
        raise NotFoundError(
            f"The dataset with digest {digest} is not stored. Prepare it again, or choose another of: "
            f"{', '.join(names())}."
        )
    return load(max(found, key=_age))


def load(artifact: Artifact) -> Dataset:
    """Open a stored dataset; each is read and checked once for as long as the process lasts."""
    return _load(artifact.key, artifact.path, artifact.manifest["date"])


def image_digest(image: np.ndarray) -> str:
    """Return 16 hex digits of a picture's shape and pixels, shape (H, W, 3), uint8."""
    return digest_of(str(image.shape), np.ascontiguousarray(image).tobytes())


@functools.lru_cache(maxsize=16)
def _load(key: str, path: Path, date: str) -> Dataset:
    artifact = store.get(KIND, key)
    manifest = artifact.manifest
    train, held_out = _split(artifact, "train"), _split(artifact, "held-out")
    if train.images.nbytes + held_out.images.nbytes <= DIGEST_AT_ONCE:
        digest = content_digest(train, held_out, manifest.get("captioned", False))
        if digest != manifest["digest"]:
            raise StoreError(
                f"Dataset '{manifest['name']}' has digest {digest}, its manifest says {manifest['digest']}. "
                "Delete it and prepare it again."
            )
    return Dataset(
        manifest["name"],
        key,
        manifest["digest"],
        build(DatasetSettings, **artifact.settings),
        train,
        held_out,
        manifest["licence"],
        manifest["credit"],
        artifact.shipped,
        tuple(manifest["skipped"]),
    )


def _split(artifact: Artifact, stem: str) -> Split:
    images = np.asarray(artifact.array(f"{stem}.npy"))
    rows: list[dict[str, Any]] = json.loads(artifact.file(f"{stem}.json").read_bytes())
    return Split(images, rows)


def _read(settings: DatasetSettings, source: Path | None, on_step: Callable[[int, int], None] | None) -> Content:
    """Read the pictures that the settings ask for."""
    _check_name(settings.name, settings.kind)
    if settings.kind in OWN_KINDS:
        if source is None:
            raise SettingsError(f"Dataset '{settings.name}' is of kind {settings.kind}; give the path of its pictures.")
        return pictures.load(settings, source, on_step)
    if settings.kind == "celeba":
        return celeba.load(settings.resolution, source, on_step)
    if settings.kind in ("artbench2", "artbench5"):
        return artbench.load(settings.kind, settings.resolution, source, on_step)
    if source is not None:
        raise SettingsError(f"'{settings.kind}' is built in and has no source. Leave the path out.")
    if settings.kind in ("openmoji-people", "openmoji-roles"):
        return openmoji.load(settings.resolution, on_step, settings.kind)
    return cifar.load(settings.kind, settings.resolution, on_step)


def _check_name(name: str, kind: DatasetKind) -> None:
    if name in BUILT_IN and name != kind:
        raise SettingsError(f"'{name}' is the name of a built-in dataset. Choose another name for this one.")


def _age(artifact: Artifact) -> tuple[str, int]:
    return artifact.manifest["date"], (artifact.path / store.MANIFEST).stat().st_mtime_ns
