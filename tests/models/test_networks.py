"""Denoisers: the paper's sizes, the fold, diffusers' layout both ways, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, UNet2DModel

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, NotFoundError, SettingsError, StoreError
from dtrak_core.models import checkpoints, networks, sampling, schedules
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import training
from dtrak_core.training.presets import PRESETS


def tiny_denoiser(tiny: ModelSettings) -> Denoiser:
    torch.manual_seed(0)
    return networks.denoiser_of(networks.build_unet(tiny, 16).eval(), tiny.fold)


@pytest.mark.parametrize(
    ("preset", "resolution", "parameters"), [("cifar", 32, 38_307_203), ("celeba", 64, 118_795_011)]
)
def test_the_papers_networks_have_the_papers_size(preset: str, resolution: int, parameters: int) -> None:
    with torch.device("meta"):
        unet = networks.build_unet(PRESETS[preset].model, resolution)
    assert sum(p.numel() for p in unet.parameters()) == parameters
    assert {m.p for m in unet.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


def test_fold_puts_each_block_into_channels_and_back(tiny: ModelSettings) -> None:
    denoiser = tiny_denoiser(tiny)
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    x = denoiser.encode(images)
    assert x.shape == (3, 12, 8, 8) == (3, *denoiser.shape)
    # channel 4c + 2i + j of block (y, x) is colour c of pixel (2y + i, 2x + j)
    expected = images[1, 2 * 5 + 1, 2 * 3 + 0, 2] / 127.5 - 1
    assert x[1, 4 * 2 + 2 * 1 + 0, 5, 3].item() == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(denoiser.decode(x), images)


def test_schedule_and_noise_follow_the_formula(tiny: ModelSettings) -> None:
    denoiser = tiny_denoiser(tiny)
    betas = np.linspace(1e-4, 0.02, 1000)
    np.testing.assert_allclose(denoiser.process.alphas_cumprod.numpy(), np.cumprod(1 - betas), rtol=1e-4)
    x0, noise, t = torch.randn(2, 12, 8, 8), torch.randn(2, 12, 8, 8), torch.tensor([0, 700])
    mixed = denoiser.process.noised(x0, noise, t)
    abar = np.cumprod(1 - betas)[700]
    expected = np.sqrt(abar) * x0[1].numpy() + np.sqrt(1 - abar) * noise[1].numpy()
    np.testing.assert_allclose(mixed[1].numpy(), expected, atol=1e-4)


def test_a_resolution_that_cannot_be_halved_is_refused(tiny: ModelSettings) -> None:
    with pytest.raises(
        SettingsError, match=r"Resolution 18 cannot be folded by 2 and halved 1 times. Choose a multiple"
    ):
        networks.build_unet(tiny, 18)


@pytest.fixture
def checkpoint(pictures: Dataset, tiny: ModelSettings) -> checkpoints.Checkpoint:
    settings = TrainSettings(dataset=pictures.digest, model=tiny, epochs=4, batch_size=8, weights_dtype="float16")
    training.train(pictures, settings, "small", quiet)
    return checkpoints.by_name("small")


def test_diffusers_opens_what_we_store(checkpoint: checkpoints.Checkpoint) -> None:
    ours = networks.load_denoiser(checkpoint)
    theirs = DDPMPipeline.from_pretrained(checkpoint.folder, local_files_only=True)
    x, t = torch.randn(2, *ours.shape), torch.tensor([3, 900])
    with torch.no_grad():
        torch.testing.assert_close(theirs.unet.float().eval()(x, t).sample, ours.predict(x, t))
    assert theirs.scheduler.config.beta_schedule == "linear"
    assert not ours.network.training


def test_a_checkpoint_is_known_by_its_weights(checkpoint: checkpoints.Checkpoint) -> None:
    ours = networks.load_denoiser(checkpoint)
    assert networks.weights_digest(ours.network, torch.float16) == checkpoint.digest
    assert checkpoints.by_digest(checkpoint.digest) == checkpoint
    names = [c.name for c in checkpoints.listing()]
    assert names == ["small", "small@25", "small@50", "small@75"]
    assert len({c.digest for c in checkpoints.listing()}) == 4
    with pytest.raises(
        NotFoundError, match=r"Checkpoint 'big' does not exist for this dataset. There are: small, small@25"
    ):
        checkpoints.by_name("big")
    with pytest.raises(NotFoundError, match="No stored checkpoint has the digest"):
        checkpoints.by_digest("0" * 16)


def test_equal_weights_of_two_datasets_are_told_apart(cache: Path, tiny: ModelSettings) -> None:
    step = {"step": 1, "share": 100, "folder": "step-000001", "digest": "c" * 16}
    for dataset in ("a" * 16, "b" * 16):
        settings = TrainSettings(dataset=dataset, model=tiny)
        key = key_of("checkpoints", settings)
        store.partial("checkpoints", key)
        store.publish("checkpoints", key, settings, name="one", dataset=dataset, steps=[step], fold=2)
    for dataset in ("a" * 16, "b" * 16):
        found = checkpoints.by_digest("c" * 16, dataset)
        assert (found.dataset, checkpoints.training_of(found).dataset) == (dataset, dataset)
    assert checkpoints.by_digest("c" * 16).digest == "c" * 16


def test_damaged_weights_are_not_used(checkpoint: checkpoints.Checkpoint) -> None:
    path = checkpoint.folder / "unet" / networks.WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="does not have the checksum"):
        networks.load_denoiser(checkpoint)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schedule": {"prediction_type": "flow_prediction"}}, "predicts 'flow_prediction'"),
        ({"schedule": {"num_train_timesteps": 0}}, "its schedule has 0 steps"),
        ({"config": {"out_channels": 20}}, "12 input and 20 output channels"),
        ({"config": {"resnet_time_scale_shift": "scale_shift"}}, "do not fit the network that config.json describes"),
    ],
)
def test_what_is_no_ddpm_is_refused(
    tiny: ModelSettings, tmp_path: Path, change: dict[str, dict[str, object]], said: str
) -> None:
    unet = networks.build_unet(tiny, 16)
    networks.save_pipeline(unet, tmp_path, torch.float32)
    config = json.loads((tmp_path / "unet" / "config.json").read_text()) | change.get("config", {})
    schedule = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text()) | change.get("schedule", {})
    with pytest.raises(DataError, match=said):
        networks.assemble(config, unet.state_dict(), schedules.read(schedule, "theirs"), 2)


def test_timesteps_known_by_heart_are_those_of_the_schedule() -> None:
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, time_embedding_type="learned", num_train_timesteps=10,
    )  # fmt: skip
    drawn = networks.denoiser_of(unet, 1, schedules.read({"num_train_timesteps": 10}, "theirs"))
    assert sampling.generate(drawn, [0], "ddim", 5, 0.0).shape == (1, 8, 8, 3)
    with pytest.raises(DataError, match=r"knows 10 timesteps by heart .* its scheduler has 1000\. Give"):
        networks.denoiser_of(unet, 1)
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 10}
    with pytest.raises(DataError, match=r"knows 10 timesteps by heart .* its scheduler has noise levels between them"):
        networks.denoiser_of(unet, 1, schedules.read(flow, "theirs"))


@pytest.mark.parametrize("wrong", [{"down_block_types": [0, 0]}, {"norm_num_groups": 0}, {"time_embedding_type": "x"}])
def test_a_config_that_diffusers_stumbles_over_is_refused(wrong: dict[str, object]) -> None:
    two = {"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    with pytest.raises(DataError, match="describes cannot be built"):
        networks.unet_of({**two, "norm_num_groups": 4, **wrong}, "theirs")
