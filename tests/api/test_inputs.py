"""Training sets, checkpoints and targets from memory: stored by what they are, refused in a sentence."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DConditionModel, UNet2DModel
from PIL import Image

from dtrak_core import api
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, NotFoundError, SettingsError, StudioError
from dtrak_core.models import networks, targets
from dtrak_core.models.checkpoints import Checkpoint

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)


def unet(**changes: Any) -> UNet2DModel:
    torch.manual_seed(0)
    told = {"sample_size": 16, "block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return UNet2DModel(**told | blocks | {"add_attention": False} | changes)


def test_equal_pictures_are_stored_once_however_they_come(cache: object) -> None:
    first = api.dataset(IMAGES, labels=[0, 1] * 6, contributors=["Ada", None] * 6, captions=["a"] * 12)
    assert (first.train.images == IMAGES).all()
    assert len(first.held_out.rows) == 0
    assert first.train.labels == ["0", "1"] * 6
    assert [row["contributor"] for row in first.train.rows[:2]] == ["Ada", ""]
    floats = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    for same in ([Image.fromarray(one) for one in IMAGES], list(IMAGES), torch.from_numpy(IMAGES), floats):
        again = api.dataset(same, labels=np.array([0, 1] * 6), contributors=["Ada", None] * 6, captions=["a"] * 12)
        assert again.key == first.key
    assert api.dataset("mine").key == first.key
    other = api.dataset(IMAGES, labels=[0, 1] * 6)
    assert other.key != first.key
    assert api.dataset("mine").key == other.key  # the newest of a name
    assert api.dataset(IMAGES[:10], held_out=IMAGES[10:], name="split").held_out.images.shape == (2, 16, 16, 3)
    for none in (IMAGES[:0], torch.from_numpy(IMAGES[:0]), []):
        assert api.dataset(IMAGES, labels=[0, 1] * 6, held_out=none).key == other.key


def test_half_an_emoji_is_left_out(cache: object) -> None:
    cut = api.dataset(
        IMAGES, labels=["cat \ud83d"] * 12, contributors=["Ada\ud83d"] * 12, captions=["a cat \ud83d"] * 12
    )
    assert cut.key == api.dataset(IMAGES, ["cat "] * 12, ["Ada"] * 12, ["a cat "] * 12).key


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"images": IMAGES[:7]}, "only 7 pictures in images; at least 8"),
        ({"images": IMAGES[:, :, :12]}, "images are 12 x 16; they must be square"),
        ({"images": IMAGES[:, :4, :4]}, "'resolution' is 4"),
        ({"images": IMAGES.astype(np.float64)}, r"values from 0 to 255; floats must lie in \[0, 1\]"),
        ({"images": np.where(IMAGES == 7, np.nan, IMAGES / 255)}, "values from nan to nan"),
        ({"images": IMAGES.astype(complex)}, "type complex128"),
        ({"images": IMAGES.reshape(12, -1)}, r"has shape \(12, 768\)"),
        ({"images": IMAGES[0]}, "has shape"),
        ({"images": [IMAGES[0], IMAGES[1][:8]]}, r"Pictures 0 and 1 of images have the shapes"),
        ({"images": []}, "images is empty"),
        ({"images": IMAGES[:0]}, "images is empty"),
        ({"images": 3}, "images is of type int"),
        ({"images": IMAGES, "labels": [1, 2]}, "labels has 2 entries, images has 12"),
        ({"images": IMAGES, "labels": [0.5] * 12}, "not whole"),
        ({"images": IMAGES, "contributors": ["Ada"]}, "contributors has 1 entries for 12"),
        ({"images": IMAGES, "contributors": 3}, "contributors is of type int; expected one text"),
        ({"images": IMAGES, "captions": "a cat"}, "captions is of type str; expected one text"),
        ({"images": IMAGES, "captions": [3] * 12}, "captions has an entry of type int"),
        ({"images": IMAGES, "held_out": IMAGES[:, :8, :8]}, "held_out are 8 x 8, those of images 16 x 16"),
        ({"images": IMAGES, "name": "My Pictures"}, "'name' is 'My Pictures'"),
        ({"images": IMAGES, "name": "cifar2"}, "'cifar2' is the name of a built-in dataset"),
        ({"images": "nobody"}, "There is no dataset 'nobody'"),
        ({"images": "nobody", "labels": [1]}, "names a stored dataset"),
    ],
)
def test_what_is_no_training_set_is_refused(cache: object, told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StudioError, match=sentence) as caught:
        api.dataset(**told)
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("datasets/*"))  # type: ignore[attr-defined]  # nothing half-written


def test_a_network_from_memory_is_stored_by_its_weights(cache: object) -> None:
    pictures, network = api.dataset(IMAGES), unet()
    found = api.checkpoint(network, DDPMScheduler(), pictures, name="theirs")
    assert (found.name, found.dataset) == ("theirs", pictures.digest)
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([7])
    assert torch.equal(networks.load_denoiser(found).predict(x, t), network.eval()(x, t, return_dict=False)[0])
    assert api.checkpoint(unet(), DDPMScheduler(), "mine", name="again").digest == found.digest
    assert api.checkpoint("again").digest == found.digest
    other = api.checkpoint(unet(), DDIMScheduler(beta_schedule="squaredcos_cap_v2"), pictures)
    assert other.digest != found.digest


def test_what_is_no_checkpoint_is_refused(cache: object) -> None:
    pictures = api.dataset(IMAGES)
    latent = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, cross_attention_dim=8, mid_block_type=None,
    )  # fmt: skip
    refused: list[tuple[Any, Any, Any, dict[str, Any], str]] = [
        (unet(), DDPMScheduler(), None, {}, "needs the dataset"),
        (unet(), None, pictures, {}, "scheduler is of type NoneType"),
        (torch.nn.Linear(2, 2), DDPMScheduler(), pictures, {}, "network is of type Linear"),
        (latent, DDPMScheduler(), pictures, {}, "UNet2DConditionModel"),
        (unet(sample_size=32), DDPMScheduler(), pictures, {}, "draws pictures of 32 pixels"),
        (unet(), FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), pictures, {}, "fresh noise at every step"),
        (unet(), DDPMScheduler(), pictures, {"name": "No Name"}, "'name' is 'No Name'"),
        ("nothing", None, pictures, {}, "Checkpoint 'nothing' does not exist"),
    ]
    for network, scheduler, of, told, sentence in refused:
        with pytest.raises(StudioError, match=sentence):
            api.checkpoint(network, scheduler, of, **told)


def test_a_flow_from_memory_is_drawn_and_explained(cache: object) -> None:
    of = api.dataset(IMAGES)
    flow = api.checkpoint(unet(), FlowMatchEulerDiscreteScheduler(shift=3.0), of, "flow")
    quick = {"num_timesteps": 2, "proj_dim": 16}
    drawn = api.Sampled(sampling_steps=4)
    found = api.explain(of, flow, 3, features=quick, sampled=drawn, progress=False)
    assert (found.targets[0].id, np.abs(found.scores).max() > 0) == ("seed:3", True)

    def squared(prediction: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return prediction.flatten(1).square().mean(1)

    own = api.explain(of, flow, 3, output=squared, features=quick, sampled=drawn, progress=False)
    np.testing.assert_allclose(own.scores, found.scores, rtol=1e-3, atol=1e-4 * np.abs(found.scores).max())
    with pytest.raises(SettingsError, match="drawn without fresh noise"):
        api.explain(of, flow, 3, sampled=api.Sampled(sampler="ddpm"), progress=False)


def test_targets_are_seeds_ids_and_pictures(pictures: Dataset, checkpoint: Checkpoint) -> None:
    image = Image.fromarray(pictures.held_out.images[2])
    wanted = [1, np.int64(1), "seed:1", "held-out:2", "train:3", image, pictures.held_out.images[2]]
    found = api.explain("discs", "small", wanted, "raw-pixel-cosine", progress=False)
    ids = [target.id for target in found.targets]
    assert ids[:5] == ["seed:1", "seed:1", "seed:1", "held-out:2", "train:3"]
    assert ids[5] == ids[6] == f"upload:{found.targets[3].pixels}"
    assert found.ranks[4, 3] == 1
    assert (found.scores[3] == found.scores[5]).all()
    assert (targets.samples(checkpoint.digest)[0].image == found.targets[0].image).all()
    alone = api.explain(pictures, checkpoint, found.targets[3], "raw-pixel-cosine")
    np.testing.assert_allclose(alone.scores, found.scores[3:4])


@pytest.mark.parametrize(
    ("wanted", "error", "sentence"),
    [
        ([], SettingsError, "No target was given"),
        (True, SettingsError, "True is not a target"),
        ([1.5], SettingsError, r"1.5 is not a target"),
        (-1, SettingsError, "'seed:-1' is not a target"),
        ("picture.png", SettingsError, "'picture.png' is not a target"),
        ("held-out:99", NotFoundError, "held-out:99 does not exist"),
        (np.zeros((8, 8, 3), np.uint8), DataError, "A target is 8 x 8, the pictures of 'discs' are 16 x 16"),
        (np.full((16, 16, 3), np.nan), DataError, "values from nan"),
    ],
)
def test_what_is_no_target_is_refused(
    checkpoint: Checkpoint, wanted: Any, error: type[StudioError], sentence: str
) -> None:
    with pytest.raises(error, match=re.escape(sentence) if "(" in sentence else sentence):
        api.explain("discs", "small", wanted, "raw-pixel-cosine", progress=False)
