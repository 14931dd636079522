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
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from dtrak_core import store
from dtrak_core.errors import SettingsError, StudioError
from dtrak_core.models import bases, clip_words, importing_text, lora, sampling, single_file_configs, single_files
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
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
LAYER = {
    "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}  # fmt: skip


def text_encoder(kind: Any = CLIPTextModel, width: int = 64, act: str = "gelu") -> Any:
    return kind(
        CLIPTextConfig(
            hidden_size=width, intermediate_size=96, num_hidden_layers=2, num_attention_heads=width // 64,
            projection_dim=width, hidden_act=act,
        )
    )  # fmt: skip


def pipeline(kind: str) -> Any:
    """Build an untrained Stable Diffusion of a kind (1.x, 2.x, XL), but narrow and shallow."""
    torch.manual_seed(0)
    texts = {"text_encoder": text_encoder(width=128, act="quick_gelu") if kind == "1.x" else text_encoder()}
    texts |= {"tokenizer": clip_words.whole("!" if kind == "2.x" else clip_words.END)}
    told: dict[str, Any] = {"cross_attention_dim": 128 if kind != "2.x" else 64}
    how: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if kind == "XL":
        texts["text_encoder"] = text_encoder(act="quick_gelu")
        texts |= {"text_encoder_2": text_encoder(CLIPTextModelWithProjection), "tokenizer_2": clip_words.whole("!")}
        told |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
        told |= {"projection_class_embeddings_input_dim": 64 + 6 * 8, "transformer_layers_per_block": [1, 2]}
        how = {"add_watermarker": False}
    attended = "CrossAttn" if kind == "XL" else ""  # in the lower level too
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=32,
        scaling_factor=0.13025 if kind == "XL" else 0.18215,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=32,
        down_block_types=("CrossAttnDownBlock2D", f"{attended}DownBlock2D"),
        up_block_types=(f"{attended}UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8 if kind == "1.x" else [1, 1], use_linear_projection=kind != "1.x", **told,
    )  # fmt: skip
    schedule = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    made = StableDiffusionXLPipeline if kind == "XL" else StableDiffusionPipeline
    pipe = made(vae=vae, unet=unet, scheduler=schedule, **texts, **how)
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


def of_text(state: Weights, begin: str, by_open_clip: bool, more_layers: int = 0) -> Weights:
    """Return a text encoder's weights under CLIP's names, or open_clip's with a last layer that is not asked."""
    flat = {name.removeprefix("text_model."): value for name, value in state.items()}
    if not by_open_clip:
        return {begin + name: value for name, value in flat.items()}
    found = {
        "token_embedding.weight": flat["embeddings.token_embedding.weight"],
        "positional_embedding": flat["embeddings.position_embedding.weight"],
        "ln_final.weight": flat["final_layer_norm.weight"],
        "ln_final.bias": flat["final_layer_norm.bias"],
        "text_projection": flat["text_projection.weight"].T if "text_projection.weight" in flat else torch.eye(64),
    }
    for number in range(2 + more_layers):
        own, block = f"encoder.layers.{min(number, 1)}.", f"transformer.resblocks.{number}."
        for kind in ("weight", "bias"):
            parts = [flat[f"{own}self_attn.{one}_proj.{kind}"] for one in "qkv"]
            found[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)
            found |= {f"{block}{theirs}.{kind}": flat[f"{own}{ours}.{kind}"] for ours, theirs in LAYER.items()}
    return {begin + name: value for name, value in found.items()}


@functools.cache
def template(kind: str) -> tuple[Path, np.ndarray]:
    """Write such a pipeline as a single file, and draw with it."""
    place = Path(tempfile.mkdtemp(prefix="single-file-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    pipe = pipeline(kind)
    held = of_unet(pipe.unet.state_dict(), 1) | of_vae(pipe.vae.state_dict(), 2)
    for words in next(one for one in single_files.KINDS if one.name.endswith(kind)).words:
        state = getattr(pipe, words.part).state_dict()
        held |= of_text(state, words.begin, words.by_open_clip, words.layers_left_out)
    save_file({name: value.contiguous().clone() for name, value in held.items()}, place / "model.safetensors")
    how: dict[str, Any] = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(3)}
    how |= {"height": 16, "width": 16, "guidance_scale": 4.0, "output_type": "np"}
    return place / "model.safetensors", np.rint(pipe(PROMPT, **how).images * 255)


@pytest.fixture
def older(cache: Path, tmp_path: Path) -> Path:
    """Return a file that a test may harm."""
    return Path(shutil.copy(template("1.x")[0], tmp_path / "model.safetensors"))


def drawn(name: str) -> np.ndarray:
    base = bases.by_name(name)
    denoiser = lora.untrained(base, LoraSettings(base=base.digest, rank=1), "")
    denoiser.network.eval()
    return sampling.generate(denoiser, [3], "ddim", 2, 0.0, prompts=[PROMPT], guidance=4.0).astype(float)


def test_a_file_draws_as_its_pipeline_does(older: Path) -> None:
    held = load_file(older)  # some files have the words' names without text_model
    save_file({name.replace(".text_model.", "."): value for name, value in held.items()}, older)
    taken = importing_text.import_base(str(older), "single", quiet, 16)
    assert taken.manifest["resolution"] == 16
    assert "Stable Diffusion 1.x of 16 pixels that predicts the noise" in taken.manifest["assumed"][0]
    older.unlink()  # what was made of it lies in the cache
    assert np.abs(drawn("single") - template("1.x")[1]).max() <= 1


def test_a_file_that_is_taken_in_again_is_what_its_name_means(older: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    name = f"{single_files.UNET}out.2.bias"
    held = load_file(older)
    save_file(held | {name: held[name] + 1}, other)
    meant = []
    for file in (older, other, older):
        importing_text.import_base(str(file), "sd", quiet, 16)
        meant.append(bases.by_name("sd").digest)
    assert meant == [single_files.digest(file, 16) for file in (older, other, older)]
    assert [base.name for base in bases.listing()] == ["sd", "sd"]


def test_a_newer_file_in_half_precision_too(cache: Path, tmp_path: Path) -> None:
    held = {name: value.half() for name, value in load_file(template("2.x")[0]).items()}
    averaged = {"model_ema.decay": torch.ones(()), "betas": torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2}
    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": held | averaged, "epoch": 1, "global_step": 2}, file)
    file.with_suffix(".yaml").write_text(YAML.format("eps"))
    taken = importing_text.import_base(str(file), "single", quiet, 16)
    assert "2.x" in taken.manifest["assumed"][0]
    assert np.abs(drawn("single") - template("2.x")[1]).mean() < 1
    unet = load_file(taken.path / bases.INSIDE / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in unet.values()} == {torch.float16}


def test_an_xl_file_too(cache: Path, tmp_path: Path) -> None:
    taken = importing_text.import_base(str(template("XL")[0]), "single", quiet, 16)
    assert "taken for a Stable Diffusion XL of 16 pixels" in taken.manifest["assumed"][0]
    assert np.abs(drawn("single") - template("XL")[1]).max() <= 1


def test_weights_of_eight_bits_are_stored_in_sixteen(older: Path, tmp_path: Path) -> None:
    small = {
        n: v.to(torch.float8_e4m3fn) if n.startswith(single_files.UNET) else v for n, v in load_file(older).items()
    }
    save_file(small, older)
    single_files.convert(older, tmp_path / "made", "small", 16)
    stored = load_file(tmp_path / "made" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    name = f"{single_files.UNET}input_blocks.0.0.weight"
    torch.testing.assert_close(stored["conv_in.weight"], small[name].half(), rtol=0, atol=0)


def test_marks_in_a_file_say_what_it_predicts(older: Path) -> None:
    held = load_file(older)
    for marks, expected in (
        ({}, ("epsilon", False)), ({"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, ("v_prediction", True))
    ):  # fmt: skip
        made = single_files._schedule(older, held | marks, "a file", single_files.OLDEST).config
        assert (made.prediction_type, made.rescale_betas_zero_snr) == expected


@pytest.mark.parametrize("newer", [False, True])
def test_the_true_sizes_are_read_off_the_weights(newer: bool) -> None:
    known = {
        "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "in_channels": 4, "out_channels": 4,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "use_linear_projection": newer,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, "cross_attention_dim": 1024 if newer else 768,
        "attention_head_dim": [5, 10, 20, 20] if newer else 8, "norm_num_groups": 32,
        "transformer_layers_per_block": [1, 1, 1, 1],
    }  # fmt: skip
    with torch.device("meta"):
        unet = UNet2DConditionModel(**known)
    held = {name.removeprefix(single_files.UNET): value for name, value in of_unet(unet.state_dict(), 2).items()}
    assert single_file_configs.of_unet(held, newer) == {"_class_name": "UNet2DConditionModel", **known}


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
    "refiner": (one_more("conditioner.embedders.0.model.x"), "holds a refiner of Stable Diffusion XL"),
    "SD3": (one_more("model.diffusion_model.joint_blocks.0.x"), "holds Stable Diffusion 3"),
    "Flux": (lambda held: {"double_blocks.0.x": torch.zeros(2)}, "holds Flux"),
    "LoRA": (lambda held: {"lora_unet_mid_block.lora_down.weight": torch.zeros(2)}, "holds LoRA weights.*--base"),
    "ControlNet": (one_more("control_model.x"), "holds a ControlNet"),
    "one network": (lambda held: {"down_blocks.0.x": torch.zeros(2)}, "a single network in diffusers' layout"),
    "no autoencoder": (without(single_files.VAE), "has no autoencoder. Give the file of a whole"),
    "denoiser alone": (
        lambda held: {n: v for n, v in held.items() if n.startswith("model.")}, "no autoencoder and no text encoder"
    ),
    "something else": (lambda held: {"layer.weight": torch.zeros(2)}, "No name in it says so .layer.weight"),
    "half a denoiser": (without(f"{single_files.UNET}out.0"), "cannot be made of its weights: some are missing"),
    "half a text encoder": (without(f"{single_files.OLDEST.words[0].begin}final"), "weights: some are missing"),
    "no level of the autoencoder": (without(f"{single_files.VAE}encoder.down.0"), "cannot be made of its weights"),
    "2.x alone": (
        lambda held: load_file(template("2.x")[0]), r"do not say whether they predict .* called model\.yaml"
    ),
    "not finite": (lambda held: held | {"betas": torch.full((1000,), torch.nan)}, "NaN or infinite"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_used_is_refused(older: Path, case: str) -> None:
    harm, words = REFUSED[case]
    save_file(harm(load_file(template("1.x")[0])), older)
    refused_with(words, older)


def test_a_whole_model_is_not_taken_for_lora_weights(older: Path) -> None:
    with pytest.raises(SettingsError, match=r"holds a text-to-image model\. Take it in as a base: .*base model"):
        importing_text.refuse_lora_alone(str(older))
    save_file({"layer.weight": torch.zeros(2)}, older)
    importing_text.refuse_lora_alone(str(older))  # which another sentence refuses


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
    shutil.copy(template("1.x")[0], older)
    refused_with("cannot draw pictures of 18 pixels. Choose a multiple of 4", older, 18)
