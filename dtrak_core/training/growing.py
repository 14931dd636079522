"""A look at a training while it goes: one seed's picture and the losses so far, so seldom that it costs little.

What is drawn here is for whoever waits: it changes no weight, and is gone when the run is published. No torch here.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtrak_core import store
from dtrak_core.datasets.thumbnails import decode, png
from dtrak_core.models.settings import TrainSettings
from dtrak_core.settings import key_of

FOLDER = "growing"  # of PNG files, named by their step
SEED, SAMPLING_STEPS = 0, 10
SHARE = 0.02  # of the training's time
MOST = 24  # pictures a training
GUESS = 2.0  # training steps that the first picture may take, which is not measured yet


@dataclass
class Growing:
    """When the next picture of a training is due: what looking has cost so far, and the last picture, in seconds."""

    folder: Path
    total: int
    first: int
    began: float
    step: int = 0
    spent: float = 0.0
    last: float = 0.0

    def due(self, step: int) -> bool:
        """Say whether another picture, if it costs as much as the last one, keeps to the share."""
        if step >= self.total or step - self.step < self.total / MOST:
            return False
        elapsed = time.monotonic() - self.began
        return self.spent + (self.last or GUESS * elapsed / (step - self.first)) <= SHARE * elapsed

    def look(self, step: int, draw: Callable[[], np.ndarray]) -> None:
        """Store the picture that is drawn after a step."""
        begin = time.monotonic()
        store.write_bytes(self.folder / FOLDER / f"{step:07d}.png", png(draw()))
        self.step, self.last = step, time.monotonic() - begin
        self.spent += self.last


def clear(folder: Path) -> None:
    """Delete the pictures of a run that has ended: it keeps those of its checkpoints."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def so_far(settings: TrainSettings) -> tuple[list[dict[str, float]], dict[int, np.ndarray]]:
    """Return what a training that goes has come to: losses as its run will keep them, pictures by their step."""
    folder = store.root() / "checkpoints" / f"{key_of('checkpoints', settings)}.partial"
    try:
        pictures = {int(file.stem): decode(file.read_bytes()) for file in sorted((folder / FOLDER).glob("*.png"))}
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()], pictures
    except FileNotFoundError:  # published in this instant, or without a first picture yet
        return [], {}
