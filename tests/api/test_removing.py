"""Comparisons of removals by the library: the shipped one, a small one of one's own, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dtrak_core import api
from dtrak_core.counterfactual import comparisons
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings


@pytest.mark.usefixtures("demo_cache")
def test_the_shipped_comparison_opens_and_draws_itself() -> None:
    found = api.counterfactual("demo")
    stored = comparisons.by_name("demo")
    assert found.medians() == comparisons.medians(stored)
    assert found.verdicts("l2").keys() == comparisons.statistics(stored).keys()
    told_apart = [one for one in found.contrasts()["loss_change"] if one.p is not None and one.p < 0.05 / 18]
    assert [(one.method, one.other) for one in told_apart] == [("trak", "das")]
    drawn = found._repr_html_()
    assert 'alt="seed:' in drawn
    assert "D-TRAK" in drawn


def test_a_comparison_runs_in_this_process(checkpoint: Checkpoint) -> None:
    told: dict[str, Any] = {"methods": ["raw-pixel-cosine"], "remove": 4, "random_draws": 1, "bottom": False}
    told["sampled"] = api.Sampled(sampling_steps=4)
    found = api.counterfactual("trial", "discs", checkpoint, [0, 1], **told, progress=False)
    drawn = {"sampled": told["sampled"], "progress": False}
    best = api.explain("discs", checkpoint, 0, "raw-pixel-cosine", **drawn).scores[0]
    own = next(e for e in found.entries if e.method == "raw-pixel-cosine" and e.target == e.owner == "seed:0")
    assert own.removed == tuple(sorted(np.argsort(-best, kind="stable")[:4].tolist()))
    identity = [e for e in found.entries if e.method == "identity"]
    assert [e.l2 for e in identity] == pytest.approx([0, 0], abs=0.1)  # drawn two at once, then one by one
    assert api.counterfactual("trial").comparison.key == found.comparison.key


def test_a_target_that_was_drawn_otherwise_is_not_taken_for_the_usual_one(
    checkpoint: Checkpoint, pictures: Dataset
) -> None:
    where = SampleSettings(checkpoint=checkpoint.digest, seed=3, sampling_steps=20)
    drawn, other = pictures.train.images[:2]
    target = targets.publish_sample(where, drawn)
    told: dict[str, Any] = {"methods": "raw-pixel-cosine", "remove": 24, "progress": False}
    with pytest.raises(
        StudioError, match="seed:3 was drawn by DDIM in 20 steps; this comparison draws it by DDIM in 50"
    ):
        api.counterfactual("trial", pictures, checkpoint, target, **told)
    targets.publish_sample(where.model_copy(update={"sampling_steps": 50}), other)
    with pytest.raises(StudioError, match=r"target\.sampled tells"):
        api.counterfactual("trial", pictures, checkpoint, [target], **told)
    with pytest.raises(StudioError, match="24 of 24 training pictures cannot be removed"):  # it is taken
        api.counterfactual("trial", pictures, checkpoint, target, **told, sampled=target.sampled)
    foreign = targets.publish_sample(where.model_copy(update={"checkpoint": "0" * 16}), other[::-1])
    with pytest.raises(StudioError, match="seed:3 was not drawn by 'small', whose own is compared"):
        api.counterfactual("trial", pictures, checkpoint, foreign, **told, sampled=target.sampled)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"name": "nothing"}, "There is no comparison 'nothing'"),
        ({"dataset": "discs"}, "needs a dataset, a checkpoint and targets"),
        ({"targets": ["held-out:0"]}, "held-out:0 was not generated"),
        ({"targets": 0, "remove": 24}, "24 of 24 training pictures cannot be removed"),
        ({"targets": 0, "methods": "nothing"}, "'nothing' is not a method"),
        ({"targets": [0, 0]}, "names something twice"),
        ({"targets": 0, "group": "family"}, "has a family"),
        ({"targets": 0, "group": ["label"]}, r"group is \['label'\]; choose one of none, family"),
    ],
)
def test_what_cannot_be_compared_is_refused(checkpoint: Checkpoint, told: dict[str, Any], sentence: str) -> None:
    where = {"dataset": "discs", "checkpoint": checkpoint} if "targets" in told else {}
    with pytest.raises(StudioError, match=sentence):
        api.counterfactual(**where | told)
