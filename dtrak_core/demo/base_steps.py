"""The steps of a small base's training (text_base.py): rate, clipping, averaged weights, and going on from a file.

On CUDA a step is recorded once and played again: so small a network waits for its thousand kernels to be started, not
for their work. Random numbers are made on the CPU everywhere, so that a step learns from the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

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
RECORDED = 3  # steps before a step is recorded, as torch asks for
TOLD_EVERY = 20  # steps on CUDA between two losses told: each is waited for
Drawn = Callable[[np.random.Generator], Sequence[Tensor]]  # what a step takes, of its random numbers, on the CPU
LossOf = Callable[..., Tensor]  # of these, on the weights' device
Step = Callable[[Sequence[Tensor]], Tensor]  # its loss


def trained(
    optimizer: torch.optim.Optimizer,
    drawn: Drawn,
    loss_of: LossOf,
    name: str,
    steps: int,
    kept: Path | None,
    on_progress: Progress,
) -> list[Tensor]:
    """Train the optimizer's weights with a rate that warms up and falls to 0; return their average.

    Step k's random numbers are of `name` and k alone, so that a training that went on from `kept` is the same.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    average = [p.detach().clone() for p in weights]
    where, highest = weights[0].device, optimizer.param_groups[0]["lr"]
    begin = _resumed(optimizer, weights, average, kept) if kept is not None and kept.is_file() else 0
    on_cuda = where.type == "cuda"
    rate = torch.zeros((), device=where)
    if on_cuda:
        optimizer.param_groups[0] |= {"lr": rate, "capturable": True}

    def take(inputs: Sequence[Tensor]) -> Tensor:
        loss = loss_of(*inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - AVERAGED)
        return loss.detach()

    step_of: Step = take
    with _stream(where):
        for step in range(begin, steps):
            now = learning_rate(highest, WARMUP, step, steps)
            if on_cuda:
                rate.fill_(now)
            else:
                optimizer.param_groups[0]["lr"] = now
            inputs = [one.to(where) for one in drawn(draws.stream(f"{name}/{step}"))]
            if on_cuda and step == begin + RECORDED:
                step_of = _recorded(take, inputs)
            loss = step_of(inputs)
            last = step + 1 == steps
            if kept is not None and ((step + 1) % SAVE_EVERY == 0 or last):
                _keep(optimizer, weights, average, step + 1, kept)
            if not on_cuda or last or (step + 1) % TOLD_EVERY == 0:
                on_progress(step + 1, steps, "training steps", f"loss {float(loss):.4f}")
    return average


def _stream(where: torch.device) -> Any:
    """Return a stream to record on, which waits for what was begun before; nothing where there are none."""
    if where.type != "cuda":
        return nullcontext()
    torch.cuda.synchronize(where)
    return torch.cuda.stream(torch.cuda.Stream(where))


def _recorded(take: Step, inputs: Sequence[Tensor]) -> Step:
    """Return what does a step's work again, on other inputs of the same shapes."""
    own, graph = [one.clone() for one in inputs], torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = take(own)

    def played(given: Sequence[Tensor]) -> Tensor:
        for place, value in zip(own, given, strict=True):
            place.copy_(value)
        graph.replay()
        return loss

    return played


def _keep(
    optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], average: Sequence[Tensor], step: int, kept: Path
) -> None:
    tensors = {f"weights.{i}": p.detach() for i, p in enumerate(weights)}
    tensors |= {f"average.{i}": p for i, p in enumerate(average)}
    for i, p in enumerate(weights):
        tensors |= {f"optimizer.{i}.{name}": value for name, value in optimizer.state[p].items()}
    store.write_bytes(kept, save({name: one.cpu() for name, one in tensors.items()}, {"step": str(step)}))


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
        own = {name.removeprefix(begin): one for name, one in found.items() if name.startswith(begin)}
        optimizer.state[p] = {name: one.to(p.device) for name, one in own.items()}
    return step
