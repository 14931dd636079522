"""LoRA weights made elsewhere: opened as diffusers opens them, or refused with what they are and what to do."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_helpers
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from dtrak_core import store
from dtrak_core.datasets import catalogue, thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import StudioError
from dtrak_core.features import draws
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.job_kinds import ImportJob, SampleJob
from dtrak_core.models import bases, checkpoints, importing_text, networks, sampling, targets
from dtrak_core.models.bases import Base
from dtrak_core.models.denoiser import tracked_parameters
from dtrak_core.models.lora_files import FILE
from dtrak_core.progress import quiet

RANK, ALPHA = 3, 6
LINEAR = ["to_q", "to_k", "to_v", "to_out.0"]  # of the denoiser's attention
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]  # of a text encoder, as kohya's trainer takes
UNFOLLOWED = "14 of its alphas differ from the most frequent one, which is taken, as diffusers does"  # those of to_q
Weights = dict[str, Tensor]


@functools.cache
def template() -> Path:
    """Save LoRA weights of the base, made up, as diffusers does; with what changes the text encoder, and DoRA."""
    place = Path(tempfile.mkdtemp(prefix="lora-files-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    made_up(place / "lora", ["to_q", "to_v"])
    made_up(place / "both", LINEAR, PROJECTIONS)
    made_up(place / "dora", ["to_q", "conv1"], use_dora=True)
    return place


def made_up(folder: Path, targets: list[str], texts: list[str] | None = None, **how: Any) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(text_helpers.saved()).to(torch.float32)
    torch.manual_seed(1)
    held: dict[str, Any] = {}
    for part, network, which in (("unet", pipe.unet, targets), ("text_encoder", pipe.text_encoder, texts or [])):
        if which:
            told = {"r": RANK, "lora_alpha": ALPHA, "target_modules": which, **how}
            inject_adapter_in_model(LoraConfig(init_lora_weights=False, **told), network)
            layers = get_peft_model_state_dict(network)
            layers = {n: v * (1 + torch.rand(v.shape)) if "magnitude" in n else v for n, v in layers.items()}
            held |= {f"{part}_lora_layers": layers, f"{part}_lora_adapter_metadata": told}
    StableDiffusionPipeline.save_lora_weights(folder, **held)


@pytest.fixture
def discs(cache: Path) -> Dataset:
    shutil.copytree(text_helpers.stored() / "cache", cache)
    return catalogue.by_name("discs")


@pytest.fixture
def base(discs: Dataset) -> Base:
    return bases.by_name("small")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of LoRA weights that a test may change."""
    return Path(shutil.copytree(template() / "lora", tmp_path / "lora"))


def drawn(name: str) -> np.ndarray:
    denoiser = networks.load_denoiser(checkpoints.by_name(name))
    return sampling.generate(denoiser, [0], "ddim", 4, 0.0, prompts=["a red disc"]).astype(float)


def by_diffusers(base: Base, folder: Path, file: str) -> np.ndarray:
    pipe = StableDiffusionPipeline.from_pretrained(base.folder).to(torch.float32)
    pipe.load_lora_weights(str(folder), weight_name=file)
    pipe.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 4, "generator": torch.Generator().manual_seed(0), "output_type": "np"}
    return np.rint(pipe("a red disc", **how).images * 255)


def rewritten(folder: Path, change: Callable[[Weights], Weights], name: str = FILE) -> None:
    """Write the weights of a folder under other names or with other values, without what diffusers notes of them."""
    held = load_file(folder / FILE)
    (folder / FILE).unlink()
    save_file(change(held), folder / name, metadata={"format": "pt"})


def renamed(change: Callable[[str], str]) -> Callable[[Weights], Weights]:
    return lambda held: {change(name): value for name, value in held.items()}


def kohya(held: Weights) -> Weights:
    """Return weights as kohya's trainer names them, with an alpha for each projection."""
    found = {}
    for name, value in held.items():
        part, _, rest = name.removesuffix(".weight").partition(".")
        module, _, which = rest.partition(".lora_")
        own = f"lora_unet_{module}" if part == "unet" else f"lora_te_text_model_{module.removeprefix('text_model.')}"
        stem = own.replace(".", "_")
        kinds = {"A": "lora_down.weight", "B": "lora_up.weight", "magnitude_vector": "dora_scale"}
        found[f"{stem}.{kinds[which]}"] = value.reshape(-1, 1) if which == "magnitude_vector" else value
        found[f"{stem}.alpha"] = torch.tensor(2.0 if "to_q" in module else 4.0)
    return found


def old(held: Weights) -> Weights:
    """Return weights as diffusers named them in 2023, which knew no scale."""
    found = {}
    for name, value in doubled(held).items():
        which = "down" if "lora_A" in name else "up"
        module = name.partition(".lora_")[0]
        if name.startswith("unet."):
            block, _, projection = module.replace("to_out.0", "to_out").rpartition(".")
            found[f"{block}.processor.{projection}_lora.{which}.weight"] = value
        else:
            whole = module.replace("text_encoder.", "text_encoder.text_model.", "text_model" not in module)
            found[f"{whole}.lora_linear_layer.{which}.weight"] = value
    return found


def as_pickle(folder: Path) -> str:
    torch.save(load_file(folder / FILE), folder / "pytorch_lora_weights.bin")
    (folder / FILE).unlink()
    return "pytorch_lora_weights.bin"


def as_kohya(folder: Path) -> str:
    rewritten(folder, kohya, "my_style.safetensors")
    return "my_style.safetensors"


def as_old(folder: Path) -> str:
    rewritten(folder, old)
    return FILE


def in_half_precision(folder: Path) -> str:
    rewritten(folder, lambda held: {name: value.half() for name, value in held.items()})
    return FILE


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        ("lora", lambda folder: FILE),
        *(("both", write) for write in (lambda folder: FILE, as_pickle, as_kohya, as_old, in_half_precision)),
    ],
)
def test_every_trainers_file_draws_what_diffusers_draws(
    discs: Dataset, base: Base, tmp_path: Path, kind: str, write: Callable[[Path], str]
) -> None:
    folder = Path(shutil.copytree(template() / kind, tmp_path / kind))
    file = write(folder)
    importing_text.import_lora(str(folder), base, discs, "theirs", quiet)
    assert np.abs(drawn("theirs") - by_diffusers(base, folder, file)).max() <= 1
    told = [line for line in checkpoints.by_name("theirs").assumed if "alphas" in line]
    assert told == ([UNFOLLOWED] if write is as_kohya else [])


def peft_config(folder: Path, **changes: Any) -> None:
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["to_q", "to_v"]}
    text = json.dumps(config | {"peft_version": "0.18", "base_model_name_or_path": None} | changes)
    (folder / "adapter_config.json").write_text(text)


def of_peft(name: str) -> str:
    return f"base_model.model.{name.removeprefix('unet.')}"


@pytest.mark.parametrize(
    ("kind", "how"), [("lora", {}), ("dora", {"target_modules": ["to_q", "conv1"], "use_dora": True})]
)
def test_pefts_own_files_are_the_same_weights(
    discs: Dataset, base: Base, folder: Path, tmp_path: Path, kind: str, how: dict[str, Any]
) -> None:
    shutil.copy(template() / kind / FILE, folder)
    importing_text.import_lora(str(folder), base, discs, "diffusers", quiet)
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    rewritten(own, renamed(of_peft), "adapter_model.safetensors")
    peft_config(own, **how)
    importing_text.import_lora(str(own), base, discs, "peft", quiet)
    np.testing.assert_array_equal(drawn("peft"), drawn("diffusers"))


def test_what_pefts_folders_hold_for_each_network_is_joined(
    discs: Dataset, base: Base, folder: Path, tmp_path: Path
) -> None:
    shutil.copy(template() / "both" / FILE, folder)
    importing_text.import_lora(str(folder), base, discs, "diffusers", quiet)
    held, own = load_file(folder / FILE), tmp_path / "own"
    for part, which in (("unet", LINEAR), ("text_encoder", PROJECTIONS)):
        (own / part).mkdir(parents=True)
        named = {n.replace(f"{part}.", "base_model.model.", 1): v for n, v in held.items() if n.startswith(part + ".")}
        save_file(named, own / part / "adapter_model.safetensors")
        peft_config(own / part, target_modules=which)
    importing_text.import_lora(str(own), base, discs, "peft", quiet)
    np.testing.assert_array_equal(drawn("peft"), drawn("diffusers"))


def test_a_changed_text_encoder_is_applied_and_said(discs: Dataset, base: Base, folder: Path) -> None:
    """It makes another model of the same denoiser's weights, and takes no part in features."""
    shutil.copy(template() / "both" / FILE, folder)
    importing_text.import_lora(str(folder), base, discs, "both", quiet)
    rewritten(folder, lambda held: {n: v for n, v in doubled(held).items() if n.startswith("unet.")})
    importing_text.import_lora(str(folder), base, discs, "alone", quiet)
    both, alone = (checkpoints.by_name(name) for name in ("both", "alone"))
    assert both.digest != alone.digest
    assert np.abs(drawn("both") - drawn("alone")).max() > 5
    assert "change the text encoder: applied, and frozen" in both.assumed[0]
    assert alone.assumed == ()
    told, plain = (networks.load_denoiser(one) for one in (both, alone))
    sizes = [[p.shape for _, p in tracked_parameters(one.network)] for one in (told, plain)]
    assert sizes[0] == sizes[1]
    assert told.text is not None
    assert not any(p.requires_grad for p in told.text.words.text_encoder.parameters())


def test_kohyas_dora_draws_what_pefts_does(discs: Dataset, base: Base, folder: Path) -> None:
    """diffusers leaves kohya's dora_scale out, with a warning; so the weights are compared in its own form."""
    shutil.copy(template() / "dora" / FILE, folder)
    importing_text.import_lora(str(folder), base, discs, "diffusers", quiet)
    assert np.abs(drawn("diffusers") - by_diffusers(base, folder, FILE)).max() <= 1
    rewritten(folder, lambda held: {n: v * 0 + ALPHA if "alpha" in n else v for n, v in kohya(held).items()})
    importing_text.import_lora(str(folder), base, discs, "kohya", quiet)
    np.testing.assert_allclose(drawn("kohya"), drawn("diffusers"), atol=1)
    rewritten(folder, lambda held: {n: v for n, v in held.items() if "dora" not in n})
    importing_text.import_lora(str(folder), base, discs, "plain", quiet)
    assert np.abs(drawn("plain") - drawn("kohya")).max() > 5


def of_convolutions(folder: Path) -> str:
    """Write weights as LoCon's trainer does: kohya's names, with the larger convolutions' too, of another rank."""
    made_up(folder, ["to_q", "proj_in", "conv1", "conv_shortcut", "time_emb_proj"], rank_pattern={"conv1": 2})
    rewritten(folder, kohya, "locon.safetensors")
    return "locon.safetensors"


def as_dora(folder: Path) -> str:
    shutil.copy(template() / "dora" / FILE, folder)
    return FILE


@pytest.mark.parametrize("write", [of_convolutions, as_dora])
def test_gradients_of_every_kind_equal_a_plain_loop(
    discs: Dataset, base: Base, folder: Path, write: Callable[[Path], str]
) -> None:
    file = folder / write(folder)
    importing_text.import_lora(str(file), base, discs, "theirs", quiet)
    assert np.abs(drawn("theirs") - by_diffusers(base, folder, file.name)).max() <= 1
    checkpoint = checkpoints.by_name("theirs")
    denoiser = networks.load_denoiser(checkpoint)
    wanted = FeatureSettings(dataset=discs.digest, checkpoint=checkpoint.digest, model_output="loss", num_timesteps=2)
    x0, told = denoiser.encode(np.asarray(discs.train.images[:2])), denoiser.conditions(discs.train.prompts[:2])
    found = per_example_gradients(denoiser, x0, ["train:0", "train:1"], wanted, condition=told)
    parameters = [p for _, p in tracked_parameters(denoiser.network)]
    assert {p.dim() for p in parameters} == ({2, 4} if write is of_convolutions else {1, 2, 4})
    for i in range(2):
        total = torch.zeros(sum(p.numel() for p in parameters))
        for t in draws.timesteps("uniform", 2):
            eps, when = torch.from_numpy(draws.noise(0, f"train:{i}", [t], denoiser.shape)), torch.tensor([int(t)])
            x_t = denoiser.process.noised(x0[i : i + 1], eps, when)
            loss = (denoiser.predict(x_t, when, told.rows(slice(i, i + 1))) - eps).square().mean()
            total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]) / 2
        torch.testing.assert_close(found[i], total, rtol=1e-4, atol=1e-5 * float(total.abs().max()))


def test_one_file_on_two_bases_is_two_models(discs: Dataset, base: Base, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(base.folder, tmp_path / "other")
    file = tmp_path / "other" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: value * 1.1 for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    importing_text.import_base(str(tmp_path / "other"), "other", quiet)
    for name in ("small", "other"):
        importing_text.import_lora(str(folder), bases.by_name(name), discs, f"on-{name}", quiet)
    first, second = (checkpoints.by_name(f"on-{name}") for name in ("small", "other"))
    assert first.digest != second.digest
    assert checkpoints.by_digest(second.digest).base == bases.by_name("other").digest
    asked = SampleJob(checkpoint=second.digest, seeds=(0,), prompts=("a red disc",), sampling_steps=4)
    (picture,) = work.run(asked, quiet)
    shown = thumbnails.decode(picture.file(targets.PICTURE).read_bytes())
    np.testing.assert_array_equal(shown, drawn("on-other")[0])
    assert np.abs(drawn("on-small") - drawn("on-other")).max() > 5


def test_another_scale_is_another_model(discs: Dataset, base: Base, folder: Path) -> None:
    peft_config(folder)
    rewritten(folder, renamed(of_peft), "adapter_model.safetensors")
    importing_text.import_lora(str(folder), base, discs, "full", quiet)
    peft_config(folder, lora_alpha=0.5)
    importing_text.import_lora(str(folder), base, discs, "weak", quiet)
    assert checkpoints.by_name("full").digest != checkpoints.by_name("weak").digest
    assert np.abs(drawn("full") - drawn("weak")).max() > 5
    importing_text.import_lora(str(folder), base, discs, "weak-too", quiet)
    assert checkpoints.by_name("weak-too").digest == checkpoints.by_name("weak").digest
    assert len(store.listing("checkpoints")) == 2


def test_names_without_the_networks_are_the_denoisers(discs: Dataset, base: Base, folder: Path) -> None:
    expected = by_diffusers(base, Path(shutil.copytree(folder, folder / "plain")), FILE)
    rewritten(folder, lambda held: renamed(lambda name: name.removeprefix("unet."))(doubled(held)))
    importing_text.import_lora(str(folder), base, discs, "bare", quiet)
    assert np.abs(drawn("bare") - expected).max() <= 1


def doubled(held: Weights) -> Weights:
    """Take the scale, which a file without notes of it has not, into one of the factors."""
    return {name: value * (ALPHA / RANK if "lora_B" in name else 1) for name, value in held.items()}


def one_more(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        more = {f"{name}.lora_A.weight": torch.zeros(RANK, 16), f"{name}.lora_B.weight": torch.zeros(16, RANK)}
        rewritten(folder, lambda held: held | more)

    return apply


def wider(folder: Path) -> None:
    rewritten(folder, lambda held: {n: v.repeat(1, 2) if "lora_A" in n else v for n, v in held.items()})


def first_factors(held: Weights) -> Weights:
    return {name: value for name, value in held.items() if "lora_A" in name or "mid_block" in name}


def not_finite(folder: Path) -> None:
    rewritten(folder, lambda held: {name: value / 0 for name, value in held.items()})


def all_named(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda folder: rewritten(folder, renamed(change))


def two_files(folder: Path) -> None:
    for number in (1, 2):
        shutil.copy(folder / FILE, folder / f"style-{number}.safetensors")
    (folder / FILE).unlink()


def two_pickles(folder: Path) -> None:
    two_files(folder)
    for number, ending in enumerate((".bin", ".pt"), 1):
        (folder / f"style-{number}.safetensors").rename(folder / f"style-{number}{ending}")


def pointer(folder: Path) -> None:
    (folder / FILE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def of_another_kind(folder: Path) -> None:
    rewritten(folder, renamed(of_peft), "adapter_model.safetensors")
    peft_config(folder, peft_type="LOHA")


def dora_of_columns(folder: Path) -> None:
    shutil.copy(template() / "dora" / FILE, folder)
    rewritten(folder, lambda held: {n: v.T if "dora_scale" in n else v for n, v in kohya(held).items()})


def whole_layer(folder: Path) -> None:
    rewritten(folder, lambda held: renamed(of_peft)(held) | {of_peft("conv_in.weight"): torch.zeros(16, 8, 3, 3)})


def stray_magnitude(folder: Path) -> None:
    rewritten(folder, lambda held: kohya(held) | {"lora_unet_mid_block.dora_scale": torch.ones(16, 1)})


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda folder: (folder / FILE).unlink(), r"holds 0 \.safetensors files"),
    "two files": (two_files, r"style-1.*style-2.*Give the file that is meant by its path.*download it first"),
    "two pickles": (two_pickles, r"holds 2 files and none is .*: style-1\.bin, style-2\.pt\."),
    "a pipeline": (lambda folder: (folder / "model_index.json").write_text("{}"), "is a whole pipeline"),
    "pointer": (pointer, "is a Git LFS pointer.*git lfs pull"),
    "not finite": (not_finite, "NaN or infinite"),
    "other text encoder": (one_more("text_encoder.encoder.layers.9.self_attn.q_proj"), "no place for 2 .*layers.9"),
    "two text encoders": (one_more("text_encoder_2.encoder.layers.0.self_attn.q_proj"), "also change text_encoder_2"),
    "text encoder alone": (all_named(lambda name: "text_encoder." + name.removeprefix("unet.")), "of the denoiser"),
    "DoRA of columns": (dora_of_columns, r"DoRA weights of columns: .* is \[1, 16\].*wd_on_output"),
    "DoRA of nothing": (stray_magnitude, "but no LoRA weights that it scales"),
    "transformer": (all_named(lambda name: name.replace("unet.", "transformer.")), "change transformer .*Flux"),
    "LoHa": (all_named(lambda name: name.replace("lora_A", "hada_w1_a")), "holds LoHa weights"),
    "LoKr": (all_named(lambda name: name.replace("lora_A", "lokr_w1")), "holds LoKr weights"),
    "an adapter's name": (all_named(lambda name: name.replace(".weight", ".default.weight")), "that of an adapter"),
    "whole layers": (whole_layer, "holds whole layers beside LoRA weights .conv_in.weight.*modules_to_save"),
    "no LoRA": (all_named(lambda name: name.replace("lora_", "")), "no name in it says so"),
    "other parts": (one_more("unet.down_blocks.7.to_q"), "no place for 2 of them, down_blocks.7.to_q"),
    "half of them": (lambda folder: rewritten(folder, first_factors), "are not whole: .* are missing"),
    "other width": (wider, r"to_q\.lora_A\.weight is \[3, 32\] where \[3, 16\] is expected"),
    "PEFT alone": (all_named(of_peft), "adapter_config.json.*none beside"),
    "PEFT's LoHa": (of_another_kind, "holds LOHA weights"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_cannot_be_used_are_refused(discs: Dataset, base: Base, folder: Path, case: str) -> None:
    harm, words = REFUSED[case]
    harm(folder)
    with pytest.raises(StudioError, match=words) as refused:
        importing_text.import_lora(str(folder), base, discs, "bad", quiet)
    assert "\n" not in str(refused.value)
    assert str(refused.value).count("imported") == 0, "it is called what the user calls it"
    assert not list((store.root() / "checkpoints").glob("*"))


@pytest.mark.parametrize("whole", [True, False])
def test_weights_without_their_base_are_refused(discs: Dataset, base: Base, folder: Path, whole: bool) -> None:
    source = folder if whole else folder / FILE
    job = ImportJob(source=str(source), dataset=discs.digest, name="alone")
    with pytest.raises(StudioError, match=r"holds LoRA weights, .* Name it with --base; there are: small"):
        work.run(job, quiet)


def test_pictures_must_have_the_size_of_the_base(base: Base, folder: Path, tmp_path: Path) -> None:
    settings = catalogue.source_settings("folder", text_helpers.stored() / "discs", "little", 16)
    little = catalogue.load(catalogue.prepare(settings, text_helpers.stored() / "discs"))
    with pytest.raises(StudioError, match="draws pictures of 32 pixels, the dataset has 16"):
        importing_text.import_lora(str(folder), base, little, "bad", quiet)
