"""LoRA files of every family that has text encoders beside its denoiser, as trainers write them, against diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import family_helpers
import numpy as np
import pytest
import text_helpers
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models import bases, checkpoints, importing_text, networks, sampling
from dtrak_core.models.lora_files import FILE
from dtrak_core.progress import quiet

RANK, ALPHA, PROMPT, GUIDANCE = 3, 6, "a red disc", 3.0
TARGETS = {"unet": ["to_q", "conv1"], "transformer": ["to_q", "to_v", "add_k_proj"]}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
Weights = dict[str, Tensor]


@pytest.fixture
def discs(cache: Path, tmp_path: Path) -> Dataset:
    return text_helpers.captioned(tmp_path / "discs")


def made_up(pipeline: Path, folder: Path) -> None:
    """Save random LoRA weights of a pipeline's denoiser and of its CLIP text encoders, as diffusers does."""
    pipe, held = DiffusionPipeline.from_pretrained(pipeline), dict[str, Any]()
    torch.manual_seed(1)
    for part in ("unet", "transformer", "text_encoder", "text_encoder_2"):
        network = getattr(pipe, part, None)
        if network is None or "T5" in type(network).__name__:
            continue
        told = {"r": RANK, "lora_alpha": ALPHA, "target_modules": TARGETS.get(part, PROJECTIONS)}
        inject_adapter_in_model(LoraConfig(init_lora_weights=False, **told), network)
        held |= {f"{part}_lora_layers": get_peft_model_state_dict(network), f"{part}_lora_adapter_metadata": told}
    pipe.save_lora_weights(folder, **held)


def as_saved(folder: Path) -> None:
    """Leave diffusers' own file as it is."""


def kohya(folder: Path) -> None:
    """Write a file of diffusers under the names of kohya's trainer."""
    held, found = load_file(folder / FILE), dict[str, Tensor]()
    starts = {"unet": "lora_unet_", "text_encoder": "lora_te1_text_model_", "text_encoder_2": "lora_te2_text_model_"}
    for name, value in held.items():
        part, _, rest = name.removesuffix(".weight").partition(".")
        module, _, which = rest.removeprefix("text_model.").partition(".lora_")
        stem = starts[part] + module.replace(".", "_")
        found |= {f"{stem}.lora_{'down' if which == 'A' else 'up'}.weight": value, f"{stem}.alpha": torch.tensor(2.0)}
    save_file(found, folder / FILE)


def kohya_flux(folder: Path) -> None:
    """Write weights as kohya's trainer of Flux does: q, k and v together, under the first authors' names."""
    torch.manual_seed(2)
    found: Weights = {}
    for stem, inner, outer in (
        ("lora_unet_double_blocks_0_img_attn_qkv", 16, 48),
        ("lora_unet_double_blocks_0_txt_attn_proj", 16, 16),
        ("lora_te1_text_model_encoder_layers_0_self_attn_out_proj", 16, 16),
        ("lora_te1_text_model_encoder_layers_1_mlp_fc1", 16, 16),
    ):
        found |= {
            f"{stem}.lora_down.weight": torch.randn(RANK, inner), f"{stem}.lora_up.weight": torch.randn(outer, RANK),
            f"{stem}.alpha": torch.tensor(2.0),
        }  # fmt: skip
    save_file(found, folder / FILE)


@pytest.mark.parametrize(
    ("kind", "write"),
    [("sdxl", kohya), ("sd3", as_saved), ("flux-dev", kohya_flux)],
)
def test_files_with_text_encoders_draw_what_diffusers_draws(
    kind: str, write: Callable[[Path], None], discs: Dataset, tmp_path: Path
) -> None:
    pipeline, folder = family_helpers.saved(kind, tmp_path / "pipeline"), tmp_path / "lora"
    if kind == "sd3":  # its weights as large models have them
        large = DiffusionPipeline.from_pretrained(pipeline)
        pipeline = tmp_path / "large"
        large.save_pretrained(pipeline, max_shard_size="20KB")
        assert len(list((pipeline / "transformer").glob("*-of-*"))) > 1
    importing_text.import_base(str(pipeline), kind, quiet, family_helpers.SIDE)
    made_up(pipeline, folder)
    write(folder)
    importing_text.import_lora(str(folder), bases.by_name(kind), discs, "theirs", quiet)
    checkpoint = checkpoints.by_name("theirs")
    assert "change the text encoder: applied, and frozen" in checkpoint.assumed[0]
    denoiser = networks.load_denoiser(checkpoint)
    ours = sampling.generate(denoiser, [3], "ddim", 2, 0.0, prompts=[PROMPT], guidance=GUIDANCE)
    pipe = DiffusionPipeline.from_pretrained(pipeline)
    pipe.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": 2, "guidance_scale": GUIDANCE, "height": 32, "width": 32, "output_type": "np"}
    plain = pipe(PROMPT, generator=torch.Generator().manual_seed(3), **asked).images
    pipe.load_lora_weights(str(folder), weight_name=FILE)
    made = pipe(PROMPT, generator=torch.Generator().manual_seed(3), **asked).images
    assert np.abs(np.rint(np.asarray(made) * 255) - ours).max() <= 1
    assert np.abs(np.asarray(made) - np.asarray(plain)).max() > 0.02, "the weights must change the picture"
