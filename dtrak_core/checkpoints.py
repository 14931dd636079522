"""Stored checkpoints: which there are, by name or by the digest of their weights. No torch here.

A run (artifact kind `checkpoints`) keeps its weights at 25, 50, 75 and 100 % of training, each
in a folder of diffusers' layout. A checkpoint is one of them: `demo` is the last of the run
named demo, `demo@50` the one half way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtrak_core import store
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.train_settings import TrainSettings


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

    @property
    def seconds_per_picture_step(self) -> float | None:
        """Return the measured cost of training on one picture once, or None for imported weights."""
        return self.run.manifest.get("seconds_per_picture_step")


def listing(dataset_digest: str | None = None) -> list[Checkpoint]:
    """Return the checkpoints made from a dataset (or from any): whole trainings first, the demo's before all."""
    runs = [run for run in store.listing("checkpoints") if dataset_digest in (None, run.manifest["dataset"])]
    return sorted((kept for run in runs for kept in of_run(run)), key=lambda c: c.share != 100)


def of_run(run: store.Artifact) -> list[Checkpoint]:
    """Return what a run kept, the last weights last."""
    facts = run.manifest
    found = []
    for step in facts["steps"]:
        name = facts["name"] if step["share"] == 100 else f"{facts['name']}@{step['share']}"
        folder = run.path / step["folder"]
        where = (run, step["step"], step["share"], step["digest"], folder)
        found.append(Checkpoint(name, *where, facts["dataset"], facts["fold"], facts.get("base", "")))
    return found


def by_name(name: str, dataset_digest: str | None = None) -> Checkpoint:
    """Return the newest checkpoint of this name.

    Raises:
        NotFoundError: If there is none; the message lists those there are.
    """
    known = listing(dataset_digest)
    matching = [c for c in known if c.name == name]
    if not matching:
        names = ", ".join(dict.fromkeys(c.name for c in known)) or "none yet: train one or import one"
        raise NotFoundError(f"Checkpoint '{name}' does not exist for this dataset. There are: {names}.")
    return matching[-1]


def by_digest(digest: str) -> Checkpoint:
    """Return the checkpoint whose weights have this digest, a retrained model too, or raise NotFoundError."""
    for checkpoint in listing():
        if checkpoint.digest == digest:
            return checkpoint
    for run in store.listing("retrained"):
        for checkpoint in of_run(run):
            if checkpoint.digest == digest:
                return checkpoint
    raise NotFoundError(f"No stored checkpoint has the digest {digest}. It may have been deleted; train it again.")


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
