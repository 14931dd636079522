"""What a text-to-image model has beside its denoiser: a frozen autoencoder and a frozen text encoder.

encode      pictures -> scaled latent modes     s·E[q(z|x)], s the autoencoder's scaling factor (0.18215 in the paper)
decode      scaled latents -> pictures          D(z / s)
conditions  captions -> what the denoiser's cross-attention reads
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from dtrak_core.datasets.catalogue import image_digest
from dtrak_core.models.condition import Condition

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
    """Autoencoder, tokenizer and text encoder, in eval mode without gradients.

    `known` gives the rows of `modes` (n, C, h, w), unscaled latents that are stored, by the digest of their picture.
    """

    vae: AutoencoderKL | AutoencoderTiny
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    known: Mapping[str, int] = field(default_factory=dict)
    modes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 1, 1), np.float32))

    @property
    def scale(self) -> float:
        """Return what latents are multiplied by."""
        return float(self.vae.config.scaling_factor)

    @property
    def smaller(self) -> int:
        """Return how many times as wide as latents pictures are."""
        tiny = isinstance(self.vae, AutoencoderTiny)
        levels = self.vae.config.encoder_block_out_channels if tiny else self.vae.config.block_out_channels
        return int(2 ** (len(levels) - 1))

    @torch.no_grad()
    def posterior(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of q(z|x), unscaled, shapes (B, C, h, w), on the CPU, float32."""
        means, stds = [], []
        at_once = pictures_at_once(*images.shape[1:3])
        for start in range(0, len(images), at_once):
            part = torch.from_numpy(np.array(images[start : start + at_once])).permute(0, 3, 1, 2).float()
            found = self.vae.encode((part / 127.5 - 1).to(self.vae.device, self.vae.dtype))
            if isinstance(self.vae, AutoencoderTiny):  # gives one latent, no distribution
                means.append(found.latents.float().cpu())
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

    def encode(self, images: np.ndarray) -> Tensor:
        """Return scaled latent modes of pictures (B, H, W, 3) uint8, shape (B, C, h, w), float32."""
        return self.latents(images) * self.scale

    @torch.no_grad()
    def decode(self, x: Tensor) -> np.ndarray:
        """Return the pictures (B, H, W, 3), uint8, of scaled latents (B, C, h, w)."""
        made = []
        fold = 2 ** (len(self.vae.config.block_out_channels) - 1)  # pixels of a side for one of the latents'
        for part in x.split(pictures_at_once(fold * x.shape[2], fold * x.shape[3])):
            pixels = self.vae.decode(part.to(self.vae.device, self.vae.dtype) / self.scale).sample.float()
            made.append(to_pictures(pixels))
        return np.concatenate(made)

    @torch.no_grad()
    def conditions(self, captions: Sequence[str]) -> Condition:
        """Return the text encoder's last hidden states of captions, `hidden` of shape (B, L, D), float32."""
        length = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        ids = self.tokenizer(
            list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return Condition({"hidden": self.text_encoder(ids.to(self.text_encoder.device)).last_hidden_state.float()})
