"""The network that all of the core speaks to: a denoiser of pixels, or of latents; plain, of a class or of a caption.

A denoiser predicts the noise in x_t, the clean picture, v or flow, as its process says (process.py). It works in *model
space*: the picture in [-1, 1], grey or in colours, with each fold x fold block of pixels moved into channels; or, for
a text-to-image model, the autoencoder's latents (text_side.py). Beside x_t it may be told a condition: the text of a
picture, or its class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dtrak_core.datasets.content import grey, prompt_of
from dtrak_core.models import half
from dtrak_core.models.class_names import Classes
from dtrak_core.models.process import Process
from dtrak_core.models.schedules import Sampler
from dtrak_core.models.targets import drawing_of
from dtrak_core.models.text_side import TextSide, to_pictures

Told = Mapping[str, Tensor]  # what a network is told, by names that its call knows
Call = Callable[[nn.Module, Tensor, Tensor, Told], Tensor]  # network, x_t, its time, what it is told -> output


@dataclass(frozen=True)
class Condition:
    """Tensors by name, the first axis of each being the pictures: what a text encoder puts out, class numbers, sizes.

    Without tensors it is what an unconditional network is told.
    """

    tensors: Told = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by its name."""
        return self.tensors[name]

    def rows(self, which: slice) -> Condition:
        """Return what some of the pictures are told."""
        return Condition({name: value[which] for name, value in self.tensors.items()})

    def repeated(self, times: int) -> Condition:
        """Return each picture's as often as it has draws, draw by draw."""
        return Condition({name: value.repeat_interleave(times, 0) for name, value in self.tensors.items()})

    def like(self, weight: Tensor) -> Condition:
        """Return it on a weight's device; numbers that are not whole in its format too."""
        return Condition(
            {
                name: value.to(weight) if value.is_floating_point() else value.to(weight.device)
                for name, value in self.tensors.items()
            }
        )

    def joined(self, second: Condition) -> Condition:
        """Return what the pictures of both are told, its own before the second's."""
        return Condition({name: torch.cat([value, second[name]]) for name, value in self.tensors.items()})


NOTHING = Condition()


def plainly(network: nn.Module, x_t: Tensor, time: Tensor, _: Told) -> Tensor:
    """Call an unconditional network of pixels."""
    output: Tensor = network(x_t, time, return_dict=False)[0]
    return output


def by_class(network: nn.Module, x_t: Tensor, time: Tensor, told: Told) -> Tensor:
    """Call a class-conditional network of pixels."""
    output: Tensor = network(x_t, time, class_labels=told["class"], return_dict=False)[0]
    return output


@dataclass(frozen=True)
class Denoiser:
    """A network with what it predicts along its schedule, in eval mode.

    `shape` is (C, H, W) in model space; `process` has tables of shape (T,), float32; `sampler` says how pictures are
    drawn; `call` how the network is called, which is told `process.times`. `text` is there for text-to-image models
    alone, `classes` for class-conditional ones; `half` says that products are taken in bfloat16, and that
    frozen weights are in it.
    """

    network: nn.Module
    process: Process
    fold: int
    shape: tuple[int, int, int]
    text: TextSide | None = None
    sampler: Sampler = field(default_factory=Sampler)
    half: bool = False
    call: Call = plainly
    classes: Classes | None = None

    @property
    def weight(self) -> Tensor:
        """Return a trained weight, whose device and number format those of x_t must be."""
        return next(p for p in self.network.parameters() if p.requires_grad)

    @property
    def prompted(self) -> bool:
        """Say whether it is told a string a picture: a prompt, or the name of a class."""
        return self.text is not None or self.classes is not None

    @property
    def reads_guidance(self) -> bool:
        """Say whether the network is told how far a prompt is followed, as distilled ones are (Flux.1 dev)."""
        setting = "" if self.text is None else self.text.family.told_guidance
        return bool(setting) and bool(getattr(self.network.config, setting))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Return the network's output for `x_t` (B, C, H, W) at timesteps `t` (B,), int64, under a condition.

        What it says of a variance is left out.
        """
        return self.with_variance(x_t, t, condition)[0]

    def with_variance(self, x_t: Tensor, t: Tensor, condition: Condition = NOTHING) -> tuple[Tensor, Tensor | None]:
        """Return the output, and what a network with twice as many channels says of the variance besides."""
        time = self.process.times[t]
        if self.half:
            with half.products(x_t.device.type):
                output = self.call(self.network, x_t, time, condition.tensors)
            output = output.to(x_t.dtype)
        else:
            output = self.call(self.network, x_t, time, condition.tensors)
        planes = x_t.shape[1]
        return output[:, :planes], output[:, planes:] if output.shape[1] == 2 * planes else None

    def conditions(self, prompts: Sequence[str]) -> Condition:
        """Return what the network is told of pictures, from one string each (`told`); "" is told where nothing is.

        Raises:
            SettingsError: If a string is no class of a class-conditional network.
        """
        side = self.text or self.classes
        return NOTHING if side is None else Condition(side.conditions(prompts)).like(self.weight)

    def told(self, row: Mapping[str, Any]) -> str:
        """Return the string of a picture: what it was drawn from; its caption, or class; nothing for an upload.

        Args:
            row: What is known of a picture of the dataset (content.py), or of a target (targets.py).
        """
        if drawing := drawing_of(row):
            return str((drawing.get("prompts") or [""])[0])
        if "label" not in row:
            return ""
        return str(row["label"]) if self.classes else prompt_of(row)

    @property
    def usual(self) -> str:
        """Return a string that can be told of any picture, to see what a pass takes: the first class, or nothing."""
        return self.classes.names[0] if self.classes else ""

    def encode(self, images: np.ndarray) -> Tensor:
        """Bring pictures (B, H, W, 3), uint8, into model space: float32 in [-1, 1], folded; or latent modes, scaled.

        Raises:
            DataError: If a picture has colours, and the network sees grey alone.
        """
        if self.text is not None:
            return self.text.encode(images)
        seen = grey(images) if self.shape[0] == self.fold**2 else np.array(images)
        pixels = torch.from_numpy(seen).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        return functional.pixel_unshuffle(pixels, self.fold) if self.fold > 1 else pixels

    def decode(self, x: Tensor) -> np.ndarray:
        """Bring model space back to pictures (B, H, W, 3), uint8, rounded as the paper's PNGs are."""
        if self.text is not None:
            return self.text.decode(x)
        pixels = functional.pixel_shuffle(x, self.fold) if self.fold > 1 else x
        return to_pictures(pixels.expand(-1, 3, -1, -1))


def tracked_parameters(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters whose gradients are features, in the network's own order."""
    return [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
