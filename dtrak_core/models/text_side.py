"""What a text-to-image model has beside its denoiser: a frozen autoencoder and frozen text encoders.

encode      pictures -> scaled latent modes     k (E[q(z|x)] - m), k the autoencoder's scaling factor (0.18215 in the
                                                paper), m its shift, 0 for most
decode      scaled latents -> pictures          D(z / k + m)
conditions  captions -> what the denoiser is told, by name

Neither is opened before it is needed, and what captions tell is stored (captions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtrak_core.datasets.catalogue import image_digest
from dtrak_core.models import text_pipelines
from dtrak_core.models.captions import Stored, compute
from dtrak_core.models.text_families import Family
from dtrak_core.progress import Count

AT_ONCE = 16  # pictures through the autoencoder at most
PIXELS = 2**20  # through the autoencoder at once: 16 pictures of 256 px; docs/scale.md


def pictures_at_once(height: int, width: int) -> int:
    """Return how many pictures of this size go through the autoencoder together: `PIXELS`, at least one picture."""
    return max(1, min(AT_ONCE, PIXELS // (height * width)))


def to_pictures(pixels: Tensor) -> np.ndarray:
    """Return pictures (B, H, W, 3), uint8, of pixels (B, 3, H, W) in [-1, 1], rounded as the paper's PNGs are."""
    scaled = (pixels.clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)
    images: np.ndarray = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return images


@dataclass(frozen=True, eq=False)  # networks are compared by identity
class TextSide:
    """Autoencoder, tokenizers and text encoders, in eval mode without gradients.

    `side` is that of pictures in pixels; `config` is the autoencoder's. `known` gives the rows of `modes` (n, C, h, w),
    unscaled latents that are stored, by the digest of their picture. Without `stored` captions are told each time anew.
    """

    family: Family
    side: int
    config: Mapping[str, Any]
    open_vae: Callable[[], Any]
    open_words: Callable[[], Any]
    known: Mapping[str, int] = field(default_factory=dict)
    modes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 1, 1), np.float32))
    stored: Stored | None = None

    @cached_property
    def vae(self) -> Any:
        """Return the autoencoder of diffusers."""
        return self.open_vae()

    @cached_property
    def words(self) -> Any:
        """Return the pipeline of diffusers with tokenizers and text encoders alone."""
        return self.open_words()

    @property
    def scale(self) -> float:
        """Return what latents are multiplied by, k."""
        return float(self.config["scaling_factor"])

    @property
    def channels(self) -> int:
        """Return how many channels latents have."""
        return int(self.config["latent_channels"])

    @property
    def smaller(self) -> int:
        """Return how many times as wide as latents pictures are."""
        return text_pipelines.smaller(self.config)

    @torch.no_grad()
    def posterior(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of q(z|x), unscaled, shapes (B, C, h, w), on the CPU, float32."""
        means, stds = [], []
        at_once = pictures_at_once(*images.shape[1:3])
        for start in range(0, len(images), at_once):
            part = torch.from_numpy(np.array(images[start : start + at_once])).permute(0, 3, 1, 2).float()
            found = self.vae.encode((part / 127.5 - 1).to(self.vae.device, self.vae.dtype))
            if not hasattr(found, "latent_dist"):  # tiny and deep ones give one latent, no distribution
                means.append((found.latents if hasattr(found, "latents") else found.latent).float().cpu())
                stds.append(torch.zeros_like(means[-1]))
            else:
                means.append(found.latent_dist.mean.float().cpu())
                stds.append(found.latent_dist.std.float().cpu())
        return torch.cat(means), torch.cat(stds)

    def latents(self, images: np.ndarray) -> Tensor:
        """Return unscaled latent modes (B, C, h, w), float32: stored ones, else computed."""
        rows = [self.known.get(image_digest(image)) for image in images] if self.known else [None]
        if all(row is not None for row in rows):
            return torch.from_numpy(np.stack([self.modes[row] for row in rows if row is not None]))
        return self.posterior(images)[0]

    def scaled(self, latents: Tensor) -> Tensor:
        """Return latents as the denoiser sees them, k (z - m)."""
        return (latents - self._shift(latents)) * self.scale

    def encode(self, images: np.ndarray) -> Tensor:
        """Return scaled latent modes of pictures (B, H, W, 3) uint8, shape (B, C, h, w), float32."""
        return self.scaled(self.latents(images))

    @torch.no_grad()
    def decode(self, x: Tensor) -> np.ndarray:
        """Return the pictures (B, H, W, 3), uint8, of scaled latents (B, C, h, w)."""
        made = []
        for part in x.split(pictures_at_once(self.smaller * x.shape[2], self.smaller * x.shape[3])):
            latents = part.to(self.vae.device, self.vae.dtype) / self.scale
            made.append(to_pictures(self.vae.decode(latents + self._shift(latents)).sample.float()))
        return np.concatenate(made)

    def tell(self, captions: Sequence[str], on_progress: Count = lambda done, total: None) -> None:
        """Store what many captions tell the denoiser, unless it is stored; the text encoders are given back then."""
        if self.stored is not None and (lacking := self.stored.lacking(captions)):
            compute(self.stored.base, lacking, self._told, on_progress)
            self.__dict__.pop("words", None)

    def conditions(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Return what the denoiser is told of captions, by name, (B, ...) each: stored, else computed; "" is nothing.

        Numbers that are not whole are in float32.
        """
        if self.stored is None:
            told = self._told(captions)
        else:
            if lacking := self.stored.lacking(captions):  # more of them may follow, so that the encoders stay
                compute(self.stored.base, lacking, self._told, lambda done, total: None)
                self.stored.lacking(captions)
            rows = self.stored.rows(captions)
            told = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {name: value.float() if value.is_floating_point() else value for name, value in told.items()}

    @torch.no_grad()
    def _told(self, captions: Sequence[str]) -> dict[str, Tensor]:
        family = self.family
        if family.untold is None or all(captions):
            return family.told(self.words, captions, self.side)
        nothing = family.untold(self.words, self.side)
        told = family.told(self.words, [caption for caption in captions if caption], self.side) if any(captions) else {}
        numbers = np.cumsum([bool(caption) for caption in captions]) - 1
        of_each = [(told, int(n)) if caption else (nothing, 0) for caption, n in zip(captions, numbers, strict=True)]
        return {name: torch.stack([rows[name][n] for rows, n in of_each]) for name in nothing}

    def _shift(self, like: Tensor) -> Tensor:
        """Return what is taken off latents, m, of one number or one a channel, for tensors (B, C, h, w)."""
        return like.new_tensor(self.config.get("shift_factor") or 0.0)
