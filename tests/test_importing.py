"""Checkpoints made elsewhere: diffusers' own folders open, what does not fit is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from dtrak_core import checkpoints, importing, models
from dtrak_core.datasets import Dataset
from dtrak_core.errors import DataError, NotFoundError
from dtrak_core.progress import quiet


def foreign(folder: Path, safe: bool = True, **changes: object) -> UNet2DModel:
    """Save a plain diffusers pipeline, as anyone would, and return its network."""
    torch.manual_seed(5)
    config = {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        **changes,
    }
    unet = UNet2DModel(**config).eval()
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    DDPMPipeline(unet, scheduler).save_pretrained(folder, safe_serialization=safe)
    return unet


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_a_pipeline_folder_opens_with_its_own_schedule(pictures: Dataset, tmp_path: Path, safe: bool) -> None:
    unet = foreign(tmp_path / "theirs", safe)
    importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "theirs", quiet)
    denoiser = models.load_denoiser(checkpoints.by_name("theirs", pictures.digest))
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([1, 800])
    with torch.no_grad():
        torch.testing.assert_close(denoiser.predict(x, t), unet(x, t).sample)
    torch.testing.assert_close(denoiser.alphas_cumprod, DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod)
    assert denoiser.fold == 1


def test_a_network_alone_opens_with_the_papers_schedule(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    importing.import_checkpoint(str(tmp_path / "theirs" / "unet"), pictures, "unet-alone", quiet)
    denoiser = models.load_denoiser(checkpoints.by_name("unet-alone"))
    torch.testing.assert_close(denoiser.alphas_cumprod, models.default_scheduler().alphas_cumprod)


def test_our_own_folded_folder_opens_again(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "folded", sample_size=8, in_channels=12, out_channels=12)
    importing.import_checkpoint(str(tmp_path / "folded"), pictures, "folded", quiet)
    assert models.load_denoiser(checkpoints.by_name("folded")).fold == 2


def test_the_same_weights_are_stored_once(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    first = importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "one", quiet)
    second = importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "two", quiet)
    assert second.manifest["date"] == first.manifest["date"]
    assert str(tmp_path) not in json.dumps(first.manifest["settings"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sample_size": 32}, "draws pictures of 32 pixels, dataset 'discs' has 16. Prepare the dataset at 32"),
        ({"in_channels": 1, "out_channels": 1}, "takes 1 channels. RGB pictures have 3"),
        ({"out_channels": 6}, "3 input and 6 output channels"),
    ],
)
def test_what_does_not_fit_is_refused(pictures: Dataset, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    foreign(tmp_path / "theirs", **changes)
    with pytest.raises(DataError, match=said):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
    assert checkpoints.listing() == []


def test_missing_parts_are_named(pictures: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no folder 'nowhere'"):
        importing.import_checkpoint(str(tmp_path / "nowhere"), pictures, "bad", quiet)
    foreign(tmp_path / "theirs")
    weights = tmp_path / "theirs" / "unet" / models.WEIGHTS
    weights.unlink()
    with pytest.raises(NotFoundError, match=r"has no weights: neither diffusion_pytorch_model.safetensors nor"):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
    (tmp_path / "theirs" / "unet" / "config.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
    (tmp_path / "theirs" / "unet" / "config.json").unlink()
    with pytest.raises(NotFoundError, match=r"has no unet/config.json"):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)


def test_another_class_of_network_is_refused(pictures: Dataset, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(DataError, match="holds a UNet2DConditionModel"):
        importing.import_checkpoint(str(tmp_path / "other"), pictures, "bad", quiet)
