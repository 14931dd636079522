"""What a checkpoint is, in words, from the files beside its weights."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.models import checkpoints, descriptions, schedules, targets
from dtrak_core.models.checkpoints import Checkpoint


def test_networks_of_pixels_are_described(
    checkpoint: Checkpoint, pictures: Dataset, cache: Path, trained_classes: Path
) -> None:
    assert descriptions.described(checkpoint) == {
        "Model": "unconditional network of pixels (UNet2DModel)",
        "pictures": "16 px, in colours",
        "predicts": "the noise",
        "schedule": "1,000 timesteps, betas linear",
    }
    shutil.copytree(trained_classes / "checkpoints", cache / "checkpoints", dirs_exist_ok=True)
    told = descriptions.described(checkpoints.by_name("classes", pictures.digest))
    assert (told["Model"], told["classes"]) == (
        "class-conditional network of pixels (UNet2DModel)", "red, green, blue",
    )  # fmt: skip


@pytest.mark.usefixtures("demo_cache")
def test_lora_weights_are_described_by_their_base() -> None:
    weights = next(one for one in checkpoints.listing() if one.base)
    told = descriptions.described(weights)
    assert told["Model"].startswith("LoRA weights of the base ")
    assert told["Model"].endswith("(StableDiffusionPipeline)")
    assert told["pictures"] == "32 px, in colours"
    assert told["schedule"].startswith("1,000 timesteps, betas ")


SANA = {
    "_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": True,
    "flow_shift": 3.0, "beta_schedule": "linear",
}  # fmt: skip
FLUX = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}


@pytest.mark.parametrize(
    ("config", "predicts", "levels"),
    [
        (SANA, "flow", "1,000 noise levels, shift 3"),
        (FLUX, "flow", "1,000 noise levels, shift 3"),
        (FLUX | {"use_dynamic_shifting": True}, "flow", "1,000 noise levels, shift by the picture's size"),
        ({"predict_epsilon": False}, "the clean picture", "1,000 timesteps, betas linear"),
        ({"prediction_type": None, "trained_betas": [0.1, 0.2]}, "the noise", "2 timesteps, betas of its own"),
    ],
)
def test_a_schedule_is_described_as_it_is_read(config: dict[str, object], predicts: str, levels: str) -> None:
    assert descriptions.schedule(config) == {"predicts": predicts, "schedule": levels}
    read = schedules.read(config, "model")
    assert f"{read.process.steps:,}" == levels.split()[0]
    assert descriptions.schedule(read.config) == {"predicts": predicts, "schedule": levels}


def test_who_drew_a_picture_and_what_the_model_had_learned_from(checkpoint: Checkpoint, pictures: Dataset) -> None:
    held_out = targets.of_split(pictures.held_out, "held-out", 3)
    drawn = dataclasses.replace(held_out, id="seed:0")
    told = "A diffusion model drew this picture. The model had learned from 24 pictures, and from nothing else."
    assert descriptions.origin(drawn, checkpoint, 24) == told
    for name, begins in (
        ("held-out:3", "This picture was kept out of training; no model drew it. The model had"),
        ("train:3", "This picture is one of the training pictures; no model drew it. The model had"),
        ("upload:0123456789abcdef", "You brought this picture. The model had"),
    ):
        assert descriptions.origin(dataclasses.replace(held_out, id=name), checkpoint, 24).startswith(begins)

    def of(base: str = "", **settings: Any) -> Checkpoint:
        run = dataclasses.replace(checkpoint.run, manifest={"settings": settings})
        return dataclasses.replace(checkpoint, run=run, base=base)

    for model, ends in (
        (of(epochs=4, indices=[3, 4, 4]), "The model had learned from 2 of the 24 pictures, and from nothing else."),
        (of(source="a/b"), "The model was made elsewhere and is said to have learned from 24 pictures."),
        (of("base", epochs=4), "LoRA weights had learned from 24 pictures, the base under them from other pictures"),
        (of("base", source="a/b"), "LoRA weights are said to have learned from 24 pictures, the base under them"),
    ):
        assert ends in descriptions.origin(drawn, model, 24)


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- ddpm\n---\n# A model\nlicense: no", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: 'flux-dev'\n---\n", "flux-dev"),
        ("license: mit\n", ""),
        ("---\nlicense: mit\n", ""),
        ("", ""),
    ],
)
def test_the_licence_is_that_of_the_cards_front_matter(tmp_path: Path, card: str, named: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert descriptions.licence(tmp_path) == named
    assert descriptions.licence(tmp_path / "nowhere") == ""
