"""LoRA on a text-to-image base, against plain diffusers and plain autograd."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import text_helpers
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor

from dtrak_core import store
from dtrak_core.counterfactual import comparison_document, comparisons, removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import SettingsError
from dtrak_core.features import draws, faders, features, losses, model_outputs
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import asking
from dtrak_core.jobs.job_kinds import CounterfactualJob, LdsJob, SampleJob
from dtrak_core.lds import subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import (
    base_parts,
    bases,
    checkpoints,
    devices,
    importing_text,
    latents,
    lora,
    networks,
    open_models,
    sampling,
    text_side,
)
from dtrak_core.models.bases import Base
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser, tracked_parameters
from dtrak_core.models.settings import Layer, LoraSettings, Sampled, TrainSettings
from dtrak_core.models.targets import resolve
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of
from dtrak_core.training import training

PROMPTS = ("a red disc", "a blue disc")
HALF_TOLERANCE = 0.05  # of a feature's norm: bfloat16 keeps 8 bits


@functools.cache
def template() -> Path:
    """Train LoRA weights called `lo` once, in a cache that tests get a copy of."""
    place = Path(tempfile.mkdtemp(prefix="lora-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place / "cache"))
        patch.setenv("STUDIO_DEMO", str(place / "none"))
        shutil.copytree(text_helpers.stored() / "cache", place / "cache")
        discs, base = catalogue.by_name("discs"), bases.by_name("small")
        training.train(discs, settings_of(discs, base), "lo", quiet)
    return place


@pytest.fixture
def discs(cache: Path) -> Dataset:
    shutil.copytree(template() / "cache", cache)
    return catalogue.by_name("discs")


@pytest.fixture
def base(discs: Dataset) -> Base:
    return bases.by_name("small")


def settings_of(discs: Dataset, base: Base, **changes: object) -> TrainSettings:
    own = {"rank": 4, "scale": 0.5} | {k: v for k, v in changes.items() if k in LoraSettings.model_fields}
    rest = {k: v for k, v in changes.items() if k not in own}
    return TrainSettings(
        dataset=discs.digest,
        model=LoraSettings(base=base.digest, **own),  # type: ignore[arg-type]
        **{"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "flip": True} | rest,  # type: ignore[arg-type]
    )


@pytest.fixture
def checkpoint(discs: Dataset) -> Checkpoint:
    return checkpoints.by_name("lo", discs.digest)


@pytest.fixture
def denoiser(checkpoint: Checkpoint) -> Denoiser:
    return networks.load_denoiser(checkpoint)


def plain_pipeline(base: Base, folder: Path) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(base.folder).to(torch.float32)
    pipe.load_lora_weights(str(folder), weight_name=lora.FILE)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_plain_diffusers_opens_the_weights_and_draws_the_same_pictures(
    base: Base, checkpoint: Checkpoint, denoiser: Denoiser
) -> None:
    ours = sampling.generate(denoiser, [3, 4], "ddim", 10, 0.0, prompts=PROMPTS, guidance=4.0)
    pipe = plain_pipeline(base, checkpoint.folder)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    theirs = pipe(list(PROMPTS), num_inference_steps=10, guidance_scale=4.0, generator=generators, output_type="np")
    assert np.abs(np.rint(theirs.images * 255) - ours.astype(float)).max() <= 1
    untouched = sampling.generate(
        lora.untrained(base, LoraSettings(base=base.digest, rank=4), ""), [3, 4], "ddim", 10, 0.0, prompts=PROMPTS,
        guidance=4.0,
    )  # fmt: skip
    assert np.abs(untouched.astype(int) - ours).max() > 5, "the LoRA weights must change the pictures"


def test_all_layers_of_a_unet_may_be_trained_and_plain_diffusers_opens_them(discs: Dataset, base: Base) -> None:
    run = training.train(discs, settings_of(discs, base, targets=get_args(Layer), epochs=1), "all", quiet)
    checkpoint = checkpoints.of_run(run)[-1]
    denoiser = networks.load_denoiser(checkpoint)
    names = [name for name, _ in tracked_parameters(denoiser.network)]
    adapted = [one for one in get_args(Layer) if any(f".{one}.lora_" in name for name in names)]
    assert adapted == [one for one in get_args(Layer) if not one.startswith(("add_", "to_add"))], "of another family"
    ours = sampling.generate(denoiser, [3], "ddim", 10, 0.0, prompts=PROMPTS[:1], guidance=4.0)
    drawn = plain_pipeline(base, checkpoint.folder)(
        PROMPTS[0], num_inference_steps=10, guidance_scale=4.0, generator=torch.Generator().manual_seed(3),
        output_type="np",
    )  # fmt: skip
    assert np.abs(np.rint(drawn.images * 255) - ours.astype(float)).max() <= 1


def test_training_moves_the_lora_weights_alone(discs: Dataset, base: Base, denoiser: Denoiser) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(base.folder).to(torch.float32)
    frozen = {n.replace(".base_layer", ""): p for n, p in denoiser.network.named_parameters() if "lora_" not in n}
    for name, before in pipe.unet.named_parameters():
        assert torch.equal(frozen[name], before), name
    names = [name for name, _ in tracked_parameters(denoiser.network)]
    assert names
    assert all("lora_" in name for name in names)
    assert {name.split(".")[-4] for name in names} <= {"to_q", "to_k", "to_v", "0"}


def test_a_stopped_training_ends_in_the_same_weights(discs: Dataset, base: Base, checkpoint: Checkpoint) -> None:
    run = checkpoint.run
    store.delete("checkpoints", run.key)

    def stop(done: int, total: int, unit: str, message: str) -> None:
        if unit == "training steps" and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(discs, settings_of(discs, base), "lo", stop)
    again = training.train(discs, settings_of(discs, base), "lo", quiet)
    assert [step["digest"] for step in again.manifest["steps"]] == [step["digest"] for step in run.manifest["steps"]]


def test_latents_are_stored_once_and_are_those_of_the_autoencoder(
    discs: Dataset, base: Base, denoiser: Denoiser, checkpoint: Checkpoint
) -> None:
    wanted = latents.LatentSettings(dataset=discs.digest, base=base.digest)
    stored = store.get("latents", key_of("latents", wanted))
    pipe = StableDiffusionPipeline.from_pretrained(base.folder).to(torch.float32)
    images = np.asarray(discs.train.images)
    for way, pictures in enumerate((images, images[:, :, ::-1])):
        x = torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            theirs = pipe.vae.encode(x).latent_dist
        np.testing.assert_allclose(stored.array(latents.MEANS)[way], theirs.mean, atol=1e-5)
        np.testing.assert_allclose(stored.array(latents.STDS)[way], theirs.std, atol=1e-5)
    assert denoiser.text is not None
    assert len(denoiser.text.known) > 0
    scale = pipe.vae.config.scaling_factor
    np.testing.assert_allclose(denoiser.encode(images[:3]), stored.array(latents.MEANS)[0, :3] * scale, rtol=1e-6)


@pytest.mark.parametrize("model_output", ["loss", "squared-output", "l2-norm"])
@pytest.mark.parametrize("normalise", ["none", "timestep"])
def test_gradients_of_lora_weights_equal_a_plain_loop(
    discs: Dataset, checkpoint: Checkpoint, denoiser: Denoiser, model_output: str, normalise: str
) -> None:
    wanted = FeatureSettings(
        dataset=discs.digest, checkpoint=checkpoint.digest, model_output=model_output, num_timesteps=5,
        normalise=normalise,
    )  # type: ignore[arg-type]  # fmt: skip
    images, words = np.asarray(discs.train.images[:3]), discs.train.prompts[:3]
    x0, told = denoiser.encode(images), denoiser.conditions(words)
    ours = per_example_gradients(denoiser, x0, [f"train:{i}" for i in range(3)], wanted, condition=told)
    parameters = [p for _, p in tracked_parameters(denoiser.network)]
    grid = draws.timesteps("uniform", 5)
    for i in range(3):
        total = torch.zeros(sum(p.numel() for p in parameters))
        told = denoiser.conditions([words[i]])
        for t in grid:
            eps = torch.from_numpy(draws.noise(0, f"train:{i}", [t], denoiser.shape))
            when = torch.tensor([int(t)])
            x_t = denoiser.process.noised(x0[i : i + 1], eps, when)
            out = denoiser.predict(x_t, when, told)
            value = model_outputs.value(model_output, denoiser.process, out, x_t, eps, when, 0.0)  # type: ignore[arg-type]
            each = torch.cat([g.flatten() for g in torch.autograd.grad(value.sum(), parameters)])
            total += each / each.norm() if normalise == "timestep" else each
        torch.testing.assert_close(ours[i], total / len(grid), rtol=1e-4, atol=1e-6 * float(total.abs().max()))


def test_a_picture_is_featurised_with_its_own_caption(
    discs: Dataset, checkpoint: Checkpoint, denoiser: Denoiser
) -> None:
    wanted = FeatureSettings(
        dataset=discs.digest, checkpoint=checkpoint.digest, num_timesteps=2, projection="none", proj_dim=1
    )
    stored = features.compute_features(discs, denoiser, wanted, quiet, batch=7)
    rows = np.load(next(stored.path.glob("*.npy")))
    x0 = denoiser.encode(np.asarray(discs.train.images[5:6]))
    for words, same in (([discs.train.prompts[5]], True), (["a blue disc" if 5 % 3 != 2 else "a red disc"], False)):
        alone = per_example_gradients(denoiser, x0, ["train:5"], wanted, condition=denoiser.conditions(words))
        close = np.allclose(rows[5], alone[0].numpy(), rtol=1e-4, atol=1e-7)
        assert close is same


def test_a_kept_model_looks_anew_at_what_is_stored(
    discs: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_models, "_KEPT", [])
    monkeypatch.setattr(open_models, "_KEEPING", [True])
    first, again = open_models.opened(checkpoint), open_models.opened(checkpoint)
    assert again.network is first.network
    assert again.text is not None
    assert first.text is not again.text, "latents and captions that were stored since are found"
    wanted = FeatureSettings(dataset=discs.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=64)
    given = (np.asarray(discs.train.images[:1]), ["train:0"], wanted, lambda done: None, 0, discs.train.prompts[:1])
    np.testing.assert_array_equal(features.featurise(again, *given), features.featurise(first, *given))


def test_the_loss_is_of_the_conditional_branch(discs: Dataset, denoiser: Denoiser) -> None:
    grid, image = draws.timesteps("uniform", 4), np.asarray(discs.train.images[0])
    found = losses.of_draws(denoiser, image, "train:0", grid, 0, discs.train.prompts[0])
    t = torch.from_numpy(grid)
    eps = torch.from_numpy(draws.noise(0, "train:0", grid, denoiser.shape))
    x_t = denoiser.process.noised(denoiser.encode(image[None]), eps, t)
    told = denoiser.conditions([discs.train.prompts[0]] * 4)
    with torch.no_grad():
        mine = (denoiser.predict(x_t, t, told) - eps).square().flatten(1).mean(1)
    np.testing.assert_allclose(found, mine.numpy(), rtol=1e-5)


def test_the_autoencoder_takes_few_large_pictures_at_once(
    discs: Dataset, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, images = denoiser.text, np.asarray(discs.train.images[:5])
    assert text is not None
    assert [text_side.pictures_at_once(side, side) for side in (16, 256, 512, 4096)] == [16, 16, 4, 1]
    means, _ = text.posterior(images)
    drawn, seen = text.decode(means), list[int]()
    for name in ("encode", "decode"):
        real = getattr(text.vae, name)
        monkeypatch.setattr(text.vae, name, lambda x, real=real: seen.append(len(x)) or real(x))
    monkeypatch.setattr(text_side, "PIXELS", 2 * images.shape[1] * images.shape[2])
    torch.testing.assert_close(text.posterior(images)[0], means)
    assert np.abs(text.decode(means).astype(int) - drawn).max() <= 1
    assert seen == [2, 2, 1, 2, 2, 1]


@pytest.mark.parametrize("prompts", [(), ("a red disc",), ("a red disc", "")])
def test_a_text_to_image_model_needs_a_prompt_for_each_picture(denoiser: Denoiser, prompts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="give a prompt for each picture"):
        sampling.generate(denoiser, [0, 1], "ddim", 2, 0.0, prompts=prompts)


def test_prompts_are_taken_in_turn_and_in_blocks() -> None:
    turn = Sampled(prompts=("a", "b", "c"))
    assert [turn.prompt_of(seed) for seed in range(5)] == ["a", "b", "c", "a", "b"]
    paper = Sampled(prompts=("a ukiyo e painting", "a post impressionism painting"), seeds_a_prompt=500)
    assert paper.prompt_of(499) == "a ukiyo e painting"
    assert paper.prompt_of(500) == "a post impressionism painting"
    assert Sampled().prompt_of(3) == ""


def elsewhere(base: Base, folder: Path, targets: list[str]) -> Path:
    """Train nothing, but save LoRA weights as another trainer would: its own rank, targets and file name."""
    pipe = StableDiffusionPipeline.from_pretrained(base.folder).to(torch.float32)
    torch.manual_seed(1)
    pipe.unet.add_adapter(LoraConfig(r=3, lora_alpha=6, init_lora_weights=False, target_modules=targets))
    layers: dict[str, Tensor] = get_peft_model_state_dict(pipe.unet)
    StableDiffusionPipeline.save_lora_weights(
        folder, weight_name="their.safetensors", unet_lora_layers=layers,
        unet_lora_adapter_metadata=json.loads(json.dumps({"r": 3, "lora_alpha": 6, "target_modules": targets})),
    )  # type: ignore[arg-type]  # fmt: skip
    return folder / "their.safetensors"


def test_weights_made_elsewhere_open_and_draw_what_diffusers_draws(discs: Dataset, base: Base, tmp_path: Path) -> None:
    file = elsewhere(base, tmp_path / "other", ["to_q", "to_v"])
    importing_text.import_lora(str(file), base, discs, "theirs", quiet)
    denoiser = networks.load_denoiser(checkpoints.by_name("theirs", discs.digest))
    ours = sampling.generate(denoiser, [0], "ddim", 5, 0.0, prompts=["a red disc"])
    pipe = StableDiffusionPipeline.from_pretrained(base.folder).to(torch.float32)
    pipe.load_lora_weights(str(file.parent), weight_name=file.name)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe("a red disc", num_inference_steps=5, generator=torch.Generator().manual_seed(0), output_type="np")
    assert np.abs(np.rint(theirs.images * 255) - ours.astype(float)).max() <= 1
    names = {name.split(".lora_")[0].rsplit(".", 1)[1] for name, _ in tracked_parameters(denoiser.network)}
    assert names == {"to_q", "to_v"}


def test_pictures_must_have_the_size_of_the_base(discs: Dataset, base: Base) -> None:
    with pytest.raises(SettingsError, match="draws pictures of 32 pixels, the dataset has 16"):
        networks.untrained(LoraSettings(base=base.digest), 16, 0, discs.digest)


def test_the_tokenizer_splits_as_clip_does(base: Base) -> None:
    import open_clip

    theirs = open_clip.get_tokenizer("ViT-B-32")
    from transformers import CLIPTokenizer

    ours = CLIPTokenizer.from_pretrained(base.folder, subfolder="tokenizer")
    for words in ("a red disc", "a blue disc", "A  GREEN disc"):
        mine = [ours.convert_ids_to_tokens(i) for i in ours(words).input_ids]
        numbers = [n for n in theirs(words)[0].tolist() if n]
        spelled = [theirs.decoder[n].replace("<start_of_text>", "<|startoftext|>") for n in numbers]
        spelled = [token.replace("<end_of_text>", "<|endoftext|>") for token in spelled]
        assert mine == spelled
    assert list(itertools.chain(ours("a red disc").input_ids)) != list(ours("a blue disc").input_ids)


def test_removals_and_subsets_go_through_the_same_jobs(discs: Dataset, checkpoint: Checkpoint) -> None:
    wanted = FeatureSettings(dataset=discs.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=32)
    how: dict[str, Any] = {"prompts": PROMPTS, "sampling_steps": 2}
    asked = {"targets": ("seed:0", "seed:1"), "remove": (4,), "random_draws": 1, "bottom": False}
    settings = build(
        CounterfactualSettings, dataset=discs.digest, checkpoint=checkpoint.digest, methods=("d-trak",),
        features=(wanted,), **asked, **how,
    )  # fmt: skip
    (made,) = work.run(CounterfactualJob(settings=settings), quiet)
    found = comparisons.read(settings)
    assert found.expected == len(found.entries) == len(json.loads(made.file(comparisons.ENTRIES).read_bytes()))
    assert comparisons.measures(found)[-1] == "latent_l2"
    same = next(entry for entry in found.entries if entry.method == removals.IDENTITY)
    assert same.l2 == pytest.approx(0, abs=0.03)  # a batch of two and one of one may round a pixel apart
    assert same.latent_l2 == pytest.approx(0, abs=0.05)
    denoiser = networks.load_denoiser(checkpoint)
    assert denoiser.text is not None
    other = next(entry for entry in found.entries if entry.method == removals.FLOOR)
    pair = np.stack([found.originals[other.target], other.image])
    x = torch.from_numpy(pair).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        a, b = denoiser.text.vae.encode(x).latent_dist.mode()
    assert other.latent_l2 == pytest.approx(float((a - b).norm()), rel=1e-4)
    assert "latent_l2" in comparison_document.to_csv(found).decode().splitlines()[0]
    assert comparisons.medians(found)[removals.FLOOR]["latent_l2"] > 0
    lds = build(
        LdsSettings, dataset=discs.digest, checkpoint=checkpoint.digest, targets=("seed:1", "held-out:2"),
        num_subsets=3, num_timesteps=2, **how,
    )  # fmt: skip
    work.run(LdsJob(settings=lds), quiet)
    known = subset_models.read(discs, lds)
    assert known.done == 3
    run = subset_models.training(discs, checkpoint, subset_models.models(lds)[1])
    again = networks.load_denoiser(checkpoints.of_run(store.get("retrained", key_of("retrained", run)))[-1])
    held_out = np.asarray(discs.held_out.images[2])
    grid, words = draws.timesteps("uniform", 2), discs.held_out.prompts[2]
    mine = losses.of_draws(again, held_out, "held-out:2", grid, 0, words).mean()
    assert known.losses[1, 0, 1] == pytest.approx(mine, rel=1e-6)


def test_a_base_in_bfloat16_keeps_features_within_the_tolerance(
    discs: Dataset, checkpoint: Checkpoint, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = FeatureSettings(dataset=discs.digest, checkpoint=checkpoint.digest, num_timesteps=5, proj_dim=256)
    images, words, ids = np.asarray(discs.train.images[:8]), discs.train.prompts[:8], [f"train:{i}" for i in range(8)]
    exact = features.featurise(denoiser, images, ids, wanted, lambda done: None, 0, words)
    monkeypatch.setattr(devices, "frozen_dtype", lambda where: torch.bfloat16)  # as on CUDA
    half = networks.load_denoiser(checkpoint)
    assert half.half
    assert {p.dtype for p in half.network.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert half.weight.dtype == torch.float32
    rough = features.featurise(half, images, ids, wanted, lambda done: None, 0, words)
    error = np.linalg.norm(rough - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0 < error.max() < HALF_TOLERANCE
    drawn = [sampling.generate(d, [0], "ddim", 5, 0.0, prompts=PROMPTS[:1]).astype(int) for d in (denoiser, half)]
    assert np.abs(drawn[0] - drawn[1]).mean() < 8


def test_a_large_base_lies_in_bfloat16_and_keeps_its_lora_weights_exact(
    discs: Dataset, checkpoint: Checkpoint, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_parts, "LARGE", 1)
    large = networks.load_denoiser(checkpoint)
    assert large.half
    assert {p.dtype for p in large.network.parameters() if not p.requires_grad} == {torch.bfloat16}
    pairs = zip(tracked_parameters(large.network), tracked_parameters(denoiser.network), strict=True)
    assert all(torch.equal(mine, exact) for (_, mine), (_, exact) in pairs)
    assert large.text is not None
    assert large.text.words.text_encoder.dtype == large.text.vae.dtype == torch.bfloat16
    drawn = [sampling.generate(d, [0], "ddim", 5, 0.0, prompts=PROMPTS[:1]).astype(int) for d in (denoiser, large)]
    assert 0 < np.abs(drawn[0] - drawn[1]).mean() < 8


def test_faders_hold_the_layers_of_lora_weights_apart(denoiser: Denoiser) -> None:
    found = faders.groups(denoiser)
    assert list(found) == ["down_blocks.0", "down_blocks.1", "up_blocks.0", "up_blocks.1", "mid_block"]
    total = sum(p.numel() for _, p in tracked_parameters(denoiser.network))
    assert [part.stop for part in found.values()][-1] == total


@pytest.mark.parametrize("method", ["ek-fac", "journey-trak", "das"])
def test_every_kind_of_method_answers_for_a_prompted_picture(
    discs: Dataset, checkpoint: Checkpoint, method: str
) -> None:
    how = Sampled(prompts=PROMPTS, sampling_steps=2)
    work.run(SampleJob(checkpoint=checkpoint.digest, seeds=(1,), **how.drawing()), quiet)
    target = resolve(discs, checkpoint.digest, "seed:1", how)
    assert target.prompt == PROMPTS[1]
    assert target.sampled == Sampled(prompts=(PROMPTS[1],), sampling_steps=2)
    one = METHODS[method]
    base = build(
        FeatureSettings, dataset=discs.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=32,
        model_output=one.model_output or "loss",
    )  # fmt: skip
    for job in asking.jobs_for([scores.resolve(method, discs, checkpoint.digest, [target], base)], target.sampled):
        work.run(job, quiet)
    found = scores.attribution_scores(method, discs, checkpoint.digest, target, base)
    assert np.isfinite(found.values).all()
    assert np.ptp(found.values) > 0


def test_lora_weights_in_bfloat16_halve_the_base_and_keep_their_gradients(
    discs: Dataset, base: Base, checkpoint: Checkpoint, denoiser: Denoiser
) -> None:
    half = lora.load(base, checkpoint.folder, discs.digest, "bfloat16")
    formats = {"lora_" in name: p.dtype for name, p in half.network.named_parameters()}
    assert formats == {True: torch.float32, False: torch.bfloat16}
    asked = settings_of(discs, base, precision="bfloat16")
    assert networks.untrained(asked.model, base.resolution, 0, discs.digest).half
    assert not denoiser.half
    wanted = FeatureSettings(dataset="0" * 16, checkpoint="0" * 16, num_timesteps=4)
    x0, words = denoiser.encode(np.asarray(discs.train.images[:3])), discs.train.prompts[:3]
    ids = [f"train:{i}" for i in range(3)]
    exact, near = (
        per_example_gradients(one, x0, ids, wanted, condition=one.conditions(words)) for one in (denoiser, half)
    )
    assert not torch.equal(exact, near)
    assert torch.nn.functional.cosine_similarity(exact, near, dim=1).min() > 0.999
