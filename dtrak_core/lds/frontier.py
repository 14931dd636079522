"""What a better answer costs: the LDS of methods over the gradients that were spent, ours and the authors' way.

`benchmarks/frontier.py` measures it for a checkpoint whose LDS is stored, and stores the points here, beside what they
speak of. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dtrak_core import store
from dtrak_core.settings import Digest, Settings, key_of
from dtrak_core.store import Artifact

KIND = "frontiers"


class FrontierSettings(Settings):
    """Which model's answers are priced."""

    dataset: Digest
    checkpoint: Digest


@dataclass(frozen=True)
class Value:
    """An LDS with the ends of its 95 % interval, None where there are too few subsets or targets."""

    lds: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Spent:
    """A point: by which method, whose way, from what, and what came of it.

    `timesteps` K are those of a training picture, spread by `strategy`; a target has as many under each of `noises`
    noises. `gradients` and `seconds` are those of the training set and one target, projections included. `lds` is by
    kind of target.
    """

    method: str
    authors: bool
    strategy: str
    timesteps: int
    noises: int
    gradients: int
    seconds: float
    lds: Mapping[str, Value]


@dataclass(frozen=True)
class Frontier:
    """All points of a checkpoint, and how they were measured: machine, sizes, what was multiplied, date."""

    points: tuple[Spent, ...]
    facts: Mapping[str, Any]


def publish(settings: FrontierSettings, points: Sequence[Spent], facts: Mapping[str, Any]) -> Artifact:
    """Store points in the place of those that the cache held."""
    key = key_of(KIND, settings)
    store.delete(KIND, key)
    with store.computing(KIND, key) as found:
        if found is not None:
            return found
        store.partial(KIND, key)
        return store.publish(KIND, key, settings, points=[asdict(one) for one in points], **facts)


def find(dataset: str, checkpoint: str) -> Frontier | None:
    """Return what was measured for a checkpoint, both by their digests, or None."""
    found = store.find(KIND, key_of(KIND, FrontierSettings(dataset=dataset, checkpoint=checkpoint)))
    if found is None:
        return None
    points = [
        Spent(**one | {"lds": {kind: Value(**value) for kind, value in one["lds"].items()}})
        for one in found.manifest["points"]
    ]
    return Frontier(tuple(points), {name: value for name, value in found.manifest.items() if name != "points"})
