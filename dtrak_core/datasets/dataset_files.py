"""The files of a stored dataset: its two splits, and the digest that it is known by."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core import store
from dtrak_core.datasets import sources
from dtrak_core.datasets.content import Split, content_digest, has_captions
from dtrak_core.store import Artifact

TRAIN, HELD_OUT = "train", "held-out"


def split(artifact: Artifact, stem: str) -> Split:
    """Read one split, `TRAIN` or `HELD_OUT`; its pictures are a read-only memory map."""
    return Split(np.asarray(artifact.array(f"{stem}.npy")), _rows(artifact, stem))


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
    artifact = store.get("datasets", key)
    bare = [Split(np.empty(0, np.uint8), _rows(artifact, stem)) for stem in (TRAIN, HELD_OUT)]
    if not has_captions(artifact.settings["kind"], *bare):  # told without the pictures, which may be many
        return str(artifact.manifest["digest"])
    return content_digest(split(artifact, TRAIN), split(artifact, HELD_OUT), True)


def _rows(artifact: Artifact, stem: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(artifact.file(f"{stem}.json").read_bytes())
    return rows


def classes(labels: Iterable[str], numbered: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the classes of labels by number: as the source numbers them, else whole numbers by value, text by letter.

    Pictures without a label have no class.
    """
    left = {label for label in labels if label} - set(numbered)
    by_value = all(label.isdecimal() for label in left)
    return (*numbered, *sorted(left, key=lambda label: (int(label) if by_value else 0, label)))
