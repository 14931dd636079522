"""Stable Diffusion in a single file: the pipeline made of it draws as the one whose weights are in it."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from dtrak_core import store
from dtrak_core.errors import StudioError
from dtrak_core.models import bases, clip_words, importing_text, lora, sampling, single_files
from dtrak_core.models.settings import LoraSettings
from dtrak_core.progress import quiet

Weights = dict[str, Tensor]
PROMPT = "a red disc, on white"
YAML = 'model:\n  params:\n    linear_start: 0.00085\n    parameterization: "{}"\n'
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
LONE = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
LAYER = {
    "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}  # fmt: skip


def pipeline(newer: bool) -> StableDiffusionPipeline:
    """Build an untrained Stable Diffusion 1.x or 2.x, but narrow and shallow."""
    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1)
        if newer
        else CLIPTextConfig(
            hidden_size=128, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2, hidden_act="quick_gelu"
        )
    )
    text.config.hidden_act = "gelu" if newer else "quick_gelu"
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=32,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=32,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=text.config.hidden_size, attention_head_dim=[1, 1] if newer else 8,
        use_linear_projection=newer,
    )  # fmt: skip
    schedule = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae, text, clip_words.whole("!" if newer else clip_words.END), unet, schedule, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def of_unet(state: Weights, layers: int) -> Weights:
    """Return a denoiser's weights under the names of its first authors' code."""

    def named(name: str) -> str:
        for ours, theirs in LONE.items():
            if name.startswith(ours + "."):
                return name.replace(ours, theirs, 1)
        side, *rest = name.split(".")
        if side == "mid_block":
            kind, number = rest[0], int(rest[1])
            place, tail = f"middle_block.{1 if kind == 'attentions' else 2 * number}", rest[2:]
        else:
            block, kind, number, tail = int(rest[0]), rest[1], int(rest[2]), rest[3:]
            first = block * (layers + 1)
            if kind == "downsamplers":
                return f"input_blocks.{first + layers + 1}.0.op.{tail[-1]}"
            if kind == "upsamplers":
                attended = any(other.startswith(f"up_blocks.{block}.attentions.") for other in state)
                return f"output_blocks.{first + layers}.{2 if attended else 1}.conv.{tail[-1]}"
            blocks = "input_blocks" if side == "down_blocks" else "output_blocks"
            place = f"{blocks}.{first + number + (side == 'down_blocks')}.{int(kind == 'attentions')}"
        return ".".join([place, RESNET.get(tail[0], tail[0]) if kind == "resnets" else tail[0], *tail[1:]])

    return {single_files.UNET + named(name): value for name, value in state.items()}


def of_vae(state: Weights, levels: int) -> Weights:
    found = {}
    for name, value in state.items():
        new = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", new)
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            new = new.replace("to_out.0", "proj_out").replace("to_", "")
            value = value[:, :, None, None] if value.dim() == 2 else value
        found[single_files.VAE + new] = value
    return found


def of_text(state: Weights, newer: bool) -> Weights:
    """Return a text encoder's weights under CLIP's names, or open_clip's with the last layer that is not asked."""
    flat = {name.removeprefix("text_model."): value for name, value in state.items()}
    if not newer:
        return {single_files.TEXT + name: value for name, value in flat.items()}
    found = {
        "token_embedding.weight": flat["embeddings.token_embedding.weight"],
        "positional_embedding": flat["embeddings.position_embedding.weight"],
        "ln_final.weight": flat["final_layer_norm.weight"],
        "ln_final.bias": flat["final_layer_norm.bias"],
        "text_projection": torch.eye(64),
    }
    for number in (0, 1, 1):
        own = f"encoder.layers.{number}."
        block = f"transformer.resblocks.{2 if f'transformer.resblocks.{number}.ln_1.bias' in found else number}."
        for kind in ("weight", "bias"):
            parts = [flat[f"{own}self_attn.{one}_proj.{kind}"] for one in "qkv"]
            found[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)
            found |= {f"{block}{theirs}.{kind}": flat[f"{own}{ours}.{kind}"] for ours, theirs in LAYER.items()}
    return {single_files.OPEN_TEXT + name: value for name, value in found.items()}


@functools.cache
def template(newer: bool) -> tuple[Path, np.ndarray]:
    """Write such a pipeline as a single file, and draw with it."""
    place = Path(tempfile.mkdtemp(prefix="single-file-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    pipe = pipeline(newer)
    held = of_unet(pipe.unet.state_dict(), 1) | of_vae(pipe.vae.state_dict(), 2)
    held |= of_text(pipe.text_encoder.state_dict(), newer)
    save_file({name: value.contiguous().clone() for name, value in held.items()}, place / "model.safetensors")
    how: dict[str, Any] = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(3)}
    return place / "model.safetensors", np.rint(pipe(PROMPT, guidance_scale=4.0, output_type="np", **how).images * 255)


@pytest.fixture
def older(cache: Path, tmp_path: Path) -> Path:
    """Return a file that a test may harm."""
    return Path(shutil.copy(template(False)[0], tmp_path / "model.safetensors"))


def drawn(name: str) -> np.ndarray:
    base = bases.by_name(name)
    denoiser = lora.untrained(base, LoraSettings(base=base.digest, rank=1), "")
    denoiser.network.eval()
    return sampling.generate(denoiser, [3], "ddim", 3, 0.0, prompts=[PROMPT], guidance=4.0).astype(float)


def test_a_file_draws_as_its_pipeline_does(older: Path) -> None:
    taken = importing_text.import_base(str(older), "single", quiet, 16)
    assert taken.manifest["resolution"] == 16
    assert "Stable Diffusion 1.x of 16 pixels that predicts the noise" in taken.manifest["assumed"][0]
    assert np.abs(drawn("single") - template(False)[1]).max() <= 1
    older.unlink()  # what was made of it lies in the cache
    assert np.abs(drawn("single") - template(False)[1]).max() <= 1


def test_a_newer_file_in_half_precision_too(cache: Path, tmp_path: Path) -> None:
    held = {name: value.half() for name, value in load_file(template(True)[0]).items()}
    averaged = {"model_ema.decay": torch.ones(()), "betas": torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2}
    file = tmp_path / "model.safetensors"
    save_file(held | averaged, file)
    file.with_suffix(".yaml").write_text(YAML.format("eps"))
    taken = importing_text.import_base(str(file), "single", quiet, 16)
    assert "2.x" in taken.manifest["assumed"][0]
    assert np.abs(drawn("single") - template(True)[1]).mean() < 1
    unet = load_file(taken.path / bases.INSIDE / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in unet.values()} == {torch.float16}


@pytest.mark.parametrize("newer", [False, True])
def test_the_true_sizes_are_read_off_the_weights(newer: bool) -> None:
    known = {
        "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "in_channels": 4, "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "use_linear_projection": newer,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, "cross_attention_dim": 1024 if newer else 768,
        "attention_head_dim": [5, 10, 20, 20] if newer else 8, "norm_num_groups": 32,
    }  # fmt: skip
    with torch.device("meta"):
        unet = UNet2DConditionModel(**known)
    held = {name.removeprefix(single_files.UNET): value for name, value in of_unet(unet.state_dict(), 2).items()}
    assert single_files._unet_config(held, newer) == {"_class_name": "UNet2DConditionModel", **known}


def test_the_whole_tokenizer_splits_as_clip_does() -> None:
    lines = ["a red disc", "Ünïcode -- 12th C. façade!!", "photo of  a\tcat's paw, 4k", "日本の絵", ""]
    ours = clip_words.whole()(lines, padding="max_length", max_length=77, truncation=True).input_ids
    theirs = open_clip.get_tokenizer("ViT-B-32")(lines).tolist()
    for mine, other in zip(ours, theirs, strict=True):
        end = other.index(49407)
        assert mine[: end + 1] == other[: end + 1]
        assert set(mine[end:]) == {49407}
    padded = clip_words.whole("!")(lines[0], padding="max_length", max_length=77).input_ids
    assert padded == theirs[0]


def without(begin: str) -> Callable[[Weights], Weights]:
    return lambda held: {name: value for name, value in held.items() if not name.startswith(begin)}


def one_more(name: str) -> Callable[[Weights], Weights]:
    return lambda held: held | {name: torch.zeros(2, 2)}


REFUSED: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "SDXL": (one_more("conditioner.embedders.0.transformer.x"), "holds Stable Diffusion XL"),
    "SD3": (one_more("model.diffusion_model.joint_blocks.0.x"), "holds Stable Diffusion 3"),
    "Flux": (lambda held: {"double_blocks.0.x": torch.zeros(2)}, "holds Flux"),
    "LoRA": (lambda held: {"lora_unet_mid_block.lora_down.weight": torch.zeros(2)}, "holds LoRA weights.*--base"),
    "ControlNet": (one_more("control_model.x"), "holds a ControlNet"),
    "one network": (lambda held: {"down_blocks.0.x": torch.zeros(2)}, "a single network in diffusers' layout"),
    "no autoencoder": (without(single_files.VAE), "has no autoencoder. Give the file of a whole"),
    "denoiser alone": (
        lambda held: {n: v for n, v in held.items() if n.startswith("model.")}, "no autoencoder and no text encoder"
    ),
    "something else": (lambda held: {"layer.weight": torch.zeros(2)}, "no name in it says so .layer.weight"),
    "half a denoiser": (without(f"{single_files.UNET}out.0"), "cannot be made of its weights: some are missing"),
    "half a text encoder": (without(f"{single_files.TEXT}final"), "cannot be made of its weights: some are missing"),
    "no level of the autoencoder": (without(f"{single_files.VAE}encoder.down.0"), "cannot be made of its weights"),
    "2.x alone": (
        lambda held: load_file(template(True)[0]), r"do not say whether they predict .* called model\.yaml"
    ),
    "not finite": (lambda held: held | {"betas": torch.full((1000,), torch.nan)}, "NaN or infinite"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_used_is_refused(older: Path, case: str) -> None:
    harm, words = REFUSED[case]
    save_file(harm(load_file(template(False)[0])), older)
    refused_with(words, older)


def refused_with(words: str, file: Path, resolution: int = 16) -> None:
    with pytest.raises(StudioError, match=words) as refused:
        importing_text.import_base(str(file), "bad", quiet, resolution)
    assert "\n" not in str(refused.value)
    assert not [path for path in (store.root() / "bases").glob("*") if path.is_dir()], "nothing is left"


def test_other_harm_is_told_apart(older: Path) -> None:
    older.with_suffix(".yaml").write_text(YAML.format("x0"))
    refused_with(r"model\.yaml says parameterization 'x0'", older)
    older.with_suffix(".yaml").unlink()
    older.write_bytes(older.read_bytes()[:-100])
    refused_with("is damaged", older)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "callbacks": pytest.approx}, older.with_suffix(".ckpt"))
    refused_with("holds pickled code", older.with_suffix(".ckpt"))
    older.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused_with("Git LFS pointer", older)
    shutil.copy(template(False)[0], older)
    refused_with("cannot draw pictures of 18 pixels. Choose a multiple of 4", older, 18)
