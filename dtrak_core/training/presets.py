"""Named settings of trainings: the paper's models to the letter, and the laptop's. No torch here.

`demo` is ours: a network that two CPU cores train in minutes. So are `picture`, which
predicts the clean picture (from 48 channels a position so small a network can tell a picture, but not its noise),
`portraits`, which is wider and of which the demo is made (portraits.py), and `flow`, a rectified flow.
`cifar` and `celeba` are the networks of the authors' code (Zheng et al. 2024): 38,307,203 and 118,795,011 parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import is_grey
from dtrak_core.errors import SettingsError
from dtrak_core.models import bases
from dtrak_core.models.settings import (
    Frozen,
    Layers,
    LoraSettings,
    ModelSettings,
    Precision,
    Prediction,
    ProbeSettings,
    TrainSettings,
)
from dtrak_core.settings import build


@dataclass(frozen=True)
class Preset:
    """A model with the training settings that go with it, and one sentence on what it is for.

    Without a model it is LoRA weights on a text-to-image base, with settings `lora`.
    """

    model: ModelSettings | None
    training: Mapping[str, Any]
    summary: str
    lora: Mapping[str, Any] = field(default_factory=dict)


SHARES = (25, 50, 75, 100)  # percent of a training at which weights are kept (TracInCP and GAS use them)
DEMO = ModelSettings()
CIFAR = ModelSettings(
    fold=1,
    channels=(128, 256, 256, 256),
    attention=(False, True, False, False),
    layers_per_block=2,
    mid_attention=True,
    norm_groups=32,
    norm_eps=1e-6,
    dropout=0.1,
    time_scale_shift="scale_shift",
    downsample_padding=0,
    flip_sin_to_cos=False,
    freq_shift=1,
)
CELEBA = ModelSettings(
    fold=1,
    channels=(128, 128, 256, 256, 512, 512),
    attention=(False, False, False, False, True, False),
    layers_per_block=2,
    mid_attention=True,
    head_dim=8,
    norm_groups=32,
    norm_eps=1e-5,
    dropout=0.1,
    time_scale_shift="scale_shift",
)
_PAPER = {"epochs": 200, "batch_size": 128, "learning_rate": 1e-4, "betas": (0.95, 0.999), "warmup": 0.1, "flip": True}

# What docs/reproduce.md prints for one row of the paper's table, and the dry run takes.
PAPER_FEATURES: Mapping[str, Any] = {
    "num_timesteps": 100, "projection": "sparse", "proj_dim": 32_768, "storage": "float16",
}  # fmt: skip
PAPER_LDS: Mapping[str, Any] = {"num_subsets": 64, "train_seeds": 3, "num_timesteps": 1000, "noise_seeds": 3}

USUAL = {  # the paper's network for each of its datasets, and ours for our own; `demo` for all others
    "cifar2": "cifar", "cifar10": "cifar", "celeba": "celeba", "artbench2": "lora", "artbench5": "lora",
    "openmoji-people": "portraits", "openmoji-roles": "lora-demo", "emoji-schools": "lora-demo",
}  # fmt: skip
PRESETS: dict[str, Preset] = {
    "demo": Preset(DEMO, {}, "Small network for a laptop: minutes of training on 2 CPU cores."),
    "picture": Preset(
        ModelSettings(fold=4, prediction="sample"),
        {},
        "As small as demo, but it predicts the clean picture: 32 pixels in minutes of training on 2 CPU cores.",
    ),
    "portraits": Preset(
        ModelSettings(
            fold=4, prediction="sample", channels=(80, 80), time_scale_shift="scale_shift", precision="bfloat16"
        ),
        {"epochs": 160},
        "As picture, but wider and trained longer: crisper portraits of 32 pixels.",
    ),
    "flow": Preset(
        ModelSettings(prediction="flow"),
        {},
        "As demo, but of flow matching, as Stable Diffusion 3 and Flux are: minutes of training on 2 CPU cores.",
    ),
    "cifar": Preset(CIFAR, _PAPER, "The paper's CIFAR-2 and CIFAR-10 network, 38.3 M parameters: for a GPU."),
    "celeba": Preset(CELEBA, _PAPER, "The paper's CelebA network, 118.8 M parameters: for a GPU."),
    "lora-demo": Preset(
        None,
        {"epochs": 100, "batch_size": 32, "learning_rate": 1e-3, "betas": (0.9, 0.99), "warmup": 0.1},
        "LoRA weights of rank 32 on a small text-to-image base: minutes of training on 2 CPU cores.",
        {"rank": 32, "dropout": 0.0},
    ),
    "lora": Preset(
        None,
        {"epochs": 100, "batch_size": 64, "learning_rate": 3e-4, "betas": (0.9, 0.999), "warmup": 0.1, "flip": True},
        "The paper's ArtBench training: LoRA weights of rank 128 on Stable Diffusion, 25.5 M parameters: for a GPU.",
        {"rank": 128},
    ),
}


def seen(dataset: Dataset, classes: bool, grey: bool) -> dict[str, Any]:
    """Return what a network of pixels sees of a dataset, as values for its settings: classes, and grey alone.

    Args:
        dataset: The training set.
        classes: Whether it is told the class of each picture, its label.
        grey: Whether it sees one colour instead of three.

    Raises:
        SettingsError: If there are no labels, or the pictures have colours.
    """
    if classes and not dataset.classes:
        raise SettingsError(
            f"The pictures of '{dataset.name}' have no labels, so that there is no class to tell. Leave classes out, "
            "or prepare the pictures with labels."
        )
    if grey and not is_grey(dataset.train.images):
        raise SettingsError(f"The pictures of '{dataset.name}' have colours. Leave grey out.")
    return ({"classes": dataset.classes} if classes else {}) | ({"grey": True} if grey else {})


def train_settings(
    preset: str,
    dataset_digest: str,
    base: str = "",
    prediction: Prediction | None = None,
    sees: Mapping[str, Any] = MappingProxyType({}),
    precision: Precision | None = None,
    form: Frozen = "stored",
    layers: Layers = "attention",
    **changes: Any,
) -> TrainSettings:
    """Return a preset's training settings for a dataset, with changes (those that are None are ignored).

    Args:
        preset: Name of the preset.
        dataset_digest: What is learned from.
        base: Digest of the text-to-image model that LoRA weights are trained on.
        prediction: What the network predicts, where that is not the preset's.
        sees: What a network of pixels sees of the dataset (`seen`).
        precision: The format that the network computes in; None takes float32.
        form: Whether the frozen weights under LoRA weights lie in 8 or 4 bits.
        layers: Whether LoRA weights go to the attention's projections, or to all layers of a U-Net's blocks.
        changes: Other values for its training settings.

    Raises:
        SettingsError: If LoRA weights are to predict something else than their base, or to see classes, or a network of
            pixels is to have frozen weights or some of its layers trained, or a transformer all of them.
    """
    chosen = PRESETS[preset]
    if form != "stored" and chosen.model is not None:
        raise SettingsError(
            f"A network of pixels is trained whole: it has no frozen weights to hold as {form}. Leave frozen out, or "
            "choose a preset of LoRA weights, lora say."
        )
    if layers != "attention" and chosen.model is not None:
        raise SettingsError(
            "A network of pixels is trained whole: there are no layers to choose. Leave layers out, or choose a preset "
            "of LoRA weights, lora-demo say."
        )
    if sees and chosen.model is None:
        raise SettingsError(
            f"LoRA weights are told and see what their base does. Leave {' and '.join(sees)} out, or choose a preset "
            "of pixels, demo say."
        )
    asked = {"prediction": prediction, "precision": precision}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    model: ModelSettings | LoraSettings
    if chosen.model is not None:
        model = build(ModelSettings, **chosen.model.model_dump() | given | dict(sees))
    elif prediction is None:
        where = {"base": base, "targets": bases.layers(base, layers)}
        model = build(LoraSettings, **{**chosen.lora, **given, **where, "frozen": form})
    else:
        raise SettingsError(
            f"LoRA weights predict what their base does. Leave the prediction '{prediction}' out, or choose a preset "
            "of pixels, demo say."
        )
    values = {**chosen.training, **{name: value for name, value in changes.items() if value is not None}}
    return build(TrainSettings, dataset=dataset_digest, model=model, **values)


def probes(model: ModelSettings | LoraSettings, resolution: int, batch_size: int) -> list[store.Artifact]:
    """Return how often it was measured here what a step of such a training costs, the newest measurement last."""
    wanted = ProbeSettings(model=model, resolution=resolution, batch_size=batch_size).model_dump(mode="json")
    found = [probe for probe in store.listing("probes") if wanted.items() <= probe.settings.items()]
    return sorted(found, key=lambda probe: (not probe.shipped, probe.settings.get("number", 0)))


def disk(settings: TrainSettings, parameters: int, pictures: int) -> int:
    """Return the bytes that the weights which a training on so many pictures keeps take on disk."""
    kept = {max(1, round(settings.steps(pictures) * share / 100)) for share in SHARES}  # as training.py keeps them
    return len(kept) * parameters * (2 if settings.weights_dtype == "float16" else 4)


def next_probe(known: list[store.Artifact]) -> int:
    """Return the number of the measurement after these."""
    return 1 + max(int(probe.settings.get("number", 0)) for probe in known) if known else 0
