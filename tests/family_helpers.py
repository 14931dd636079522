"""Text-to-image pipelines of every family with some thousand random weights, as diffusers saves them, for tests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import text_helpers
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from dtrak_core.demo import text_base

SIDE, WIDTH = 32, 16


@functools.cache
def bytes_in_pairs() -> Any:
    """Return CLIP's tokenizer for the captions."""
    return text_base.build_tokenizer([f"a {text}" for text in text_helpers.WORDS])


def words() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, those of the captions."""
    known = ["<pad>", "</s>", "<unk>", "a", *sorted({word for text in text_helpers.WORDS for word in text.split()})]
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(known)}, unk_token="<unk>"))
    made.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %} </s>"
    return tokenizer


def autoencoder(levels: int = 3, channels: int = 4, **more: Any) -> AutoencoderKL:
    """Return an autoencoder whose latents are 2^(levels - 1) times as small."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels, layers_per_block=1, latent_channels=channels, norm_num_groups=8,
        sample_size=SIDE, **more,
    )  # fmt: skip


def clip(kind: type = CLIPTextModel) -> dict[str, Any]:
    """Return a CLIP text encoder and its tokenizer."""
    tokenizer = bytes_in_pairs()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=WIDTH, projection_dim=WIDTH,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return {"text_encoder": kind(config), "tokenizer": tokenizer}


def t5(width: int = WIDTH) -> dict[str, Any]:
    config = T5Config(vocab_size=16, d_model=width, d_kv=8, d_ff=WIDTH, num_layers=1, num_heads=2)
    return {"text_encoder": T5EncoderModel(config), "tokenizer": words()}


def numbered(parts: dict[str, Any], number: int) -> dict[str, Any]:
    return {f"{name}_{number}": part for name, part in parts.items()}


def language(kind: type, config: type) -> dict[str, Any]:
    made = config(
        vocab_size=16, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=1024, pad_token_id=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return {"text_encoder": kind(made), "tokenizer": words()}


def unet(**more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE // 4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(16, 16), layers_per_block=1,
        norm_num_groups=8, attention_head_dim=4, **more,
    )  # fmt: skip


def ddim(**more: Any) -> DDIMScheduler:
    how = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return DDIMScheduler(**how, set_alpha_to_one=False, steps_offset=1, **more)


def stable_diffusion_2() -> DiffusionPipeline:
    alone = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    network = unet(cross_attention_dim=WIDTH, use_linear_projection=True)
    return StableDiffusionPipeline(
        vae=autoencoder(), unet=network, scheduler=ddim(prediction_type="v_prediction"), **clip(), **alone
    )


def stable_diffusion_xl() -> DiffusionPipeline:
    network = unet(
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )  # fmt: skip
    second = numbered(clip(CLIPTextModelWithProjection), 2)
    return StableDiffusionXLPipeline(
        vae=autoencoder(), unet=network, scheduler=ddim(), **clip(), **second, add_watermarker=False
    )


def stable_diffusion_3(third: bool = True) -> DiffusionPipeline:
    network = SD3Transformer2DModel(
        sample_size=SIDE // 4, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=2 * WIDTH, caption_projection_dim=16, pooled_projection_dim=2 * WIDTH, out_channels=4,
    )  # fmt: skip
    parts = clip(CLIPTextModelWithProjection) | numbered(clip(CLIPTextModelWithProjection), 2)
    last = numbered(t5(2 * WIDTH), 3) if third else {"text_encoder_3": None, "tokenizer_3": None}
    return StableDiffusion3Pipeline(
        transformer=network, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(scaling_factor=1.5, shift_factor=0.06), **parts, **last,
    )  # fmt: skip


def flux(distilled: bool = True) -> DiffusionPipeline:
    network = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(4, 2, 2), guidance_embeds=distilled,
    )  # fmt: skip
    schedule = FlowMatchEulerDiscreteScheduler(
        shift=3.0 if distilled else 1.0, use_dynamic_shifting=distilled, base_shift=0.5, max_shift=1.15
    )
    vae = autoencoder(scaling_factor=0.36, shift_factor=0.11)
    return FluxPipeline(scheduler=schedule, vae=vae, transformer=network, **clip(), **numbered(t5(), 2))


def pixart(kind: Any = PixArtSigmaPipeline, large: bool = False) -> DiffusionPipeline:
    network = PixArtTransformer2DModel(
        sample_size=128 if large else SIDE // 4, num_layers=1, patch_size=2, attention_head_dim=8,
        num_attention_heads=3, caption_channels=WIDTH, in_channels=4, cross_attention_dim=24, out_channels=8,
        attention_bias=True,
        use_additional_conditions=large, norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    return kind(scheduler=ddim(), vae=autoencoder(), transformer=network, **t5())


def sana() -> DiffusionPipeline:
    network = SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=WIDTH,
        sample_size=SIDE // 2,
    )  # fmt: skip
    two: dict[str, Any] = {
        "block_types": ("ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8), "qkv_multiscales": ((), (5,)),
        "layers_per_block": (1, 1),
    }  # fmt: skip
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=2, downsample_block_type="conv", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41,
        **{f"{way}_{name}": value for way in ("encoder", "decoder") for name, value in two.items()},
    )  # fmt: skip
    schedule = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return SanaPipeline(transformer=network, vae=vae, scheduler=schedule, **language(Gemma2Model, Gemma2Config))


def lumina_2() -> DiffusionPipeline:
    network = Lumina2Transformer2DModel(
        sample_size=SIDE // 8, patch_size=2, in_channels=4, hidden_size=16, num_layers=1, num_refiner_layers=1,
        num_attention_heads=2, num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 2, 2), axes_lens=(512, 64, 64),
        cap_feat_dim=WIDTH,
    )  # fmt: skip
    schedule = FlowMatchEulerDiscreteScheduler(shift=6.0)
    vae = autoencoder(4, scaling_factor=0.36, shift_factor=0.11)
    return Lumina2Pipeline(transformer=network, vae=vae, scheduler=schedule, **language(Gemma2Model, Gemma2Config))


def z_image() -> DiffusionPipeline:
    network = ZImageTransformer2DModel(
        in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[4, 2, 2], axes_lens=[512, 64, 64],
    )  # fmt: skip
    schedule = FlowMatchEulerDiscreteScheduler(shift=3.0)
    vae = autoencoder(scaling_factor=0.36, shift_factor=0.11)
    return ZImagePipeline(transformer=network, vae=vae, scheduler=schedule, **language(Qwen3Model, Qwen3Config))


FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {
    "sd2": stable_diffusion_2,
    "sdxl": stable_diffusion_xl,
    "sd3": stable_diffusion_3,
    "sd3-without-t5": lambda: stable_diffusion_3(third=False),
    "flux-dev": flux,
    "flux-schnell": lambda: flux(distilled=False),
    "pixart-alpha": lambda: pixart(PixArtAlphaPipeline, large=True),
    "pixart-sigma": pixart,
    "sana": sana,
    "lumina2": lumina_2,
    "z-image": z_image,
}


def saved(kind: str, folder: Path) -> Path:
    """Save a pipeline of a family; its weights come from a seed, and none of them is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = FAMILIES[kind]()
        denoiser = pipe.unet if "sd2" in kind or "xl" in kind else pipe.transformer
        for parameter in denoiser.parameters():  # what starts at zero would hide all before it
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    pipe.save_pretrained(folder)
    return folder
