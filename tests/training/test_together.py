"""Models trained together are those of their settings trained alone."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import text_helpers
import torch
from safetensors.torch import load_file
from torch.nn import functional

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import Cancelled, DataError
from dtrak_core.models import bases, checkpoints, lora, networks
from dtrak_core.models.settings import Layers, LoraSettings, ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import products, retrained, together, training
from dtrak_core.training.feeding import Batch, Feed


def wanted(pictures: Dataset, tiny: ModelSettings, **changes: object) -> list[TrainSettings]:
    parts = [tuple(range(0, 20)), tuple(range(4, 24)), tuple(range(2, 22))]
    values = {"epochs": 6, "batch_size": 8, "flip": True, "ema_decay": 0.9, **changes}
    return [
        TrainSettings(dataset=pictures.digest, model=tiny, indices=part, train_seed=seed, **values)  # type: ignore[arg-type]
        for part, seed in zip(parts, (1, 2, 1), strict=True)
    ]


def weights(run: store.Artifact) -> dict[str, torch.Tensor]:
    return load_file(run.path / run.manifest["steps"][-1]["folder"] / "unet" / networks.WEIGHTS)


def lora_of(run: store.Artifact) -> dict[str, torch.Tensor]:
    return load_file(run.path / run.manifest["steps"][-1]["folder"] / lora.FILE)


def alone(pictures: Dataset, settings: TrainSettings) -> tuple[dict[str, torch.Tensor], float]:
    run = training.train(pictures, settings, "alone", quiet, "retrained")
    found = weights(run), run.manifest["final_loss"]
    store.delete("retrained", run.key)
    return found


@pytest.mark.parametrize("change", [{"prediction": "noise"}, {"prediction": "sample"}, {"precision": "bfloat16"}])
def test_models_trained_together_are_those_trained_alone(
    pictures: Dataset, tiny: ModelSettings, change: dict[str, str]
) -> None:
    each = wanted(pictures, tiny.model_copy(update=change))
    expected = [alone(pictures, one) for one in each]
    assert together.groups(pictures, each) == [each]
    said: list[int] = []
    found = together.train(pictures, each, lambda done, total, unit, message: said.append(done))
    assert said[-1] == 3 * 18
    half = "precision" in change  # Adam turns what rounding leaves of a small gradient into a whole step
    for run, (own, loss) in zip(found, expected, strict=True):
        assert run.manifest["final_loss"] == pytest.approx(loss, rel=1e-3 if half else 1e-4)
        for name, value in weights(run).items() if not half else ():
            torch.testing.assert_close(value, own[name], rtol=1e-3, atol=1e-4)
    assert together.groups(pictures, each) == []


def test_a_group_that_memory_does_not_hold_is_let_go_before_its_halves_train(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = wanted(pictures, tiny, epochs=1)
    each = [first, second, third, third.model_copy(update={"train_seed": 9})]
    real, seen, sizes = together.of, list[weakref.ref[together.Group]](), list[int]()

    def small(dataset: Dataset, group: Sequence[TrainSettings]) -> tuple[together.Group, Feed]:
        assert [one for one in seen if one() is not None] == [], "the group before holds its memory still"
        made, feed = real(dataset, group)
        seen.append(weakref.ref(made))
        sizes.append(len(group))

        def step(*args: object) -> torch.Tensor:
            raise RuntimeError("MPS backend out of memory" if len(group) == 2 else "CUDA out of memory")

        made.step = step  # type: ignore[method-assign]
        return made, feed

    monkeypatch.setattr(together, "of", small)
    found = together.train(pictures, each, quiet)
    assert sizes == [4, 2, 2]
    assert [run.manifest["steps"][-1]["step"] for run in found] == [3] * 4, "each was trained alone"
    monkeypatch.setattr(together, "_trained", lambda *args: (_ for _ in ()).throw(RuntimeError("another error")))
    with pytest.raises(RuntimeError, match="another error"):
        together.train(pictures, wanted(pictures, tiny, epochs=2), quiet)


def test_of_several_workers_each_trains_its_share(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = wanted(pictures, tiny, epochs=1)[0]
    each = [first.model_copy(update={"train_seed": seed}) for seed in range(7)]
    groups: list[list[int]] = []
    monkeypatch.setattr(together, "worthwhile", lambda: True)
    monkeypatch.setattr(together, "train", lambda _d, group, _p: groups.append([one.train_seed for one in group]))
    monkeypatch.setattr(training, "train", lambda *args, **kind: None)
    monkeypatch.setattr(checkpoints, "of_run", lambda run: [None])
    monkeypatch.setattr(networks, "load_denoiser", lambda one: None)
    for number in range(3):
        retrained.retrained(pictures, each[number], quiet, lambda: each, 3)
    assert [sorted(one) for one in groups] == [[0, 3, 6], [1, 4], [2, 5]]
    retrained.retrained(pictures, each[2], quiet, lambda: each)
    assert sorted(groups[-1]) == list(range(7))


def test_what_is_cancelled_goes_on_alone(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = wanted(pictures, tiny)
    expected = [alone(pictures, one) for one in each]
    monkeypatch.setattr(together, "SAID_EVERY", 5)

    def stop(done: int, total: int, unit: str, message: str) -> None:
        if done == 30:
            raise Cancelled("stopped by the test")

    with pytest.raises(Cancelled):
        together.train(pictures, each, stop)
    assert together.groups(pictures, each) == []
    steps: list[int] = []
    for one, (own, _) in zip(each, expected, strict=True):
        run = training.train(pictures, one, "", lambda done, *_: steps.append(done), "retrained")
        for name, value in weights(run).items():
            torch.testing.assert_close(value, own[name], rtol=1e-3, atol=1e-4)
    assert steps[0] == 11


def test_only_small_networks_of_one_size_are_trained_together(pictures: Dataset, tiny: ModelSettings) -> None:
    each = wanted(pictures, tiny)
    other = each[0].model_copy(update={"indices": tuple(range(5))})
    assert together.groups(pictures, [*each, other]) == [each]
    for change in ({"dropout": 0.1}, {"channels": (512, 512)}):
        assert together.groups(pictures, wanted(pictures, tiny.model_copy(update=change))) == []
    training.train(pictures, each[0], "", quiet, "retrained")
    assert together.groups(pictures, each) == [each[1:]]


def test_on_a_gpu_a_model_is_trained_with_those_wanted_next(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "worthwhile", lambda: True)
    each = wanted(pictures, tiny, epochs=1)
    first = retrained.retrained(pictures, each[1], quiet, lambda: each)
    stored = [store.find("retrained", key_of("retrained", one)) for one in each]
    assert all(stored)
    own = weights(stored[1])  # type: ignore[arg-type]
    for name, value in first.network.state_dict().items():
        torch.testing.assert_close(value, own[name])


def test_a_model_that_diverges_takes_none_of_its_group_along(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "worthwhile", lambda: True)
    each = sorted(wanted(pictures, tiny, epochs=1), key=lambda one: key_of("retrained", one))
    real = together.stepping

    def first_diverges(group: together.Group, feed: Feed) -> Callable[[Batch, float], torch.Tensor]:
        step, at_first = real(group, feed), torch.tensor([torch.nan, 0.0, 0.0])
        return lambda batch, rate: step(batch, rate) + at_first

    monkeypatch.setattr(together, "stepping", first_diverges)
    assert retrained.retrained(pictures, each[1], quiet, lambda: each).shape == (12, 8, 8)
    assert [store.find("retrained", key_of("retrained", one)) is not None for one in each] == [False, True, True]
    with pytest.raises(DataError, match="The training diverged: its loss is nan"):
        retrained.retrained(pictures, each[0], quiet, lambda: each)


@pytest.mark.parametrize("layers", ["attention", "all"])
def test_lora_weights_trained_together_are_those_trained_alone(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: Layers
) -> None:
    discs, base = text_helpers.captioned(tmp_path / "discs"), text_helpers.small_base(tmp_path / "base")
    model = LoraSettings(base=base.digest, rank=4, dropout=0.0, targets=bases.layers(base.digest, layers))
    parts = [tuple(range(0, 20)), tuple(range(4, 24)), tuple(range(2, 22))]
    each = [
        TrainSettings(
            dataset=discs.digest, model=model, indices=part, train_seed=seed, epochs=6, batch_size=8, learning_rate=1e-3
        )
        for part, seed in zip(parts, (1, 2, 1), strict=True)
    ]
    expected = []
    for one in each:
        run = training.train(discs, one, "alone", quiet, "retrained")
        expected.append((lora_of(run), run.manifest["final_loss"]))
        store.delete("retrained", key_of("retrained", one))
    assert together.groups(discs, each) == [each]
    with monkeypatch.context() as patch:
        patch.setattr(together, "LARGEST", 1000)
        assert together.groups(discs, each) == []
    for run, (own, loss) in zip(together.train(discs, each, quiet), expected, strict=True):
        assert run.manifest["final_loss"] == pytest.approx(loss, rel=1e-4)
        for name, value in lora_of(run).items():
            torch.testing.assert_close(value, own[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(3, 1, 1), (3, 1, 0), (5, 1, 3), (3, 2, 1), (1, 1, 0), (1, 2, 0)]
)
def test_convolutions_of_many_models_as_products(side: int, stride: int, padding: int) -> None:
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64, generator=random, requires_grad=True)
        for shape in ((3, 2, 5, 8, 8), (3, 7, 5, side, side), (3, 7))
    )
    plain = functools.partial(functional.conv2d, stride=stride, padding=padding)
    expected = torch.stack([plain(*each) for each in zip(x, weight, bias, strict=True)])
    with products.mapped():
        found = torch.func.vmap(plain)(x, weight, bias)
    torch.testing.assert_close(found, expected)
    grads = (torch.autograd.grad(y.square().sum(), (x, weight, bias)) for y in (found, expected))
    for own, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(own, theirs)


def test_layers_of_many_models_are_in_the_format_of_autocast() -> None:
    x, weight = torch.randn(3, 2, 4, 8, 8), torch.randn(3, 5, 4, 3, 3)
    shared = torch.nn.Parameter(weight[0])
    with torch.autocast("cpu", torch.bfloat16), products.mapped():
        own = torch.func.vmap(functional.conv2d)(x, weight)
        theirs = torch.func.vmap(lambda one: functional.conv2d(one, shared))(x)
        flat = torch.func.vmap(functional.linear)(x.flatten(2), torch.randn(3, 7, 256))
    assert own.dtype == theirs.dtype == flat.dtype == torch.bfloat16
    torch.testing.assert_close(own[0], theirs[0])
