"""The commands on networks that predict the picture or flow: ranked, measured, removed, with faders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtrak_core.commands import answers, cli
from dtrak_core.datasets import catalogue
from dtrak_core.engine import work
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.job_kinds import AttributeJob, FaderJob, Job
from dtrak_core.methods import defaults, scores
from dtrak_core.methods.methods import method_of, with_output
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.settings import ModelSettings, Prediction, Sampled
from dtrak_core.progress import quiet
from dtrak_core.store import Artifact
from dtrak_core.training import presets

DRAWN = ["--sampling-steps", "4"]


def here(job: Job, _label: str) -> list[Artifact]:
    """Do a job in this process, which needs no worker to start."""
    return work.run(job, quiet)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: ModelSettings, cache: Path) -> Any:
    """Return how a command that must succeed is asked for its JSON."""
    monkeypatch.setattr(answers, "completed", here)
    monkeypatch.setitem(presets.PRESETS, "demo", presets.Preset(tiny, {}, ""))

    def asked(*words: str) -> Any:
        capsys.readouterr()
        status = cli.main([*words, "--json"])
        said = capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out)

    return asked


@pytest.mark.parametrize("prediction", ["sample", "flow"])
def test_a_network_of_another_prediction_goes_the_whole_way(ask: Any, tmp_path: Path, prediction: Prediction) -> None:
    images = np.random.default_rng(3).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "pictures.npz", images=images, labels=np.array([0, 1] * 6))
    ask("dataset", "--name", "mine", "--source", str(tmp_path / "pictures.npz"), "--resolution", "16")
    ask("train", "--name", "net", "--dataset", "mine", "--prediction", prediction, "--epochs", "1")
    of = ["--dataset", "mine", "--checkpoint", "net", *DRAWN]
    dataset, checkpoint = catalogue.by_name("mine"), checkpoints.by_name("net")
    assert checkpoints.prediction_of(checkpoint) == prediction

    # Each model output ranks by features of its own.
    quick = ["--timesteps", "2", "--proj-dim", "16"]
    for output in ("loss", "squared-noise"):
        found = ask("attribute", *of, *quick, "--sample", "seed:1", "--method", "d-trak", "--model-output", output)
        wanted = defaults.feature_settings_for(dataset.digest, checkpoint.digest, output)
        assert (wanted.model_output, wanted.num_timesteps) == (output, 2)
        target = targets.resolve(dataset, checkpoint.digest, "seed:1", Sampled(sampling_steps=4))
        method = with_output(method_of("d-trak"), output)
        plan = scores.resolve(method, dataset, checkpoint.digest, [target], wanted)
        values = scores.of_one(scores.score(plan, None, None), target).values
        assert [e["score"] for e in found["proponents"][:1]] == [max(values)] * int(max(values) > 0)
    journey = ask("attribute", *of, *quick, "--sample", "seed:1", "--method", "journey-trak", "--method", "ek-fac")
    assert set(journey["methods"]) == {"journey-trak", "ek-fac"}

    features = FeatureSettings(
        dataset=dataset.digest, checkpoint=checkpoint.digest, num_timesteps=10, proj_dim=18, parts="faders"
    )
    here(AttributeJob(features=(features,), targets=("seed:1",), sampling_steps=4), "")
    assert here(FaderJob(features=features, target="seed:1", sampling_steps=4), "")

    asked = [*of, "--generated", "0-1", "--held-out", "0", "--subsets", "3", "--timesteps", "2", "--method", "d-trak"]
    assert -1 <= ask("lds", *asked)["lds"] <= 1
    removed = ask("counterfactual", *of, "--target", "seed:1", "--remove", "3", "--random-draws", "1", "--no-bottom")
    assert {entry["method"] for entry in removed["entries"]} >= {"d-trak", "random"}
    assert all(np.isfinite(entry["loss_change"]) for entry in removed["entries"])
