"""Faders and repeatability on the Attribution page: what is missing, what a fader changes, which pictures are pale."""

from __future__ import annotations

import numpy as np
import pytest
from page_helpers import address, galleries, opened, running
from repeat_helpers import repeat_of

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import StoreError
from dtrak_core.features.kernel import Kernel
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import AttributeJob
from dtrak_core.methods import certainty, defaults, fader_scores, results, scores, turned
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of
from dtrak_core.ui.answers import Question

Small = tuple[Dataset, Checkpoint]
TAB = "Layers and noise levels"


def in_parts(small: Small, **changes: int) -> AttributeJob:
    """Return the job that computes D-TRAK's features in parts, as the page asks for it."""
    where = {"dataset": small[0].digest, "checkpoint": small[1].digest, "num_timesteps": 2, "proj_dim": 128}
    features = FeatureSettings(**{**where, **changes}, parts="faders")
    return build(AttributeJob, features=(features,), targets=("seed:0",))


def shown(at: object, key: str) -> list[str]:
    return [item["key"] for item in galleries(at)[key]["rows"][0]["parts"][0]["items"]]  # type: ignore[arg-type]


def test_without_features_in_parts_they_are_offered_with_their_cost(small: Small) -> None:
    at = opened("attribution", details=TAB)
    assert any("looks at all" in m.value and "on disk" in m.value for m in at.markdown)
    at.button(key=f"offer-{jobs.key_of_job(in_parts(small))}").click().run()
    (job,) = [j for j in jobs.listing() if j.kind == "attribute"]
    assert jobs.job_of(job.key) == in_parts(small)


def test_the_disk_that_is_told_is_what_it_takes(small: Small) -> None:
    dataset, checkpoint = small
    (features,) = in_parts(small).features
    question = Question(dataset, checkpoint, targets.resolve(dataset, checkpoint.digest, "seed:0"))
    parts = [("features", key_of("features", features), features)]
    told = scores.estimate(question.dataset, question.checkpoint, parts).disk
    made = work.run(in_parts(small), quiet)[0]
    assert told == pytest.approx(made.manifest["bytes"], rel=0.15)


def test_features_without_projection_are_refused_before_a_job_fails(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = build(AttributeJob, features=unprojected(small), targets=("seed:0",))
    work.run(job, quiet)
    monkeypatch.setattr(defaults, "feature_settings_for", lambda *_: unprojected(small)[0])
    at = opened("attribution", methods="d-trak")
    said = [one.value for one in at.caption if one.value.startswith("How far rankings repeat cannot be measured")]
    assert len(said) == 1
    assert "have projection 'none'. Choose another projection." in said[0]
    assert not any(button.label == "Measure certainty" for button in at.button)
    at = opened("attribution", methods="d-trak", details=TAB)
    assert not at.exception
    (told,) = [one.value for one in at.info if "projection 'none'" in one.value]
    assert told.endswith("delete such features under Jobs, and it computes others.")
    assert not any((button.key or "").startswith("offer-") for button in at.button)
    at.run()  # the page knows which tab is open once it was drawn
    assert not any("How far rankings repeat" in one.value for one in at.caption), "it is said once"


def unprojected(small: Small) -> tuple[FeatureSettings]:
    where = {"dataset": small[0].digest, "checkpoint": small[1].digest, "num_timesteps": 10}
    return (FeatureSettings(**where, projection="none"),)


@pytest.fixture
def no_decomposition(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the decompositions that are asked for outside of a job."""
    asked: list[str] = []
    real, working = fader_scores.in_memory, work.run

    def watched(rows: np.ndarray) -> Kernel:
        if not at_work:
            asked.append(f"{len(rows)} rows")
        return real(rows)

    at_work: list[bool] = []

    def run(*args: object) -> object:
        at_work.append(True)
        try:
            return working(*args)  # type: ignore[arg-type]
        finally:
            at_work.pop()

    monkeypatch.setattr(fader_scores, "in_memory", watched)
    monkeypatch.setattr(work, "run", run)
    return asked


def waiting() -> list[jobs.Job]:
    """Return the jobs of faders that wait for a worker."""
    return [jobs.job_of(one.key) for one in jobs.listing() if one.kind == "fader" and one.state == "queued"]


def done(monkeypatch: pytest.MonkeyPatch, job: jobs.Job) -> None:
    """Do a job as a worker does."""
    made = [[one.kind, one.key] for one in work.run(job, quiet)]
    running(monkeypatch, jobs.key_of_job(job), state="done", finished=1.0, artifacts=made)


def test_a_worker_ranks_as_the_faders_stand_and_all_to_one_gives_it_back(
    small: Small, no_decomposition: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work.run(in_parts(small), quiet)
    at = opened("attribution", details=TAB)
    plain = shown(at, "fader_figure")
    assert any("10 of the first 10 are the same" in c.value for c in at.caption)
    assert waiting() == [], "with every fader at 1 it is stored"
    for name in ("fine", "conv_in", "up_blocks.1"):
        at.slider(key=f"fader-d-trak-{name}").set_value(0.0)
    at.run()
    assert not at.exception
    (only,) = galleries(at)["fader_figure"]["rows"]
    assert only["title"].endswith("every fader at 1")
    (job,) = waiting()
    at.slider(key="fader-d-trak-middle").set_value(2.0).run()
    assert waiting() == [job], "one position at a time"
    at.slider(key="fader-d-trak-middle").set_value(1.0)
    done(monkeypatch, job)
    at.run()
    turned = shown(at, "fader_figure")
    assert turned != plain
    assert no_decomposition == [], "the page's process decomposes nothing"
    dataset, checkpoint = small
    (settings,) = in_parts(small).features
    target = targets.resolve(dataset, checkpoint.digest, "seed:0")
    trained = work.run(in_parts(small), quiet)[0]
    own = fader_scores.target_rows(settings, [target])
    assert own is not None
    layers = tuple(0.0 if name in ("conv_in", "up_blocks.1") else 1.0 for name in trained.manifest["groups"])
    faders = fader_scores.Faders(layers, (0.0, 1.0, 1.0))
    values = fader_scores.score(fader_scores.METHODS["d-trak"], trained, own, faders)[0][0]
    expected = results.proponents(results.ranking("d-trak", "", values), 5)
    assert turned == [f"d-trak/{entry.index}" for entry in expected]
    next(b for b in at.button if b.label == "All to 1").click().run()
    assert shown(at, "fader_figure") == plain


def test_the_scores_weigh_the_layers(
    small: Small, no_decomposition: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work.run(in_parts(small), quiet)
    at = opened("attribution", details=TAB)
    next(b for b in at.button if b.label == "Let the scores weigh the layers").click().run()
    assert not at.exception
    (job,) = waiting()
    assert isinstance(job, jobs.FaderJob)
    assert job.layers == ()
    done(monkeypatch, job)
    at.run()
    assert no_decomposition == []
    values = [s.value for s in at.slider if s.key and s.key.startswith("fader-d-trak-")]
    assert values[:3] == [1.0] * 3, "noise levels stay"
    assert len(set(values[3:])) > 1
    (next_one,) = waiting()
    assert isinstance(next_one, jobs.FaderJob)
    assert list(next_one.layers) == values[3:], "and are ranked by"
    at.slider(key="fader-d-trak-conv_in").set_value(0.3).run()
    assert at.slider(key="fader-d-trak-conv_in").value == 0.3, "they are set once"


def test_a_refused_job_is_said_once_and_the_page_goes_on(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    work.run(in_parts(small), quiet)
    at = opened("attribution", details=TAB)
    asked = []

    def refuse(*given: object) -> None:
        asked.append(given)
        raise StoreError("The cache can only be read.")

    monkeypatch.setattr(jobs, "submit", refuse)
    monkeypatch.setattr(turned, "learned", lambda *_: None)
    at.slider(key="fader-d-trak-fine").set_value(0.7).run(timeout=20)
    assert [one.value.replace("\\", "") for one in at.error] == ["The cache can only be read."]
    assert len(asked) == 1
    (only,) = galleries(at)["fader_figure"]["rows"]
    assert only["title"].endswith("every fader at 1")
    next(b for b in at.button if b.label == "Let the scores weigh the layers").click().run(timeout=20)
    assert len(asked) == 3, "the weights, and the position again"
    at.run(timeout=20)
    assert [one.value.replace("\\", "") for one in at.error] == ["The cache can only be read."]


def test_everything_at_zero_is_answered_in_words(small: Small) -> None:
    work.run(in_parts(small), quiet)
    at = opened("attribution", details=TAB)
    for name in ("fine", "middle", "coarse"):
        at.slider(key=f"fader-d-trak-{name}").set_value(0.0)
    at.run()
    assert any("nothing to rank by" in info.value for info in at.info)


def test_turning_down_all_that_has_draws_is_answered_in_words(small: Small) -> None:
    work.run(in_parts(small), quiet)  # at 2 timesteps, 0 and 500: none is coarse noise
    at = opened("attribution", details=TAB)
    for name in ("fine", "middle"):
        at.slider(key=f"fader-d-trak-{name}").set_value(0.0)
    at.run()
    assert not at.exception
    assert any("have no draws or no gradients here" in info.value for info in at.info)
    assert waiting() == [], "no job that could only fail"
    (only,) = galleries(at)["fader_figure"]["rows"][:1]
    assert only["parts"][0]["items"], "the ranking with every fader at 1"


def test_ranks_that_do_not_repeat_are_pale(small: Small) -> None:
    job = in_parts(small, num_timesteps=10)
    work.run(job, quiet)
    plain = tuple(one.model_copy(update={"parts": "whole"}) for one in job.features)
    loss = tuple(one.model_copy(update={"model_output": "loss"}) for one in plain)
    work.run(job.model_copy(update={"features": plain + loss}), quiet)
    dataset, checkpoint = small
    target = targets.resolve(dataset, checkpoint.digest, "seed:0")
    repeat = repeat_of("d-trak", plain[0], target)
    assert repeat is not None
    sure = fader_scores.steady(repeat)
    at = opened("attribution", timesteps="10")
    first, second = galleries(at)["figure"]["rows"]
    for part in first["parts"]:
        for item in part["items"]:
            index = int(item["key"].partition("/")[2])
            assert item["pale"] == (not sure[index])
            assert ("halves of the draws" in item["name"]) == item["pale"]
    assert f"Repeatability {repeat.own_agreement:.2f}" in first["note"]
    assert not any(item["pale"] for part in second["parts"] for item in part["items"])
    assert all(item["unknown"] for part in second["parts"] for item in part["items"]), "TRAK was not measured"
    assert "Certainty not measured" in second["note"]
    assert {one["mark"] for one in galleries(at)["figure"]["legend"] if one["mark"]} == {"pale", "unknown"}
    for percent in (5, 60):
        at.slider(key="rank-d-trak").set_value(percent).run()
        known = certainty.find("d-trak", plain[0], target, percent / 100)
        assert known is not None
        assert known.steady is not None
        (row, _) = galleries(at)["figure"]["rows"]
        assert f"Repeatability {known.repeatability:.2f}" in row["note"]
        marks = {int(i["key"].partition("/")[2]): i["pale"] for part in row["parts"] for i in part["items"]}
        assert marks == {index: not known.steady[index] for index in marks}


def test_how_the_faders_stand_is_in_the_address(small: Small) -> None:
    work.run(in_parts(small), quiet)
    at = opened("attribution", details=TAB)
    assert "faders-d-trak" not in address(at)
    keys = [one.key for one in at.slider if one.key and one.key.startswith("fader-d-trak-")]
    at.slider(key=keys[0]).set_value(0.5)
    at.slider(key=keys[-1]).set_value(3.0).run()
    stand = ["0.5", *["1"] * (len(keys) - 2), "3"]
    assert address(at)["faders-d-trak"] == ",".join(stand)
    link = opened("attribution", details=TAB, **{"faders-d-trak": ",".join(stand)})
    assert [link.slider(key=key).value for key in keys] == list(map(float, stand))
    link.query_params["faders-d-trak"] = ",".join(["2", *stand[1:]])  # Back
    assert link.run().slider(key=keys[0]).value == 2.0
    next(b for b in link.button if b.label == "All to 1").click().run()
    assert "faders-d-trak" not in address(link)
    for said in ("1,2", ",".join(["9"] * len(keys)), "loud"):
        at = opened("attribution", details=TAB, **{"faders-d-trak": said})
        (told,) = [one.value.replace("\\", "") for one in at.warning]
        assert told == f"'{TAB}' cannot be '{said}', as the address says; showing 'every fader at 1'."
        assert at.slider(key=keys[0]).value == 1.0
