"""Train the small text-to-image base of the LoRA demo, from nothing: a Stable Diffusion that fits into a laptop.

    images 32 x 32 x 3  --AutoencoderKL-->  latents 8 x 8 x 8  <--UNet2DConditionModel--  CLIPTextModel(caption)

The parts are those of a `StableDiffusionPipeline`, only smaller, so that diffusers opens the result as it opens the
paper's base, and the same code of ours works on both. The tokenizer is CLIP's byte-pair encoding (its table comes with
open_clip_torch), cut down to the merges that the captions need. Pictures are OpenMoji's of `openmoji_base.csv`; none
is of subgroup person-role, which the LoRA models learn (openmoji.py).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dtrak_core.datasets import openmoji
from dtrak_core.features import draws
from dtrak_core.models import clip_words
from dtrak_core.progress import Progress
from dtrak_core.training.training_run import learning_rate

FACTS = openmoji.FACTS.with_name("openmoji_base.csv")
LIVING = ("person", "face", "cat-face", "monkey-face", "animal")  # subgroups begin with one of these
TOKENS = 20  # of a caption, start and end included
TEXT_WIDTH, TEXT_LAYERS = 64, 2
LATENT_CHANNELS = 8
VAE_CHANNELS, UNET_CHANNELS = (16, 32, 64), (64, 96)
CAPTION_DROPOUT = 0.1
WARMUP = 0.05  # share of the steps
KL_WEIGHT = 1e-5
NARROWED = 8.0  # taken off the logarithm of the latents' variance at the end
AVERAGED = 0.999  # decay of the average of the weights, which is what is stored


def pictures(resolution: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return what the base learns from: pictures (N, H, W, 3) uint8, captions, and which the denoiser sees, bool (N,).

    The autoencoder sees all; the denoiser, which has less room, people, faces and animals.
    """
    with FACTS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = np.stack([openmoji.draw(row["hexcode"], resolution) for row in rows])
    living = np.array([row["subgroup"].startswith(LIVING) for row in rows])
    return drawn, [row["name"] for row in rows], living


def build_tokenizer(captions: Sequence[str]) -> CLIPTokenizer:
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
    used = sorted(found)
    numbers = clip_words.numbered([*letters, *("".join(merges[i]) for i in used), clip_words.START, clip_words.END])
    # With the list form, transformers writes vocab.json and merges.txt as older versions do.
    pairs: list[Any] = [merges[i] for i in used]
    return CLIPTokenizer(vocab=numbers, merges=pairs, model_max_length=TOKENS)


def build(captions: Sequence[str], resolution: int) -> StableDiffusionPipeline:
    """Return the untrained pipeline; weights come from torch's global generator.

    Args:
        captions: What the tokenizer must know.
        resolution: Pixels a side; the latents have a quarter of it.
    """
    tokenizer = build_tokenizer(captions)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )
    levels = len(VAE_CHANNELS)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=resolution,
    )
    unet = UNet2DConditionModel(
        sample_size=resolution // 2 ** (levels - 1),
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * len(UNET_CHANNELS),
        up_block_types=("CrossAttnUpBlock2D",) * len(UNET_CHANNELS),
        block_out_channels=UNET_CHANNELS,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    schedule = DDIMScheduler(  # Stable Diffusion's
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae, text, tokenizer, unet, schedule, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def train_vae(pipe: StableDiffusionPipeline, images: np.ndarray, steps: int, batch: int, on_progress: Progress) -> None:
    """Train the autoencoder, mean |x - x'| + KL_WEIGHT KL(q(z|x), N(0, 1)), and set the scale of its latents."""
    vae = pipe.vae.train()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    average = [p.detach().clone() for p in vae.parameters()]
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-6, fused=True)
    for step in range(steps):
        _set_rate(optimizer, 2e-3, step, steps)
        random = draws.stream(f"vae/{step}")
        part = x[random.integers(len(x), size=batch)]
        part = torch.where(torch.from_numpy(random.random(batch) < 0.5).view(-1, 1, 1, 1), part.flip(-1), part)
        posterior = vae.encode(part).latent_dist
        noise = torch.from_numpy(random.standard_normal(tuple(posterior.mean.shape), dtype=np.float32))
        made = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = functional.l1_loss(made, part) + KL_WEIGHT * posterior.kl().mean()
        _step(optimizer, loss, average)
        on_progress(step + 1, steps, "training steps", f"Autoencoder: error {float(loss.detach()):.4f}")
    _take(vae, average)
    with torch.no_grad():
        # Channels that the pictures do not need end as N(0, 1): drawn from, they are noise that nothing predicts.
        vae.quant_conv.bias[LATENT_CHANNELS:] -= NARROWED
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
) -> None:
    """Train denoiser and text encoder together: mean (e - ε)², captions left out with probability CAPTION_DROPOUT."""
    unet, text, vae = pipe.unet.train(), pipe.text_encoder.train(), pipe.vae
    latents = encoded(pipe, images)
    ids = pipe.tokenizer([*captions, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
    parameters = [*unet.parameters(), *text.parameters()]
    average = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=1.5e-3, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    alphas = pipe.scheduler.alphas_cumprod
    assert vae.config.scaling_factor > 0
    for step in range(steps):
        _set_rate(optimizer, 1.5e-3, step, steps)
        random = draws.stream(f"base/{step}")
        chosen = random.integers(len(captions), size=batch)
        flipped = random.integers(2, size=batch)
        x0 = latents[flipped, chosen]
        worded = np.where(random.random(batch) < CAPTION_DROPOUT, len(captions), chosen)
        noise = torch.from_numpy(random.standard_normal(tuple(x0.shape), dtype=np.float32))
        t = torch.from_numpy(random.integers(len(alphas), size=batch))
        abar = alphas[t].view(-1, 1, 1, 1)
        context = text(ids[worded]).last_hidden_state
        predicted = unet(abar.sqrt() * x0 + (1 - abar).sqrt() * noise, t, context, return_dict=False)[0]
        loss = functional.mse_loss(predicted, noise)
        _step(optimizer, loss, average)
        on_progress(step + 1, steps, "training steps", f"Text to image: loss {float(loss.detach()):.4f}")
    for network, part in (
        (unet, average[: len(list(unet.parameters()))]),
        (text, average[-len(list(text.parameters())) :]),
    ):
        _take(network, part)
        network.eval()


@torch.no_grad()
def encoded(pipe: StableDiffusionPipeline, images: np.ndarray) -> Tensor:
    """Return scaled latent modes of pictures and of their mirror images, shape (2, N, C, h, w)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    both = [torch.cat([pipe.vae.encode(part).latent_dist.mean for part in y.split(64)]) for y in (x, x.flip(-1))]
    scaled: Tensor = torch.stack(both) * pipe.vae.config.scaling_factor
    return scaled


def save(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline in half precision, as diffusers lays it out."""
    pipe.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    pipe.to(dtype=torch.float32)


def _set_rate(optimizer: torch.optim.Optimizer, highest: float, step: int, steps: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(highest, WARMUP, step, steps)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, average: list[Tensor]) -> None:
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
    optimizer.step()
    optimizer.zero_grad()
    torch._foreach_lerp_(average, parameters, 1 - AVERAGED)


@torch.no_grad()
def _take(network: torch.nn.Module, average: Sequence[Tensor]) -> None:
    for parameter, value in zip(network.parameters(), average, strict=True):
        parameter.copy_(value)
