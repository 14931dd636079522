"""Checkpoints made elsewhere: diffusers' own folders open, what does not fit is refused in a sentence."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)
from huggingface_hub import errors
from safetensors.torch import load_file, save_file

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import DataError, NotFoundError, SettingsError
from dtrak_core.jobs import housekeeping
from dtrak_core.models import checkpoints, importing, networks, sampling, schedules
from dtrak_core.models.model_files import LORA
from dtrak_core.models.settings import ImportSettings, Sampled
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of


def foreign(folder: Path, safe: bool = True, **changes: object) -> UNet2DModel:
    """Save a plain diffusers pipeline, as anyone would, and return its network."""
    torch.manual_seed(5)
    config = {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        **changes,
    }
    unet = UNet2DModel(**config).eval()
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    DDPMPipeline(unet, scheduler).save_pretrained(folder, safe_serialization=safe)
    return unet


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_a_pipeline_folder_opens_with_its_own_schedule(pictures: Dataset, tmp_path: Path, safe: bool) -> None:
    unet = foreign(tmp_path / "theirs", safe)
    importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "theirs", quiet)
    denoiser = networks.load_denoiser(checkpoints.by_name("theirs", pictures.digest))
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([1, 800])
    with torch.no_grad():
        torch.testing.assert_close(denoiser.predict(x, t), unet(x, t).sample)
    torch.testing.assert_close(
        denoiser.process.alphas_cumprod, DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    )
    assert denoiser.fold == 1


def test_a_folder_of_network_and_scheduler_of_flow_draws_by_eulers_steps(pictures: Dataset, tmp_path: Path) -> None:
    unet, scheduler = foreign(tmp_path / "other"), FlowMatchEulerDiscreteScheduler(shift=3.0)
    unet.save_pretrained(tmp_path / "theirs" / "unet")
    scheduler.save_pretrained(tmp_path / "theirs" / "scheduler")
    checkpoint = taken_in(tmp_path / "theirs", pictures, "theirs")
    assert checkpoints.prediction_of(checkpoint) == "flow"
    assert checkpoint.assumed == ()
    denoiser = networks.load_denoiser(checkpoint)
    scheduler.set_timesteps(6)
    x = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(7))[None]
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample, t, x).prev_sample
    ours = sampling.generate(denoiser, [7], "ddim", 6, 0.0)
    assert np.abs(denoiser.decode(x).astype(int) - ours).max() <= 1
    assert checkpoints.most_steps(checkpoint) == 1000
    with pytest.raises(SettingsError, match="predicts flow and is drawn without fresh noise"):
        checkpoints.check_drawing(checkpoint, Sampled(sampler="ddpm"))
    assert checkpoint.digest != taken_in(tmp_path / "other", pictures, "other").digest  # the same weights


def test_a_short_schedule_is_known_without_torch(pictures: Dataset, tmp_path: Path) -> None:
    DDPMPipeline(foreign(tmp_path / "other"), DDPMScheduler(num_train_timesteps=40)).save_pretrained(tmp_path / "short")
    checkpoint = taken_in(tmp_path / "short", pictures, "short")
    assert networks.load_denoiser(checkpoint).process.steps == checkpoints.process_of(checkpoint)[1] == 40
    assert checkpoints.most_steps(checkpoint) == 40
    checkpoints.check_drawing(checkpoint, Sampled(sampling_steps=40))
    with pytest.raises(SettingsError, match="50 sampling steps are more than"):
        checkpoints.check_drawing(checkpoint, Sampled())


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
@pytest.mark.parametrize("zero", [False, True], ids=["plain", "zero SNR"])
def test_a_pipeline_that_predicts_picture_or_v_draws_as_in_diffusers(
    pictures: Dataset, tmp_path: Path, prediction: str, zero: bool
) -> None:
    unet = foreign(tmp_path / "theirs")
    given = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero else {}
    scheduler = DDIMScheduler(prediction_type=prediction, **given)
    DDIMPipeline(unet, scheduler).save_pretrained(tmp_path / "theirs")
    checkpoint = taken_in(tmp_path / "theirs", pictures, "theirs")
    pipeline = DDIMPipeline.from_pretrained(tmp_path / "theirs")
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(generator=torch.Generator().manual_seed(7), num_inference_steps=10, output_type="np").images
    ours = sampling.generate(networks.load_denoiser(checkpoint), [7], "ddim", 10, 0.0)
    assert np.abs((theirs * 255).round().astype(int) - ours).max() <= 1
    # The same weights under another prediction are another model: nothing of one is taken for the other.
    foreign(tmp_path / "theirs")
    assert taken_in(tmp_path / "theirs", pictures, "of noise").digest != checkpoint.digest


def unanswered() -> list[type[Exception]]:
    """Return what the hub's client raises where the network fails: the classes that its own module has."""
    client = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])  # type: ignore[attr-defined]
    xet = [errors.XetDownloadError] if hasattr(errors, "XetDownloadError") else []
    return [client.ProxyError, client.ReadError, client.ConnectError, *xet]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (errors.GatedRepoError, "is gated. Accept its terms at https://huggingface.co/owner/name, log in with hf auth"),
        (errors.RepositoryNotFoundError, "has no repository 'owner/name'.* if the repository is private, log in"),
        *((kind, rf"could not be asked for it \({kind.__name__}\)") for kind in unanswered()),
    ],
)
def test_what_the_hub_says_is_told(monkeypatch: pytest.MonkeyPatch, kind: type[Exception], said: str) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise kind.__new__(kind)

    monkeypatch.setattr(importing, "snapshot_download", refused)
    with pytest.raises(NotFoundError, match=said):
        importing.folder_of("owner/name")


def test_a_network_alone_opens_with_the_papers_schedule(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    (tmp_path / "theirs" / "unet").rename(tmp_path / "alone")
    importing.import_checkpoint(str(tmp_path / "alone"), pictures, "unet-alone", quiet)
    denoiser = networks.load_denoiser(checkpoints.by_name("unet-alone"))
    torch.testing.assert_close(denoiser.process.alphas_cumprod, schedules.default_scheduler().alphas_cumprod)


def test_our_own_folded_folder_opens_again(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "folded", sample_size=8, in_channels=12, out_channels=12)
    importing.import_checkpoint(str(tmp_path / "folded"), pictures, "folded", quiet)
    assert networks.load_denoiser(checkpoints.by_name("folded")).fold == 2


def taken_in(folder: Path, pictures: Dataset, name: str) -> checkpoints.Checkpoint:
    """Import a folder and return the checkpoint that then has the name."""
    importing.import_checkpoint(str(folder), pictures, name, quiet)
    return checkpoints.by_name(name, pictures.digest)


def test_a_second_name_is_a_name_of_the_same_weights(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    one = taken_in(tmp_path / "theirs", pictures, "one")
    two = taken_in(tmp_path / "theirs", pictures, "two")
    assert (one.name, two.name) == ("one", "two")
    assert (one.digest, one.folder) == (two.digest, two.folder)
    assert len(store.listing("checkpoints")) == 1
    assert str(tmp_path) not in json.dumps(one.run.manifest["settings"])


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("scheduler/scheduler_config.json", {"beta_schedule": "linear"}),
        ("scheduler/scheduler_config.json", {"clip_sample": False}),
        ("scheduler/scheduler_config.json", {"timestep_spacing": "trailing"}),
        ("scheduler/scheduler_config.json", {"set_alpha_to_one": False}),
        ("unet/config.json", {"attention_head_dim": 4}),
        ("unet/config.json", {"center_input_sample": True}),
    ],
)
def test_equal_weights_with_other_settings_are_another_run(
    pictures: Dataset, tmp_path: Path, part: str, change: dict[str, object]
) -> None:
    foreign(tmp_path / "theirs")
    first = taken_in(tmp_path / "theirs", pictures, "theirs")
    path = tmp_path / "theirs" / part
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | change))
    second = taken_in(tmp_path / "theirs", pictures, "theirs")  # the very same name: the newest wins
    assert first.digest != second.digest
    assert checkpoints.by_digest(first.digest).run.key == first.run.key
    drawn = [sampling.generate(networks.load_denoiser(one), [3], "ddim", 4, 0.0) for one in (first, second)]
    assert (drawn[0] != drawn[1]).any()
    path.write_text(before)
    assert taken_in(tmp_path / "theirs", pictures, "theirs").digest == first.digest  # and the first has its name again


def test_what_was_imported_before_is_known_by_more_than_its_weights(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    now = taken_in(tmp_path / "theirs", pictures, "now")
    weights = now.run.manifest["steps"][0]["weights"]
    settings = ImportSettings(source="theirs", weights_digest=weights, dataset=pictures.digest)
    key = key_of("checkpoints", settings)
    shutil.copytree(now.folder, store.partial("checkpoints", key) / "imported")
    step = {"step": 0, "share": 100, "folder": "imported", "digest": weights}
    facts = {"dataset": pictures.digest, "dataset_name": "discs", "steps": [step], "fold": 1}
    store.publish("checkpoints", key, settings, name="before", **facts)
    store.delete("checkpoints", now.run.key)
    before = checkpoints.by_name("before")
    assert before.digest == now.digest != weights
    with pytest.raises(NotFoundError):  # results that are stored under the weights alone are of nobody now
        checkpoints.by_digest(weights)
    assert taken_in(tmp_path / "theirs", pictures, "again").run.key == key
    assert networks.load_denoiser(before).sampler == networks.load_denoiser(checkpoints.by_name("again")).sampler


def test_deleting_a_run_deletes_its_names(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    one = taken_in(tmp_path / "theirs", pictures, "one")
    taken_in(tmp_path / "theirs", pictures, "two")
    assert housekeeping.deleted("checkpoints", [one.run.key]) > 0
    assert checkpoints.listing() == []
    assert housekeeping.stored("names") == []


def test_a_number_that_is_none_in_a_config_is_named(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    path = tmp_path / "theirs" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"norm_eps": float("nan")}))
    with pytest.raises(DataError, match=r"config.json of 'theirs' has nan for norm_eps\. Correct it\."):
        taken_in(tmp_path / "theirs", pictures, "theirs")


def test_a_network_that_fails_at_its_first_picture_is_not_taken_in(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    path = tmp_path / "theirs" / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"freq_shift": None}))
    with pytest.raises(DataError, match=r"network of 'theirs' cannot look at pictures of 16 pixels \(.*Correct its"):
        taken_in(tmp_path / "theirs", pictures, "theirs")
    assert checkpoints.listing() == []


@pytest.mark.parametrize("config", [{"sample_size": [16, 16]}, {"sample_size": None}, {"of_a_fork": 3, "decay": 0.99}])
def test_configs_open_as_in_diffusers(pictures: Dataset, tmp_path: Path, config: dict[str, object]) -> None:
    unet = foreign(tmp_path / "theirs")
    path = tmp_path / "theirs" / "unet" / "config.json"
    given = json.loads(path.read_text()) | config
    for name in ("in_channels", "out_channels", "act_fn", "_class_name", *(n for n, v in config.items() if v is None)):
        del given[name]
    path.write_text(json.dumps(given))
    checkpoint = taken_in(tmp_path / "theirs", pictures, "theirs")
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([1, 800])
    with torch.no_grad():
        torch.testing.assert_close(networks.load_denoiser(checkpoint).predict(x, t), unet(x, t).sample)
    assert any("names no class" in one for one in checkpoint.assumed)
    assert any("16 pixels, as the dataset has" in one for one in checkpoint.assumed) == (None in config.values())


@pytest.mark.parametrize("wrapped", [False, True], ids=["old attention", "old attention, compiled"])
def test_old_attentions_open_as_in_diffusers(pictures: Dataset, tmp_path: Path, wrapped: bool) -> None:
    foreign(tmp_path / "theirs", attention_head_dim=None, flip_sin_to_cos=False, freq_shift=1, downsample_padding=0)
    path = tmp_path / "theirs" / "unet" / networks.WEIGHTS
    stored = load_file(path)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        stored = {name.replace(f".{new}.", f".{old}."): value for name, value in stored.items()}
    assert any("attentions.0.proj_attn.weight" in name for name in stored)
    save_file(stored, path)
    unet = UNet2DModel.from_pretrained(path.parent)
    if wrapped:
        save_file({f"_orig_mod.{name}": value for name, value in stored.items()}, path)
    denoiser = networks.load_denoiser(taken_in(tmp_path / "theirs", pictures, "theirs"))
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([1, 800])
    with torch.no_grad():
        torch.testing.assert_close(denoiser.predict(x, t), unet(x, t).sample)


def test_lora_weights_are_known_by_base_and_scale(tmp_path: Path) -> None:
    known = set()
    for base, alpha in (("a" * 16, "4"), ("b" * 16, "4"), ("a" * 16, "8")):
        save_file({"w": torch.ones(2)}, tmp_path / LORA, {"lora_adapter_metadata": f'{{"unet.lora_alpha": {alpha}}}'})
        known.add(checkpoints.identity("c" * 16, checkpoints.facts_of(tmp_path, 1, base)))
    assert len(known) == 3


@pytest.mark.parametrize("given", ["checkpoint-5", "checkpoint-5/unet", "checkpoint-5/unet_ema", "unet"])
def test_a_part_of_a_run_has_the_runs_scheduler(pictures: Dataset, tmp_path: Path, given: str) -> None:
    run = tmp_path / "run"
    foreign(run)  # draws from cosine betas
    for name in ("unet", "unet_ema"):
        shutil.copytree(run / "unet", run / "checkpoint-5" / name)
    averaged = run / "checkpoint-5" / "unet_ema" / networks.WEIGHTS
    save_file({name: value + 0.01 for name, value in load_file(averaged).items()}, averaged)
    checkpoint = taken_in(run / given, pictures, "part")
    denoiser = networks.load_denoiser(checkpoint)
    expected = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    torch.testing.assert_close(denoiser.process.alphas_cumprod, expected)
    assert "its scheduler is that of 'run', the folder it lies in" in checkpoint.assumed
    taken = given if given.startswith("unet") or given.count("/") else "checkpoint-5/unet_ema"
    torch.testing.assert_close(dict(denoiser.network.state_dict()), load_file(run / taken / networks.WEIGHTS))
    assert any("averaged ones" in one for one in checkpoint.assumed) == (given == "checkpoint-5")
    (run / "unet").rename(tmp_path / "elsewhere")
    with pytest.raises(NotFoundError, match=r"'run' has no network of its own\. Give one of its checkpoints"):
        importing.import_checkpoint(str(run), pictures, "run", quiet)
    (tmp_path / "elsewhere").rename(run / "unet")
    scheduler = run / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "flow_prediction"}))
    with pytest.raises(DataError, match=f"'run/{given}' predicts 'flow_prediction'"):
        importing.import_checkpoint(str(run / given), pictures, "part", quiet)


def test_an_old_pipeline_in_one_folder_opens(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs", safe=False)  # as google/ddpm-cifar10-32 lies on the hub
    for path in [*(tmp_path / "theirs" / "unet").iterdir(), *(tmp_path / "theirs" / "scheduler").iterdir()]:
        path.rename(tmp_path / "theirs" / path.name)
    for name in ("unet", "scheduler"):
        (tmp_path / "theirs" / name).rmdir()
    checkpoint = taken_in(tmp_path / "theirs", pictures, "theirs")
    assert checkpoint.assumed == ()
    expected = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    torch.testing.assert_close(networks.load_denoiser(checkpoint).process.alphas_cumprod, expected)


def test_what_is_assumed_is_said_under_every_name(pictures: Dataset, tmp_path: Path) -> None:
    foreign(tmp_path / "theirs")
    network = tmp_path / "theirs" / "unet"
    scheduler = tmp_path / "theirs" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(dict(schedules.default_scheduler().config)))
    assert taken_in(tmp_path / "theirs", pictures, "whole").assumed == ()
    (network / networks.WEIGHTS).rename(network / "diffusion_pytorch_model.fp16.safetensors")
    network.rename(tmp_path / "alone")
    for name in ("alone", "whole"):
        found = taken_in(tmp_path / "alone", pictures, name)
        assert found.assumed[0].startswith("no scheduler found: the DDPM's, linear betas")
        assert "variant fp16, diffusion_pytorch_model.fp16.safetensors" in found.assumed[1]
    assert len(store.listing("checkpoints")) == 1
    assert sorted({c.name for c in checkpoints.listing()}) == ["alone", "whole"]
    assert len(checkpoints.listing()) == 2


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ({"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]}, "LDMPipeline: a latent diffusion model"),
        ({"_class_name": "DDPMPipeline", "vae": ["diffusers", "AutoencoderKL"]}, "latent diffusion model with a Auto"),
        ({"_class_name": "StableDiffusionPipeline"}, "a text-to-image model. Take it in as a base for LoRA weights"),
        ({"_class_name": "ScoreSdeVePipeline"}, "a score model of an SDE"),
        ({"_class_name": "ConsistencyModelPipeline"}, "a consistency model"),
        ({"_class_name": "DiTPipeline"}, "a class-conditional transformer"),
        ({"_class_name": "MyPipeline"}, "'theirs' is of class MyPipeline. A DDPM of pixels"),
        ({"unet": ["diffusers", "UNet2DConditionModel"]}, "is of class DDPMPipeline, with a UNet2DConditionModel"),
        ({"scheduler": ["diffusers", "FlowMatchLCMScheduler"]}, "a distilled model of flow matching"),
    ],
)
def test_other_pipelines_are_refused_by_their_class(
    pictures: Dataset, tmp_path: Path, index: dict[str, object], said: str
) -> None:
    foreign(tmp_path / "theirs")
    path = tmp_path / "theirs" / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | index))
    with pytest.raises(DataError, match=said):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
    assert list((store.root() / "checkpoints").glob("*")) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sample_size": 32}, "draws pictures of 32 pixels, dataset 'discs' has 16. Prepare the dataset at 32"),
        ({"in_channels": 1, "out_channels": 1}, "sees grey pictures alone, and these have colours"),
        ({"in_channels": 4, "out_channels": 4}, "takes 4 channels. Pictures in colours have 3"),
        ({"out_channels": 9}, "3 input and 9 output channels"),
        ({"sample_size": (16, 32)}, "'theirs' draws pictures of 16 x 32. Pictures are square here"),
        ({"num_class_embeds": 10}, "'theirs' knows 10 classes, the dataset has 3: red, green, blue"),
        ({"class_embed_type": "identity"}, "'theirs' is told an embedding of its own making"),
        ({"time_embedding_type": "fourier"}, "'theirs' is a score model of an SDE"),
        (
            {
                "sample_size": None,
                "down_block_types": ("DownBlock2D",) * 6,
                "up_block_types": ("UpBlock2D",) * 6,
                "block_out_channels": (8,) * 6,
            },
            "cannot look at pictures of 16 pixels (.*)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(pictures: Dataset, tmp_path: Path, changes: dict[str, object], said: str) -> None:
    foreign(tmp_path / "theirs", **changes)
    with pytest.raises(DataError, match=said):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
    assert checkpoints.listing() == []


def test_missing_parts_are_named(pictures: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no folder 'nowhere'"):
        importing.import_checkpoint(str(tmp_path / "nowhere"), pictures, "bad", quiet)
    foreign(tmp_path / "theirs")
    weights = tmp_path / "theirs" / "unet" / networks.WEIGHTS
    weights.unlink()
    with pytest.raises(NotFoundError, match=r"has no weights: neither diffusion_pytorch_model.safetensors nor"):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
    (tmp_path / "theirs" / "unet" / "config.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)
    (tmp_path / "theirs" / "unet" / "config.json").unlink()
    with pytest.raises(NotFoundError, match=r"has no unet/config.json"):
        importing.import_checkpoint(str(tmp_path / "theirs"), pictures, "bad", quiet)


def test_another_class_of_network_is_refused(pictures: Dataset, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(DataError, match="holds a UNet2DConditionModel"):
        importing.import_checkpoint(str(tmp_path / "other"), pictures, "bad", quiet)


@pytest.mark.parametrize("size", [8, None])
def test_pictures_that_do_not_fold_into_a_networks_size_are_refused(pictures: Dataset, size: int | None) -> None:
    config = {"in_channels": 48, "out_channels": 48, "sample_size": size}
    odd = replace(pictures, settings=pictures.settings.model_copy(update={"resolution": 34}))
    with pytest.raises(DataError, match="Prepare the dataset at 32 pixels"):
        importing._size(SimpleNamespace(config=config, assumed=()), odd, "theirs")  # type: ignore[arg-type]
