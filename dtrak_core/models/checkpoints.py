"""Stored checkpoints: which there are, by name or by digest. No torch here.

A run (artifact kind `checkpoints`) keeps its weights at 25, 50, 75 and 100 % of training, each
in a folder of diffusers' layout. A checkpoint is one of them: `demo` is the last of the run
named demo, `demo@50` the one half way. A run that was asked for again under another name has
that name too (artifact kind `names`, which holds no weights).

The digest of a checkpoint that was trained here is that of its weights: network, schedule and sampler are ours. One
that was imported is known by its weights and by all else that its pictures depend on (`facts_of`). So are LoRA weights
that were trained here on a base whose scheduler is not like Stable Diffusion's own: its pictures were once drawn as if
it were, and lie under the digest of the weights alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtrak_core import store
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.models import bases, model_files
from dtrak_core.models.settings import (
    DIFFUSION_STEPS,
    PREDICTIONS,
    Prediction,
    Sampled,
    TrainSettings,
    refuse_drawing,
)
from dtrak_core.settings import Settings, canonical_json, digest_of, key_of

TARGET_SECONDS = 1.5  # for the draws of one target
GRADIENT_SECONDS = 3e-11  # a parameter and place: the demo's on 2 cores


class NameSettings(Settings):
    """A further name of a run, which is known by its key."""

    run: str
    name: str


@dataclass(frozen=True)
class Checkpoint:
    """Weights at one training step: name, run, share of the training in percent, digests."""

    name: str
    run: store.Artifact
    step: int
    share: int
    digest: str
    folder: Path
    dataset: str
    fold: int
    base: str = ""  # digest of the text-to-image model that LoRA weights belong to
    assumed: tuple[str, ...] = ()  # in words, what files that were imported left open
    classes: tuple[str, ...] = ()  # of a class-conditional network, by number
    guided: bool = False  # whether drawing can be guided away from what is drawn without a prompt
    left_out: bool = False  # known by its digest alone: its weights do not ship

    @property
    def prompted(self) -> bool:
        """Say whether it draws from a string a picture: a text-to-image model's prompt, or the name of a class."""
        return bool(self.base or self.classes)

    @property
    def seconds_per_picture_step(self) -> float | None:
        """Return the measured cost of training on one picture once, or None for imported weights."""
        return self.run.manifest.get("seconds_per_picture_step")


def listing(dataset_digest: str | None = None) -> list[Checkpoint]:
    """Return the checkpoints made from a dataset (or from any): whole trainings first, the demo's before all."""
    kept: dict[tuple[str, str], Checkpoint] = {}
    for one in (one for artifact in _named() for one in of_run(artifact)):
        kept.pop((one.run.key, one.name), None)  # a run that came to its own name once more
        kept[one.run.key, one.name] = one
    found = (c for c in kept.values() if dataset_digest in (None, c.dataset) and not c.left_out)
    return sorted(found, key=lambda c: c.share != 100)


def of_run(artifact: store.Artifact) -> list[Checkpoint]:
    """Return what a run kept, the last weights last; of a name, what the run of that name kept."""
    run = artifact if artifact.kind != "names" else store.find("checkpoints", artifact.settings["run"])
    if run is None:  # the run was deleted, and its name with it
        return []
    facts, found, assumed = run.manifest, [], tuple(artifact.manifest.get("assumed", ()))
    for step in facts["steps"]:
        name = artifact.manifest["name"] + ("" if step["share"] == 100 else f"@{step['share']}")
        folder, base = run.path / step["folder"], facts.get("base", "")
        digest = step["digest"]
        # Imported before it was known by more than weights, or trained on a base that is drawn by a way of its own.
        ours = "epochs" in run.settings and (not base or bases.drawn_alike(base))
        if not ours and "weights" not in step:
            digest = _identity_of(str(folder), digest, facts["fold"], base)
        where, classes = (run, step["step"], step["share"], digest, folder), tuple(facts.get("classes", ()))
        guided = bool(base) or facts.get("guided", False)
        kept = (assumed, classes, guided, step.get("left_out", False))
        found.append(Checkpoint(name, *where, facts["dataset"], facts["fold"], base, *kept))
    return found


def name_run(run: store.Artifact, name: str, assumed: Sequence[str] = ()) -> store.Artifact:
    """Have a run be the newest of a name; return the run if it is, else the artifact of its further name.

    Args:
        run: Artifact of kind `checkpoints`.
        name: What it was asked for as, with or without other runs that are called so.
        assumed: What the files that it was asked for with left open, in words.
    """
    settings = NameSettings(run=run.key, name=name)
    key = key_of("names", settings)
    with store.computing("names", run.key):  # a lock for all names of the run
        newest = next((one for one in reversed(_named()) if one.manifest["name"] == name), None)
        if newest is not None and newest.key in (run.key, key) and newest.manifest.get("assumed", []) == list(assumed):
            return newest
        store.delete("names", key)
        store.partial("names", key)
        return store.publish("names", key, settings, name=name, assumed=list(assumed))


def names_of(run: str) -> list[store.Artifact]:
    """Return the further names of a run, by its key."""
    return [one for one in store.listing("names") if one.settings["run"] == run]


def _named() -> list[store.Artifact]:
    """Return runs and further names, the shipped ones first, then in the order in which they came to their name."""
    found = [*store.listing("checkpoints"), *store.listing("names")]

    def since(artifact: store.Artifact) -> tuple[bool, str, int]:
        try:
            written = (artifact.path / store.MANIFEST).stat().st_mtime_ns  # dates are to the second
        except FileNotFoundError:  # deleted in this instant
            written = 0
        return not artifact.shipped, artifact.manifest["date"], written

    return sorted(found, key=since)


def by_name(name: str, dataset_digest: str | None = None) -> Checkpoint:
    """Return the newest checkpoint of this name.

    Raises:
        NotFoundError: If there is none; the message lists those there are.
    """
    known = listing(dataset_digest)
    matching = [c for c in known if c.name == name]
    if not matching:
        names = ", ".join(dict.fromkeys(c.name for c in known)) or "none yet: train one or import one"
        others = [c.run.manifest.get("dataset_name", "") for c in listing() if c.name == name]
        other = (
            f" One of this name learned from another dataset, or from '{others[-1]}' before its pictures, labels or "
            "captions changed; train again, or choose what it learned from."
            if others and others[-1]
            else ""
        )
        raise NotFoundError(f"Checkpoint '{name}' does not exist for this dataset. There are: {names}.{other}")
    return matching[-1]


def by_digest(digest: str, dataset: str = "") -> Checkpoint:
    """Return the checkpoint of this digest, a retrained model too, or raise NotFoundError.

    Trainings on datasets that differ in their facts alone, not in their pictures, end in the same weights: the one of
    `dataset` (a digest) comes first.
    """
    retrained = (one for run in store.listing("retrained") for one in of_run(run))
    matching = [one for one in listing() if one.digest == digest] or [one for one in retrained if one.digest == digest]
    if not matching:
        raise NotFoundError(f"No stored checkpoint has the digest {digest}. It may have been deleted; train it again.")
    return next((one for one in matching if one.dataset == dataset), matching[0])


def draws_within(parameters: int, places: float) -> int:
    """Return how many gradients of a network `TARGET_SECONDS` hold, by the constant of `speeds`, not by measurement.

    It becomes part of keys, so it must not depend on how busy a machine is.
    """
    return int(TARGET_SECONDS / (GRADIENT_SECONDS * parameters * places))


def identity(weights: str, facts: Mapping[str, Any]) -> str:
    """Return the digest of a checkpoint by its weights' digest, and by all else (`facts_of`)."""
    return digest_of("imported", weights, canonical_json(dict(facts)))


def facts_of(folder: Path, fold: int, base: str) -> dict[str, Any]:
    """Return what the pictures of imported weights depend on beside the weights, from their stored folder.

    Of pixels: the settings of network and scheduler, and the fold. Of LoRA weights: the base, whose digest stands for
    its own parts and schedule, and the adapter's settings (rank, scale, kind).
    """
    if base:
        return {"base": base, "adapter": model_files.header(folder / model_files.LORA).get("__metadata__", {})}
    network, schedule = folder / "unet" / "config.json", folder / "scheduler" / "scheduler_config.json"
    return pixel_facts(json.loads(network.read_bytes()), json.loads(schedule.read_bytes()), fold)


def pixel_facts(network: Mapping[str, Any], schedule: Mapping[str, Any], fold: int) -> dict[str, Any]:
    """Return the facts of a network of pixels, from the configs as they are stored, which name its classes too."""
    return {
        "network": {name: value for name, value in network.items() if not name.startswith("_")},
        "schedule": {name: value for name, value in schedule.items() if not name.startswith("_")},
        "fold": fold,
    }


@functools.lru_cache(maxsize=256)
def _identity_of(folder: str, weights: str, fold: int, base: str) -> str:
    try:
        return identity(weights, facts_of(Path(folder), fold, base))
    except (OSError, ValueError):  # damaged: listed all the same, and said when it is opened
        return digest_of("imported", folder)


def training_of(checkpoint: Checkpoint) -> TrainSettings:
    """Return the settings that trained a checkpoint.

    Raises:
        SettingsError: If it was imported or is not the end of its training, so that it cannot be trained again.
    """
    if "epochs" not in checkpoint.run.settings:
        raise SettingsError(
            f"Checkpoint '{checkpoint.name}' was imported, and its training settings are not known. "
            "Choose a checkpoint that was trained here."
        )
    if checkpoint.share != 100:
        raise SettingsError(
            f"Checkpoint '{checkpoint.name}' is an earlier state of its training. Choose the finished one."
        )
    return TrainSettings(**checkpoint.run.settings)


def prediction_of(checkpoint: Checkpoint) -> Prediction:
    """Return what a checkpoint's network predicts; the errors are those of `_process`."""
    return _process(checkpoint)[0]


def process_of(checkpoint: Checkpoint) -> tuple[Prediction, int]:
    """Return what a checkpoint's network predicts, and the timesteps of its noise schedule.

    Of LoRA weights without their base, which cannot draw or be featurised, they are noise and 1,000, as of nearly all:
    what is stored of them is found all the same.
    """
    try:
        return _process(checkpoint)
    except NotFoundError:
        return "noise", DIFFUSION_STEPS


def _process(checkpoint: Checkpoint) -> tuple[Prediction, int]:
    """Return prediction and timesteps from a checkpoint's stored scheduler: of LoRA weights their base's.

    Raises:
        NotFoundError: If LoRA weights lack their base.
        StoreError: If the file is damaged.
    """
    if checkpoint.base:
        return bases.process(checkpoint.base)
    folder = checkpoint.folder.relative_to(checkpoint.run.path).as_posix()
    schedule = json.loads(checkpoint.run.file(f"{folder}/scheduler/scheduler_config.json").read_bytes())
    flow = str(schedule.get("_class_name")).startswith("FlowMatch")
    predicted = "flow" if flow else PREDICTIONS[schedule.get("prediction_type", "epsilon")]
    return predicted, int(schedule.get("num_train_timesteps", DIFFUSION_STEPS))


def most_steps(checkpoint: Checkpoint) -> int:
    """Return how many steps a sampler of a checkpoint has at most; a flow is drawn between its timesteps too."""
    predicted, length = process_of(checkpoint)
    return DIFFUSION_STEPS if predicted == "flow" else min(DIFFUSION_STEPS, length)


def check_drawing(checkpoint: Checkpoint, sampled: Sampled) -> None:
    """Refuse a way of drawing that a checkpoint does not have, before work begins; errors as `refuse_drawing`."""
    refuse_drawing(*process_of(checkpoint), sampled)


def learned(checkpoint: Checkpoint) -> Sequence[int] | None:
    """Return the training indices that a checkpoint has learned from, None for all of them."""
    chosen: Sequence[int] | None = checkpoint.run.settings.get("indices")
    return chosen


def unlearned(checkpoint: Checkpoint, count: int) -> str:
    """Say that a checkpoint has not learned from all of the `count` training pictures; nothing where it has."""
    chosen = learned(checkpoint)
    if chosen is None or len(set(chosen)) == count:
        return ""
    return (
        f"'{checkpoint.name}' has learned from {len(set(chosen)):,} of the {count:,} training pictures. A score of "
        "another one is no credit: it says what learning from it too would do."
    )
