"""Networks of one colour: taken in and trained on grey pictures, refused with others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

from dtrak_core import api
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.models import checkpoints, importing, networks, sampling
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.training import presets, training

DIGITS = np.random.default_rng(2).integers(0, 256, (24, 16, 16), dtype=np.uint8)


@pytest.fixture(params=["npz", "folder"])
def digits(cache: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Dataset:
    """Return grey pictures as MNIST comes (N, H, W), or as grey PNGs in folders of classes."""
    if request.param == "npz":
        source = tmp_path / "digits.npz"
        np.savez(source, x_train=DIGITS[:16], y_train=np.arange(16) % 11, x_test=DIGITS[16:], y_test=np.arange(8))
    else:
        source = tmp_path / "digits"
        for i, picture in enumerate(DIGITS):
            (source / str(i % 11)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture, "L").save(source / str(i % 11) / f"{i}.png")
    return catalogue.load(catalogue.prepare(catalogue.source_settings(request.param, source, "digits", 16), source))


@pytest.mark.parametrize("digits", ["npz"], indirect=True)
def test_a_network_of_one_colour_is_trained_drawn_and_explained(digits: Dataset, tiny: ModelSettings) -> None:
    assert digits.classes == tuple(str(i) for i in range(11))  # 10 comes after 9
    model = ModelSettings(**tiny.model_dump() | presets.seen(digits, classes=False, grey=True))
    settings = TrainSettings(dataset=digits.digest, model=model, epochs=2, batch_size=8)
    training.train(digits, settings, "grey", quiet)
    checkpoint = checkpoints.by_name("grey", digits.digest)
    denoiser = networks.load_denoiser(checkpoint)
    assert denoiser.shape == (4, 8, 8)
    images = digits.train.images[:3]
    np.testing.assert_array_equal(denoiser.decode(denoiser.encode(images)), images)
    found = api.explain(
        "digits", checkpoint, [0, "train:1"], "d-trak", features={"num_timesteps": 2, "proj_dim": 64}, progress=False,
        sampled=api.Sampled(sampling_steps=3),
    )  # fmt: skip
    assert np.isfinite(found.scores).all()
    assert (found.targets[0].image == found.targets[0].image[..., :1]).all()


def test_a_network_of_one_colour_opens_and_draws_as_in_diffusers(digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(1)
    unet = UNet2DModel(
        sample_size=16, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    pipeline = DDPMPipeline(unet, DDPMScheduler())
    pipeline.save_pretrained(tmp_path / "theirs")
    importing.import_checkpoint(str(tmp_path / "theirs"), digits, "theirs", quiet)
    denoiser = networks.load_denoiser(checkpoints.by_name("theirs", digits.digest))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(generator=torch.Generator().manual_seed(4), num_inference_steps=5, output_type="np").images[0]
    made = sampling.generate(denoiser, [4], "ddpm", 5, 0.0)[0]
    assert made.shape == (16, 16, 3)
    assert np.abs(made - 255 * theirs).max() <= 1


def test_pictures_with_colours_are_refused(pictures: Dataset, tiny: ModelSettings) -> None:
    with pytest.raises(SettingsError, match=r"The pictures of 'discs' have colours. Leave grey out."):
        presets.seen(pictures, classes=False, grey=True)
    grey = networks.denoiser_of(networks.build_unet(ModelSettings(**tiny.model_dump() | {"grey": True}), 16), 2)
    with pytest.raises(DataError, match="sees grey pictures alone, and these have colours"):
        grey.encode(pictures.train.images[:2])
