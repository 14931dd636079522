"""Embeddings by image encoders that know nothing of the diffusion model: a similarity baseline.

    clip-vit-b-32        OpenAI's CLIP image tower, 512 numbers, the baseline of Zheng et al.
                         (2024), through open_clip: weights from its hub, got once, or from the local
                         file that STUDIO_CLIP_WEIGHTS names
    efficientnet-lite0   the stand-in where CLIP cannot be had: ImageNet features, 1,280 numbers,
                         the mean over places of the last feature map; timm's network, its weights
                         ship in data/

Each is stored and shown under its own name: the stand-in is never called CLIP. Embeddings are
kept as the encoder gives them; cosine similarity normalises them, an inner product does not.
Whatever leans on an encoder is stored under the digest of its weights: other weights are another result.
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

from dtrak_core import program, store
from dtrak_core.datasets.catalogue import Dataset, image_digest
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.files import expanded
from dtrak_core.methods.settings import EmbeddingModel, EmbeddingSettings
from dtrak_core.progress import Count, quiet
from dtrak_core.settings import build, digest_of, key_of
from dtrak_core.store import Artifact

if TYPE_CHECKING:
    from torch import Tensor

    Encoder = Callable[[np.ndarray], Tensor]

FILE = "embeddings.npy"
BATCH = 16  # pictures at once: about half a second on one core, so that cancelling is quick
WEIGHTS_VARIABLE = "STUDIO_CLIP_WEIGHTS"
CLIP_CONFIG = "ViT-B-32-quickgelu"  # OpenAI's weights were trained with the quick form of GELU
CLIP_HUB = "timm/vit_base_patch32_clip_224.openai"
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HUB_PATIENCE = 3.0  # seconds within which the hub must answer
LITE0_SIDE = 128
LITE0_FILE = Path(__file__).parent / "data" / "efficientnet-lite0.safetensors"
LITE0_WEIGHTS = "a132d8dbb9a9ab67"  # digest of those that ship, left out of settings
UNKNOWN = "unknown"  # in place of the digest of weights that are not on this machine: nothing is stored under it
PACKAGES: dict[EmbeddingModel, tuple[str, ...]] = {
    "clip-vit-b-32": ("open_clip",),
    "efficientnet-lite0": ("timm",),
}


def available(model: EmbeddingModel) -> str:
    """Say in a sentence why an encoder cannot be had on this machine; an empty string if it can.

    For CLIP without local weights this looks into the hub's cache, and if they are not there asks
    the hub, which takes up to HUB_PATIENCE seconds.
    """
    missing = [name for name in PACKAGES[model] if importlib.util.find_spec(name) is None]
    if missing:
        return f"The package '{missing[0]}' is not installed. {program.AGAIN}"
    if model == "efficientnet-lite0":
        return "" if LITE0_FILE.is_file() else f"Its weights, {LITE0_FILE}, are not there. Get the app's files again."
    file = _local_weights()
    if file is not None:
        return (
            "" if file.is_file() else f"{WEIGHTS_VARIABLE} names '{file.name}', which is not there. Correct the path."
        )
    from huggingface_hub import HfApi

    if _from_hub() is not None:
        return ""
    try:
        HfApi().model_info(CLIP_HUB, timeout=HUB_PATIENCE)
    except Exception:  # offline, refused, renamed: whatever it is, the weights cannot be had from there now
        return (
            "CLIP's weights are not on this machine and their hub cannot be reached. Connect once, or set "
            f"{WEIGHTS_VARIABLE} to a file of ViT-B/32 weights."
        )
    return ""


def here(model: EmbeddingModel) -> bool:
    """Say whether an encoder and its weights are on this machine, without asking any network."""
    return known_weights(model) != UNKNOWN and all(importlib.util.find_spec(name) for name in PACKAGES[model])


def settings_of(model: EmbeddingModel, pixels: str) -> EmbeddingSettings:
    """Return the settings under which a training set (by digest) or picture (by pixel digest) is embedded.

    Raises:
        DataError: If the encoder cannot be had.
    """
    return build(EmbeddingSettings, model=model, weights=obtained(model), pixels=pixels)


def known_weights(model: EmbeddingModel) -> str:
    """Return the digest of the weights that an encoder has here, without asking any network.

    Empty for the stand-in's own; `UNKNOWN` where they are not on this machine, or not yet.
    """
    file = _file(model)
    if model == "efficientnet-lite0" and (file is None or not file.is_file()):
        return ""
    return UNKNOWN if file is None or not file.is_file() else _digest(file)


def obtained(model: EmbeddingModel) -> str:
    """Return the digest of an encoder's weights, which are got from their hub where they are not on this machine.

    Raises:
        DataError: If the encoder cannot be had.
    """
    return _digest(_obtained(model))


def place() -> str:
    """Return the file that CLIP's weights are taken from, empty where it is the hub's."""
    file = _local_weights()
    return "" if file is None else str(file.absolute())


def take_from(place: str) -> None:
    """Take CLIP's weights from the file that whoever asks has set up, or from the hub's, where this machine has it."""
    if place and Path(place).is_file():
        os.environ[WEIGHTS_VARIABLE] = place
    elif not place and _from_hub() is not None:
        os.environ.pop(WEIGHTS_VARIABLE, None)


def embed(images: np.ndarray, settings: EmbeddingSettings, on_progress: Count | None = None) -> np.ndarray:
    """Embed pictures, whatever their size; each is prepared as the encoder was trained.

    Args:
        images: Shape (N, H, W, 3), uint8.
        settings: Encoder and weights; `pixels` only names the result.
        on_progress: Called with the number of pictures done and their total.

    Returns:
        Shape (N, D), float32, not normalised.

    Raises:
        SettingsError: If the settings are for other weights than those at hand.
        DataError: If the encoder cannot be had or its weights do not fit.
    """
    import torch

    file = _obtained(settings.model)
    refuse_other(settings.model, settings.weights)
    encoder = _encoder(settings.model, file, settings.weights)
    rows: list[np.ndarray] = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            rows.append(encoder(images[start : start + BATCH]).float().numpy())
            if on_progress is not None:
                on_progress(min(start + BATCH, len(images)), len(images))
    return np.concatenate(rows)


def embed_dataset(dataset: Dataset, model: EmbeddingModel, on_progress: Count | None = None) -> Artifact:
    """Store the embeddings of a training set, shape (N, D), unless they are stored already."""
    return _stored(settings_of(model, dataset.digest), dataset.train.images, on_progress)


def embed_target(model: EmbeddingModel, image: np.ndarray) -> Artifact:
    """Store the embedding of one picture (H, W, 3), shape (1, D), unless it is stored already."""
    return _stored(settings_of(model, image_digest(image)), image[None], None)


def _stored(settings: EmbeddingSettings, images: np.ndarray, on_progress: Count | None) -> Artifact:
    key = key_of("embeddings", settings)
    waiting = quiet if on_progress is None else lambda *_: on_progress(0, len(images))
    with store.computing("embeddings", key, waiting) as found:
        if found is not None:
            return found
        embeddings = embed(images, settings, on_progress)
        store.write_array(store.partial("embeddings", key) / FILE, embeddings)
        return store.publish("embeddings", key, settings, rows=len(embeddings), dimensions=embeddings.shape[1])


def refuse_other(model: EmbeddingModel, weights: str) -> None:
    """Refuse to go on with other weights than were asked for, by their digest.

    Raises:
        DataError: If the encoder cannot be had.
        SettingsError: If its weights are others.
    """
    if weights != obtained(model):
        again = f"Set {WEIGHTS_VARIABLE} as it was" if model == "clip-vit-b-32" else "Get the app's files again"
        raise SettingsError(
            f"The settings ask for {model} with weights {weights or 'of its own'}, but other weights are set up. "
            f"{again}, or ask anew."
        )


def _local_weights() -> Path | None:
    value = os.environ.get(WEIGHTS_VARIABLE, "")
    return expanded(value) if value else None


def _from_hub() -> Path | None:
    """Return the file of CLIP's weights that was got from the hub before."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(CLIP_HUB, name) for name in CLIP_FILES)
    return next((Path(one) for one in found if isinstance(one, str)), None)


def _file(model: EmbeddingModel) -> Path | None:
    """Return where an encoder's weights lie, None where they are not on this machine."""
    if model == "clip-vit-b-32":
        return _local_weights() or _from_hub()
    return LITE0_FILE


def _obtained(model: EmbeddingModel) -> Path:
    why = available(model)
    if why:
        raise DataError(f"{model} cannot be had. {why}")
    file = _file(model)
    if file is not None:
        return file
    from open_clip.pretrained import download_pretrained_from_hf

    try:
        return Path(download_pretrained_from_hf(CLIP_HUB))
    except FileNotFoundError as error:  # whatever the hub says comes as this
        raise DataError(
            f"CLIP's weights could not be loaded from their hub ({str(error)[:200].rstrip('.:')}). Try again, or set "
            f"{WEIGHTS_VARIABLE} to a file of ViT-B/32 weights."
        ) from None


def _digest(file: Path) -> str:
    facts = file.stat()
    found = _file_digest(file, facts.st_size, facts.st_mtime_ns)
    return "" if found == LITE0_WEIGHTS else found


@functools.lru_cache(maxsize=8)
def _file_digest(file: Path, size: int, changed: int) -> str:
    """Digest of a weights file, once for each size and time of change."""
    with file.open("rb") as opened:
        return digest_of(hashlib.file_digest(opened, "sha256").hexdigest())


@functools.lru_cache(maxsize=2)
def _encoder(model: EmbeddingModel, weights: Path, digest: str) -> Encoder:
    """Load an encoder, once for each file and content of weights."""
    return _clip(weights) if model == "clip-vit-b-32" else _lite0(weights)


def _clip(weights: Path) -> Encoder:
    """Load CLIP's image tower with open_clip's own preparation of pictures (224 pixels, bicubic)."""
    import open_clip
    import torch

    try:
        net, _, prepare = open_clip.create_model_and_transforms(
            CLIP_CONFIG, pretrained=str(weights), device="cpu", weights_only=True
        )
    except Exception as error:  # open_clip and torch each raise their own kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"CLIP's weights could not be loaded from the file '{weights.name}' ({first[:200].rstrip('.:')}). Expected "
            "a state dict of ViT-B/32 as .safetensors or .pt."
        ) from None
    net.eval()
    return lambda images: net.encode_image(torch.stack([prepare(Image.fromarray(image)) for image in images]))


def _lite0(file: Path) -> Encoder:
    """Load EfficientNet-Lite0: pictures at 128 pixels, features averaged over places."""
    import timm
    import torch

    from dtrak_core.models import weights

    net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    net.load_state_dict(weights.read_file(file, "efficientnet-lite0"))
    net.eval()

    def encode(images: np.ndarray) -> Tensor:
        x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, (LITE0_SIDE, LITE0_SIDE), mode="bilinear", antialias=True)
        features: Tensor = net((x - 127 / 255) / (128 / 255))
        return features

    return encode
