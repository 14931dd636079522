"""DiT, a transformer of classes in an autoencoder's latents: a base like the text-to-image ones, told a class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import family_helpers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from safetensors.torch import load_file

from dtrak_core import api
from dtrak_core.commands import answers
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.features import draws, model_outputs
from dtrak_core.features.gradients import has_known_layers, per_example_gradients
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import bases, checkpoints, importing_text, lora, networks, sampling
from dtrak_core.models.denoiser import tracked_parameters
from dtrak_core.models.settings import Sampled
from dtrak_core.progress import quiet
from dtrak_core.training import presets, training

NAMES = {str(i): f"thing {i}" for i in range(1000)} | {"7": "red, scarlet", "9": "green", "20": "blue"}


def saved(folder: Path, named: dict[str, str] | None, kind: str = "Transformer2DModel") -> Path:
    """Save a tiny pipeline as the published ones are: 1,000 classes, a variance besides, an older name of its class."""
    torch.manual_seed(0)
    network = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        attention_bias=True,
    )  # fmt: skip
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    DiTPipeline(network, family_helpers.autoencoder(), DDIMScheduler(clip_sample=False)).save_pretrained(folder)
    for path, changes in (
        ("model_index.json", {"id2label": named}),
        ("transformer/config.json", {"_class_name": kind}),
    ):
        found = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(found | changes))
    return folder


@pytest.fixture
def discs(cache: Path, tmp_path: Path) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    labels = np.array(["scarlet", "green", "blue", "green"] * 4)
    np.savez(tmp_path / "discs.npz", x_train=images[:12], y_train=labels[:12], x_test=images[12:], y_test=labels[12:])
    settings = catalogue.source_settings("npz", tmp_path / "discs.npz", "discs", 32)
    return catalogue.load(catalogue.prepare(settings, tmp_path / "discs.npz"))


def test_dit_goes_the_whole_way(discs: Dataset, tmp_path: Path) -> None:
    folder = saved(tmp_path / "pipeline", NAMES)
    importing_text.import_base(str(folder), "dit", quiet)
    base = bases.by_name("dit")
    how: dict[str, Any] = {"epochs": 2, "batch_size": 6, "learning_rate": 0.03}
    settings = presets.train_settings("lora-demo", discs.digest, base.digest, **how)
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"rank": 2})})
    run = training.train(discs, settings, "dit", quiet)
    checkpoint = checkpoints.by_name("dit", discs.digest)
    assert (len(checkpoint.classes), checkpoint.guided) == (1000, True)
    asked = answers.with_prompts(discs, checkpoint, Sampled())
    assert (asked.prompts, asked.guidance) == (("red, scarlet", "green", "blue"), 4.0)

    denoiser = networks.load_denoiser(checkpoint)
    ours = sampling.generate(denoiser, [3, 4], "ddim", 3, 0.0, prompts=["scarlet", "blue"], guidance=3.0)
    theirs = DiTPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    state = load_file(checkpoint.folder / lora.FILE)
    inject_adapter_in_model(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), theirs.transformer
    )
    set_peft_model_state_dict(
        theirs.transformer, {name.removeprefix("transformer."): value for name, value in state.items()}
    )
    made = theirs(
        theirs.get_label_ids(["scarlet", "blue"]),
        3.0,
        [torch.Generator().manual_seed(seed) for seed in (3, 4)],
        3,
        "np",
    ).images
    assert np.abs(np.rint(made * 255) - ours).max() <= 1
    assert ours.std() > 5, "a picture of one colour tells nothing"

    assert has_known_layers(denoiser.network)
    wanted = FeatureSettings(
        dataset=discs.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=32, model_output="loss"
    )
    told, x0 = denoiser.conditions(["green"]), denoiser.encode(np.asarray(discs.train.images[1:2]))
    found = per_example_gradients(denoiser, x0, ["train:1"], wanted, condition=told)[0]
    alone, parameters = torch.zeros_like(found), [p for _, p in tracked_parameters(denoiser.network)]
    for t in (0, 500):
        eps, when = torch.from_numpy(draws.noise(0, "train:1", [t], denoiser.shape)), torch.tensor([t])
        x_t = denoiser.process.noised(x0, eps, when)
        output = denoiser.network(x_t, timestep=when, class_labels=torch.tensor([9])).sample[:, :4]
        value = model_outputs.loss(output, denoiser.process.target(x0, eps, when)).sum() / 2
        alone += torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))

    drawn = {"sampled": Sampled(sampling_steps=2, prompts=("scarlet", "green"), guidance=3), "progress": False}
    small = {"num_timesteps": 2, "proj_dim": 32}
    assert np.isfinite(
        api.explain("discs", checkpoint, [0, "held-out:1"], "d-trak", features=small, **drawn).scores
    ).all()
    removed = {"methods": ["raw-pixel-cosine"], "remove": 4, "random_draws": 1, "bottom": False}
    compared = api.counterfactual("dit", "discs", checkpoint, [0], **removed, **drawn)
    assert [e.l2 for e in compared.entries if e.method == "identity"] == pytest.approx([0], abs=0.1)
    assert training.train(discs, settings, "dit", quiet).key == run.key


def test_its_classes_must_be_named_and_are_part_of_what_it_is(discs: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"knows 1000 classes, its model_index.json names none. Write them there"):
        importing_text.import_base(str(saved(tmp_path / "unnamed", None)), "dit", quiet)
    with pytest.raises(DataError, match="The denoiser of 'other' is a PixArtTransformer2DModel"):
        importing_text.import_base(str(saved(tmp_path / "other", NAMES, "PixArtTransformer2DModel")), "dit", quiet)
    for name, named in (("one", NAMES), ("two", NAMES | {"0": "blue", "20": "thing"})):
        importing_text.import_base(str(saved(tmp_path / name, named)), name, quiet)
    one, two = bases.by_name("one"), bases.by_name("two")
    assert one.digest != two.digest
    with pytest.raises(SettingsError, match="a transformer, of which the attention is trained"):
        presets.train_settings("lora-demo", discs.digest, one.digest, layers="all")
    denoiser = lora.untrained(one, presets.train_settings("lora-demo", discs.digest, one.digest).model, discs.digest)  # type: ignore[arg-type]
    denoiser.network.train()
    asked = [denoiser.predict(torch.ones(8, *denoiser.shape), torch.full((8,), 500), denoiser.conditions(["blue"] * 8))]
    assert all(torch.equal(row, asked[0][0]) for row in asked[0]), "the network leaves classes out by itself"
    with pytest.raises(SettingsError, match="The model knows no class 'a blue disc'"):
        denoiser.conditions(["a blue disc"])
