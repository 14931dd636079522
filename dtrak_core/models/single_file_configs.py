"""What the configs of a Stable Diffusion say, read off the shapes of the weights in its single file.

What shapes do not say is the same in every one: groups of normalisation layers, the width of a head of attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import CLIPTextConfig

GROUPS = 32  # of normalisation layers
HEADS, HEAD_WIDTH = 8, 64  # of attention: the denoiser of 1.x has 8, whatever their width; all else has heads this wide


def of_unet(held: Mapping[str, Tensor], newer: bool, pooled: int = 0) -> dict[str, Any]:
    """Read the levels off the denoiser's first half, where a convolution `op` leads from each to the next.

    XL is also told the words pooled, so many numbers, and three sizes, each two numbers in an embedding of sines.
    """
    widths: list[list[int]] = [[]]
    depths = [0]  # transformer blocks one after the other, 0 without attention
    number = 1
    while any(name.startswith(f"input_blocks.{number}.") for name in held):
        if f"input_blocks.{number}.0.op.weight" in held:
            widths.append([])
            depths.append(0)
        else:
            widths[-1].append(len(held[f"input_blocks.{number}.0.in_layers.2.weight"]))
            while f"input_blocks.{number}.1.transformer_blocks.{depths[-1]}.norm1.weight" in held:
                depths[-1] += 1
        number += 1
    channels = [level[0] for level in widths]
    read = next(value.shape[1] for name, value in held.items() if name.endswith("attn2.to_k.weight"))
    flat = next(value.dim() == 2 for name, value in held.items() if name.endswith(".proj_in.weight"))
    told: dict[str, Any] = {}
    if pooled:
        width = held["label_emb.0.0.weight"].shape[1]
        told = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (width - pooled) // 6,
            "projection_class_embeddings_input_dim": width,
        }
    return told | {
        "_class_name": "UNet2DConditionModel",
        "in_channels": held["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(held["out.2.weight"]),
        "block_out_channels": channels,
        "layers_per_block": len(widths[0]),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "transformer_layers_per_block": [max(1, depth) for depth in depths],
        "cross_attention_dim": read,
        "attention_head_dim": [_heads(width) for width in channels] if newer else HEADS,
        "use_linear_projection": flat,
        "norm_num_groups": GROUPS,
    }


def of_vae(held: Mapping[str, Tensor], resolution: int, scale: float) -> dict[str, Any]:
    """Return the settings of the autoencoder, whose latents are multiplied by `scale`."""
    channels: list[int] = []
    while f"encoder.down.{len(channels)}.block.0.conv1.weight" in held:
        channels.append(len(held[f"encoder.down.{len(channels)}.block.0.conv1.weight"]))
    layers = sum(name.startswith("encoder.down.0.block.") and name.endswith(".conv1.weight") for name in held)
    return {
        "_class_name": "AutoencoderKL",
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "block_out_channels": channels,
        "layers_per_block": layers,
        "latent_channels": held["decoder.conv_in.weight"].shape[1],
        "norm_num_groups": GROUPS,
        "sample_size": resolution,
        "scaling_factor": scale,
    }


def of_text(held: Mapping[str, Tensor], by_open_clip: bool, layers_left_out: int) -> CLIPTextConfig:
    """Return the settings of a text encoder; the last layers of 2.x's are not asked by Stable Diffusion."""
    blocks = "transformer.resblocks." if by_open_clip else "encoder.layers."
    layers = len({name.removeprefix(blocks).split(".")[0] for name in held if name.startswith(blocks)})
    embeddings = held["token_embedding.weight" if by_open_clip else "embeddings.token_embedding.weight"]
    places = held["positional_embedding" if by_open_clip else "embeddings.position_embedding.weight"]
    inner = held[f"{blocks}0.mlp.{'c_fc' if by_open_clip else 'fc1'}.weight"]
    projected = held.get("text_projection")
    return CLIPTextConfig(
        vocab_size=embeddings.shape[0],
        hidden_size=embeddings.shape[1],
        intermediate_size=inner.shape[0],
        projection_dim=embeddings.shape[1] if projected is None else projected.shape[1],
        num_hidden_layers=layers - layers_left_out,
        num_attention_heads=_heads(embeddings.shape[1]),
        max_position_embeddings=places.shape[0],
        hidden_act="gelu" if by_open_clip else "quick_gelu",
    )


def _heads(width: int) -> int:
    return max(1, width // HEAD_WIDTH)
