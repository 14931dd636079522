"""How fast this machine computes, read off the manifests of what it has computed. No torch here.

A speed is that of the same network where it has been at work here, else of the most alike one, scaled: a pass through
a network costs about as much as it has parameters times places (pixels a picture, of folded ones less), and LoRA
weights are compared with those of the same base alone. Where nothing was computed here yet, it is what the training
was measured to take where it ran; of models that were trained elsewhere it is `STEP_SECONDS`.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dtrak_core import store
from dtrak_core.datasets.catalogue import identity
from dtrak_core.errors import StudioError
from dtrak_core.models import bases, checkpoints, text_families
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.model_files import config_of
from dtrak_core.settings import canonical_json
from dtrak_core.store import Artifact

HERE, ALIKE, ELSEWHERE = "measured here", "told from another model here", "measured on another machine"
GRADIENT_OVER_TRAINING = 1.15  # cost of a gradient of one (picture, timestep) over a training step per picture
FORWARD_OVER_TRAINING = 0.35  # of a forward pass alone
STEP_SECONDS = 2.6e-11  # a parameter and place, picture and training step: the demo's training on 2 cores
RECENT = 8  # measurements that count
COMPARABLE = 1000.0  # times as much work a pass, up to which another network tells something
READ = ("bases", "datasets", "checkpoints", "retrained", "probes", "features", "samples")


@dataclass(frozen=True)
class Speed:
    """Seconds a unit of work; between `seconds` / `spread` and `seconds` x `spread`; from where that is known."""

    seconds: float
    spread: float
    source: str

    def times(self, factor: float, spread: float = 1.0) -> Speed:
        """Return the speed of what costs so many times as much, which is as unsure as `spread` at least."""
        return replace(self, seconds=factor * self.seconds, spread=max(self.spread, spread))


@dataclass(frozen=True)
class _Network:
    name: str
    base: str
    work: float | None  # parameters x places; None where the dataset is gone, or it was not counted


@dataclass(frozen=True)
class _Seen:
    network: _Network
    seconds: float


def training(checkpoint: Checkpoint) -> Speed:
    """Return what a training step costs a picture."""
    own, seen = _network(checkpoint.run, _sizes()), _measured(store.stamp(READ))["training"]
    return _same(seen, own) or _scaled(seen, own) or _elsewhere(checkpoint, own)


def gradient(checkpoint: Checkpoint) -> Speed:
    """Return what the gradient of one (picture, timestep) costs: of features, or told from trainings.

    Features of a dense projection do not tell: most of their time is the projection's. Nor do those that divide each
    draw's gradient by its length, which takes several times as long, or mixtures, which are sums of other features.
    """
    own, known = _network(checkpoint.run, _sizes()), _measured(store.stamp(READ))
    found = _same(known["gradient"], own)
    trained = _same(known["training"], own)
    if found is None and trained is not None:
        found = trained.times(GRADIENT_OVER_TRAINING, 1.6)
    return found or _scaled(known["gradient"], own) or training(checkpoint).times(GRADIENT_OVER_TRAINING, 1.6)


def forward(checkpoint: Checkpoint) -> Speed:
    """Return what a picture costs in one pass through the network: of drawings, or told from trainings."""
    own, known = _network(checkpoint.run, _sizes()), _measured(store.stamp(READ))["drawing"]
    return _same(known, own) or training(checkpoint).times(FORWARD_OVER_TRAINING, 1.6)


def passes(sampling: Any, base: str = "") -> int:
    """Return how often a picture goes through the network when it is drawn: twice a step where a prompt guides it.

    Args:
        sampling: `Sampled` settings, or those of a stored picture as JSON values.
        base: Digest of the model's base, empty for none: one that was distilled is told the guidance, and asked once.
    """
    told = sampling if isinstance(sampling, dict) else sampling.drawing()
    guided = bool(told.get("prompts")) and told.get("guidance", 7.5) != 1 and not _reads_guidance(base)
    return int(told["sampling_steps"]) * (2 if guided else 1)


def _reads_guidance(base: str) -> bool:
    """Say whether a base's denoiser is told how far a prompt is followed; no where its files cannot be read."""
    if not base:
        return False
    try:
        found = bases.by_digest(base)
        family = text_families.of(found.folder, found.name)
        config = config_of(found.folder / family.part / "config.json", found.folder, found.name)
    except StudioError:
        return False
    return bool(family.told_guidance and config.get(family.told_guidance))


def _same(seen: list[_Seen], own: _Network) -> Speed | None:
    """Return the speed of the same network here: the median of the newest measurements, and how far they lie apart."""
    times = [one.seconds for one in seen if one.network.name == own.name][-RECENT:]
    if not times:
        return None
    middle = statistics.median(times)
    return Speed(middle, max(1.25, max(times) / middle, middle / min(times)), HERE)


def _scaled(seen: list[_Seen], own: _Network) -> Speed | None:
    """Return what the most alike network of the same kind tells of this one."""
    if own.work is None:
        return None
    alike = []
    for one in seen:
        if one.network.work is not None and one.network.base == own.base:
            ratio = own.work / one.network.work
            alike.append((abs(math.log(ratio)), ratio * one.seconds))
    found = [one for one in alike if one[0] <= math.log(COMPARABLE)]
    return Speed(min(found)[1], 2.5, ALIKE) if found else None


def _elsewhere(checkpoint: Checkpoint, own: _Network) -> Speed:
    each = checkpoint.seconds_per_picture_step
    if each is None:
        each = STEP_SECONDS * (own.work or checkpoint.run.manifest["parameters"] * 32**2)
    return Speed(each, 3.0, ELSEWHERE)


def _network(run: Artifact, sizes: dict[str, int]) -> _Network:
    """Return which network a run trained or brought in, at which size."""
    facts, size = run.manifest, sizes.get(run.manifest["dataset"])
    model = canonical_json(run.settings["model"]) if "model" in run.settings else run.key
    work = None if size is None else float(facts["parameters"]) * (size / facts["fold"]) ** 2
    return _Network(f"{model} {size}", facts.get("base", ""), work)


def _sizes() -> dict[str, int]:
    return {identity(one): one.settings["resolution"] for one in store.listing("datasets")}


@functools.lru_cache(maxsize=4)
def _measured(stamp: tuple[str, ...]) -> dict[str, list[_Seen]]:
    """Return what was measured on this machine: what ships with the project was not."""
    sizes = _sizes()
    runs = [*store.listing("checkpoints"), *store.listing("retrained")]
    networks = {one.digest: _network(run, sizes) for run in runs for one in checkpoints.of_run(run)}
    drawn = [(networks[one.settings["checkpoint"]], one) for one in _own("samples", networks)]
    return {
        "training": list(_trainings(runs, sizes)),
        "gradient": [
            _Seen(networks[one.settings["checkpoint"]], one.manifest["seconds"] / one.manifest["gradients"])
            for one in _own("features", networks)
            if _plain(one.settings) and one.manifest.get("gradients")
        ],
        "drawing": [
            _Seen(network, one.manifest["seconds"] / passes(dict(one.settings), network.base)) for network, one in drawn
        ],
    }


def _plain(features: Mapping[str, Any]) -> bool:
    dense = features["projection"] in ("gaussian", "rademacher")
    return not dense and "normalise" not in features and features["model_output"] != "interpolated"


def _trainings(runs: list[Artifact], sizes: dict[str, int]) -> Iterator[_Seen]:
    """Yield what a training step took here, in probes and trainings, the oldest first."""
    for one in sorted([*store.listing("probes"), *runs], key=lambda one: one.manifest["date"]):
        if one.shipped or not one.manifest.get("seconds_per_picture_step"):
            continue
        network = _probed(one) if one.kind == "probes" else _network(one, sizes)
        yield _Seen(network, one.manifest["seconds_per_picture_step"])


def _probed(probe: Artifact) -> _Network:
    return _Network(f"{canonical_json(probe.settings['model'])} {probe.settings['resolution']}", "", None)


def _own(kind: str, networks: dict[str, _Network]) -> list[Artifact]:
    """Return the artifacts of a kind that were computed here, of models that are stored, and whose time is known."""
    found = [one for one in store.listing(kind) if not one.shipped and one.manifest.get("seconds")]
    return [one for one in found if one.settings["checkpoint"] in networks]
