"""Training: the schedule, resuming to the bit, checkpoints, any index set, what is refused."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file

from dtrak_core import store
from dtrak_core.datasets import thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import Cancelled, DataError, NotFoundError, SettingsError
from dtrak_core.methods import scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, networks, sampling
from dtrak_core.models.denoiser import NOTHING
from dtrak_core.models.settings import ModelSettings, Prediction, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import presets, probes, training, training_run


def settings_for(pictures: Dataset, tiny: ModelSettings, **changes: object) -> TrainSettings:
    values = {"epochs": 20, "batch_size": 8, "train_seed": 1, **changes}
    return TrainSettings(dataset=pictures.digest, model=tiny, **values)  # type: ignore[arg-type]


def weights(run: store.Artifact, share: int = 100) -> dict[str, torch.Tensor]:
    folder = next(s["folder"] for s in run.manifest["steps"] if s["share"] == share)
    return load_file(run.path / folder / "unet" / networks.WEIGHTS)


def test_a_run_is_published_with_its_checkpoints_curve_and_grids(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "GRID_SEEDS", tuple(range(16)))
    said: list[tuple[int, int, str]] = []
    run = training.train(pictures, settings_for(pictures, tiny), "run", lambda d, t, u, m: said.append((d, t, u)))
    facts = run.manifest
    assert [s["share"] for s in facts["steps"]] == [25, 50, 75, 100]
    assert [s["step"] for s in facts["steps"]] == [15, 30, 45, 60]
    assert said[-1] == (60, 60, "training steps")
    assert facts["examples"] == 24
    lines = [json.loads(line) for line in run.file("metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert lines[-1]["loss"] < lines[0]["loss"]
    drawn = sampling.generate(networks.load_denoiser(checkpoints.of_run(run)[-1]), range(16), "ddim", 50, 0.0)
    assert run.file("grid-100.png").read_bytes() == thumbnails.sheet(drawn)
    assert not (run.path / training_run.RESUME).exists()


def test_a_run_that_was_stopped_and_resumed_ends_in_the_same_weights(
    pictures: Dataset, tiny: ModelSettings, tmp_path: Path
) -> None:
    model = tiny.model_copy(update={"dropout": 0.1})
    settings = settings_for(pictures, model, ema_decay=0.9)
    whole = weights(training.train(pictures, settings, "whole", quiet))
    store.delete("checkpoints", key_of("checkpoints", settings))

    def stop(done: int, total: int, unit: str, message: str) -> None:
        if done == 40:
            raise Cancelled("stopped by the test")

    with pytest.raises(Cancelled):
        training.train(pictures, settings, "again", stop)
    assert checkpoints.listing() == []
    steps: list[int] = []
    resumed = training.train(pictures, settings, "again", lambda d, t, u, m: steps.append(d))
    assert steps[0] == 41  # went on from 40, not from the start
    for name, value in weights(resumed).items():
        assert torch.equal(value, whole[name]), name


def test_a_stop_while_it_is_published_costs_no_training(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, publish = settings_for(pictures, tiny, epochs=4), store.publish

    def stopped(*args: object, **facts: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "publish", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.train(pictures, settings, "run", quiet)
    monkeypatch.setattr(store, "publish", publish)
    said: list[int] = []
    run = training.train(pictures, settings, "run", lambda done, total, unit, message: said.append(done))
    assert said == [], "all steps were taken"
    assert run.manifest["steps"][-1]["step"] == 12
    assert [path.name for path in run.path.iterdir() if path.name == training_run.RESUME] == []
    assert training_run.RESUME not in run.manifest["files"]


def test_a_training_that_diverged_is_told_and_not_done_again(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(pictures, tiny, epochs=1)
    monkeypatch.setattr(training_run, "step", lambda *args: math.nan)
    with pytest.raises(DataError, match=r"diverged: its loss is nan\. Train with a lower learning rate"):
        training.train(pictures, settings, "run", quiet, kind="retrained")
    monkeypatch.setattr(training_run, "step", lambda *args: pytest.fail("it was trained to its end"))
    with pytest.raises(DataError, match="diverged"):
        training.train(pictures, settings, "run", quiet, kind="retrained")


@pytest.mark.parametrize("prediction", ["sample", "v", "flow"])
def test_a_network_may_predict_the_picture_v_or_flow(
    pictures: Dataset, tiny: ModelSettings, prediction: Prediction
) -> None:
    model = ModelSettings(**tiny.model_dump() | {"prediction": prediction})
    run = training.train(pictures, settings_for(pictures, model, epochs=16), prediction, quiet)
    losses = [json.loads(line)["loss"] for line in run.file("metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    checkpoint = checkpoints.by_name(prediction, pictures.digest)
    assert networks.load_denoiser(checkpoint).process.prediction == prediction
    if prediction == "flow":  # diffusers has no pipeline for a UNet2DModel of flow
        FlowMatchEulerDiscreteScheduler.from_pretrained(checkpoint.folder, subfolder="scheduler")
        assert UNet2DModel.from_pretrained(checkpoint.folder, subfolder="unet").config.in_channels == 12
    else:
        theirs = DDPMPipeline.from_pretrained(checkpoint.folder).scheduler.config.prediction_type
        assert theirs == {"sample": "sample", "v": "v_prediction"}[prediction]
    assert checkpoints.prediction_of(checkpoint) == prediction


def test_what_is_predicted_is_part_of_a_model_and_noise_leaves_no_trace(tiny: ModelSettings, tmp_path: Path) -> None:
    assert "prediction" not in tiny.model_dump(mode="json")
    keys, digests = set(), set()
    for prediction in get_args(Prediction):
        model = ModelSettings(**tiny.model_dump() | {"prediction": prediction})
        keys.add(key_of("checkpoints", TrainSettings(dataset="0" * 16, model=model)))
        denoiser = networks.untrained(model, 16, 1, "0" * 16)  # equal weights
        digests.add(networks.save_weights(denoiser, tmp_path / prediction, torch.float32))
    assert len(keys) == len(digests) == 4


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("at_once", [5, 2])
def test_the_loss_of_a_step_is_that_of_its_formula(tiny: ModelSettings, prediction: Prediction, at_once: int) -> None:
    """With weights 1 / (1 - abar) where the picture is predicted, 400 at most: 1 - abar is 1e-4 at timestep 0."""
    model = ModelSettings(**tiny.model_dump() | {"prediction": prediction})
    denoiser = networks.untrained(model, 16, 3, "0" * 16)
    run = training_run.Run(denoiser, torch.optim.AdamW([denoiser.weight]), None, at_once=at_once)
    random = torch.Generator().manual_seed(1)
    x0, noise = (torch.randn(5, *denoiser.shape, generator=random) for _ in range(2))
    t = torch.tensor([0, 5, 100, 500, 999])
    found = training_run.backward(run, x0, noise, t, NOTHING)
    gradients = [p.grad.clone() for p in run.weights if p.grad is not None]
    bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[t.numpy()]
    a, s = (torch.tensor(one, dtype=torch.float32).view(-1, 1, 1, 1) for one in (np.sqrt(bar), np.sqrt(1 - bar)))
    told = t
    if prediction == "flow":
        told = t + 1.0
        a, s = (1 - told / 1000).view(-1, 1, 1, 1), (told / 1000).view(-1, 1, 1, 1)
    target = {"noise": noise, "sample": x0, "v": a * noise - s * x0, "flow": noise - x0}[prediction]
    weight = np.minimum(1 / (1 - bar), 400) if prediction == "sample" else np.ones(5)
    each = (denoiser.network(a * x0 + s * noise, told).sample - target).square().mean((1, 2, 3))
    expected = (torch.tensor(weight, dtype=torch.float32) * each).mean()
    assert found == pytest.approx(float(expected.detach()), rel=1e-4)
    for ours, plain in zip(gradients, torch.autograd.grad(expected, run.weights), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()) + 1e-7)


def test_presets_train_what_is_asked_for() -> None:
    assert presets.train_settings("picture", "0" * 16).model.prediction == "sample"  # type: ignore[union-attr]
    asked = presets.train_settings("cifar", "0" * 16, prediction="v").model
    assert asked == presets.CIFAR.model_copy(update={"prediction": "v"})
    assert presets.train_settings("demo", "0" * 16, prediction="noise") == presets.train_settings("demo", "0" * 16)
    with pytest.raises(SettingsError, match="LoRA weights predict what their base does"):
        presets.train_settings("lora", "0" * 16, base="1" * 16, prediction="sample")


def test_the_same_settings_are_trained_once(pictures: Dataset, tiny: ModelSettings) -> None:
    settings = settings_for(pictures, tiny, epochs=4)
    steps: list[int] = []
    first = training.train(pictures, settings, "one", lambda done, t, u, m: steps.append(done))
    told = len(steps)
    second = training.train(pictures, settings, "two", lambda done, t, u, m: steps.append(done))
    assert told > 0
    assert len(steps) == told, "no step was done again"
    assert [c.digest for c in checkpoints.of_run(second)] == [c.digest for c in checkpoints.of_run(first)]


def test_another_seed_or_index_set_gives_other_weights(pictures: Dataset, tiny: ModelSettings) -> None:
    base = weights(training.train(pictures, settings_for(pictures, tiny, epochs=4), "a", quiet))
    for changes in ({"train_seed": 2}, {"indices": tuple(range(1, 24))}):
        other = weights(training.train(pictures, settings_for(pictures, tiny, epochs=4, **changes), "b", quiet))
        assert any(not torch.equal(value, base[name]) for name, value in other.items())


def test_left_out_pictures_are_never_seen(pictures: Dataset, tiny: ModelSettings) -> None:
    kept = tuple(i for i in range(24) if i % 4)
    settings = settings_for(pictures, tiny, epochs=4, indices=kept)
    seen: list[np.ndarray] = []

    class Watched(type(pictures.train.images)):  # type: ignore[misc]
        def __getitem__(self, item: object) -> np.ndarray:
            if isinstance(item, np.ndarray):
                seen.append(item)
            return super().__getitem__(item)

    watched = pictures.train.__class__(pictures.train.images.view(Watched), pictures.train.rows)
    import dataclasses

    training.train(dataclasses.replace(pictures, train=watched), settings, "part", quiet)
    assert set(np.concatenate(seen).tolist()) == set(kept)


def test_epochs_not_steps_are_held_fixed(pictures: Dataset, tiny: ModelSettings) -> None:
    settings = settings_for(pictures, tiny)
    assert settings.steps(24) == 60
    assert settings.model_copy(update={"indices": tuple(range(12))}).steps(24) == 40


def test_the_rate_warms_up_and_falls_to_nothing(pictures: Dataset, tiny: ModelSettings) -> None:
    settings = settings_for(pictures, tiny, learning_rate=1e-3, warmup=0.1)
    rates = [training_run.learning_rate(settings.learning_rate, settings.warmup, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert rates[-1] < 1e-6


def test_half_precision_weights_are_those_that_are_sampled_from(pictures: Dataset, tiny: ModelSettings) -> None:
    settings = settings_for(pictures, tiny, epochs=4, weights_dtype="float16")
    run = training.train(pictures, settings, "half", quiet)
    assert {value.dtype for value in weights(run).values()} == {torch.float16}
    whole = training.train(pictures, settings_for(pictures, tiny, epochs=4), "whole", quiet)
    for name, value in weights(whole).items():
        assert torch.equal(value.half(), weights(run)[name])


@pytest.mark.parametrize(
    ("epochs", "kept"),
    [(1, {100: 1}), (2, {50: 1, 100: 2}), (3, {25: 1, 75: 2, 100: 3}), (5, {25: 1, 50: 2, 75: 4, 100: 5})],
)
def test_a_short_training_keeps_each_step_once(
    pictures: Dataset, tiny: ModelSettings, epochs: int, kept: dict[int, int]
) -> None:
    settings = settings_for(pictures, tiny, epochs=epochs, batch_size=24)
    run = training.train(pictures, settings, "short", quiet)
    assert {one.share: one.step for one in checkpoints.of_run(run)} == kept
    assert len({one.digest for one in checkpoints.of_run(run)}) == len(kept)
    last = checkpoints.by_name("short", pictures.digest)
    assert networks.load_denoiser(last).network.training is False
    if epochs < 4:
        with pytest.raises(NotFoundError, match=r"TracInCP compares checkpoints at .* for at least 4 steps"):
            scores.models_of(METHODS["tracin-cp"], pictures.digest, last.digest)


def test_the_same_training_under_another_name_has_it(pictures: Dataset, tiny: ModelSettings) -> None:
    settings = settings_for(pictures, tiny, epochs=4, batch_size=24)
    run = training.train(pictures, settings, "one", quiet)

    def never(done: int, total: int, unit: str, message: str) -> None:
        raise AssertionError("trained again")

    assert [c.name for c in checkpoints.of_run(training.train(pictures, settings, "two", never))][-1] == "two"
    first, second = checkpoints.by_name("one", pictures.digest), checkpoints.by_name("two", pictures.digest)
    assert (first.digest, first.run.key) == (second.digest, run.key)
    assert checkpoints.by_name("two@50", pictures.digest).digest == checkpoints.by_name("one@50").digest
    assert checkpoints.training_of(second) == settings
    other = training.train(pictures, settings_for(pictures, tiny, epochs=1, batch_size=24), "two", quiet)
    assert checkpoints.by_name("two").run.key == other.key  # the newest wins
    training.train(pictures, settings, "two", never)
    assert checkpoints.by_name("two").run.key == run.key  # and so does what is asked for again
    assert sorted({c.name for c in checkpoints.listing() if "@" not in c.name}) == ["one", "two"]


@pytest.mark.parametrize(
    ("indices", "told"),
    [((24,), "no training picture 24: there are 24"), ((-1, 3), "no training picture -1"), ((), "No training picture")],
)
def test_indices_outside_the_dataset_are_refused(
    pictures: Dataset, tiny: ModelSettings, indices: tuple[int, ...], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        training.train(pictures, settings_for(pictures, tiny, indices=indices), "bad", quiet)


def test_settings_for_another_dataset_are_refused(pictures: Dataset, tiny: ModelSettings) -> None:
    with pytest.raises(SettingsError, match="The settings are for dataset aaaaaaaaaaaaaaaa"):
        training.train(pictures, TrainSettings(dataset="a" * 16, model=tiny), "bad", quiet)


def test_a_last_batch_that_is_not_full_counts_its_own_pictures(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(0.0, 10.0)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    settings = settings_for(pictures, tiny, indices=tuple(range(9)), epochs=2, batch_size=8)
    found = training.train(pictures, settings, "retrained", quiet, "retrained").manifest
    assert found["seconds_per_picture_step"] * 2 * 9 == pytest.approx(found["seconds"])


def test_a_probe_measures_seconds_a_picture(cache: Path, tiny: ModelSettings) -> None:
    found = probes.probe(tiny, 16, 4, quiet)
    assert 0 < found.manifest["seconds_per_picture_step"] < 1
    assert found.manifest["parameters"] == sum(
        p.numel() for p in networks.untrained(tiny, 16, 0, "0" * 16).network.parameters()
    )
    assert probes.probe(tiny, 16, 4, quiet).manifest["date"] == found.manifest["date"]
    again = probes.probe(tiny, 16, 4, quiet, presets.next_probe(presets.probes(tiny, 16, 4)))
    assert [probe.key for probe in presets.probes(tiny, 16, 4)] == [found.key, again.key]
    assert again.manifest["load"] >= 0
    assert presets.next_probe(presets.probes(tiny, 16, 4)) == 2


def test_the_average_of_the_weights_keeps_no_history(pictures: Dataset, tiny: ModelSettings) -> None:
    settings = settings_for(pictures, tiny, ema_decay=0.5)
    run = training.start(settings, 16)
    before = [p.detach().clone() for p in run.weights]
    training_run.step(run, pictures, settings, np.arange(8), 10)
    assert run.average is not None
    for average, old, new in zip(run.average, before, run.weights, strict=True):
        assert average.grad_fn is None
        torch.testing.assert_close(average, (old + new.detach()) / 2)


def test_a_step_is_taken_on_a_device_without_torchs_foreach(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apple's GPUs are such: torch refuses to be told foreach=True there."""
    settings = settings_for(pictures, tiny)
    run = training.start(settings, 16)
    with monkeypatch.context() as patch:
        for module in (torch.nn.utils.clip_grad, torch.utils._foreach_utils):
            patch.setattr(module, "_device_has_foreach_support", lambda device: False)
        training_run.step(run, pictures, settings, np.arange(8), 10)
    usual = training.start(settings, 16)
    training_run.step(usual, pictures, settings, np.arange(8), 10)
    for one, other in zip(run.weights, usual.weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
