"""The state of a training in progress: what it is made of, and how it is kept on disk to go on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dtrak_core import store
from dtrak_core.models.denoiser import Denoiser, tracked_parameters

RESUME = "resume.safetensors"
METRICS = "metrics.jsonl"


@dataclass
class Run:
    """Network, optimiser, average of the weights, steps and seconds so far, losses; stored latents for LoRA."""

    denoiser: Denoiser
    optimizer: torch.optim.Optimizer
    average: list[Tensor] | None
    latents: tuple[np.ndarray, np.ndarray] | None = None
    step: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    at_once: int = 0  # pictures that the memory holds; 0 until a batch did not fit

    @property
    def weights(self) -> list[torch.nn.Parameter]:
        """Return what is trained."""
        return [parameter for _, parameter in tracked_parameters(self.denoiser.network)]


def write(run: Run, folder: Path) -> None:
    """Write what resuming needs into one file, so that its parts belong together."""
    tensors = {f"weights.{name}": value.detach() for name, value in tracked_parameters(run.denoiser.network)}
    for i, parameter in enumerate(run.weights):
        for name, value in run.optimizer.state[parameter].items():
            tensors[f"optimizer.{i}.{name}"] = value
    for i, averaged in enumerate(run.average or []):
        tensors[f"average.{i}"] = averaged
    tensors["losses"] = torch.tensor(run.losses, dtype=torch.float64)
    facts = {"step": str(run.step), "seconds": str(run.seconds)}
    store.write_bytes(folder / RESUME, save({n: v.cpu().contiguous() for n, v in tensors.items()}, metadata=facts))
    write_metrics(run, folder)


def resume(run: Run, folder: Path, kept: Mapping[int, Path]) -> None:
    """Take up what was written; begin in an empty folder where that is nothing, or was harmed since.

    Args:
        run: A run that has not begun.
        folder: Its unfinished artifact.
        kept: The file that tells of the weights kept at a step, for each of these steps.
    """
    try:
        with safe_open(folder / RESUME, framework="pt") as file:
            facts = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        step, seconds = int(facts["step"]), float(facts["seconds"])
        told = [json.loads(path.read_bytes())["digest"] for at, path in kept.items() if at <= step]
    except FileNotFoundError:  # parts of a start that never came to its first save, or of weights that are gone
        told = None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        print(f"What was trained so far cannot be read ({error}): the training begins anew.")
        told = None
    if told is None:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return
    with torch.no_grad():
        for name, parameter in tracked_parameters(run.denoiser.network):
            parameter.copy_(tensors[f"weights.{name}"])
    for i, parameter in enumerate(run.weights):
        prefix = f"optimizer.{i}."
        own = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        run.optimizer.state[parameter] = {n: v.to(parameter.device) for n, v in own.items()}
    if run.average is not None:
        run.average = [tensors[f"average.{i}"].to(run.average[i].device) for i in range(len(run.average))]
    run.losses = tensors["losses"].tolist()
    run.step, run.seconds = step, seconds


def write_metrics(run: Run, folder: Path) -> None:
    """Write the loss curve, one line for every 20 steps: step, mean loss since the last line."""
    lines = [
        json.dumps({"step": end, "loss": round(float(np.mean(run.losses[end - 20 : end])), 6)})
        for end in range(20, len(run.losses) + 1, 20)
    ]
    store.write_bytes(folder / METRICS, "".join(f"{line}\n" for line in lines).encode())
