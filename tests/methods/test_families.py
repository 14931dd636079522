"""The table of families: a new one is one row and one file, which commands, jobs and benchmark go by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import method_family_helpers
import numpy as np
import pytest

from dtrak_core.commands import answers, cli
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.jobs import asking
from dtrak_core.jobs.job_kinds import ScoreJob
from dtrak_core.kinds import KINDS
from dtrak_core.lds import benchmarking
from dtrak_core.lds.recipes import Recipe, usual
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import scores
from dtrak_core.methods.families import FAMILIES
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.progress import quiet
from dtrak_core.settings import build

AT = ("--dataset", "discs", "--checkpoint", "small", "--json")


@pytest.fixture(autouse=True)
def constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the family, and let commands do their jobs at once."""
    method_family_helpers.add(monkeypatch)
    monkeypatch.setattr(answers, "completed", lambda job, label: work.run(job, quiet))


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert cli.main([*words, *AT]) == 0
    return json.loads(capsys.readouterr().out)


def test_rows_are_of_families_that_methods_have_and_of_kinds_that_are_stored() -> None:
    brought = METHODS["own:mine@0123456789abcdef"]  # of a user, so that none stands in the table
    assert {one.family for one in (*METHODS.values(), brought)} == FAMILIES.keys()
    assert {kind for row in FAMILIES.values() for kind in row.costs} <= KINDS.keys()
    assert all(bool(row.costs) == (row.job != "none") for row in FAMILIES.values())


def test_a_new_family_is_listed_computed_and_scored(
    pictures: Dataset, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row["id"]: row for row in answer(capsys, "methods")}
    assert (rows["constant"]["label"], rows["constant"]["refused"]) == ("Constant", "")
    assert "not trained yet" in rows["trak-ensemble"]["refused"]
    assert cli.main(["attribute", "--sample", "held-out:1", "--method", "constant", *AT]) == 0
    shown = capsys.readouterr()
    assert "To compute for Constant: about 2.0 h" in shown.err
    found = json.loads(shown.out)
    assert [one["index"] for one in found["proponents"]] == list(range(23, 15, -1))
    target = targets.resolve(pictures, checkpoint.digest, "held-out:1")
    plan = scores.resolve("constant", pictures, checkpoint.digest, [target])
    assert plan.missing == ()
    own = scores.score(plan)
    np.testing.assert_array_equal(own.values, np.arange(24)[None])
    assert own.provenance["counted"] == "from 0"


def test_it_is_refused_with_a_sentence(
    pictures: Dataset, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    early = min(checkpoints.of_run(checkpoint.run), key=lambda one: one.share)
    target = targets.resolve(pictures, checkpoint.digest, "held-out:0")
    plan = scores.resolve("constant", pictures, early.digest, [target])
    assert plan.refused == scores.refusal(method_family_helpers.METHOD, early.digest, target) != ""
    assert plan.missing == ()
    with pytest.raises(NotFoundError, match="Constant is of whole trainings alone"):
        scores.score(plan)
    words = ["attribute", "--sample", "held-out:0", "--method", "constant", "--dataset", "discs"]
    assert cli.main([*words, "--checkpoint", early.name]) == 1
    assert capsys.readouterr().err == "Constant is of whole trainings alone. Choose one.\n"


def test_what_cannot_be_computed_here_is_said_but_what_is_stored_answers(
    pictures: Dataset, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(capsys, "attribute", "--sample", "held-out:0", "--method", "constant")
    here = replace(method_family_helpers.ROW, lacking=lambda method: "There is no abacus here. Bring one.")
    monkeypatch.setitem(FAMILIES, "constant", here)
    assert len(answer(capsys, "attribute", "--sample", "held-out:0", "--method", "constant")["proponents"]) == 8
    assert cli.main(["attribute", "--sample", "held-out:1", "--method", "constant", *AT]) == 1
    assert "There is no abacus here. Bring one." in capsys.readouterr().err


def test_the_benchmark_takes_it(pictures: Dataset, checkpoint: Checkpoint) -> None:
    where: Mapping[str, Any] = {"dataset": pictures.digest, "checkpoint": checkpoint.digest}
    measured = build(LdsSettings, **where, targets=("held-out:0", "held-out:1"), num_subsets=4)
    times = []
    row = replace(FAMILIES["constant"], models=lambda *given: times.append(given) or [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "constant", row)
        assert asking.unusable(method_family_helpers.METHOD, pictures.digest, checkpoint.digest, train=True) == ""
    assert len(times) == 1, "the models are looked for once"
    (made,) = benchmarking.compute(
        pictures, measured, [usual(pictures, checkpoint, "constant")], keep_scores=True, on_progress=quiet
    )
    assert made.settings["recipe"] == Recipe(method="constant").model_dump(mode="json")
    assert (made.manifest["gradients"], made.manifest["shares"]) == (2, [])


def test_a_job_of_own_scores_names_methods_that_have_them(pictures: Dataset, checkpoint: Checkpoint) -> None:
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "targets": ("held-out:0",)}
    with pytest.raises(SettingsError, match=r"give some of ek-fac, nda, constant"):
        build(ScoreJob, methods=("trak",), **where)
    target = targets.resolve(pictures, checkpoint.digest, "held-out:0")
    plans = [scores.resolve(name, pictures, checkpoint.digest, [target]) for name in ("constant", "raw-pixel-dot")]
    (job,) = asking.jobs_for(plans, Sampled())
    assert isinstance(job, ScoreJob)
    assert job.methods == ("constant",)
