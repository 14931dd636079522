"""What cannot be computed is refused before anything is trained, drawn or scored."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dtrak_core import store
from dtrak_core.commands import answers, cli
from dtrak_core.counterfactual.settings import OutcomeSettings
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.engine.parts import Part
from dtrak_core.errors import SettingsError, StudioError
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.jobs import LdsJob, SampleJob
from dtrak_core.lds import subset_losses, subset_models
from dtrak_core.lds.subset_models import LdsSettings, LossSettings
from dtrak_core.methods import embeddings
from dtrak_core.methods.settings import InfluenceSettings
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled, SampleSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import build


@pytest.fixture(autouse=True)
def nothing_runs(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(job: object, label: str) -> None:
        raise AssertionError(f"{label} was started")

    monkeypatch.setattr(answers, "completed", started)


def refusal(capsys: pytest.CaptureFixture[str], command: str, *words: str) -> str:
    assert cli.main([command, "--dataset", "discs", "--checkpoint", "small", *words]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_timesteps_that_do_not_divide_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    timesteps = 30
    said = refusal(capsys, "lds", "--timesteps", str(timesteps))
    assert f"num_timesteps {timesteps} does not divide 1000; choose 1, 2, 4, 5, 8, 10" in said
    assert "does not divide" in refusal(capsys, "attribute", "--sample", "held-out:0", "--timesteps", str(timesteps))
    digest, sample = "0" * 16, SampleSettings(checkpoint="0" * 16)
    where: dict[str, Any] = {"dataset": digest, "checkpoint": digest, "num_timesteps": timesteps}
    target = {"target": "train:0", "pixels": digest}
    for cls, values in (
        (LdsSettings, where | {"targets": ("train:0",)}),
        (LossSettings, where | {"targets": ("train:0",), "subset": 0, "train_seed": 0}),
        (InfluenceSettings, where | target),
        (FeatureSettings, where),
        (OutcomeSettings, {"sample": sample, "removed": (), "train_seed": 0, "encoder": "clip-vit-b-32"} | {
            "num_timesteps": timesteps}),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=r"does not divide 1000"):
            build(cls, **values)
        build(cls, **values | {"num_timesteps": 40})
    build(FeatureSettings, **where, timestep_strategy="cumulative")
    build(FeatureSettings, **where, timestep_strategy="low")
    with pytest.raises(SettingsError, match=r"num_timesteps 201 is more than the lowest fifth of 1000 holds"):
        build(FeatureSettings, **where | {"num_timesteps": 201}, timestep_strategy="low")


LDS = [
    (["--held-out", "9"], "--held-out is 9; 'discs' has 8 held-out pictures. Give 0 to 8."),
    (["--held-out", "-1"], "Give 0 to 8"),
    (["--share", "0.01"], "0 of 24 pictures cannot be drawn"),
    (["--share", "0.05"], "stratified draw of 1 of 24 is not possible"),
    (["--prompts", "a disc"], "takes no prompts"),
    (["--so-far"], "0 of 32 models are finished"),
]
ATTRIBUTE = [
    (["--damping", "0"], "--damping is 0; give a number greater than 0"),
    (["--damping=-1"], "--damping is -1"),
    (["--damping", "inf"], "--damping is inf"),
    (["--rank-share", "1.5"], "--rank-share is 1.5; give a share between 0 and 1"),
    (["--rank-share", "0"], "--rank-share is 0"),
    (["--rank-share", "nan"], "--rank-share is nan"),
    (["--damping", "1", "--rank-share", "0.2"], "both given"),
    (["--damping", "1", "--method", "raw-pixel-cosine"], "Raw pixels, cosine has none"),
    (["--method", "d-trak", "--method", "trak-ensemble"], "Model 1 of 4 of the ensemble is not trained yet"),
    (["--prompts", "a disc"], "takes no prompts"),
]


COUNTERFACTUAL = [
    (["--group", "family"], "No training picture of 'discs' has a family. Leave --group family out."),
    (["--group", "contributor", "--method", "trak"], "has a contributor"),
    (["--contributor", "Ada"], "No training picture is by 'Ada'"),
    (["--remove", "24"], "24 of 24 training pictures cannot be removed"),
    (["--method", "clip-cosine"], "No weights."),
    (["--method", "trak-ensemble"], "Model 1 of 4 of the ensemble is not trained yet"),
    (["--prompts", "a disc"], "takes no prompts"),
]


def test_what_cannot_be_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for words, said in LDS:
        assert said in refusal(capsys, "lds", "--method", "raw-pixel-cosine", *words)
    for words, said in ATTRIBUTE:
        assert said in refusal(capsys, "attribute", "--sample", "seed:3", *words)
    monkeypatch.setattr(embeddings, "available", lambda model: "No weights." if model == "clip-vit-b-32" else "")
    for words, said in COUNTERFACTUAL:
        assert said in refusal(capsys, "counterfactual", "--target", "seed:3", *words)


@pytest.mark.parametrize("changes", [{"targets": ("seed:0", "held-out:8")}, {"targets": ("train:24",)}])
def test_an_lds_of_targets_that_do_not_exist(
    pictures: Dataset, checkpoint: Checkpoint, changes: dict[str, Any]
) -> None:
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "num_subsets": 3, "num_timesteps": 4}
    settings = build(LdsSettings, **where, targets=("seed:0", "held-out:8"))
    job = LdsJob(settings=settings)
    for run in (
        lambda: work.run(job, quiet),
        lambda: work.run_part(job, Part(1, "steps", "Pictures"), quiet),
        lambda: subset_losses.losses_of(pictures, checkpoint, subset_models.models(settings)[0], quiet),
    ):
        with pytest.raises(StudioError, match=r"does not exist|has not been generated"):
            run()
    assert store.listing("retrained") == []
    assert store.listing("samples") == []


def test_only_typed_prompts_are_bounded(pictures: Dataset, checkpoint: Checkpoint) -> None:
    captions = [f"{'a very long caption of many words ' * 20}{i}" for i in range(24)]
    rows = [row | {"caption": text} for row, text in zip(pictures.train.rows, captions, strict=True)]
    long = dataclasses.replace(pictures, train=dataclasses.replace(pictures.train, rows=rows))
    text = dataclasses.replace(checkpoint, base="0" * 16, guided=True)
    how = answers.with_prompts(long, text, Sampled())
    assert set(how.prompts) <= set(captions)
    assert min(map(len, how.prompts)) > 400
    build(SampleJob, checkpoint=text.digest, seeds=(0,), **how.drawing())
    typed = Sampled(prompts=(captions[3],))
    assert answers.with_prompts(long, text, typed) == typed, "a caption of the set may be typed"
    with pytest.raises(SettingsError, match="has 401 characters; only captions of the dataset may have more than 400"):
        answers.with_prompts(long, text, Sampled(prompts=("a disc", "x" * 401)))
