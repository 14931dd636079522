"""Named datasets: prepared once, stored, and opened by name or digest.

A dataset is an artifact of kind `datasets`: train.npy and held-out.npy (N, H, W, 3) uint8, and
train.json and held-out.json with one row of facts a picture (see content.py). Its digest, of
the pixels, labels and captions of both splits, is what checkpoints and features refer to; its name is
the user's. Two datasets may bear one name: the newest is then meant. What training does not look at, contributors
and families, has a digest of its own, `facts`: two datasets may have equal pictures and other contributors.

When a dataset is opened, pictures that are equal by pixels are counted and their families joined (duplicates.py).
This module needs no torch.
"""

from __future__ import annotations

import datetime
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtrak_core import program, store
from dtrak_core.datasets import content, duplicates, sources
from dtrak_core.datasets.content import HELD_OUT, KIND, TRAIN, LeftOut, Split, content_digest, left_out_of
from dtrak_core.datasets.duplicates import Equal
from dtrak_core.datasets.settings import Columns, DatasetKind, DatasetSettings
from dtrak_core.errors import NotFoundError, SettingsError, StoreError
from dtrak_core.progress import Count
from dtrak_core.settings import build, digest_of, key_of
from dtrak_core.store import Artifact

DEFAULT = "openmoji-people"
PREPARE = program.command("dataset")
RESOLUTIONS = {  # of the built-in datasets, where the user names none
    "openmoji-people": 32, "openmoji-roles": 32, "emoji-schools": 32, "cifar2": 32, "cifar10": 32, "celeba": 64,
    "artbench2": 256, "artbench5": 256,
}  # fmt: skip
BUILT_IN = tuple(RESOLUTIONS)
PAPERS = ("cifar2", "cifar10", "celeba", "artbench2", "artbench5")  # whose splits are the paper's, kept as they are
DIGEST_AT_ONCE = 64 * 2**20  # bytes of pixels up to which the digest is checked when a dataset is opened


@dataclass(frozen=True)
class Dataset:
    """A stored dataset: pictures and rows of both splits, and what it may be used for.

    Rows of both splits have families as equal training pictures join them. `facts` is the digest of contributors and
    families in training, `classes` are the labels that there are, in the order in which a network numbers them.
    """

    name: str
    key: str
    digest: str
    facts: str
    settings: DatasetSettings
    train: Split
    held_out: Split
    equal: Equal
    licence: str
    credit: str
    shipped: bool
    skipped: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def prepare(
    settings: DatasetSettings,
    source: Path | None = None,
    on_progress: Count | None = None,
) -> Artifact:
    """Store a dataset, unless these settings are stored already.

    Everything is read and checked before the first byte is written, so a source that is
    refused leaves nothing behind.

    Args:
        settings: Which pictures; for the user's own, made by `source_settings`.
        source: The folder or .npz of the user's own pictures, or the copy of a built-in dataset that is read from
            one; None for the others.
        on_progress: Called with the number of pictures read and their total.

    Raises:
        SettingsError: If name, kind and source do not go together.
        DataError: If the pictures cannot be read as asked.
    """
    settings = settled(settings, source)
    key = key_of(KIND, settings)
    if (stored := store.find(KIND, key)) is not None:
        return stored
    check_name(settings.name, settings.kind)
    return content.keep(settings, sources.read(settings, source, on_progress))


def source_settings(
    kind: DatasetKind, source: Path, name: str, resolution: int, on_broken: str = "refuse", columns: Columns = ()
) -> DatasetSettings:
    """Return the settings for the user's own pictures, with the digest of the files as they are now.

    Raises:
        SettingsError: If the name is that of a built-in dataset or a value is refused.
        NotFoundError: If the folder or file is not there.
        DataError: If it is not a folder of pictures or an .npz.
    """
    if kind not in sources.OWN_KINDS:
        raise SettingsError(f"'{kind}' is built in and has no source. Own pictures are of kind: folder, npz.")
    check_name(name, kind)
    told = {"kind": kind, "name": name, "resolution": resolution, "on_broken": on_broken, "columns": columns}
    return build(DatasetSettings, **told, source_digest=sources.digest(kind, source))


def built_in(kind: DatasetKind, resolution: int | None = None) -> DatasetSettings:
    """Return the settings of a built-in dataset as it is usual: portraits that are equal by pixels stand there once."""
    equal = {"equal": "once"} if kind == "openmoji-people" else {}
    return build(
        DatasetSettings,
        kind=kind,
        name=kind,
        resolution=RESOLUTIONS[kind] if resolution is None else resolution,
        **equal,
    )


def settled(settings: DatasetSettings, source: Path | None) -> DatasetSettings:
    """Return the settings of a built-in dataset with the digest of the copy that it is read from; others as they are.

    Where no copy is named, what is stored of one is meant, the newest. A dataset from before copies had a digest is
    opened like any other, and read anew once its copy is named.

    Raises:
        NotFoundError: If a file of the copy is not there; the sentence names it.
        DataError: If the copy is not what was published.
    """
    if settings.kind not in sources.FROM_FILES or settings.source_digest:
        return settings
    if source is not None:
        return settings.model_copy(update={"source_digest": sources.digest(settings.kind, source)})
    asked = settings.model_dump(exclude={"source_digest"})
    alike = [artifact for artifact in store.listing(KIND) if asked.items() <= artifact.settings.items()]
    return build(DatasetSettings, **max(alike, key=_age).settings) if alike else settings


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


def by_digest(digest: str, facts: str = "") -> Dataset:
    """Open a stored dataset by the digest of its pixels, labels and captions.

    Args:
        digest: Its digest. Several datasets may have it, under other names or with other contributors and families;
            the newest is opened, whose pictures are the same.
        facts: Digest of contributors and families, where these matter too; empty where they do not.

    Raises:
        NotFoundError: If none has both, for example because it was deleted.
    """
    found = [artifact for artifact in store.listing(KIND) if identity(artifact) == digest]
    for dataset in map(load, sorted(found, key=_age, reverse=True)):
        if facts in ("", dataset.facts):
            return dataset
    if found:
        raise NotFoundError(
            f"The dataset with digest {digest} is stored with other contributors or families than were asked for. "
            "Prepare it again as it was, or ask again."
        )
    raise NotFoundError(
        f"The dataset with digest {digest} is not stored. Prepare it again, or choose another of: {', '.join(names())}."
    )


def identity(artifact: Artifact) -> str:
    """Return the digest of a stored dataset: its manifest's, unless that leaves captions out that belong to it.

    Of the user's own datasets that were stored before every caption counted, two with other captions have one digest
    in their manifests. Theirs is computed anew, once for as long as the process lasts.
    """
    if artifact.manifest.get("captioned", False) or artifact.settings["kind"] not in sources.OWN_KINDS:
        return str(artifact.manifest["digest"])
    return _identity(artifact.key, artifact.path, artifact.manifest["date"])


@functools.lru_cache(maxsize=1024)
def _identity(key: str, path: Path, date: str) -> str:
    artifact = store.get(KIND, key)
    bare = [Split(np.empty(0, np.uint8), content.rows_of(artifact, stem)) for stem in (TRAIN, HELD_OUT)]
    if not content.has_captions(artifact.settings["kind"], *bare):  # told without the pictures, which may be many
        return str(artifact.manifest["digest"])
    return content_digest(content.split_of(artifact, TRAIN), content.split_of(artifact, HELD_OUT), True)


def newest_of(digest: str) -> list[Dataset]:
    """Return the datasets with this digest that names mean: of each name the newest of them, in order of names."""
    of_name: dict[str, Artifact] = {}
    for artifact in sorted(store.listing(KIND), key=_age):
        if identity(artifact) == digest:
            of_name[artifact.manifest["name"]] = artifact
    return [load(of_name[name]) for name in sorted(of_name)]


def make_newest(artifact: Artifact) -> Artifact:
    """Let a dataset that was stored before, and is asked for again, be the one that its name means.

    So a table that was changed and changed back is meant again. What ships is left as it is.
    """
    alike = [one for one in store.listing(KIND) if one.manifest["name"] == artifact.manifest["name"]]
    if artifact.shipped or max(alike, key=_age).key == artifact.key:
        return artifact
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    store.write_json(artifact.path / store.MANIFEST, {**artifact.manifest, "date": now})
    return store.get(KIND, artifact.key)


def equal_pictures(dataset: Dataset) -> list[str]:
    """Say which pictures are equal by pixels: a sentence on training pictures, one on held-out ones, or none."""
    kind = dataset.settings.kind  # of arrays, what is held out is what the user gives, if anything
    return duplicates.told(dataset.equal, kind in PAPERS, kind != "arrays")


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
    train, held_out = (content.split_of(artifact, stem) for stem in (TRAIN, HELD_OUT))
    if train.images.nbytes + held_out.images.nbytes <= DIGEST_AT_ONCE:
        digest = content_digest(train, held_out, manifest.get("captioned", False))
        if digest != manifest["digest"]:
            raise StoreError(
                f"Dataset '{manifest['name']}' has digest {digest}, its manifest says {manifest['digest']}. "
                "Delete it and prepare it again."
            )
    equal = duplicates.between(train.images, held_out.images)
    families = duplicates.families(train.rows, equal.train)
    # What is held out goes by the names of the training families that have been joined.
    joined = {row.get("family", ""): one for row, one in zip(train.rows, families, strict=True)} | {"": ""}
    train = Split(train.images, [row | {"family": one} for row, one in zip(train.rows, families, strict=True)])
    named = [(row, row.get("family", "")) for row in held_out.rows]
    held_out = Split(held_out.images, [row | {"family": joined.get(name, name)} for row, name in named])
    return Dataset(
        manifest["name"],
        key,
        identity(artifact),
        content.facts_digest(train),
        build(DatasetSettings, **artifact.settings),
        train,
        held_out,
        equal,
        manifest["licence"],
        manifest["credit"],
        artifact.shipped,
        left_out_of(manifest),
        tuple(manifest.get("notes", ())),
        content.classes_of([*train.labels, *held_out.labels], manifest.get("classes", ())),
    )


def check_name(name: str, kind: DatasetKind) -> None:
    """Refuse the name of a built-in dataset for another one."""
    if name in BUILT_IN and name != kind:
        raise SettingsError(f"'{name}' is the name of a built-in dataset. Choose another name for this one.")


def _age(artifact: Artifact) -> tuple[str, int]:
    return artifact.manifest["date"], (artifact.path / store.MANIFEST).stat().st_mtime_ns
