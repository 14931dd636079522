"""A dry run of the paper's settings at their true architecture and resolution: no one should find a shape error later.

Weights are random and the pictures are OpenMoji portraits at the setting's resolution, in place of those that cannot be
had here. The settings are those that docs/reproduce.md prints (`presets`; test_reproduce.py compares them); what is cut
is their repetition: two optimiser steps, a picture drawn in two steps, two training pictures, and of the 100 draws of a
feature and the 1,000 of a loss as many as go through the network at once, so that memory is that of a full run.
`make paper-dry-run`; Stable Diffusion takes some minutes and 12 GB.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import paper_table
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from dtrak_core.datasets import artbench, catalogue, openmoji
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import text_base
from dtrak_core.features import draws, feature_store, features, gradients, kernel, losses
from dtrak_core.features.projection import project
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods import scores
from dtrak_core.models import bases, checkpoints, networks, sampling, targets
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import DIFFUSION_STEPS, SampleSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import build
from dtrak_core.training import presets, training

pytestmark = [pytest.mark.paper, pytest.mark.long, pytest.mark.timeout(3000)]
PARAMETERS = {"cifar": 38_307_203, "celeba": 118_795_011, "lora": 25_509_888}  # counted in the authors' networks
COUNT = 12  # pictures: 11 are trained on, one is held out


def pictures(folder: Path, kind: str) -> Dataset:
    """Store portraits at a setting's resolution, with its labels and captions."""
    folder.mkdir()
    side = catalogue.RESOLUTIONS[kind]  # type: ignore[index]
    styles = artbench.PLANS[kind].styles if kind in artbench.PLANS else ("automobile", "horse")
    lines = ["file_name,caption,contributor,label"]
    for i, row in enumerate(openmoji.facts()[:COUNT]):
        Image.fromarray(openmoji.draw(row["origin"], side)).save(folder / f"{i:02}.png")
        label = styles[i % len(styles)]
        lines.append(
            f"{i:02}.png,{artbench.caption(label) if kind in artbench.PLANS else ''},{row['contributor']},{label}"
        )
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = catalogue.source_settings("folder", folder, "dry", side)
    return catalogue.load(catalogue.prepare(settings, folder))


@pytest.fixture(scope="session")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a pipeline of miniSD's architecture with random weights, in half precision (2 GB)."""
    captions = [artbench.caption(style) for plan in artbench.PLANS.values() for style in plan.styles]
    tokenizer = text_base.build_tokenizer(captions)
    tokenizer.model_max_length = 77
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            projection_dim=768, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=256,
    )  # fmt: skip
    unet = UNet2DConditionModel(sample_size=32, cross_attention_dim=768)  # the other defaults are Stable Diffusion's
    schedule = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("stable-diffusion") / "pipeline"
    StableDiffusionPipeline(
        vae, text, tokenizer, unet, schedule, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).to(dtype=torch.float16).save_pretrained(folder)
    return folder


def cut_draws(monkeypatch: pytest.MonkeyPatch, denoiser: Denoiser) -> int:
    """Let a picture have as many draws as a pass takes, spread over those that it was to have; return their number."""
    real, width = draws.timesteps, gradients.draws_for(denoiser)

    def cut(strategy: str, count: int, steps: int = DIFFUSION_STEPS) -> np.ndarray:
        grid = real(strategy, count, steps)  # type: ignore[arg-type]
        return grid[:: max(1, len(grid) // width)][:width]

    monkeypatch.setattr(draws, "timesteps", cut)
    return len(cut("uniform", presets.PAPER_FEATURES["num_timesteps"]))


def projection_seconds(denoiser: Denoiser, wanted: FeatureSettings) -> float:
    """Return what projecting one gradient takes once its pattern is known."""
    ((projector, _),) = features.projectors_of(denoiser, wanted)
    assert projector.width == presets.PAPER_FEATURES["proj_dim"]
    gradient, times = torch.ones(1, projector.num_parameters), []
    for _ in range(4):
        began = time.perf_counter()
        project(projector, gradient)
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("kind", ["cifar2", "cifar10", "celeba", "artbench2", "artbench5"])
def test_a_setting_of_the_paper_runs(
    kind: str, cache: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = presets.USUAL[kind]
    dataset, digest = pictures(tmp_path / "pictures", kind), ""
    if preset == "lora":
        folder = request.getfixturevalue("stable_diffusion")
        digest, side = bases.inspected(folder, lambda done, total: None)
        assert side == 256
        bases.publish("sd", digest, side, folder)
    usual = presets.train_settings(preset, dataset.digest, digest)
    two = presets.train_settings(preset, dataset.digest, digest, indices=(0, 1, 2, 3), epochs=1, batch_size=2)
    assert two.steps(4) == 2
    began = time.perf_counter()
    run = training.train(dataset, two, "dry", quiet, kind="retrained")  # draws no grids, as no retraining does
    trained = time.perf_counter() - began
    assert run.manifest["parameters"] == PARAMETERS[preset]
    checkpoint = checkpoints.by_digest(run.manifest["steps"][-1]["digest"])
    denoiser = networks.load_denoiser(checkpoint)
    prompts = ("a ukiyo e painting",) if preset == "lora" else ()
    image = sampling.generate(denoiser, [0], "ddim", 2, 0.0, prompts=prompts)[0]
    assert image.shape == (catalogue.RESOLUTIONS[kind],) * 2 + (3,)  # type: ignore[index]
    where = {"checkpoint": checkpoint.digest, "sampling_steps": 2, "prompts": prompts}
    target = targets.publish_sample(build(SampleSettings, seed=0, **where), image)
    wanted = FeatureSettings(dataset=dataset.digest, checkpoint=checkpoint.digest, **presets.PAPER_FEATURES)
    count = cut_draws(monkeypatch, denoiser)
    projecting = projection_seconds(denoiser, wanted)
    began = time.perf_counter()
    small = Dataset(**{**vars(dataset), "train": type(dataset.train)(dataset.train.images[:2], dataset.train.rows[:2])})
    stored = features.compute_features(small, denoiser, wanted, quiet)
    per_gradient = (time.perf_counter() - began) / (2 * count)
    assert feature_store.shape(stored) == (2, wanted.proj_dim)
    kernel.compute_kernel(stored, quiet)
    features.compute_target_features(denoiser, wanted, [target], quiet)
    found = scores.attribution_scores("d-trak", small, checkpoint.digest, target, wanted)
    assert found.values.shape == (2,)
    assert np.isfinite(found.values).all()
    assert np.ptp(found.values) > 0
    grid = draws.timesteps("uniform", presets.PAPER_LDS["num_timesteps"])
    lost = losses.of_draws(denoiser, target.image, target.id, grid, 0, target.prompt)
    assert np.isfinite(lost).all()
    paper_table.ROWS.append(
        {
            "setting": kind,
            "preset": preset,
            "pixels": str(dataset.settings.resolution),
            "trained parameters": f"{run.manifest['parameters']:,}",
            "settings": f"{usual.epochs} epochs, batch {usual.batch_size}, rate {usual.learning_rate:g}",
            "seconds a picture and step": f"{trained / 4:.2f}",
            "seconds a gradient": f"{per_gradient:.2f}",
            "features": f"{wanted.projection} to {wanted.proj_dim:,}, {count} of {wanted.num_timesteps} draws at once",
            "projecting a picture": f"{projecting:.3f} s, {projecting / (wanted.num_timesteps * per_gradient):.2%}",
            "peak memory": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB",
        }
    )
