"""The doctor: each check against a slow computation, planted faults found first, trials, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtrak_core import api, store
from dtrak_core.commands import cli
from dtrak_core.counterfactual import doctor_sheet, trials
from dtrak_core.counterfactual.trials import Trial
from dtrak_core.datasets import catalogue, memory
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.features import draws, losses
from dtrak_core.jobs import asking
from dtrak_core.jobs.question_jobs import SuspicionJob, TrialJob
from dtrak_core.methods import doctor, scores, suspicions
from dtrak_core.methods.doctor import Suspects
from dtrak_core.models import checkpoints, networks
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.ui.doctor import without


def test_planted_duplicates_are_first(checkpoint: Checkpoint) -> None:
    random = np.random.default_rng(0)
    images = np.kron(random.integers(0, 256, (200, 4, 4, 3)), np.ones((1, 4, 4, 1), int)).astype(np.uint8)
    changed = np.clip(images[:20].astype(int) + random.integers(-9, 10, images[:20].shape), 0, 255).astype(np.uint8)
    dataset = catalogue.load(memory.keep(np.concatenate([images, changed]), None, None, None, images[:8], "planted"))
    found = doctor.find("duplicates", dataset, checkpoint)
    assert set(found.order[:40].tolist()) == {*range(20), *range(200, 220)}
    assert found.partner is not None
    assert [int(found.partner[i]) for i in (0, 19, 200)] == [200, 219, 0]
    pixels = dataset.train.images.reshape(220, -1) / 127.5 - 1
    away = np.sqrt(((pixels[5] - pixels) ** 2).mean(1))
    assert found.values[5] == pytest.approx(np.delete(away, 5).min(), rel=1e-5)


def test_leverage_and_help_are_those_of_the_features(pictures: Dataset, checkpoint: Checkpoint) -> None:
    with pytest.raises(NotFoundError, match="Compute it first"):
        doctor.find("self", pictures, checkpoint)
    for check in ("self", "unhelpful"):
        plan = doctor.plan_of(check, pictures, checkpoint)
        assert plan is not None
        for sampled, some in asking.sets(plan, Sampled()):
            part = scores.resolve(plan.method, pictures, checkpoint.digest, some, plan.features)
            for job in asking.jobs_for([part], sampled):
                work.run(job, quiet)
    found = doctor.find("self", pictures, checkpoint)
    features = store.listing("features")[0]
    from dtrak_core.features import feature_store

    rows = np.concatenate([part for _, part in feature_store.blocks(features)]).astype(np.float64)
    gram = rows @ rows.T
    hat = np.diag(gram @ np.linalg.inv(gram + found.facts["damping"] * np.eye(24)))
    assert found.values == pytest.approx(hat, rel=1e-3)
    helped = doctor.find("unhelpful", pictures, checkpoint)
    own = doctor.held_out(pictures)
    wanted = scores.score(scores.resolve("d-trak", pictures, checkpoint.digest, own)).values.mean(0)
    assert helped.order.tolist() == np.argsort(wanted, kind="stable").tolist()


def test_held_out_pictures_that_all_equal_training_ones_are_not_said_to_be_none(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.copies, "reference_of", lambda dataset: [])
    assert "nearly equals a training picture" in doctor.refusal("unhelpful", pictures, checkpoint)
    with pytest.raises(SettingsError, match=r"Each held-out picture of 'discs' nearly equals a training picture, so"):
        trials.settings_for(pictures, checkpoint, [3])
    none = dataclasses.replace(pictures, held_out=dataclasses.replace(pictures.held_out, rows=[]))
    assert doctor.refusal("unhelpful", none, checkpoint).startswith("No picture of 'discs' is held out, so")
    with pytest.raises(SettingsError, match=r"No picture of 'discs' is held out, so no loss"):
        trials.settings_for(none, checkpoint, [3])


def test_swapped_labels_are_doubted_where_the_model_knows_them(
    cache: Path, pictures: Dataset, trained_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Independent: losses draw by draw; a network that is told all colours but two rightly doubts these."""
    import shutil

    shutil.copytree(trained_classes / "checkpoints", cache / "checkpoints")
    checkpoint = checkpoints.by_name("classes", pictures.digest)
    captions = suspicions.told(checkpoint, pictures)
    against = suspicions.others(captions, 4)
    assert all(sorted({*some, own}) == ["blue", "green", "red"] for own, some in zip(captions, against, strict=True))
    settings = suspicions.settings_of(pictures, checkpoint).model_copy(update={"num_timesteps": 2})
    monkeypatch.setattr(suspicions, "settings_of", lambda *_: settings)
    work.run(SuspicionJob(settings=settings), quiet)
    values = doctor.find("captions", pictures, checkpoint).values
    denoiser = networks.load_denoiser(checkpoint)
    grid = draws.timesteps("uniform", 2)
    image = pictures.train.images[3]
    each = {one: losses.of_draws(denoiser, image, "train:3", grid, 0, one).mean() for one in ("red", "green", "blue")}
    own = captions[3]
    assert values[3] == pytest.approx(each[own] - np.mean([each[one] for one in each if one != own]), rel=1e-5)

    def right(
        network: object, image: np.ndarray, _id: str, timesteps: np.ndarray, _seed: int, prompt: str
    ) -> np.ndarray:
        true = ("red", "green", "blue")[int(np.argmax(image.reshape(-1, 3).min(0)))]
        return np.full(len(timesteps), 0.0 if prompt == true else 1.0)

    monkeypatch.setattr(losses, "of_draws", right)
    true = [("red", "green", "blue")[int(np.argmax(one.reshape(-1, 3).min(0)))] for one in pictures.train.images]
    swapped = [*true]
    swapped[4], swapped[5] = true[5], true[4]
    assert true[4] != true[5]
    monkeypatch.setattr(suspicions, "told", lambda *_: swapped)
    monkeypatch.setattr(suspicions, "settings_of", lambda *_: settings.model_copy(update={"others": 1}))
    work.run(SuspicionJob(settings=settings.model_copy(update={"others": 1})), quiet)
    found = doctor.find("captions", pictures, checkpoint)
    assert sorted(found.order[:2].tolist()) == [4, 5]


def test_a_trial_trains_every_arm_alike_and_counts_sets(pictures: Dataset, checkpoint: Checkpoint) -> None:
    settings = trials.settings_for(pictures, checkpoint, [5, 3, 3], random_draws=1)
    assert settings.removed == (3, 5)
    arms = trials.arms(pictures, checkpoint, settings)
    assert [len(one.removed) for one in arms] == [0, 2, 2]
    assert "training" in trials.cost(pictures, checkpoint, settings).by_name
    settings = settings.model_copy(update={"targets": settings.targets[:2], "num_timesteps": 2})
    (made,) = work.run(TrialJob(settings=settings), quiet)
    values = made.array("losses.npy")
    assert values.shape == (3, 1, 2)
    seeds = {run.settings["train_seed"] for run in store.listing("retrained")}
    assert seeds == {checkpoints.training_of(checkpoint).train_seed + 1}
    found = trials.find(settings)
    assert found is not None
    assert (found.nothing, found.these) == (values[0].mean(), values[1].mean())
    assert "training" not in trials.cost(pictures, checkpoint, settings).by_name
    assert trials.listing(pictures, checkpoint)[0].settings == settings
    better = Trial(settings, 1.0, 0.9, (1.0, 1.1))
    assert better.p == pytest.approx(1 / 3)
    assert "better off without these" in better.sentence
    assert "misses these" in Trial(settings, 1.0, 1.2, (1.0, 1.1)).sentence
    assert "no more than chance" in Trial(settings, 1.0, 1.05, (1.0, 1.1)).sentence
    for wrong in ([24], [], list(range(24))):
        with pytest.raises(SettingsError):
            trials.settings_for(pictures, checkpoint, wrong)


def test_page_command_and_library_tell_of_the_same_trials(
    pictures: Dataset, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [trials.settings_for(pictures, checkpoint, [one], random_draws=1) for one in (3, 5)]
    for date, one in zip(("2026-01-01", "2026-01-02"), asked, strict=True):
        key = key_of(trials.KIND, one)
        store.write_array(store.partial(trials.KIND, key) / trials.FILE, np.arange(3.0).reshape(3, 1, 1))
        store.publish(trials.KIND, key, one, date=date)
    found = doctor.find("duplicates", pictures, checkpoint)
    files: list[Any] = []
    monkeypatch.setattr(without.keeping, "files", lambda told, *_: files.append(told))
    without.keep(found, pictures, checkpoint)
    of = ["doctor", "--dataset", "discs", "--checkpoint", "small", "--check", "duplicates", "--json"]
    assert cli.main(of) == 0
    told = json.loads(capsys.readouterr().out)
    mine = api.doctor("discs", "small", "duplicates", progress=False).document()
    assert [one["removed"] for one in told["trials"]] == [[5], [3]], "the newest first"
    assert told["trials"] == mine["trials"] == doctor_sheet.document(files[0])["trials"]
    assert cli.main([*of, "--without", "3", "--random-draws", "1"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert [one["removed"] for one in own["trials"]] == [[3], [5]], "the one that was asked for comes first"


def test_no_more_are_left_out_than_a_check_ranks(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "find", lambda check, *_: Suspects(check, np.zeros(24), np.arange(6)))
    asked = ["doctor", "--dataset", "discs", "--checkpoint", "small", "--check", "duplicates", "--without-first", "7"]
    assert cli.main(asked) == 1
    assert "--without-first is 7, but 'duplicates' ranks 6 pictures" in capsys.readouterr().err


def test_the_command_makes_every_check_that_it_can(
    pictures: Dataset, checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ["doctor", "--dataset", "discs", "--checkpoint", "small"]
    out = tmp_path / "doctor.html"
    assert cli.main([*of, "--check", "duplicates", "--top", "3", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in told["checks"]["duplicates"]["pictures"]] == [1, 2, 3]
    assert b"data:image/png" in out.read_bytes()
    assert cli.main([*of, "--check", "duplicates", "--out", str(tmp_path / "doctor.csv")]) == 0
    assert (tmp_path / "doctor.csv").read_text().count("\n") == 21
    mine = api.doctor("discs", "small", "duplicates", top=3, progress=False)
    assert mine.document()["checks"] == told["checks"]
    assert "distance" in mine._repr_html_()
    with pytest.raises(SettingsError, match="is no check"):
        api.doctor("discs", "small", "teeth")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="top is 0; give at least 1"):
        api.doctor("discs", "small", "duplicates", top=0, progress=False)
    for number in ("-5", "-5000", "24", "10000"):
        assert cli.main([*of, "--check", "duplicates", "--without-first", number]) == 1
        assert f"--without-first is {number}; give 1 to 23" in capsys.readouterr().err
    assert cli.main([*of, "--check", "captions"]) == 1
    assert "told neither captions nor classes" in capsys.readouterr().err
