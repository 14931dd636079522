"""Every family of text-to-image models, a tiny one each, the whole way: against plain diffusers and plain autograd."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import family_helpers
import numpy as np
import pytest
import text_helpers
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors.torch import load_file

from dtrak_core.api import inputs
from dtrak_core.commands import answers
from dtrak_core.counterfactual import comparisons, removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import StudioError
from dtrak_core.features import draws, model_outputs
from dtrak_core.features.gradients import has_known_layers, per_example_gradients
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.job_kinds import CounterfactualJob
from dtrak_core.models import (
    bases,
    checkpoints,
    importing_text,
    lora,
    networks,
    sampling,
    speeds,
    targets,
    text_pipelines,
)
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser, tracked_parameters
from dtrak_core.models.settings import LoraSettings, Sampled
from dtrak_core.progress import quiet
from dtrak_core.settings import build
from dtrak_core.training import presets, training
from dtrak_core.ui import named

PROMPTS = ("a red disc", "a blue disc")
STEPS, GUIDANCE = 3, 3.0
# How each pipeline is asked for what is drawn here: guidance 3, no tricks of its own beside it.
ASKED: dict[str, dict[str, Any]] = {
    "flux-schnell": {"true_cfg_scale": GUIDANCE, "negative_prompt": ["", ""]},
    "pixart-alpha": {"use_resolution_binning": False, "clean_caption": False},
    "pixart-sigma": {"use_resolution_binning": False, "clean_caption": False},
    "sana": {"use_resolution_binning": False},
    "lumina2": {"cfg_normalization": False},
    "z-image": {"guidance_scale": GUIDANCE - 1},
}
VARIANTS = {"sd3-without-t5", "flux-schnell", "pixart-alpha"}  # of another one here, told or called otherwise
PREDICTS = {"sd2": "v", "sdxl": "noise", "pixart-alpha": "noise", "pixart-sigma": "noise"}


@pytest.fixture
def discs(cache: Path, tmp_path: Path) -> Dataset:
    return text_helpers.captioned(tmp_path / "discs")


def trained(kind: str, discs: Dataset, folder: Path) -> Checkpoint:
    """Take in a family's pipeline and train LoRA weights of it for four steps."""
    importing_text.import_base(str(family_helpers.saved(kind, folder)), kind, quiet, family_helpers.SIDE)
    base = bases.by_name(kind)
    how: dict[str, Any] = {"epochs": 1, "batch_size": 10, "learning_rate": 0.03}
    settings = presets.train_settings("lora-demo", discs.digest, base.digest, **how)
    model = settings.model.model_copy(update={"rank": 2})
    training.train(discs, settings.model_copy(update={"model": model}), kind, quiet)
    return checkpoints.by_name(kind, discs.digest)


def theirs(kind: str, folder: Path, weights: Path) -> np.ndarray:
    """Draw pictures of seeds 3 and 4 by the family's own pipeline with the LoRA weights of a file."""
    absent = {"text_encoder_3": None, "tokenizer_3": None} if kind == "sd3-without-t5" else {}
    pipe = DiffusionPipeline.from_pretrained(folder, **absent)
    pipe.set_progress_bar_config(disable=True)
    if hasattr(pipe, "load_lora_weights"):
        pipe.load_lora_weights(str(weights), weight_name=lora.FILE)
    else:
        state = {name.removeprefix("transformer."): value for name, value in load_file(weights / lora.FILE).items()}
        config = LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
        inject_adapter_in_model(config, pipe.transformer)
        set_peft_model_state_dict(pipe.transformer, state)
    asked = {"guidance_scale": GUIDANCE, "height": 32, "width": 32} | ASKED.get(kind, {})
    seeds = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    made = pipe(list(PROMPTS), num_inference_steps=STEPS, generator=seeds, output_type="np", **asked).images
    return np.rint(np.asarray(made) * 255)


def usual(kind: str) -> tuple[int, float]:
    """Return the steps and the guidance of a family's own pipeline; schnell's are those of its publishers."""
    if kind == "flux-schnell":
        return 4, 1.0
    asked = inspect.signature(type(family_helpers.FAMILIES[kind]()).__call__).parameters
    return asked["num_inference_steps"].default, asked["guidance_scale"].default + (kind == "z-image")


def loop(denoiser: Denoiser, image: np.ndarray, prompt: str, sample: str, grid: np.ndarray) -> torch.Tensor:
    """Return the gradient of the mean loss over draws of one picture, draw by draw."""
    parameters = [p for _, p in tracked_parameters(denoiser.network)]
    total = torch.zeros(sum(p.numel() for p in parameters))
    told, x0 = denoiser.conditions([prompt]), denoiser.encode(image[None])
    for t in grid:
        eps, when = torch.from_numpy(draws.noise(0, sample, [t], denoiser.shape)), torch.tensor([int(t)])
        x_t = denoiser.process.noised(x0, eps, when)
        value = model_outputs.loss(denoiser.predict(x_t, when, told), denoiser.process.target(x0, eps, when)).sum()
        total += torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])
    return total / len(grid)


@pytest.mark.parametrize("kind", family_helpers.FAMILIES)
def test_a_family_goes_the_whole_way(
    kind: str, discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SHARES", (100,))
    monkeypatch.setattr(
        training,
        "generate",
        lambda denoiser, seeds, way, steps, *rest, **how: sampling.generate(denoiser, seeds, way, 1, *rest, **how),
    )
    folder = tmp_path / "pipeline"
    checkpoint = trained(kind, discs, folder)
    assert checkpoints.prediction_of(checkpoint) == PREDICTS.get(kind, "flow")
    asked = answers.with_prompts(discs, checkpoint, Sampled())
    assert (asked.sampling_steps, asked.guidance) == usual(kind)
    assert answers.with_prompts(discs, checkpoint, Sampled(sampling_steps=50, guidance=7.5)).guidance == 7.5
    told = inputs.chosen_way(Sampled(prompts=PROMPTS), discs, checkpoint)
    assert (told.sampling_steps, told.guidance, told.prompts) == (*usual(kind), PROMPTS)
    assert inputs.chosen_way(Sampled(guidance=7.5), discs, checkpoint).guidance == 7.5
    targets.publish_sample(targets.sample_settings(checkpoint.digest, 8, asked), discs.train.images[0])
    assert targets.usual(checkpoint.digest) == asked.model_copy(update={"prompts": (asked.prompt_of(8),)})
    (shown,) = targets.samples(checkpoint.digest)
    assert named.link_to(shown).keys().isdisjoint({"sampling_steps"}), "it is the usual number"
    denoiser = networks.load_denoiser(checkpoint)
    assert any(bool(p.any()) for name, p in tracked_parameters(denoiser.network) if "lora_B" in name)

    ours = sampling.generate(denoiser, [3, 4], "ddim", STEPS, 0.0, prompts=PROMPTS, guidance=GUIDANCE)
    assert np.abs(theirs(kind, folder, checkpoint.folder) - ours).max() <= 1
    assert ours.std() > 5, "a picture of one colour tells nothing"
    if kind in VARIANTS:
        return

    assert has_known_layers(denoiser.network)
    images, words = np.asarray(discs.train.images[:2]), discs.train.prompts[:2]
    wanted = build(
        FeatureSettings, dataset=discs.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=32,
        model_output="loss",
    )  # fmt: skip
    grid = draws.timesteps("uniform", 2)
    made = per_example_gradients(
        denoiser, denoiser.encode(images), ["train:0", "train:1"], wanted, condition=denoiser.conditions(words)
    )
    denoiser.network.enable_gradient_checkpointing()  # type: ignore[operator]  # as large ones have on a GPU
    again = per_example_gradients(
        denoiser, denoiser.encode(images), ["train:0", "train:1"], wanted, condition=denoiser.conditions(words)
    )
    torch.testing.assert_close(again, made, rtol=1e-4, atol=1e-5 * float(made.abs().max()))
    for i in range(2):
        alone = loop(denoiser, images[i], words[i], f"train:{i}", grid)
        torch.testing.assert_close(made[i], alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))

    settings = build(
        CounterfactualSettings, dataset=discs.digest, checkpoint=checkpoint.digest, methods=("d-trak",),
        features=(wanted.model_copy(update={"model_output": "squared-output"}),), targets=("seed:0",),
        remove=(4,), random_draws=1, bottom=False, prompts=PROMPTS, sampling_steps=2, guidance=GUIDANCE,
    )  # fmt: skip
    work.run(CounterfactualJob(settings=settings), quiet)
    found = comparisons.read(settings)
    assert found.expected == len(found.entries)
    same = next(entry for entry in found.entries if entry.method == removals.IDENTITY)
    assert same.l2 == pytest.approx(0, abs=0.03)


def test_what_a_family_cannot_be_is_refused(tmp_path: Path) -> None:
    flux = family_helpers.saved("flux-dev", tmp_path / "flux")
    config = flux / "transformer" / "config.json"
    own = json.loads(config.read_text())
    for harm, words, side in (
        ({}, "draws pictures of 1024 pixels; 8 to 512 can be used. .* --resolution 512", 0),
        ({}, "cannot draw pictures of 36 pixels. Choose a multiple of 8", 36),
        ({"in_channels": 24}, "takes 24 channels and gives 24; its autoencoder's latents have 16. .* plain one", 32),
        ({"_class_name": "SD3Transformer2DModel"}, "is a SD3Transformer2DModel. A FluxTransformer2DModel is", 32),
    ):
        config.write_text(json.dumps(own | harm))
        with pytest.raises(StudioError, match=words):
            text_pipelines.judged(flux, "flux", side)
    config.write_text(json.dumps(own))
    assert text_pipelines.judged(flux, "flux", 32) == (32, [])
    (flux / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    with pytest.raises(StudioError, match="predicts 'epsilon', as its scheduler says"):
        text_pipelines.judged(flux, "flux", 32)
    shutil.rmtree(flux / "text_encoder_2")
    with pytest.raises(StudioError, match="has no folder text_encoder_2/"):
        text_pipelines.judged(flux, "flux", 32)


@pytest.mark.parametrize("kind", ["sdxl", "flux-dev"])
def test_lora_weights_made_elsewhere_open_for_every_network_that_they_change(
    kind: str, discs: Dataset, tmp_path: Path
) -> None:
    folder = family_helpers.saved(kind, tmp_path / "pipeline")
    importing_text.import_base(str(folder), kind, quiet, family_helpers.SIDE)
    pipe = DiffusionPipeline.from_pretrained(folder)
    parts = {"sdxl": {"unet": "to_q", "text_encoder": "q_proj", "text_encoder_2": "v_proj"}}
    held: dict[str, Any] = {}
    torch.manual_seed(1)
    for part, target in parts.get(kind, {"transformer": "to_v", "text_encoder": "q_proj"}).items():
        network = getattr(pipe, part)
        told: dict[str, Any] = {"r": 3, "lora_alpha": 6, "target_modules": [target]}
        inject_adapter_in_model(LoraConfig(init_lora_weights=False, **told), network)
        large = {name: 3 * value for name, value in get_peft_model_state_dict(network).items()}
        held |= {f"{part}_lora_layers": large, f"{part}_lora_adapter_metadata": told}
    type(pipe).save_lora_weights(tmp_path / "lora", weight_name=lora.FILE, **held)

    importing_text.import_lora(str(tmp_path / "lora" / lora.FILE), bases.by_name(kind), discs, "theirs", quiet)
    checkpoint = checkpoints.by_name("theirs", discs.digest)
    encoders = len(held) // 2 - 1
    assert len(checkpoint.assumed) == encoders
    assert all("applied, and frozen" in words for words in checkpoint.assumed)
    denoiser = networks.load_denoiser(checkpoint)
    ours = sampling.generate(denoiser, [3, 4], "ddim", STEPS, 0.0, prompts=PROMPTS, guidance=GUIDANCE)
    drawn = theirs(kind, folder, tmp_path / "lora")
    assert np.abs(drawn - ours).max() <= 1
    plain = lora.untrained(bases.by_name(kind), build(LoraSettings, base=checkpoint.base, rank=1), "")
    plain.network.eval()
    untouched = sampling.generate(plain, [3, 4], "ddim", STEPS, 0.0, prompts=PROMPTS, guidance=GUIDANCE)
    assert np.abs(untouched - drawn).max() > 5, "the weights must change the pictures"


def test_a_pipeline_that_tells_an_empty_caption_is_another_base(cache: Path, tmp_path: Path) -> None:
    """What an empty caption tells is stored by the base's digest."""
    folder = family_helpers.saved("sdxl", tmp_path / "pipeline")
    zeros, _ = bases.inspected(folder, lambda done, total: None)
    index = json.loads((folder / "model_index.json").read_text())
    for value, same in ((True, True), (None, True), (False, False)):
        told = {"force_zeros_for_empty_prompt": value} if value is not None else {}
        plain = {name: held for name, held in index.items() if name != "force_zeros_for_empty_prompt"}
        (folder / "model_index.json").write_text(json.dumps(plain | told))
        assert (bases.inspected(folder, lambda done, total: None)[0] == zeros) == same, value


def test_a_model_that_is_told_the_guidance_is_asked_once_a_step(cache: Path, tmp_path: Path) -> None:
    how, often = Sampled(sampling_steps=10, guidance=3.5, prompts=("a cat",)), {}
    for kind in ("flux-dev", "flux-schnell"):
        folder = family_helpers.saved(kind, tmp_path / kind)
        importing_text.import_base(str(folder), kind, quiet, family_helpers.SIDE)
        digest = bases.by_name(kind).digest
        often[digest] = speeds.passes(how, digest)
        assert speeds.passes(how.model_copy(update={"guidance": 1.0}), digest) == 10
    assert list(often.values()) == [10, 20]
    shutil.rmtree(tmp_path / "flux-dev")
    assert speeds.passes(how, next(iter(often))) == 20, "as of any other, where its files are away"
