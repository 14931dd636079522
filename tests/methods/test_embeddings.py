"""Embeddings: the stand-in on real pictures, CLIP's loader on small weights, and what cannot be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import clip_helpers
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from dtrak_core import store
from dtrak_core.datasets import catalogue, openmoji
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.methods import embeddings

PIXELS = "0123456789abcdef"
LITE0, CLIP = "efficientnet-lite0", "clip-vit-b-32"


@pytest.fixture(autouse=True)
def no_local_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(embeddings.WEIGHTS_VARIABLE, raising=False)
    embeddings._encoder.cache_clear()


@pytest.fixture
def small_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Put a CLIP of one layer in place of ViT-B/32, with its random weights in a local file."""
    return clip_helpers.small(tmp_path, monkeypatch)


def noise(count: int, side: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_the_stand_in_sees_what_is_alike() -> None:
    """Another skin tone of the same portrait is nearer than another portrait of the same skin tone."""
    subjects = ["1F468-{}-200D-1F680", "1F469-{}-200D-1F373", "1F9D1-{}-200D-1F393", "1F9DC-{}-200D-2640-FE0F"]
    images = np.stack([openmoji.draw(subject.format(tone), 64) for tone in ("1F3FC", "1F3FD") for subject in subjects])
    found = embeddings.embed(images, embeddings.settings_of(LITE0, PIXELS))
    assert (found.shape, found.dtype) == ((8, 1280), np.float32)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert (unit[:4] @ unit[4:].T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_the_stand_in_gives_what_its_first_release_gave() -> None:
    """Numbers of the package efficientnet-lite-pytorch 0.1.0 with the weights that it was released with."""
    portraits = ["1F468-1F3FC-200D-1F680", "1F469-1F3FD-200D-1F373", "1F9D1-1F3FE-200D-1F393"]
    others = ["1F9DC-1F3FC-200D-2640-FE0F", "1F431", "1F34E", "1F697", "1F3E0"]
    images = np.stack([openmoji.draw(code, 64) for code in (*portraits, *others)])
    found = embeddings.embed(images, embeddings.settings_of(LITE0, PIXELS))
    expected = np.load(Path(__file__).parent.parent / "cases" / "efficientnet_lite0.npy")
    assert expected.max() > 5
    assert np.abs(found - expected).max() < 1e-4


def test_batches_change_nothing() -> None:
    images, steps = noise(embeddings.BATCH + 3), []
    settings = embeddings.settings_of(LITE0, PIXELS)
    together = embeddings.embed(images, settings, lambda done, total: steps.append((done, total)))
    assert steps == [(16, 19), (19, 19)]
    assert np.allclose(embeddings.embed(images[-1:], settings)[0], together[-1], atol=1e-4)


def test_clip_loads_a_local_file_and_prepares_pictures_as_open_clip_does(small_clip: torch.nn.Module) -> None:
    from PIL import Image
    from torchvision.transforms import v2
    from torchvision.transforms.functional import InterpolationMode

    assert embeddings.available(CLIP) == ""
    images = noise(3, 20)
    found = embeddings.embed(images, embeddings.settings_of(CLIP, PIXELS))
    assert found.shape == (3, 24)
    # CLIP's published preparation, written down independently of open_clip.
    prepare = v2.Compose(
        [
            v2.Resize(224, InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    with torch.no_grad():
        expected = small_clip.encode_image(torch.stack([prepare(Image.fromarray(image)) for image in images]))
    assert np.allclose(found, expected.numpy(), atol=1e-4)


def test_other_weights_are_other_embeddings(
    small_clip: torch.nn.Module, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(1)[0]
    first = embeddings.embed_target(CLIP, image)
    assert first.settings == {
        "model": CLIP,
        "weights": embeddings.settings_of(CLIP, PIXELS).weights,
        "pixels": catalogue.image_digest(image),
    }
    with torch.no_grad():
        small_clip.visual.proj *= 2
    torch.save(small_clip.state_dict(), tmp_path / "other.pt")
    monkeypatch.setenv(embeddings.WEIGHTS_VARIABLE, str(tmp_path / "other.pt"))
    second = embeddings.embed_target(CLIP, image)
    assert second.key != first.key
    assert np.allclose(second.array("embeddings.npy"), 2 * first.array("embeddings.npy"), rtol=1e-4)
    with pytest.raises(SettingsError, match="but other weights are set up"):
        embeddings.embed(image[None], embeddings.EmbeddingSettings(**first.settings))


def test_the_big_model_is_openais_vit_b_32() -> None:
    config = open_clip.get_model_config(embeddings.CLIP_CONFIG)
    tag = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
    assert config is not None
    assert config["quick_gelu"] is tag["quick_gelu"] is True
    assert (config["embed_dim"], config["vision_cfg"]["patch_size"], config["vision_cfg"]["layers"]) == (512, 32, 12)
    assert tag["hf_hub"].rstrip("/") == embeddings.CLIP_HUB


def test_what_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    says = "CLIP's weights are not on this machine and their hub cannot be reached."
    assert embeddings.available(CLIP).startswith(says)
    assert embeddings.available(LITE0) == ""
    with pytest.raises(DataError, match=f"clip-vit-b-32 cannot be had. {says}"):
        embeddings.embed(noise(1), embeddings.settings_of(CLIP, PIXELS))
    monkeypatch.setenv(embeddings.WEIGHTS_VARIABLE, str(tmp_path / "gone.pt"))
    assert embeddings.available(CLIP) == "STUDIO_CLIP_WEIGHTS names 'gone.pt', which is not there. Correct the path."
    with pytest.raises(DataError, match=r"names 'gone\.pt', which is not there"):
        embeddings.settings_of(CLIP, PIXELS)
    monkeypatch.setattr(embeddings, "LITE0_FILE", tmp_path / "gone.safetensors")
    assert embeddings.available(LITE0).endswith("gone.safetensors, are not there. Get the app's files again.")
    assert embeddings.known_weights(LITE0) == "", "what is stored is found without them"
    monkeypatch.setitem(embeddings.PACKAGES, LITE0, ("no_such_package",))
    assert embeddings.available(LITE0).startswith("The package 'no_such_package' is not installed.")


@pytest.mark.parametrize("damage", ["text", "other network", "pickle"])
def test_weights_that_do_not_fit(small_clip: torch.nn.Module, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "weights.pt"
    match damage:
        case "text":
            file.write_bytes(b"no weights")
        case "other network":
            torch.save({"linear.weight": torch.zeros(2, 2)}, file)
        case "pickle":
            torch.save({"visual.proj": subprocess.Popen}, file)
    with pytest.raises(DataError, match=r"CLIP's weights could not be loaded from the file 'weights\.pt'"):
        embeddings.embed(noise(1), embeddings.settings_of(CLIP, PIXELS))


def test_a_training_set_is_embedded_once(cache: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=noise(12), labels=np.arange(12))
    path = tmp_path / "mine.npz"
    dataset = catalogue.load(catalogue.prepare(catalogue.source_settings("npz", path, "mine", 16), path))
    steps: list[tuple[int, int]] = []
    artifact = embeddings.embed_dataset(dataset, LITE0, lambda done, total: steps.append((done, total)))
    assert artifact.settings == {"model": LITE0, "weights": "", "pixels": dataset.digest}
    assert artifact.array("embeddings.npy").shape == (11, 1280)
    expected = embeddings.embed(dataset.train.images, embeddings.settings_of(LITE0, dataset.digest))
    assert np.array_equal(artifact.array("embeddings.npy"), expected)
    assert embeddings.embed_dataset(dataset, LITE0, lambda *_: pytest.fail("embedded again")).key == artifact.key
    assert len(store.listing("embeddings")) == 1


def test_asking_brings_no_torch() -> None:
    code = (
        "import sys; from dtrak_core.methods import embeddings as e; "
        "e.available('efficientnet-lite0'); e.available('clip-vit-b-32'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_from_the_hub_are_known_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = clip_helpers.small(tmp_path, monkeypatch)
    (tmp_path / "weights.pt").rename(tmp_path / "open_clip_pytorch_model.bin")
    monkeypatch.delenv(embeddings.WEIGHTS_VARIABLE)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert embeddings.known_weights(CLIP) == embeddings.UNKNOWN
    repository = tmp_path / "hub" / f"models--{embeddings.CLIP_HUB.replace('/', '--')}"

    def got(commit: str) -> str:
        place = repository / "snapshots" / commit
        place.mkdir(parents=True)
        torch.save(net.state_dict(), place / "open_clip_pytorch_model.bin")
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
        return embeddings.known_weights(CLIP)

    first = got("1" * 40)
    settings = embeddings.settings_of(CLIP, PIXELS)
    assert settings.weights == first
    assert embeddings.embed(noise(1), settings).shape == (1, 24)
    with torch.no_grad():
        net.visual.proj *= 2
    assert got("2" * 40) not in (first, "", embeddings.UNKNOWN)
    with pytest.raises(SettingsError, match="but other weights are set up"):
        embeddings.embed(noise(1), settings)


def test_the_stand_ins_weights_are_those_of_the_release_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embeddings.known_weights(LITE0) == "", "what ships was stored without them"
    other = tmp_path / "other.safetensors"
    save_file({name: value * 1.01 for name, value in load_file(embeddings.LITE0_FILE).items()}, other)
    monkeypatch.setattr(embeddings, "LITE0_FILE", other)
    settings = embeddings.settings_of(LITE0, PIXELS)
    assert settings.weights not in ("", embeddings.UNKNOWN)
    assert np.abs(embeddings.embed(noise(1), settings)).sum() > 0
    with pytest.raises(SettingsError, match="Get the app's files again"):
        embeddings.embed(noise(1), settings.model_copy(update={"weights": ""}))
