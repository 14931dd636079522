"""Frozen weights in 8 and 4 bits, against numbers written out here and against the plain base."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_helpers
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from dtrak_core.datasets import catalogue
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.features import draws
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.job_kinds import ImportJob
from dtrak_core.models import bases, checkpoints, importing_text, lora, networks, quantised, sampling
from dtrak_core.models.denoiser import Denoiser, tracked_parameters
from dtrak_core.models.quantised import QuantisedLinear
from dtrak_core.models.settings import Frozen, LoraSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import build
from dtrak_core.training import presets, training

FORMS: tuple[Frozen, ...] = ("int8", "nf4")
NF4 = (  # bitsandbytes' table of NormalFloat
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip


def layer_of(form: Frozen, seed: int = 0) -> tuple[nn.Linear, QuantisedLinear]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        plain = nn.Linear(48, 10)  # blocks of 64 that do not end where rows do, nor where the weight does
    plain.weight.data[3] = 0
    return plain, QuantisedLinear(plain, form)


def test_nf4_takes_the_nearest_level_of_each_block() -> None:
    plain, layer = layer_of("nf4")
    np.testing.assert_allclose(quantised._levels(), NF4, atol=2e-7)
    flat = plain.weight.detach().numpy().ravel()
    meant = np.concatenate([
        np.array(NF4)[np.abs(block[:, None] / np.abs(block).max() - NF4).argmin(1)] * np.abs(block).max()
        for block in np.split(flat, range(64, len(flat), 64))
    ])  # fmt: skip
    np.testing.assert_allclose(layer.numbers(torch.float32).numpy().ravel(), meant, atol=1e-6)
    assert layer.weight.numel() * layer.weight.element_size() == 8 * 64 // 2, "two numbers a byte, whole blocks"


def test_int8_rounds_each_row_to_steps_of_its_largest() -> None:
    plain, layer = layer_of("int8")
    steps = plain.weight.detach().abs().amax(1, keepdim=True) / 127
    off = (layer.numbers(torch.float32) - plain.weight.detach()).abs()
    assert (off <= steps / 2 + 1e-7).all()
    assert layer.weight.dtype == torch.int8
    assert not layer.numbers(torch.float32)[3].any()


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_gives_the_product_and_gradient_of_what_its_codes_mean(form: Frozen) -> None:
    _, layer = layer_of(form)
    x, upstream = torch.randn(2, 5, 48, requires_grad=True), torch.randn(2, 5, 10)
    (mine,) = torch.autograd.grad(layer(x), x, upstream)
    meant = layer.numbers(torch.float32)
    (theirs,) = torch.autograd.grad(x @ meant.T + layer.bias, x, upstream)
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(layer(x), x @ meant.T + layer.bias)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
        half.sum().backward()
    assert half.dtype == torch.bfloat16
    assert x.grad is not None
    torch.testing.assert_close(x.grad, meant.sum(0).expand_as(x), atol=0.05, rtol=0.05)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Denoiser]]:
    """Train LoRA weights on the small base in 4 bits, and open them on it in each format."""
    folder = tmp_path_factory.mktemp("quantised")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(folder / "cache"))
        patch.setenv("STUDIO_DEMO", str(folder / "none"))
        patch.setattr(training, "SHARES", (100,))
        shutil.copytree(text_helpers.stored() / "cache", folder / "cache")
        discs, base = catalogue.by_name("discs"), bases.by_name("small")
        how = {"epochs": 1, "batch_size": 20, "learning_rate": 1e-2}
        training.train(
            discs, presets.train_settings("lora-demo", discs.digest, base.digest, form="nf4", **how), "lo", quiet
        )
        trained = checkpoints.by_name("lo", discs.digest)
        others = {form: lora.load(base, trained.folder, discs.digest, "float32", form) for form in ("stored", "int8")}
        yield {**others, "nf4": networks.load_denoiser(trained)}


def test_trained_weights_are_opened_on_a_base_in_the_same_format(opened: dict[str, Denoiser], tmp_path: Path) -> None:
    digests = set()
    for form, denoiser in opened.items():
        assert quantised.form_of(denoiser.network) == form
        assert quantised.count(denoiser.network) == quantised.count(opened["stored"].network)
        assert all("lora_" in name and p.dtype == torch.float32 for name, p in tracked_parameters(denoiser.network))
        digests.add(lora.save(denoiser, tmp_path / form, torch.float32))
    assert len(digests) == 3, "features of one are not those of another"
    digest = catalogue.by_name("discs").digest
    assert checkpoints.by_name("lo", digest).digest in digests
    network: Any = opened["nf4"].network
    assert any(p.any() for name, p in network.named_parameters() if "lora_B" in name), "trained"
    inside = network.down_blocks[0].attentions[0].transformer_blocks[0]
    assert isinstance(inside.attn1.to_q.base_layer, QuantisedLinear)
    assert isinstance(inside.ff.net[2], QuantisedLinear)
    assert not isinstance(network.time_embedding.linear_1, QuantisedLinear)


def test_weights_made_elsewhere_are_taken_in_on_a_base_in_few_bits(opened: dict[str, Denoiser], tmp_path: Path) -> None:
    discs, base = catalogue.by_name("discs"), bases.by_name("small")
    trained = checkpoints.by_name("lo", discs.digest)
    file = tmp_path / "theirs.safetensors"
    state = {name: value.contiguous() for name, value in load_file(trained.folder / lora.FILE).items()}
    save_file(state, file)
    for name, form in (("theirs", "nf4"), ("plain", "stored")):
        importing_text.import_lora(str(file), base, discs, name, quiet, form)
        assert quantised.form_of(networks.load_denoiser(checkpoints.by_name(name, discs.digest)).network) == form
    assert len({checkpoints.by_name(name, discs.digest).digest for name in ("theirs", "plain")}) == 2
    place = next(name for name in state if name.endswith("lora_B.weight"))
    length = torch.ones(len(state[place]))
    save_file(state | {place.replace("lora_B.weight", "lora_magnitude_vector.weight"): length}, file)
    with pytest.raises(DataError, match="is DoRA, which needs the lengths of the base's own rows, not of weights"):
        importing_text.import_lora(str(file), base, discs, "dora", quiet, "nf4")


def test_features_are_near_those_on_the_plain_base_and_equal_a_plain_loop(opened: dict[str, Denoiser]) -> None:
    images, words = np.asarray(catalogue.by_name("discs").train.images[:2]), ["a red disc", "a blue disc"]
    settings = FeatureSettings(dataset="0" * 16, checkpoint="1" * 16, num_timesteps=2)
    grid, found = draws.timesteps("uniform", 2), {}
    for form, denoiser in opened.items():
        x, told = denoiser.encode(images), denoiser.conditions(words)
        found[form] = per_example_gradients(denoiser, x, ["train:0", "train:1"], settings, condition=told)
        t = torch.from_numpy(grid)
        eps = torch.from_numpy(draws.noise(0, "train:0", grid, denoiser.shape))
        x_t = denoiser.process.noised(x[:1].expand(2, -1, -1, -1), eps, t)
        value = denoiser.predict(x_t, t, denoiser.conditions(["a red disc"] * 2)).square().mean((1, 2, 3)).sum() / 2
        plain = torch.autograd.grad(value, [p for _, p in tracked_parameters(denoiser.network)])
        row = torch.cat([one.flatten() for one in plain])
        torch.testing.assert_close(found[form][0], row, rtol=1e-4, atol=1e-5 * float(row.abs().max()))
    for form, least, most in (("int8", 0.999, 1 - 1e-8), ("nf4", 0.95, 0.9999)):
        near = functional.cosine_similarity(found["stored"].double(), found[form].double())
        assert least < near.min()
        assert near.max() < most


def test_pictures_are_drawn_alike_and_not_the_same(opened: dict[str, Denoiser]) -> None:
    drawn = {
        form: sampling.generate(denoiser, [3], "ddim", 4, 0.0, prompts=["a red disc"], guidance=2.0).astype(int)
        for form, denoiser in opened.items()
    }
    off = {form: float(np.abs(drawn[form] - drawn["stored"]).mean()) for form in FORMS}
    assert 0 < off["int8"] < off["nf4"] < 10


def test_networks_of_pixels_have_nothing_frozen() -> None:
    with pytest.raises(SettingsError, match="has no frozen weights to hold as nf4"):
        presets.train_settings("demo", "0" * 16, form="nf4")
    with pytest.raises(SettingsError, match="there are no layers to choose"):
        presets.train_settings("demo", "0" * 16, layers="all")
    with pytest.raises(SettingsError, match="frozen int8 is for LoRA weights, which come with their base"):
        build(ImportJob, source="x", dataset="0" * 16, name="x", frozen="int8")
    assert "frozen" not in LoraSettings(base="0" * 16).model_dump(), "keys of before stay"
