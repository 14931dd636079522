"""R, which leads from pictures to the band of a stored kernel and back: by its reflections, or whole.

R is Q in a "dual" kernel and Φ Q in a "primal" one (banded.py). Scores read some vectors times R, which reflections and
features give too. Leverages and lengths read all of R, which takes as long as the band: it is an artifact of its own,
made where a method asks for them, or once the first ranking stands. Where it is there, scores are read from it, which
is quicker for many targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dtrak_core import store
from dtrak_core.features import banded, feature_store
from dtrak_core.features.banded import Reflections, Rows
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.progress import Progress, quiet
from dtrak_core.settings import Settings, build, key_of
from dtrak_core.store import Artifact

WHOLE = "rows.npy"  # R; in the kernel itself where that was stored before R was an artifact of its own
V, T, PLACES = "reflections.npy", "factors.npy", "places.npy"  # of all reflections one after the other; (start, w)


class DirectionSettings(Settings):
    """Features, and the checksum of the reflections: others, computed anew, differ by more than rounding."""

    features: FeatureSettings
    reflections: str


def keep(folder: Path, turns: list[Reflections]) -> None:
    """Write the reflections of Q."""
    store.write_array(folder / V, np.concatenate([np.empty(0), *(one.v.ravel() for one in turns)]))
    store.write_array(folder / T, np.concatenate([np.empty(0), *(one.t.ravel() for one in turns)]))
    store.write_array(folder / PLACES, np.array([(one.start, len(one.t)) for one in turns], np.int64).reshape(-1, 2))


def compute(kernel: Artifact, on_progress: Progress) -> list[Artifact]:
    """Return R (N, n) of a stored kernel, computing it if it is not stored; nothing of a kernel that has no need of it.

    Returns:
        An artifact of kind `directions`: rows.npy (N, n), float64.
    """
    if PLACES not in kernel.manifest["files"]:
        return []
    settings = _settings(kernel)
    key = key_of("directions", settings)
    with store.computing("directions", key, on_progress) as found:
        return [found or _computed(kernel, settings, key, on_progress)]


def _computed(kernel: Artifact, settings: DirectionSettings, key: str, on_progress: Progress) -> Artifact:
    turns, path, rows = _turns(kernel), store.partial("directions", key) / WHOLE, kernel.manifest["rows"]
    if kernel.manifest["form"] == "dual":
        on_progress(0, rows, "rows", "Directions of the pictures")
        store.write_array(path, banded.orthogonal(rows, turns))
        return store.publish("directions", key, settings)
    features = _features(settings.features)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float64)), "fortran_order": False}
    with store.writing(path) as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": feature_store.shape(features)})
        for start, part in feature_store.blocks(features):
            on_progress(start, rows, "rows", "Directions of the pictures")
            file.write(banded.turned(part.astype(np.float64), turns).data)
    return store.publish("directions", key, settings)


def of_kernel(kernel: Artifact) -> Rows:
    """Return R of a stored kernel."""
    if PLACES not in kernel.manifest["files"]:
        return banded.held(kernel.array(WHOLE))
    settings, turns, dual = _settings(kernel), _turns(kernel), kernel.manifest["form"] == "dual"
    key, features = key_of("directions", settings), None if dual else _features(settings.features)

    def inward(cross: np.ndarray) -> np.ndarray:
        if (made := store.find("directions", key)) is not None:
            return banded.held(made.array(WHOLE)).inward(cross)
        return banded.turned(cross.copy() if features is None else _times(cross, features), turns)

    def outward(solved: np.ndarray) -> np.ndarray:
        if (made := store.find("directions", key)) is not None:
            return banded.held(made.array(WHOLE)).outward(solved)
        back = banded.turned_back(solved.copy(), turns)
        return back if features is None else feature_store.cross_products(features, back)

    def whole() -> np.ndarray:
        (found,) = compute(kernel, quiet)
        return found.array(WHOLE)

    return Rows(inward, outward, whole)


def _settings(kernel: Artifact) -> DirectionSettings:
    own = build(FeatureSettings, **kernel.settings)
    return DirectionSettings(features=own, reflections=kernel.manifest["files"][V]["crc32"])


def _times(cross: np.ndarray, features: Artifact) -> np.ndarray:
    """Return c Φ (M, K), float64, reading Φ block by block."""
    summed = np.zeros((len(cross), feature_store.shape(features)[1]))
    for start, part in feature_store.blocks(features):
        summed += cross[:, start : start + len(part)] @ part.astype(np.float64)
    return summed


def _features(settings: FeatureSettings) -> Artifact:
    return store.get("features", key_of("features", settings))


def _turns(kernel: Artifact) -> list[Reflections]:
    """Return the reflections of a stored kernel, which stay in their files."""
    v, t, found, at, of = kernel.array(V), kernel.array(T), list[Reflections](), 0, 0
    side = kernel.array("band.npy").shape[1]
    for start, width in np.asarray(kernel.array(PLACES)).tolist():
        own = width * (side - start)
        inverse = np.asarray(t[of : of + width * width]).reshape(width, width)
        found.append(Reflections(start, v[at : at + own].reshape(width, side - start), inverse))
        at, of = at + own, of + width * width
    return found
