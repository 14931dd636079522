"""Text-to-image families at their true size, with random weights: what they need, and one gradient where it fits.

The networks are those of the public models. Each is built without memory (on torch's meta device) and counted there;
where this machine's free memory holds it in bfloat16, one gradient of one draw is measured. `make paper-dry-run` writes
the rows into docs/reproduce.md.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import paper_table
import pytest
import torch
from peft import LoraConfig
from torch import Tensor

from dtrak_core.features.gradients import per_example_gradients, watched
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models.denoiser import Condition, Denoiser
from dtrak_core.models.process import Process
from dtrak_core.models.schedules import default_scheduler
from dtrak_core.models.text_families import FAMILIES

pytestmark = [pytest.mark.paper, pytest.mark.long, pytest.mark.timeout(3000)]
RANK, SIDE = 16, 512
TRAINED = 16  # bytes a trained number: itself, its gradient and AdamW's two averages, float32
SPARE = 4 * 2**30  # memory that is left to everything else


@dataclass(frozen=True)
class Size:
    """A public model: its pipeline's class, its denoiser's config, its latents' channels, what it is told, its size."""

    pipeline: str
    config: dict[str, Any]
    channels: int
    told: dict[str, tuple[int, ...]]
    parameters: int
    trained: int


SIZES = {
    "Stable Diffusion XL": Size(
        "StableDiffusionXLPipeline",
        {
            "sample_size": 128, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True,
            "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20), "cross_attention_dim": 2048,
            "transformer_layers_per_block": (1, 2, 10), "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
        },
        4,
        {"hidden": (77, 2048), "pooled": (1280,), "sizes": (6,)},
        2_567_463_684,
        23_224_320,
    ),
    "Stable Diffusion 3.5 Medium": Size(
        "StableDiffusion3Pipeline",
        {
            "sample_size": 128, "in_channels": 16, "out_channels": 16, "num_layers": 24, "attention_head_dim": 64,
            "num_attention_heads": 24, "joint_attention_dim": 4096, "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048, "pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13)),
            "qk_norm": "rms_norm",
        },
        16,
        {"hidden": (333, 4096), "pooled": (2048,)},
        2_243_171_520,
        11_943_936,
    ),
    "Flux.1": Size(
        "FluxPipeline",
        {"guidance_embeds": True},  # the other defaults of diffusers are its own
        16,
        {"hidden": (512, 4096), "pooled": (768,)},
        11_901_408_320,
        26_148_864,
    ),
}  # fmt: skip


def activations(network: torch.nn.Module, call: Any, x: Tensor, told: Mapping[str, Tensor]) -> int:
    """Return the bytes in bfloat16 that the layers put out in a pass of one draw."""
    size = 0

    def count(_: object, __: object, output: object) -> None:
        nonlocal size
        size += 2 * output.numel() if isinstance(output, Tensor) else 0

    leaves = [layer for layer in network.modules() if not list(layer.children())]
    with watched(leaves, count), torch.no_grad():
        assert call(network, x, torch.zeros(1, device="meta"), told).shape == x.shape
    return size


def free_memory() -> int:
    """Return the bytes that Linux says can be taken, 0 elsewhere."""
    told = Path("/proc/meminfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)


def in_memory(network: torch.nn.Module) -> None:
    """Give a network of the meta device memory and random weights, bfloat16 where they are frozen."""
    for parameter in network.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    network.to_empty(device="cpu")
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            value.uniform_(-0.02, 0.02)


def seconds(network: Any, call: Any, shape: tuple[int, int, int], told: dict[str, tuple[int, ...]]) -> float:
    """Return what the gradient of one draw of one picture takes, the second time."""
    betas = default_scheduler().betas
    process = Process("noise", betas, (1 - betas).cumprod(0))
    denoiser = Denoiser(network.eval(), process, 1, shape, half=True, call=call)
    wanted = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=1, projection="none", proj_dim=1)
    condition = Condition({name: torch.randn(1, *size) for name, size in told.items()})
    network.enable_gradient_checkpointing()
    for _ in range(2):
        began = time.perf_counter()
        made = per_example_gradients(
            denoiser, torch.randn(1, *shape), ["train:0"], wanted, draws_at_once=1, grid=np.array([500]),
            condition=condition,
        )  # fmt: skip
        took = time.perf_counter() - began
    assert made.isfinite().all()
    assert made.any()
    return took


@pytest.mark.parametrize("name", SIZES)
def test_a_family_has_its_true_size(name: str) -> None:
    size = SIZES[name]
    family = FAMILIES[size.pipeline]
    with torch.device("meta"):
        network = getattr(diffusers, family.network)(**size.config)
        assert sum(p.numel() for p in network.parameters()) == size.parameters
        network.requires_grad_(False)
        network.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(family.targets)))
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert trained == size.trained
        told = {part: torch.zeros(1, *shape) for part, shape in size.told.items()}
        shape = (size.channels, SIDE // 8, SIDE // 8)
        one = activations(network, family.call, torch.zeros(1, *shape), told)
    weights = 2 * size.parameters
    needed, measured = weights + TRAINED * trained + one, "not measured"
    if free_memory() > weights + 4 * trained + one + SPARE:
        in_memory(network)
        took = seconds(network, family.call, shape, size.told)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        measured = f"{took:.1f}, at most {peak:.1f} GB in use"
    paper_table.SIZES.append(
        {
            "model": name,
            "pixels": str(SIDE),
            "parameters": f"{size.parameters:,}",
            f"LoRA, rank {RANK}": f"{trained:,}",
            "weights": f"{weights / 2**30:.1f} GB",
            "a draw's activations": f"{one / 2**30:.1f} GB",
            "computed for training": f"{needed / 2**30:.1f} GB",
            "seconds a gradient": measured,
        }
    )
