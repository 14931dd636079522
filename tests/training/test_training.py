"""Training: the schedule, resuming to the bit, checkpoints, any index set, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import Cancelled, NotFoundError, SettingsError
from dtrak_core.methods import scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, networks
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import presets, training, training_state, training_step


@pytest.fixture(autouse=True)
def small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one picture at each checkpoint: grids cost most of a training this small."""
    monkeypatch.setattr(training, "GRID_SEEDS", (0,))


def settings_for(pictures: Dataset, tiny: ModelSettings, **changes: object) -> TrainSettings:
    values = {"epochs": 20, "batch_size": 8, "train_seed": 1, **changes}
    return TrainSettings(dataset=pictures.digest, model=tiny, **values)  # type: ignore[arg-type]


def weights(run: store.Artifact, share: int = 100) -> dict[str, torch.Tensor]:
    folder = next(s["folder"] for s in run.manifest["steps"] if s["share"] == share)
    return load_file(run.path / folder / "unet" / networks.WEIGHTS)


def test_a_run_is_published_with_its_checkpoints_curve_and_grids(pictures: Dataset, tiny: ModelSettings) -> None:
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
    assert run.file("grid-100.png").read_bytes().startswith(b"\x89PNG")
    assert not (run.path / training_state.RESUME).exists()


def test_a_run_that_was_stopped_and_resumed_ends_in_the_same_weights(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
    assert training.total_steps(settings, 24) == 60
    assert training.total_steps(settings, 12) == 40


def test_the_rate_warms_up_and_falls_to_nothing(pictures: Dataset, tiny: ModelSettings) -> None:
    settings = settings_for(pictures, tiny, learning_rate=1e-3, warmup=0.1)
    rates = [training_step.learning_rate(settings.learning_rate, settings.warmup, step, 100) for step in range(100)]
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
    assert networks.load_denoiser(last).unet.training is False
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


@pytest.mark.parametrize("indices", [(24,), (-1, 3), ()])
def test_indices_outside_the_dataset_are_refused(
    pictures: Dataset, tiny: ModelSettings, indices: tuple[int, ...]
) -> None:
    with pytest.raises(SettingsError, match=r"Training indices must lie in 0\.\.23"):
        training.train(pictures, settings_for(pictures, tiny, indices=indices), "bad", quiet)


def test_settings_for_another_dataset_are_refused(pictures: Dataset, tiny: ModelSettings) -> None:
    with pytest.raises(SettingsError, match="The settings are for dataset aaaaaaaaaaaaaaaa"):
        training.train(pictures, TrainSettings(dataset="a" * 16, model=tiny), "bad", quiet)


def test_a_probe_measures_seconds_a_picture(cache: Path, tiny: ModelSettings) -> None:
    found = training.probe(tiny, 16, 4, quiet)
    assert 0 < found.manifest["seconds_per_picture_step"] < 1
    assert training.probe(tiny, 16, 4, quiet).manifest["date"] == found.manifest["date"]
    again = training.probe(tiny, 16, 4, quiet, presets.next_probe(presets.probes(tiny, 16, 4)))
    assert [probe.key for probe in presets.probes(tiny, 16, 4)] == [found.key, again.key]
    assert again.manifest["load"] >= 0
    assert presets.next_probe(presets.probes(tiny, 16, 4)) == 2
