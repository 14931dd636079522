"""The network that all of the core speaks to: a denoiser of pixels, or of latents under a caption.

A denoiser predicts the noise in x_t, the clean picture or v, as its process says (process.py). It works in *model
space*: the picture in [-1, 1], with each fold x fold block of pixels moved into channels; or, for a
text-to-image model, the autoencoder's latents (text_side.py), with a caption's context beside x_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dtrak_core.models.process import Process
from dtrak_core.models.schedules import Sampler
from dtrak_core.models.text_side import TextSide, to_pictures


@dataclass(frozen=True)
class Denoiser:
    """A network with what it predicts along its schedule, in eval mode.

    `shape` is (C, H, W) in model space; `process` has tables of shape (1000,), float32; `sampler` says how pictures
    are drawn. `text` is there for text-to-image models alone; `half` says that their frozen weights are in
    bfloat16 and products are taken in it.
    """

    unet: nn.Module
    process: Process
    fold: int
    shape: tuple[int, int, int]
    text: TextSide | None = None
    sampler: Sampler = field(default_factory=Sampler)
    half: bool = False

    @property
    def weight(self) -> Tensor:
        """Return a trained weight, whose device and number format those of x_t must be."""
        return next(p for p in self.unet.parameters() if p.requires_grad)

    def predict(self, x_t: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the network's output for `x_t` (B, C, H, W) at timesteps `t` (B,), int64, and `context` (B, L, D)."""
        if self.text is None:
            plain: Tensor = self.unet(x_t, t, return_dict=False)[0]
            return plain
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=self.half):
            output: Tensor = self.unet(x_t, t, encoder_hidden_states=context, return_dict=False)[0]
        return output.to(x_t.dtype)

    def contexts(self, captions: Sequence[str]) -> Tensor | None:
        """Return the contexts of captions (B, L, D); None where the network takes none."""
        return None if self.text is None else self.text.contexts(captions).to(self.weight)

    def encode(self, images: np.ndarray) -> Tensor:
        """Bring pictures (B, H, W, 3), uint8, into model space: float32 in [-1, 1], folded; or latent modes, scaled."""
        if self.text is not None:
            return self.text.encode(images)
        pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        return functional.pixel_unshuffle(pixels, self.fold) if self.fold > 1 else pixels

    def decode(self, x: Tensor) -> np.ndarray:
        """Bring model space back to pictures (B, H, W, 3), uint8, rounded as the paper's PNGs are."""
        if self.text is not None:
            return self.text.decode(x)
        return to_pictures(functional.pixel_shuffle(x, self.fold) if self.fold > 1 else x)


def tracked_parameters(unet: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters whose gradients are features, in the network's own order."""
    return [(name, parameter) for name, parameter in unet.named_parameters() if parameter.requires_grad]


def repeated(context: Tensor | None, times: int) -> Tensor | None:
    """Return each picture's context as often as it has draws."""
    return None if context is None else context.repeat_interleave(times, 0)
