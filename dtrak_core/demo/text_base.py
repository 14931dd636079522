"""Train the small text-to-image base of a LoRA demo, from nothing: a Stable Diffusion that fits into a laptop.

    images 32 x 32 x 3  --AutoencoderKL-->  latents 8 x 8 x 8  <--UNet2DConditionModel--  CLIPTextModel(caption)

The parts are those of a `StableDiffusionPipeline`, only smaller, so that diffusers opens the result as it opens the
paper's base, and the same code of ours works on both. The tokenizer is CLIP's byte-pair encoding (its table comes with
open_clip_torch), cut down to the merges that the captions need.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dtrak_core.demo import base_steps
from dtrak_core.models import clip_words
from dtrak_core.models.process import Process
from dtrak_core.models.settings import PREDICTIONS
from dtrak_core.progress import Progress

CAPTION_DROPOUT = 0.1
NARROWED = 8.0  # taken off the logarithm of the latents' variance at the end


@dataclass(frozen=True)
class Shape:
    """How large a base is: channels of its parts, tokens of a caption (start and end included); what it predicts.

    `kl_weight` weighs the autoencoder's divergence, summed over a latent, against the mean error of its pictures.
    """

    tokens: int = 20
    text_width: int = 64
    text_layers: int = 2
    latent_channels: int = 8
    vae_channels: tuple[int, ...] = (16, 32, 64)
    unet_channels: tuple[int, ...] = (64, 96)
    kl_weight: float = 1e-5
    predicts: Literal["epsilon", "sample"] = "epsilon"


SMALL = Shape()


def build_tokenizer(captions: Sequence[str], tokens: int = Shape.tokens) -> CLIPTokenizer:
    """Make a CLIP tokenizer with the merges that these captions need, in CLIP's order; other words become pieces.

    A word is split as CLIP splits it: each of its pieces was joined by one pair of CLIP's table, its halves by theirs,
    and all these pairs are kept. Words are those of plain letters, as in the base that ships.

    Raises:
        DataError: If open_clip_torch, which brings the table, is not installed.
    """
    merges, letters = clip_words.merges(), clip_words.letters()
    split = Tokenizer(BPE(clip_words.numbered([*letters, *map("".join, merges)]), merges, end_of_word_suffix="</w>"))
    split.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    words = {word for caption in captions for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", caption.lower())}
    rank = {first + second: i for i, (first, second) in enumerate(merges)}
    pieces = {piece for word in words for piece in split.encode(word).tokens}
    found: set[int] = set()
    while made := {rank[piece] for piece in pieces if piece in rank}:
        found |= made
        pieces = {half for i in made for half in merges[i]}
    return clip_words.joining([merges[i] for i in sorted(found)], tokens)


def build(captions: Sequence[str], resolution: int, shape: Shape = SMALL) -> StableDiffusionPipeline:
    """Return the untrained pipeline; weights come from torch's global generator.

    Args:
        captions: What the tokenizer must know.
        resolution: Pixels a side; each level of the autoencoder after the first halves the latents'.
        shape: How large its parts are.
    """
    tokenizer = build_tokenizer(captions, shape.tokens)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.text_width,
            intermediate_size=4 * shape.text_width,
            projection_dim=shape.text_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=4,
            max_position_embeddings=shape.tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )
    levels = len(shape.vae_channels)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=shape.vae_channels,
        layers_per_block=1,
        latent_channels=shape.latent_channels,
        norm_num_groups=8,
        sample_size=resolution,
    )
    unet = UNet2DConditionModel(
        sample_size=resolution // 2 ** (levels - 1),
        in_channels=shape.latent_channels,
        out_channels=shape.latent_channels,
        down_block_types=("CrossAttnDownBlock2D",) * len(shape.unet_channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(shape.unet_channels),
        block_out_channels=shape.unet_channels,
        layers_per_block=1,
        cross_attention_dim=shape.text_width,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    schedule = DDIMScheduler(  # Stable Diffusion's
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=shape.predicts,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae, text, tokenizer, unet, schedule, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def train_vae(
    pipe: StableDiffusionPipeline,
    images: np.ndarray,
    steps: int,
    batch: int,
    on_progress: Progress,
    kept: Path | None = None,
    kl_weight: float = Shape.kl_weight,
) -> None:
    """Train the autoencoder, mean |x - x'| + kl_weight KL(q(z|x), N(0, 1)), and set the scale of its latents.

    Args:
        pipe: The pipeline.
        images: Pictures (N, H, W, 3), uint8.
        steps: How many.
        batch: Pictures a step; half of them are mirrored.
        on_progress: Told of each step, with the error of its pictures.
        kept: File from which a training that was cut off goes on; None keeps nothing.
        kl_weight: As in `Shape`.
    """
    vae, where = pipe.vae.train(), pipe.device
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).to(where)
    side = images.shape[1] // 2 ** (len(vae.config.block_out_channels) - 1)

    def drawn(random: np.random.Generator) -> list[Tensor]:
        chosen, mirrored = random.integers(len(x), size=batch), random.random(batch) < 0.5
        noise = random.standard_normal((batch, vae.config.latent_channels, side, side), dtype=np.float32)
        return [torch.from_numpy(one) for one in (chosen, mirrored, noise)]

    def loss_of(chosen: Tensor, mirrored: Tensor, noise: Tensor) -> Tensor:
        part = x[chosen]
        part = torch.where(mirrored.view(-1, 1, 1, 1), part.flip(-1), part)
        posterior = vae.encode(part).latent_dist
        made = vae.decode(posterior.mean + posterior.std * noise).sample
        loss: Tensor = functional.l1_loss(made, part) + kl_weight * posterior.kl().mean()
        return loss

    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-6, fused=True)
    _take(vae, base_steps.trained(optimizer, drawn, loss_of, "vae", steps, kept, on_progress))
    with torch.no_grad():
        # Channels that the pictures do not need end as N(0, 1): drawn from, they are noise that nothing predicts.
        vae.quant_conv.bias[vae.config.latent_channels :] -= NARROWED
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(64)])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.eval()


def train_unet(
    pipe: StableDiffusionPipeline,
    images: np.ndarray,
    captions: Sequence[str],
    steps: int,
    batch: int,
    on_progress: Progress,
    kept: Path | None = None,
    flip: bool = True,
) -> None:
    """Train denoiser and text encoder together, captions left out with probability CAPTION_DROPOUT.

    The loss is mean (e - ε)², or w_t (f - x_0)² with the weights of process.py for one that predicts the clean picture.

    Args:
        pipe: The pipeline, its autoencoder trained.
        images: Pictures (N, H, W, 3), uint8.
        captions: One for each.
        steps: How many.
        batch: Pictures a step.
        on_progress: Told of each step, with its loss.
        kept: File from which a training that was cut off goes on; None keeps nothing.
        flip: Whether half of the pictures are mirrored.
    """
    unet, text, where = pipe.unet.train(), pipe.text_encoder.train(), pipe.device
    latents = encoded(pipe, images)
    said = pipe.tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt")
    ids = said.input_ids.to(where)
    schedule = pipe.scheduler
    process = Process(PREDICTIONS[schedule.config.prediction_type], schedule.betas, schedule.alphas_cumprod).to(where)
    assert pipe.vae.config.scaling_factor > 0

    def drawn(random: np.random.Generator) -> list[Tensor]:
        chosen = random.integers(len(captions), size=batch)
        mirrored = random.integers(2, size=batch) * int(flip)
        worded = np.where(random.random(batch) < CAPTION_DROPOUT, len(captions), chosen)
        noise = random.standard_normal((batch, *latents.shape[2:]), dtype=np.float32)
        t = random.integers(process.steps, size=batch)
        return [torch.from_numpy(one) for one in (chosen, mirrored, worded, noise, t)]

    def loss_of(chosen: Tensor, mirrored: Tensor, worded: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        x0 = latents[mirrored, chosen]
        with torch.autocast("cuda", torch.bfloat16, enabled=where.type == "cuda", cache_enabled=False):
            context = text(ids[worded]).last_hidden_state
            predicted = unet(process.noised(x0, noise, t), t, context, return_dict=False)[0].float()
        error = (predicted - process.target(x0, noise, t)).square().flatten(1).mean(1)
        loss: Tensor = (process.loss_weights(t) * error).mean()
        return loss

    weights = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=1.5e-3, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    average = base_steps.trained(optimizer, drawn, loss_of, "base", steps, kept, on_progress)
    of_unet = len(list(unet.parameters()))
    for network, part in ((unet, average[:of_unet]), (text, average[of_unet:])):
        _take(network, part)
        network.eval()


@torch.no_grad()
def encoded(pipe: StableDiffusionPipeline, images: np.ndarray) -> Tensor:
    """Return scaled latent modes of pictures and of their mirror images, shape (2, N, C, h, w)."""
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1).to(pipe.device)
    both = [torch.cat([pipe.vae.encode(part).latent_dist.mean for part in y.split(64)]) for y in (x, x.flip(-1))]
    scaled: Tensor = torch.stack(both) * pipe.vae.config.scaling_factor
    return scaled


def save(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in half precision, as diffusers lays it out."""
    pipe.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    pipe.to(dtype=torch.float32)


@torch.no_grad()
def _take(network: torch.nn.Module, average: Sequence[Tensor]) -> None:
    for parameter, value in zip(network.parameters(), average, strict=True):
        parameter.copy_(value)
