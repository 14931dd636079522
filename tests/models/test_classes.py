"""Class-conditional networks, the whole way: taken in, trained, drawn, explained; each picture by its label."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DiTPipeline, UNet2DModel
from torch import nn

from dtrak_core import api, store
from dtrak_core.api import inputs
from dtrak_core.commands import answers
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.features import losses
from dtrak_core.lds import subset_losses, subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.models import checkpoints, importing, networks, sampling, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.class_names import Classes
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import ModelSettings, Sampled, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.training import presets, training

NAMES = ("red", "green", "blue")


@pytest.fixture
def checkpoint(cache: Path, pictures: Dataset, trained_classes: Path) -> Checkpoint:
    shutil.copytree(trained_classes / "checkpoints", cache / "checkpoints")
    return checkpoints.by_name("classes", pictures.digest)


def plain_loop(unet: UNet2DModel, seed: int, number: int, null: int, guidance: float, steps: int) -> torch.Tensor:
    """Draw with diffusers' own scheduler, as its documentation does."""
    scheduler = DDIMScheduler(beta_schedule="linear")
    scheduler.set_timesteps(steps)
    size = unet.config.sample_size
    x = torch.randn(unet.config.in_channels, size, size, generator=torch.Generator().manual_seed(seed))[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            told = unet(x, t, class_labels=torch.tensor([number])).sample
            free = unet(x, t, class_labels=torch.tensor([null])).sample
            x = scheduler.step(free + guidance * (told - free), t, x).prev_sample
    return x


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures_of_a_class_are_those_of_a_plain_loop(checkpoint: Checkpoint, guidance: float) -> None:
    denoiser = networks.load_denoiser(checkpoint)
    theirs = DDPMPipeline.from_pretrained(checkpoint.folder, local_files_only=True).unet.eval()
    x = plain_loop(theirs, 7, 1, 3, guidance, 10)
    made = sampling.generate(denoiser, [7], "ddim", 10, 0.0, prompts=["green"], guidance=guidance)
    assert np.abs(made.astype(int) - denoiser.decode(x)).max() <= 1
    assert (checkpoint.classes, checkpoint.guided) == (NAMES, True)


def test_training_tells_labels_and_leaves_some_out(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    conditions = Denoiser.conditions
    monkeypatch.setattr(
        Denoiser, "conditions", lambda self, prompts: heard.extend(prompts) or conditions(self, prompts)
    )
    settings = TrainSettings(
        dataset=pictures.digest,
        model=ModelSettings(**tiny.model_dump() | {"classes": NAMES, "class_dropout": 0.5}),
        epochs=1,
        batch_size=24,
        indices=tuple(range(12)),
    )
    run = training.train(pictures, settings, "some", quiet, kind="retrained")
    told, labels = heard[:12], [pictures.train.labels[row] for row in range(12)]
    assert all(one in ("", label) for one, label in zip(told, labels, strict=True))
    assert 1 <= told.count("") <= 11
    # Equal weights that know the classes by other names are another model.
    (one,) = checkpoints.of_run(run)
    assert one.digest != networks.weights_digest(networks.load_denoiser(one).network)


def test_every_picture_is_explained_by_its_own_class(pictures: Dataset, tiny: ModelSettings) -> None:
    """Features, losses and the retrained models of benchmark and comparison take the class that a picture has.

    The network knows no pictures without a class, and so refuses any place that forgets it.
    """
    model = ModelSettings(**tiny.model_dump() | {"classes": NAMES, "class_dropout": 0})
    training.train(pictures, TrainSettings(dataset=pictures.digest, model=model, epochs=2, batch_size=8), "own", quiet)
    checkpoint = checkpoints.by_name("own", pictures.digest)
    denoiser = networks.load_denoiser(checkpoint)
    held_out = targets.resolve(pictures, checkpoint.digest, "held-out:1")
    assert denoiser.told(held_out.row) == pictures.held_out.labels[1]
    loss = losses.denoising_loss(denoiser, held_out, 4, 0)
    label, grid = held_out.row["label"], np.array([0, 250, 500, 750])
    by_hand, other = (
        losses.of_draws(denoiser, held_out.image, held_out.id, grid, 0, name) for name in (label, NAMES[label == "red"])
    )
    assert loss == pytest.approx(by_hand.mean(), rel=1e-6)
    assert loss != pytest.approx(other.mean(), rel=1e-6)

    how = {"sampled": Sampled(sampling_steps=4, prompts=("green", "red"), guidance=1), "progress": False}
    small = {"num_timesteps": 2, "proj_dim": 64}
    found = api.explain("discs", checkpoint, [0, 1, "train:3", "held-out:1"], "d-trak", features=small, **how)
    assert np.isfinite(found.scores).all()
    assert [t.prompt for t in found.targets[:2]] == ["green", "red"]
    own = {"output": lambda f, noise, x0, t: f.flatten(1).square().mean(1)}
    for method, more in (("journey-trak", {}), ("das", {}), ("ek-fac", {}), ("d-trak", own)):
        one = api.explain("discs", checkpoint, 0, method, features=small, **more, **how)
        assert np.isfinite(one.scores).all()
    removed = {"methods": ["raw-pixel-cosine"], "remove": 4, "random_draws": 1, "bottom": False}
    compared = api.counterfactual("classes", "discs", checkpoint, [0, 1], **removed, **how)
    assert [e.l2 for e in compared.entries if e.method == "identity"] == pytest.approx([0, 0], abs=0.1)

    lds = LdsSettings(
        dataset=pictures.digest, checkpoint=checkpoint.digest, targets=("held-out:1",), num_subsets=3, train_seeds=1,
        num_timesteps=4, noise_seeds=1,
    )  # fmt: skip
    measured = subset_losses.losses_of(pictures, checkpoint, subset_models.models(lds)[0], quiet)
    assert np.isfinite(measured.array(subset_models.LOSSES)).all()


def test_what_is_no_class_is_refused(checkpoint: Checkpoint, pictures: Dataset) -> None:
    denoiser = networks.load_denoiser(checkpoint)
    with pytest.raises(SettingsError, match=r"The model knows no class 'yellow'. Choose of these: red, green, blue."):
        sampling.generate(denoiser, [0], "ddim", 2, 0.0, prompts=["yellow"])
    with pytest.raises(SettingsError, match=r"give a class for each picture, in prompts\."):
        sampling.generate(denoiser, [0], "ddim", 2, 0.0)
    with pytest.raises(SettingsError, match=r"'classes' draws no 'yellow'. It knows: red, green, blue."):
        answers.with_prompts(pictures, checkpoint, Sampled(prompts=("yellow",)))
    asked = answers.with_prompts(pictures, checkpoint, Sampled())
    assert (asked.prompts, asked.guidance) == (NAMES, 1)
    with pytest.raises(SettingsError, match="there is one without"):
        Classes(NAMES, null=False).conditions([""])
    with pytest.raises(SettingsError, match="LoRA weights are told and see what their base does"):
        presets.train_settings("lora", "0" * 16, "1" * 16, sees={"classes": NAMES})


def test_a_name_means_the_last_class_that_bears_it_as_in_diffusers() -> None:
    crane = Classes(("tench, Tinca tinca", "crane", "ox", "crane", "Ox, bull"), null=True)
    pipe = DiTPipeline(None, None, None, {str(i): name for i, name in enumerate(crane.names)})
    for name in ("tench", "Tinca tinca", "crane", "ox", "bull"):
        assert crane.number_of(name) == pipe.labels[name]
    assert [crane.number_of(name) for name in ("TENCH", "Ox, bull", "")] == [0, 4, 5]


def foreign(folder: Path, named: dict[str, str] | None = None, **changes: object) -> UNet2DModel:
    """Save a class-conditional diffusers pipeline, with or without names of its classes."""
    torch.manual_seed(5)
    config = {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    unet = UNet2DModel(**config | changes).eval()
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    if named is not None:
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"id2label": named}))
    return unet


THEIRS = {"0": "blue", "1": "green, lime", "2": "red"}


@pytest.mark.parametrize(
    ("named", "changes", "number", "guided"),
    [
        (None, {"num_class_embeds": 3}, 0, False),
        (None, {"num_class_embeds": 4}, 0, True),
        (None, {"class_embed_type": "timestep"}, 0, False),
        (THEIRS, {"num_class_embeds": 4}, 2, True),
    ],
    ids=["as many", "one for none", "as a timestep", "named"],
)
def test_networks_of_diffusers_open_with_names_for_their_numbers(
    pictures: Dataset,
    tmp_path: Path,
    named: dict[str, str] | None,
    changes: dict[str, object],
    number: int,
    guided: bool,
) -> None:
    unet = foreign(tmp_path / "theirs", named, **changes)
    nn.init.normal_(unet.conv_out.weight, std=0.05)
    unet.save_pretrained(tmp_path / "theirs" / "unet")
    run = importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "theirs", quiet)
    found = checkpoints.by_name("theirs", pictures.digest)
    assert found.guided == guided
    told = " ".join(found.assumed)
    assert ("its classes are the dataset's labels in this order: red, green, blue" in told) == (named is None)
    denoiser = networks.load_denoiser(found)
    x = plain_loop(unet, 3, number, 0, 1.0, 5)
    made = sampling.generate(denoiser, [3], "ddim", 5, 0.0, prompts=["red"], guidance=1)
    assert np.abs(made.astype(int) - denoiser.decode(x)).max() <= 1
    if not guided:
        with pytest.raises(SettingsError, match=r"Guidance 7.5 needs a model"):
            sampling.generate(denoiser, [3], "ddim", 5, 0.0, prompts=["red"])
    assert checkpoints.listing()[0].digest == run.manifest["steps"][0]["digest"]


@pytest.mark.parametrize("embeds", [3, 4], ids=["none without a class", "guided"])
def test_library_and_command_line_draw_alike(pictures: Dataset, tmp_path: Path, embeds: int) -> None:
    foreign(tmp_path / "theirs", num_class_embeds=embeds)
    importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "theirs", quiet)
    theirs = checkpoints.by_name("theirs", pictures.digest)
    for seed, told in enumerate(({"prompts": ("red",)}, {}, {"guidance": 1.0})):
        said = Sampled(sampling_steps=2, **told)  # type: ignore[arg-type]
        way = answers.with_prompts(pictures, theirs, said)
        assert way.guidance == 1
        (drawn,) = api.explain(pictures, theirs, seed, "raw-pixel-cosine", sampled=said, progress=False).targets
        assert drawn.sampled.drawing() == way.drawing() | {"prompts": (way.prompt_of(seed),)}
    assert [t.prompt for t in inputs.all_drawn(pictures, theirs, Sampled(sampling_steps=2))] == ["red", "green", "blue"]
    only = Sampled(sampling_steps=2, prompts=("green",))
    assert [t.id for t in inputs.all_drawn(pictures, theirs, only)] == ["seed:1"]
    with pytest.raises(SettingsError, match=r"has drawn no picture for 'blue' by DDIM in 3 steps yet. Name targets"):
        inputs.all_drawn(pictures, theirs, Sampled(sampling_steps=3, prompts=("blue",)))
    if embeds == 3:
        with pytest.raises(SettingsError, match=r"cannot be guided: .* Leave guidance out"):
            api.explain(pictures, theirs, 0, "raw-pixel-cosine", sampled=Sampled(guidance=7.5), progress=False)


def test_other_names_for_the_same_numbers_are_another_model(pictures: Dataset, tmp_path: Path) -> None:
    for name, named in (("ours", None), ("theirs", THEIRS)):
        foreign(tmp_path / name, named, num_class_embeds=3)
        importing.import_checkpoint(str(tmp_path / name), pictures, name, quiet)
    ours, theirs = (checkpoints.by_name(name) for name in ("ours", "theirs"))
    assert ours.digest != theirs.digest
    assert networks.load_denoiser(theirs).conditions(["green", "LIME"])["class"].tolist() == [1, 1]
    assert len(store.listing("checkpoints")) == 2


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            {"0": "cat", "1": "dog", "2": "frog"},
            "knows the classes cat, dog, frog; the dataset has the label 'red'",
        ),
        ({"0": "red", "2": "blue"}, "id2label of 'theirs' does not name the classes 0, 1, 2"),
        ({"0": "red"}, "the dataset has the label 'green' too"),
    ],
)
def test_names_that_do_not_fit_are_refused(pictures: Dataset, tmp_path: Path, named: dict[str, str], said: str) -> None:
    foreign(tmp_path / "theirs", named, num_class_embeds=3)
    with pytest.raises(DataError, match=said):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
