"""Text-to-image bases: opened as diffusers opens them or refused when taken in; and never used once they changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_helpers
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from dtrak_core import store
from dtrak_core.errors import DataError, NotFoundError, SettingsError, StoreError, StudioError
from dtrak_core.jobs import housekeeping
from dtrak_core.models import bases, checkpoints, importing_text, lora, sampling, targets, text_pipelines
from dtrak_core.models.bases import Base
from dtrak_core.models.settings import ImportSettings, LoraSettings, Sampled, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.training import training

PROMPTS = ["a red disc"]
DENOISER = "unet/diffusion_pytorch_model.safetensors"
TEXT, SCHEDULER = "text_encoder/config.json", "scheduler/scheduler_config.json"


@pytest.fixture
def folder(cache: Path, tmp_path: Path) -> Path:
    """Return a pipeline that a test may harm."""
    shutil.copytree(text_helpers.saved(), tmp_path / "base")
    return tmp_path / "base"


def change(file: Path, **values: Any) -> None:
    """Change values of a JSON file; None takes one out."""
    facts = json.loads(file.read_text()) | values
    file.write_text(json.dumps({name: value for name, value in facts.items() if value is not None}))


def taken_in(folder: Path, name: str = "mine") -> Base:
    importing_text.import_base(str(folder), name, quiet)
    return bases.by_name(name)


def taken_in_at(folder: Path, side: int) -> Base:
    importing_text.import_base(str(folder), "sized", quiet, side)
    return bases.by_name("sized")


def ours(base: Base) -> np.ndarray:
    denoiser = lora.untrained(base, LoraSettings(base=base.digest, rank=1), "")
    denoiser.network.eval()
    return sampling.generate(denoiser, [3], "ddim", 5, 0.0, prompts=PROMPTS, guidance=4.0)


def theirs(folder: Path, asked: dict[str, int] | None = None, **how: Any) -> np.ndarray:
    """Draw the same pictures by plain diffusers."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, **how).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    seed = torch.Generator().manual_seed(3)
    made = pipe(
        PROMPTS, num_inference_steps=5, guidance_scale=4.0, generator=seed, output_type="np", **asked or {}
    ).images
    return np.rint(made * 255)


def fp16(folder: Path) -> dict[str, Any]:
    for name in (DENOISER, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        (folder / name).rename(folder / name.replace(".safetensors", ".fp16.safetensors"))
    return {"variant": "fp16"}


def sharded(folder: Path) -> dict[str, Any]:
    """Split the denoiser's weights over two files, as save_pretrained does with large ones."""
    weights = load_file(folder / DENOISER)
    (folder / DENOISER).unlink()
    places = {}
    for shard, names in enumerate((list(weights)[::2], list(weights)[1::2])):
        file = f"diffusion_pytorch_model-0000{shard + 1}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, folder / "unet" / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{DENOISER}.index.json").write_text(json.dumps(index))
    return {}


def sharded_fp16(folder: Path) -> dict[str, Any]:
    """Save every part in half precision and in several files, as save_pretrained does with large ones."""
    pipe = StableDiffusionPipeline.from_pretrained(folder).to(dtype=torch.float16)
    for part in ("unet", "vae", "text_encoder"):
        shutil.rmtree(folder / part)
        getattr(pipe, part).save_pretrained(folder / part, variant="fp16", max_shard_size="20KB")
        assert len(list((folder / part).glob("*.fp16-*"))) > 1
    return {"variant": "fp16"}


def with_averages(folder: Path) -> dict[str, Any]:
    shutil.copytree(folder / "unet", folder / "unet_ema")
    weights = load_file(folder / DENOISER)
    save_file({name: 2 * value for name, value in weights.items()}, folder / DENOISER.replace("unet", "unet_ema"))
    return {}


def pickled(folder: Path) -> dict[str, Any]:
    for name in (DENOISER, "vae/diffusion_pytorch_model.safetensors"):
        torch.save(load_file(folder / name), (folder / name).with_suffix(".bin"))
        (folder / name).unlink()
    return {}


def size_as_list(folder: Path) -> dict[str, Any]:
    change(folder / "unet" / "config.json", sample_size=[8, 8])
    return {}


def tiny_autoencoder(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    widths = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    blocks = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1), "latent_channels": 8}
    shutil.rmtree(folder / "vae")
    AutoencoderTiny(**widths, **blocks).save_pretrained(folder / "vae")  # type: ignore[arg-type]
    change(folder / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    return {}


def with_safety_checker(folder: Path) -> dict[str, Any]:
    named = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    change(folder / "model_index.json", **named, feature_extractor=["transformers", "CLIPImageProcessor"])
    (folder / "safety_checker").mkdir()
    return {"safety_checker": None, "feature_extractor": None}


LAYOUTS = [
    fp16, sharded, sharded_fp16, with_averages, pickled, size_as_list, tiny_autoencoder, with_safety_checker,
]  # fmt: skip


@pytest.mark.parametrize("lay_out", LAYOUTS)
def test_every_layout_of_diffusers_draws_its_pictures(folder: Path, lay_out: Callable[[Path], dict[str, Any]]) -> None:
    how = lay_out(folder)
    base = taken_in(folder)
    assert base.resolution == 32
    halves = [f"fp16 weights of {part}, which has no plain ones" for part in ("unet", "vae", "text_encoder")]
    averages = ["weights are those of unet/; its averaged ones (unet_ema/) are left out"]
    told = {fp16: halves, sharded_fp16: halves, with_averages: averages}
    assert store.listing("bases")[0].manifest["assumed"] == told.get(lay_out, [])
    assert np.abs(theirs(folder, **how) - ours(base)).max() <= 1


@pytest.mark.parametrize(
    "values",
    [
        {"timestep_spacing": "trailing"},
        {"timestep_spacing": "linspace"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"num_train_timesteps": 500},
        {"rescale_betas_zero_snr": True},
        {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5},
    ],
    ids=lambda values: "-".join(values),
)
def test_a_base_draws_by_its_own_scheduler(folder: Path, values: dict[str, Any]) -> None:
    plain = ours(taken_in(folder))
    change(folder / SCHEDULER, **values)
    base = taken_in(folder)
    own = ours(base)
    assert bases.process(base.digest)[1] == values.get("num_train_timesteps", 1000)
    assert np.abs(theirs(folder) - own).max() <= 1
    assert np.abs(plain.astype(int) - own).max() > 1, "the settings must change the pictures"


def test_offset_and_clipping_are_those_of_the_pipeline(folder: Path) -> None:
    """StableDiffusionPipeline begins one timestep later and does not clip, whatever the config says."""
    change(folder / SCHEDULER, steps_offset=0, clip_sample=True, set_alpha_to_one=True)
    assert np.abs(theirs(folder) - ours(taken_in(folder))).max() <= 1


def test_a_base_of_another_noise_scheduler_draws_by_ddim_of_its_schedule(folder: Path) -> None:
    kept = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True}
    (folder / SCHEDULER).write_text(json.dumps({"_class_name": "PNDMScheduler", "num_train_timesteps": 1000} | kept))
    change(folder / "model_index.json", scheduler=["diffusers", "PNDMScheduler"])
    own = ours(taken_in(folder))
    ddim = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    assert np.abs(theirs(folder, scheduler=ddim) - own).max() <= 1


def test_a_tokenizer_of_two_bare_files_reads_as_the_whole_one(folder: Path) -> None:
    whole = ours(taken_in(folder))
    known = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(known["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in known["merges"]]
    (folder / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    np.testing.assert_array_equal(ours(taken_in(folder, "bare")), whole)


def edited(part: str, **values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / part, **values)


def removed(part: str) -> Callable[[Path], None]:
    return lambda folder: (folder / part).unlink()


def pointer(part: str) -> Callable[[Path], None]:
    return lambda folder: (
        (folder / part).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n") and None
    )


def weights(part: str, harm: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        held = load_file(folder / part)
        harm(held)
        save_file(held, folder / part, metadata={"format": "pt"})

    return apply


REFUSED = {
    "no autoencoder": (lambda folder: shutil.rmtree(folder / "vae"), "has no folder vae/"),
    "no index": (
        lambda folder: shutil.rmtree(folder / "unet") or removed("model_index.json")(folder),
        "has no model_in",
    ),
    "a checkpoint": (removed("model_index.json"), "a denoiser alone, unet/, as checkpoints of a training do"),
    "no weights": (removed(DENOISER), "has no weights: neither diffusion_pytorch_model.safetensors nor"),
    "no tokenizer": (removed("tokenizer/tokenizer.json"), "has neither tokenizer/tokenizer.json nor tokenizer/vocab"),
    "another class": (edited("model_index.json", _class_name="KandinskyPipeline"), "holds a KandinskyPipeline. .* row"),
    "unknown output": (edited(SCHEDULER, prediction_type="other"), "predicts 'other'"),
    "flow": (edited(SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"), "predicts 'flow_prediction'"),
    "flow sigmas": (edited(SCHEDULER, use_flow_sigmas=True), "flow"),
    "no signal": (
        edited(SCHEDULER, rescale_betas_zero_snr=True, timestep_spacing="trailing"),
        "nothing of the picture",
    ),
    "steps": (edited(SCHEDULER, num_train_timesteps=0), "its schedule has 0 steps"),
    "classes": (edited("unet/config.json", class_embed_type="timestep"), "its class_embed_type is 'timestep'"),
    "distilled": (edited("unet/config.json", time_cond_proj_dim=16), "its time_cond_proj_dim is 16"),
    "inpainting": (edited("unet/config.json", in_channels=17), "takes 17 channels and gives 8"),
    "oblong": (edited("unet/config.json", sample_size=[8, 16]), r"draws latents of \[8, 16\]"),
    "large": (edited("unet/config.json", sample_size=256), "draws pictures of 1024 pixels; 8 to 512"),
    "other denoiser": (edited("unet/config.json", _class_name="UNet2DModel"), "is a UNet2DModel"),
    "no number": (edited("unet/config.json", sample_size={}), "config of '.*' has a value that cannot be used"),
    "no list of levels": (edited("vae/config.json", block_out_channels=3), "has a value that cannot be used"),
    "a word for a number": (edited(TEXT, hidden_size="x"), r"has a value that cannot be used \(invalid literal"),
    "no list of classes": (edited(TEXT, architectures=True), "has a value that cannot be used"),
    "no name of a class": (edited("vae/config.json", _class_name=[]), "has a value that cannot be used"),
    "other autoencoder": (edited("vae/config.json", _class_name="VQModel"), "is a VQModel"),
    "other text encoder": (edited(TEXT, architectures=["T5EncoderModel"]), "is a T5EncoderModel"),
    "other words": (
        edited("unet/config.json", cross_attention_dim=24),
        "16 numbers a token, its denoiser reads 24",
    ),
    "few words": (edited(TEXT, vocab_size=9), "cannot be read|knows 9"),
    "pointer": (pointer(DENOISER), "is a Git LFS pointer.*Run git lfs pull"),
    "pointer of words": (pointer("tokenizer/tokenizer.json"), "is a Git LFS pointer.*Run git lfs pull"),
    "cut short": (lambda folder: os.truncate(folder / DENOISER, 5000), "is damaged"),
    "not finite": (weights(DENOISER, lambda held: held["conv_in.bias"].fill_(torch.nan)), "NaN or infinite"),
    "incomplete": (
        weights(DENOISER, lambda held: held.pop("conv_in.bias")),
        "lack 1 that .* asks for, conv_in",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused_when_taken_in(folder: Path, case: str) -> None:
    harm, words = REFUSED[case]
    harm(folder)
    with pytest.raises(StudioError, match=words) as refused:
        importing_text.import_base(str(folder), "mine", quiet)
    assert "\n" not in str(refused.value)
    assert not list((store.root() / "bases").glob("*"))


def test_a_base_at_another_size_is_another_base(folder: Path) -> None:
    own = taken_in(folder)
    importing_text.import_base(str(folder), "wide", quiet, 64)
    wide = bases.by_name("wide")
    assert (own.resolution, wide.resolution, wide.digest == own.digest) == (32, 64, False)
    assert bases.by_digest(own.digest).resolution == 32
    assert taken_in_at(folder, 32).digest == own.digest
    assert np.abs(theirs(folder, {"height": 64, "width": 64}) - ours(wide)).max() <= 1
    os.utime(folder / DENOISER)
    assert bases.by_digest(wide.digest) == wide, "its files are the same"
    with pytest.raises(SettingsError, match="cannot draw pictures of 36 pixels"):
        taken_in_at(folder, 36)


def test_a_base_may_have_several_names_and_places(folder: Path, tmp_path: Path) -> None:
    first = taken_in(folder, "one")
    second = taken_in(folder, "two")
    assert (first.digest, first.folder) == (second.digest, second.folder)
    assert {base.name for base in bases.listing()} == {"one", "two"}
    shutil.copytree(folder, tmp_path / "copy")
    taken_in(tmp_path / "copy", "one")
    shutil.rmtree(folder)
    assert bases.by_digest(first.digest).folder == bases.by_name("one").folder == tmp_path / "copy"
    with pytest.raises(NotFoundError, match="is no longer at"):
        bases.by_name("two")


def test_a_base_that_has_moved_says_so(folder: Path) -> None:
    base = taken_in(folder)
    folder.rename(folder.with_name("moved"))
    with pytest.raises(NotFoundError, match="is no longer at"):
        bases.by_digest(base.digest)


@pytest.mark.parametrize("harm", [edited(SCHEDULER, beta_end=0.02), removed("tokenizer/tokenizer_config.json")])
def test_a_base_whose_files_changed_is_not_used(folder: Path, harm: Callable[[Path], None]) -> None:
    base = taken_in(folder)
    harm(folder)
    for find in (lambda: bases.by_digest(base.digest), lambda: bases.by_name("mine")):
        with pytest.raises(DataError, match="have changed since it was added"):
            find()
    assert taken_in(folder).digest != base.digest


def test_equal_files_of_another_time_are_the_same_base(folder: Path) -> None:
    base = taken_in(folder)
    os.utime(folder / DENOISER, (1, 1))
    (folder / "unet" / ".DS_Store").write_text("what a file manager leaves")
    assert bases.by_digest(base.digest) == base


def test_a_stored_base_is_checked_too(folder: Path, cache: Path) -> None:
    digest, side = bases.inspected(folder, lambda done, total: None)
    key = bases.key_of("bases", bases.BaseSettings(digest=digest))
    shutil.copytree(folder, store.partial("bases", key) / bases.INSIDE)
    bases.publish("stored", digest, side, None)
    assert bases.by_digest(digest).folder == cache / "bases" / key / bases.INSIDE
    change(cache / "bases" / key / bases.INSIDE / SCHEDULER, beta_end=0.02)
    with pytest.raises(StoreError, match="is damaged"):
        bases.by_digest(digest)


def test_a_size_that_is_left_out_is_the_autoencoders(folder: Path) -> None:
    change(folder / "unet" / "config.json", sample_size=None)
    change(folder / "vae" / "config.json", sample_size=16)
    assert taken_in(folder).resolution == 16
    (said,) = store.listing("bases")[0].manifest["assumed"]
    assert said == "unet/config.json has no sample_size: 16 pixels, as vae/config.json has"


@pytest.mark.parametrize(("said", "side"), [([16, 16], 16), (None, 0)])
def test_an_autoencoders_size_may_be_two_numbers_or_none(folder: Path, said: list[int] | None, side: int) -> None:
    change(folder / "unet" / "config.json", sample_size=None)
    change(folder / "vae" / "config.json", sample_size=said)
    assert text_pipelines.own_side(folder, "theirs") == side


def test_the_file_of_one_network_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"a single network in diffusers' layout.*whole pipeline"):
        importing_text.import_base(str(folder / DENOISER), "mine", quiet)


def test_the_first_base_that_fits_the_pictures_is_taken(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no text-to-image base yet"):
        bases.chosen("", 32)
    taken_in(folder, "large")
    shutil.copytree(folder, tmp_path / "other")
    change(tmp_path / "other" / "unet" / "config.json", sample_size=4)
    small = taken_in(tmp_path / "other", "small")
    assert (bases.chosen("", 16), bases.chosen("small", 16)) == (small, small)
    assert bases.chosen("", 32).name == "large"
    with pytest.raises(SettingsError, match="draws pictures of 32 pixels, the dataset has 16"):
        bases.chosen("large", 16)
    with pytest.raises(SettingsError, match=r"No base draws pictures of 64 pixels.*'large' 32, 'small' 16"):
        bases.chosen("", 64)


def test_the_base_of_stored_lora_weights_stays(folder: Path) -> None:
    base, note = taken_in(folder), store.listing("bases")[0]
    run = ImportSettings(source="theirs", weights_digest="1" * 16, dataset="2" * 16, base=base.digest)
    store.partial("checkpoints", "lora")
    store.publish("checkpoints", "lora", run, name="told", dataset="2" * 16, steps=[], fold=1, base=base.digest)
    for keys in ([note.key], []):
        with pytest.raises(StoreError, match=r"The LoRA weights 'told' \(checkpoints/lora\) need this base"):
            housekeeping.deleted("bases", keys)
    bases.publish("again", base.digest, 32, folder)
    housekeeping.deleted("bases", [note.key])
    housekeeping.deleted("checkpoints")
    housekeeping.deleted("bases")
    assert store.listing("bases") == []


DIFFERENT: list[dict[str, Any]] = [
    {"timestep_spacing": "trailing"},
    {"timestep_spacing": "linspace"},
    {"steps_offset": 0},
    {"steps_offset": None},
    {"clip_sample": True},
    {"clip_sample": None},
    {"thresholding": True},
    {"rescale_betas_zero_snr": True},
    {"variance_type": "fixed_large"},
]


@pytest.mark.parametrize("values", DIFFERENT, ids=str)
def test_bases_that_were_drawn_otherwise_are_known(folder: Path, values: dict[str, Any]) -> None:
    assert text_pipelines.drawn_alike(folder, "base")
    change(folder / SCHEDULER, timestep_spacing=None, set_alpha_to_one=True, beta_end=0.01, variance_type="fixed_small")
    assert text_pipelines.drawn_alike(folder, "base"), "these were followed from the first"
    change(folder / SCHEDULER, **values)
    assert not text_pipelines.drawn_alike(folder, "base")


def test_another_autoencoder_is_drawn_otherwise(folder: Path) -> None:
    change(folder / "vae/config.json", _class_name="AutoencoderTiny")
    assert not text_pipelines.drawn_alike(folder, "base")


@pytest.mark.parametrize("values", [{}, {"timestep_spacing": "trailing"}], ids=str)
def test_weights_trained_on_a_base_that_was_drawn_otherwise_are_another_checkpoint(
    folder: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    change(folder / SCHEDULER, **values)
    base, discs = taken_in(folder), text_helpers.captioned(tmp_path / "discs")
    own = LoraSettings(base=base.digest, rank=1)
    training.train(discs, TrainSettings(dataset=discs.digest, model=own, epochs=1, batch_size=40), "lo", quiet)
    found = checkpoints.by_name("lo")
    weights = found.run.manifest["steps"][-1]["digest"]
    how = Sampled(prompts=("a red disc",))
    targets.publish_sample(targets.sample_settings(weights, 3, how), np.zeros((32, 32, 3), np.uint8))
    before = targets.find_sample(targets.sample_settings(found.digest, 3, how))
    assert checkpoints.by_digest(found.digest).run.key == found.run.key
    shutil.rmtree(folder)
    bases._drawn_alike.cache_clear()
    assert checkpoints.by_name("lo").digest == found.digest, "whether or not the base's files are there"
    if not values:
        assert found.digest == weights
        assert before is not None, "what was drawn rightly is found"
        return
    assert found.digest == checkpoints.identity(weights, checkpoints.facts_of(found.folder, 1, base.digest))
    assert before is None, "what was drawn as if by another sampler is not"
    with pytest.raises(NotFoundError, match="No stored checkpoint"):
        checkpoints.by_digest(weights)
