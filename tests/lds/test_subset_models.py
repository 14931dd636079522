"""The models of an LDS: their subsets, what is read while they are trained, the whole by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import __version__, store
from dtrak_core.commands import answers, cli
from dtrak_core.datasets import subsets
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.demo import shipping
from dtrak_core.engine import parts, work
from dtrak_core.errors import Cancelled, SettingsError
from dtrak_core.features import losses
from dtrak_core.jobs import jobs
from dtrak_core.lds import lds, subset_losses, subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.models import checkpoints, networks, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of
from dtrak_core.training import ensembles, training


@pytest.fixture
def settings(pictures: Dataset, checkpoint: Checkpoint) -> LdsSettings:
    asked = {"targets": ("held-out:0", "held-out:5", "seed:2"), "num_timesteps": 4, "sampling_steps": 3}
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest}
    return build(LdsSettings, **where, **asked, num_subsets=3, train_seeds=2)


def test_models_go_seed_by_seed_on_the_papers_subsets(
    pictures: Dataset, checkpoint: Checkpoint, settings: LdsSettings
) -> None:
    every = subset_models.models(settings)
    assert [(one.subset, one.train_seed) for one in every] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    run = subset_models.training(pictures, checkpoint, every[4])
    drawn = subsets.subset("lds-val", 1, 24, pictures.train.labels, 0.5)
    assert run.indices == tuple(sorted(drawn.tolist()))
    assert (len(drawn), run.train_seed, run.epochs) == (12, 1, 2)
    counts = [pictures.train.labels[i] for i in drawn]
    assert {counts.count(label) for label in set(counts)} == {4}, "stratified by label"


def test_parts_are_of_the_pictures_that_a_model_has_learned_from(
    pictures: Dataset, tiny: ModelSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "completed", lambda job, _: work.run(job, quiet))
    learned = tuple(range(1, 24, 2))
    how = TrainSettings(dataset=pictures.digest, model=tiny, epochs=1, batch_size=8, indices=learned)
    training.train(pictures, how, "part", quiet)
    part = checkpoints.by_name("part", pictures.digest)
    for one in ensembles.member_trainings(part.digest, 3):
        assert len(one.indices or ()) == 6
        assert set(one.indices or ()) < set(learned)
    words = [
        "lds",
        "--dataset",
        "discs",
        "--checkpoint",
        "part",
        "--generated",
        "",
        "--held-out",
        "3",
        "--subsets",
        "3",
    ]
    words += ["--timesteps", "4", "--method", "raw-pixel-cosine", "--json"]
    assert cli.main(words) == 0
    document = json.loads(capsys.readouterr().out)
    asked = LdsSettings(**document["settings"])
    known = subset_models.read(pictures, asked)
    for one, mask in zip(subset_models.models(asked), known.masks, strict=True):
        run = subset_models.training(pictures, part, one)
        assert store.find("retrained", key_of("retrained", run)) is not None
        assert run.indices == tuple(np.flatnonzero(mask).tolist())
        assert len(run.indices) == 6
        assert set(run.indices) < set(learned)
    pixels = np.asarray(pictures.train.images, np.float64).reshape(24, -1) / 127.5 - 1
    own = np.asarray(pictures.held_out.images[:3], np.float64).reshape(3, -1) / 127.5 - 1
    cosine = (own @ pixels.T) / np.linalg.norm(own, axis=1)[:, None] / np.linalg.norm(pixels, axis=1)
    (row,) = document["rows"]
    assert row["lds"] == pytest.approx(lds.evaluate(cosine, known.masks, known.mean).mean), "sums are of these alone"
    assert subset_models.of_checkpoint(pictures.digest, part.digest) == [asked]

    whole = asked.model_copy(update={"learned": None})  # as it was asked for before
    with pytest.raises(SettingsError, match=r"'part' has learned from some of them alone\. Ask for it again"):
        subset_models.check(pictures, part, whole)
    before = subset_models.models(whole)[0]
    key = key_of("subset-losses", before)
    store.write_array(store.partial("subset-losses", key) / subset_models.LOSSES, np.zeros(3))
    store.publish("subset-losses", key, before)
    assert subset_models.of_checkpoint(pictures.digest, part.digest) == [asked]


def test_losses_are_those_of_the_trained_model_and_of_equal_noise(
    pictures: Dataset, checkpoint: Checkpoint, settings: LdsSettings
) -> None:
    (one, *_) = subset_models.models(settings.model_copy(update={"targets": ("held-out:0", "held-out:5")}))
    one = one.model_copy(update={"noise_seeds": 2})
    stored = np.asarray(subset_losses.losses_of(pictures, checkpoint, one, quiet).array(subset_models.LOSSES))
    run = subset_models.training(pictures, checkpoint, one)
    trained = store.get("retrained", key_of("retrained", run))
    denoiser = networks.load_denoiser(checkpoints.of_run(trained)[-1])
    for value, number in zip(stored, (0, 5), strict=True):
        own = targets.of_split(pictures.held_out, "held-out", number)
        each = [losses.denoising_loss(denoiser, own, 4, seed) for seed in (0, 1)]
        assert value == pytest.approx(np.mean(each), rel=1e-9)
        assert each[0] != each[1]


def test_losses_are_known_by_timestep_too_but_for_what_ships(
    pictures: Dataset, checkpoint: Checkpoint, settings: LdsSettings, tmp_path: Path
) -> None:
    (one, *_) = subset_models.models(settings.model_copy(update={"targets": ("held-out:0", "held-out:5")}))
    of_one = settings.model_copy(update={"targets": one.targets, "train_seeds": 1})
    made = subset_losses.losses_of(pictures, checkpoint, one, quiet)
    trained = store.get("retrained", key_of("retrained", subset_models.training(pictures, checkpoint, one)))
    denoiser = networks.load_denoiser(checkpoints.of_run(trained)[-1])
    own = targets.of_split(pictures.held_out, "held-out", 5)
    expected = losses.of_draws(denoiser, own.image, own.id, np.array([0, 250, 500, 750]), 0)
    np.testing.assert_allclose(made.array(subset_models.LEVELS)[1], expected, rtol=1e-6)
    late = subset_models.read(pictures, of_one, slice(2, 4))
    assert late.subsets == [0]
    assert late.losses[0, 0, 1] == pytest.approx(expected[2:].mean(), rel=1e-6)
    np.testing.assert_allclose(
        subset_models.read(pictures, of_one, slice(0, 4)).losses, subset_models.read(pictures, of_one).losses, rtol=1e-6
    )
    shipping.ship(made.path, "subset-losses", tmp_path / "shipped" / "subset-losses" / made.key)
    store.delete("subset-losses", made.key)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_DEMO", str(tmp_path / "shipped"))
        assert subset_models.read(pictures, of_one).subsets == [0]
        assert subset_models.read(pictures, of_one, slice(0, 4)).subsets == []


def test_a_stopped_run_tells_what_it_has_and_goes_on(
    pictures: Dataset, checkpoint: Checkpoint, settings: LdsSettings
) -> None:
    job = jobs.LdsJob(settings=settings)

    def stop(done: int, _total: int, _unit: str, message: str) -> None:
        if message.startswith("Model 5"):
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        work.run(job, stop)
    known = subset_models.read(pictures, settings)
    assert (known.done, known.expected, known.losses.shape) == (4, 6, (3, 2, 3))
    assert np.isnan(known.losses).all(2).tolist() == [[False, False], [False, True], [False, True]]
    np.testing.assert_allclose(known.mean[1], known.losses[1, 0])
    planned = parts.stage(job, 1)
    assert planned is not None
    assert [part.model for part in planned] == [4, 5]
    for part in planned:  # as two workers would
        work.run_part(job, part, quiet)
    assert parts.stage(job, 1) == []
    assert len(work.run(job, quiet)) == 6
    whole = subset_models.read(pictures, settings)
    assert whole.losses.shape == (3, 2, 3)
    np.testing.assert_array_equal(whole.losses[:, 0], known.losses[:, 0])
    assert whole.masks.sum(1).tolist() == [12, 12, 12]
    wider = subset_models.read(pictures, settings.model_copy(update={"num_subsets": 5}))
    assert (wider.done, wider.expected, wider.losses.shape) == (6, 10, (3, 2, 3)), "a wider run goes on from it"
    assert wider.subsets == [0, 1, 2]
    (same,) = subset_models.of_checkpoint(pictures.digest, checkpoint.digest)
    assert same == settings


def test_the_command_answers_for_each_kind_of_target(
    pictures: Dataset,
    checkpoint: Checkpoint,
    settings: LdsSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(answers, "completed", lambda job, _: work.run(job, quiet))
    words = ["lds", "--dataset", "discs", "--checkpoint", "small", "--generated", "2", "--held-out", "3"]
    words += ["--subsets", "3", "--seeds", "2", "--timesteps", "4", "--sampling-steps", "3"]
    words += ["--method", "raw-pixel-cosine", "--method", "lite0-cosine"]
    assert cli.main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["models"] == {"finished": 6, "expected": 6}
    assert {kind: part["count"] for kind, part in document["targets"].items()} == {"generated": 1, "held-out": 3}
    asked = LdsSettings(**document["settings"])
    known = subset_models.read(pictures, asked)
    found = subset_models.pictures(pictures, asked)
    pixels = np.asarray(pictures.train.images, np.float64).reshape(24, -1) / 127.5 - 1
    own = np.stack([t.image for t in found[1:]]).astype(np.float64).reshape(3, -1) / 127.5 - 1
    cosine = (own @ pixels.T) / np.linalg.norm(own, axis=1)[:, None] / np.linalg.norm(pixels, axis=1)
    expected = lds.evaluate(cosine, known.masks, known.losses[:, :, 1:].mean(1)).mean
    table = {(row["method"], row["targets"]): row for row in document["rows"]}
    assert table["raw-pixel-cosine", "held-out"]["lds"] == pytest.approx(expected)
    assert table["raw-pixel-cosine", "held-out"]["interval"] is None, "3 subsets are too few"
    assert document["targets"]["held-out"]["noise_floor"] is None, "3 pairs of seeds are too few"
    assert document["dataset"] == {"name": "discs", "digest": pictures.digest}
    assert document["checkpoint"] == {"name": "small", "digest": checkpoint.digest}
    assert document["protocol"]["train_seeds"] == 2
    assert document["versions"]["dtrak-studio"] == __version__
    assert cli.main([*words, "--so-far", "--json", "--out", str(tmp_path / "lds.json")]) == 0
    assert json.loads((tmp_path / "lds.json").read_text()) == json.loads(capsys.readouterr().out)
    assert cli.main([*words, "--so-far", "--out", str(tmp_path / "lds.txt")]) == 1
    assert "is no name for an LDS. Let it end in .csv, .json, .tex, .png." in capsys.readouterr().err
    assert cli.main([*words, "--so-far"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("small on discs: 3 subsets, 50 % each, 6 of 6 models, 2 training seeds, losses at 4 timest")
    assert "3 held-out targets. A perfect attribution could reach: not known" in told


def test_more_timesteps_than_the_schedule_has_are_refused_before_a_model_is_trained(
    pictures: Dataset, checkpoint: Checkpoint, settings: LdsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset_models.check(pictures, checkpoint, asked := settings.model_copy(update={"num_timesteps": 1000}))
    monkeypatch.setattr(checkpoints, "process_of", lambda checkpoint: ("noise", 500))
    with pytest.raises(SettingsError, match="500"):
        subset_models.check(pictures, checkpoint, asked)


def test_too_little_is_said(pictures: Dataset, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lds", "--dataset", "discs", "--checkpoint", "small", "--generated", "", "--so-far"]
    assert cli.main([*words, "--held-out", "2"]) == 1
    assert "0 of 32 models are finished" in capsys.readouterr().err
    assert cli.main([*words, "--held-out", "0"]) == 1
    assert "No target was given" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"num_subsets": 2}, {"num_subsets": 257}, {"share": 1.0}, {"targets": ()}])
def test_settings_refuse_what_has_no_meaning(settings: LdsSettings, change: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        build(LdsSettings, **(settings.model_dump() | change))
