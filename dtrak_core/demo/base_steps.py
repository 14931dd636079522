"""The steps of a small base's training (text_base.py): rate, clipping, averaged weights, and going on from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dtrak_core import store
from dtrak_core.features import draws
from dtrak_core.progress import Progress
from dtrak_core.training.training_run import learning_rate

WARMUP = 0.05  # share of the steps
AVERAGED = 0.999  # decay of the average of the weights, which is what is stored
SAVE_EVERY = 100  # steps between two states that a training goes on from
LossOf = Callable[[int, np.random.Generator], Tensor]  # of a step, with its random numbers


def trained(
    optimizer: torch.optim.Optimizer, loss_of: LossOf, name: str, steps: int, kept: Path | None, on_progress: Progress
) -> list[Tensor]:
    """Train the optimizer's weights with a rate that warms up and falls to 0; return their average.

    Step k's random numbers are of `name` and k alone, so that a training that went on from `kept` is the same.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    average = [p.detach().clone() for p in weights]
    highest = optimizer.param_groups[0]["lr"]
    begin = _resumed(optimizer, weights, average, kept) if kept is not None and kept.is_file() else 0
    for step in range(begin, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(highest, WARMUP, step, steps)
        loss = loss_of(step, draws.stream(f"{name}/{step}"))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, weights, 1 - AVERAGED)
        if kept is not None and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
            _keep(optimizer, weights, average, step + 1, kept)
        on_progress(step + 1, steps, "training steps", f"loss {float(loss.detach()):.4f}")
    return average


def _keep(
    optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], average: Sequence[Tensor], step: int, kept: Path
) -> None:
    tensors = {f"weights.{i}": p.detach() for i, p in enumerate(weights)}
    tensors |= {f"average.{i}": p for i, p in enumerate(average)}
    for i, p in enumerate(weights):
        tensors |= {f"optimizer.{i}.{name}": value for name, value in optimizer.state[p].items()}
    store.write_bytes(kept, save(tensors, {"step": str(step)}))


@torch.no_grad()
def _resumed(optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], average: Sequence[Tensor], kept: Path) -> int:
    """Take up what was kept; return how many steps were made."""
    with safe_open(kept, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}
        step = int(file.metadata()["step"])
    for i, p in enumerate(weights):
        p.copy_(found[f"weights.{i}"])
        average[i].copy_(found[f"average.{i}"])
        begin = f"optimizer.{i}."
        optimizer.state[p] = {name.removeprefix(begin): one for name, one in found.items() if name.startswith(begin)}
    return step
