"""Attribution: the right pictures, scores and words, whatever is or is not in the store."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
import types
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_helpers import galleries, opened, running
from PIL import Image

from dtrak_core import store
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import StoreError
from dtrak_core.jobs import jobs
from dtrak_core.jobs.jobs import AttributeJob, ScoreJob
from dtrak_core.methods import crediting, results, scores
from dtrak_core.methods.methods import METHODS, with_output
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import build
from dtrak_core.ui import named, questions, uploading, what_if

Small = tuple[Dataset, Checkpoint]


def pixels(item: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(item["src"].split(",")[1]))))


def expected(small: Small, method: str, sample: str = "seed:0") -> results.Ranking:
    dataset, checkpoint = small
    target = targets.resolve(dataset, checkpoint.digest, sample)
    base = jobs_base(small, "loss" if method == "trak" else "squared-output")
    found = scores.attribution_scores(method, dataset, checkpoint.digest, target, base)
    return results.ranking(method, method, found.values)


def jobs_base(small: Small, output: str) -> Any:
    from dtrak_core.methods import defaults

    return defaults.feature_settings_for(small[0].digest, small[1].digest, output)  # type: ignore[arg-type]


def test_a_link_tells_a_picture_with_fresh_noise_from_the_usual_one(small: Small) -> None:
    settings = SampleSettings(checkpoint=small[1].digest, seed=1, eta=0.123456789)
    noisy = targets.publish_sample(settings, np.zeros((16, 16, 3), np.uint8))
    at = opened("attribution", methods="raw-pixel-cosine", **named.link_to(noisy))
    assert not at.warning
    link = next(one.proto for one in at.get("page_link") if one.proto.label == what_if.THESE)
    asked = dict(urllib.parse.parse_qsl(link.query_string))
    assert (asked["sample"], asked["eta"]) == ("seed:1", "0.123456789")
    at = opened("counterfactual", **{name: value for name, value in asked.items() if name != "dataset"})
    (row,) = galleries(at)["choices"]["rows"]
    assert len(row["parts"][0]["items"]) == 1, "the usual pictures are drawn without"
    usual = targets.resolve(small[0], small[1].digest, "seed:1")
    assert "eta" not in named.link_to(usual)
    for wrong in ("2", "-1", "nan", "much"):
        at = opened("attribution", sample="seed:1", eta=wrong)
        assert not at.warning, wrong


def test_rows_hold_the_highest_and_lowest_scores(small: Small) -> None:
    at = opened("attribution")
    shown = galleries(at)["figure"]
    assert [row["title"] for row in shown["rows"]] == ["D-TRAK", "TRAK"]
    assert shown["columns"] == [5, 3]
    for row, method in zip(shown["rows"], ("d-trak", "trak"), strict=True):
        found = expected(small, method)
        for part, wanted in zip(row["parts"], (results.proponents(found, 5), results.opponents(found, 3)), strict=True):
            assert [item["key"] for item in part["items"]] == [f"{method}/{e.index}" for e in wanted]
            for item, entry in zip(part["items"], wanted, strict=True):
                assert np.array_equal(pixels(item), small[0].train.images[entry.index])
                assert item["lines"][0].replace("\xa0", " ") == f"#{entry.index} {crediting.percent(entry.share)}"
                assert small[0].train.rows[entry.index]["contributor"] in item["lines"]
                assert f"Training picture {entry.index}" in item["name"]
    assert np.array_equal(pixels(shown["target"]), targets.resolve(*small_ids(small), "seed:0").image)
    assert [one["text"] for one in shown["legend"] if not one["mark"]] == [
        "%: share of this method's positive total",
        "Opponents: the least certain part of a ranking",
    ]
    without = galleries(opened("attribution", opponents="0"))["figure"]["legend"]
    assert not any(one["text"].startswith("Opponents") for one in without)


def test_another_model_output_is_taken_by_all_methods_of_gradients(small: Small) -> None:
    names = ("d-trak", "trak", "raw-pixel-dot")
    at = opened("attribution", methods=",".join(names))
    at.selectbox(key="output").set_value("loss").run()
    shown = galleries(at)["figure"]["rows"]
    assert [row["title"] for row in shown] == ["D-TRAK on loss", "TRAK", "Raw pixels, dot product"]
    assert shown[0]["note"].startswith(f"{with_output(METHODS['d-trak'], 'loss').summary} Effective rank")
    usual = [row["note"].startswith(METHODS[name].summary) for row, name in zip(shown, names, strict=True)]
    assert usual == [False, True, True]
    assert "Nothing random in it" in shown[2]["note"], "a similarity has no certainty that could be measured"
    assert {(item["unknown"], item["fixed"]) for part in shown[0]["parts"] for item in part["items"]} == {(True, False)}
    assert {(item["unknown"], item["fixed"]) for part in shown[2]["parts"] for item in part["items"]} == {(False, True)}
    assert [one["badge"] for one in galleries(at)["figure"]["legend"] if one["mark"]] == ["?", "="]
    target = targets.resolve(*small_ids(small), "seed:0")
    plan = with_output(METHODS["d-trak"], "loss")
    found = scores.attribution_scores(plan, *small_ids(small), target, jobs_base(small, "loss"))
    wanted = results.proponents(results.ranking("d-trak", "", found.values), 5)
    assert [item["key"] for item in shown[0]["parts"][0]["items"]] == [f"d-trak/{entry.index}" for entry in wanted]
    at.selectbox(key="output").set_value("squared-clean").run()
    assert not at.exception
    titles = [row["title"] for row in galleries(at)["figure"]["rows"]]
    assert titles == ["D-TRAK on squared-clean", "TRAK on squared-clean", "Raw pixels, dot product"]
    next(b for b in at.button if b.label.startswith("Compute")).click().run()
    assert not at.exception
    (job,) = jobs.listing()
    asked = jobs.job_of(job.key)
    assert isinstance(asked, AttributeJob)
    assert {one.model_output for one in asked.features} == {"squared-clean"}


def small_ids(small: Small) -> tuple[Dataset, str]:
    return small[0], small[1].digest


def test_damping_slider_changes_the_order_and_nothing_is_computed_twice(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float | None] = []
    real = scores.score

    def counted(plan: scores.Plan, damping: float | None, rank_share: float | None) -> scores.Scores:
        calls.append(rank_share)
        return real(plan, damping, rank_share)

    monkeypatch.setattr(scores, "score", counted)
    at = opened("attribution")
    before = galleries(at)["figure"]
    assert calls == [0.15, 0.40]
    at.run()
    assert calls == [0.15, 0.40]
    at.slider(key="rank-d-trak").set_value(80).run()
    assert calls == [0.15, 0.40, 0.80]
    after = galleries(at)["figure"]
    assert after["rows"][0]["parts"] != before["rows"][0]["parts"]
    assert after["rows"][1]["parts"] == before["rows"][1]["parts"]
    at.slider(key="opponents").set_value(0).run()
    assert galleries(at)["figure"]["columns"] == [5, 0]


def test_what_is_missing_is_said_and_computed_by_a_job(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened("attribution", sample="seed:4")
    text = " ".join(m.value for m in at.markdown)
    assert "only this picture is missing" in text
    assert "on disk" in text
    assert [row["note"] for row in galleries(at)["figure"]["rows"]] == ["Not computed for this picture yet."] * 2
    (button,) = [b for b in at.button if b.label == "Compute"]
    button.click().run()
    (job,) = jobs.listing()
    asked = jobs.job_of(job.key)
    assert isinstance(asked, AttributeJob)
    assert asked.targets == ("seed:4",)
    assert [f.model_output for f in asked.features] == ["squared-output", "loss"]
    running(monkeypatch, job.key, done=30, total=264, unit="gradients", message="Target features", seconds_left=125.0)
    at.run()
    assert at.get("progress")[0].proto.value == round(100 * 30 / 264)
    assert "30 of 264 gradients" in at.get("progress")[0].proto.text.replace("\\", "")
    assert "about 2 min left" in at.get("progress")[0].proto.text
    assert not [b for b in at.button if b.label == "Compute"]
    running(monkeypatch, job.key, state="cancelled", done=30, total=264, unit="gradients")
    at.run()
    assert at.warning[0].value == "Cancelled at 30 of 264 gradients. What was finished is kept."
    assert {b.label for b in at.button} >= {"Resume", "Dismiss"}
    running(monkeypatch, job.key, state="failed", message="The disk is full.")
    at.run()
    assert "The disk is full" in at.error[0].value
    next(b for b in at.button if b.label == "Dismiss").click().run()
    assert not at.error
    assert [b for b in at.button if b.label == "Compute"]


def test_bad_link_values_are_named(small: Small) -> None:
    at = opened("attribution", sample="seed:999")
    assert "seed 999" in at.warning[0].value
    assert galleries(at)["figure"]["target"]["lines"] == ["seed 0"]
    at = opened("attribution", sample="../../etc/passwd")
    assert "is not a target" in at.warning[0].value.replace("\\", "")
    at = opened("attribution", example="4711")
    assert "4711" in at.warning[0].value
    at = opened(checkpoint="nosuch")
    assert "nosuch" in at.warning[0].value


def test_an_example_opens_with_its_ranks_under_every_method(small: Small) -> None:
    index = results.proponents(expected(small, "trak"), 1)[0].index
    at = opened("attribution", example=str(index))
    (table,) = [m.value for m in at.markdown if m.value.startswith("| Method")]
    for method in ("d-trak", "trak"):
        place = results.rank(expected(small, method), index)
        found = expected(small, method)
        score = f"{found.values[index]:.3g}".replace("-", "−")
        part = crediting.percent(results.share(found, index))
        assert f"| {place} of {len(small[0].train.rows)} | {score} | {part} |" in table
    assert any(f"#{index}" in m.value.replace("\\", "") for m in at.markdown)
    (shown,) = [json.loads(one.proto.json)[0] for one in at.get("bidi_component") if one.proto.id.endswith("-pair")]
    target, example = targets.resolve(*small_ids(small), "seed:0").image, small[0].train.images[index]
    assert [np.array_equal(pixels(side), image) for side, image in zip(shown["sides"], (target, example), strict=True)]
    assert shown["sides"][1]["name"] == f"#{index} {small[0].train.rows[index]['name']}", "whole"
    apart = pixels(shown["difference"])
    assert np.array_equal(apart, np.maximum(target, example) - np.minimum(target, example))
    assert f"{apart.mean() / 255:.0%} of the range" in shown["difference"]["spoken"]


def test_a_contributors_name_is_no_markdown(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    found = crediting.credits

    def odd(*given: Any) -> list[crediting.Credit]:
        return [dataclasses.replace(one, contributor=f":material/delete: ${one.contributor}$") for one in found(*given)]

    monkeypatch.setattr(crediting, "credits", odd)
    options = opened("attribution", sample="seed:0", results="Credit").button_group(key="credit-who").options
    assert r"\:material/delete\: \$Ben\$" in options


def test_credit_is_told_in_numbers(small: Small) -> None:
    at = opened("attribution")
    names = [row["contributor"] for row in small[0].train.rows]
    found = expected(small, "d-trak")
    credits = crediting.credits(found, small[0].train.rows)
    text = " ".join(m.value for m in at.markdown).replace("\\", "").replace("**", "")
    assert crediting.sentence("D-TRAK", credits) in text
    assert at.get("plotly_chart")
    assert {d.proto.label for d in at.get("download_button")} == {"Download as CSV"}
    who = next(one for one in credits if one.contributor != at.session_state["credit-who"])
    at.button_group(key="credit-who").set_value(who.contributor).run()
    text = " ".join(m.value for m in at.markdown).replace("\\", "").replace("**", "")
    assert f"{crediting.words(who)}: {crediting.verdict(who)}. The strongest first" in text
    items = galleries(at)["contributed"]["rows"][0]["parts"][0]["items"]
    theirs = [i for i in found.order.tolist() if names[i] == who.contributor][:16]
    assert [item["key"] for item in items] == [f"d-trak/{i}" for i in theirs]
    at = opened("attribution", details="Keep and share")
    assert {d.proto.label for d in at.get("download_button")} == {"Scores as CSV", "Scores as JSON", "Figure as PNG"}


def test_provenance_stands_below(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "learned", lambda _: (3, 4))
    at = opened("attribution")
    line = at.main.caption[-1].value.replace("\\", "")
    for fact in (
        small[0].digest,
        small[1].digest,
        "seed:0",
        "2 (uniform)",
        "sparse to 128",
        "D-TRAK damping",
        "with version",
        "model output squared-output",
    ):
        assert fact in line
    both = opened("attribution", methods="d-trak,trak").main.caption[-1].value.replace("\\", "")
    assert "model output squared-output (D-TRAK); loss (TRAK)" in both
    assert both.count("2 (uniform)") == 1, "what both share is said once"
    assert any("has learned from 2 of the" in one.value for one in at.info)


def test_an_error_of_the_core_is_a_sentence(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: Any, **__: Any) -> None:
        raise StoreError("Stored artifact cache/kernels/12 is damaged: it is torn. Compute it again.")

    monkeypatch.setattr(scores, "resolve", damaged)
    at = opened("attribution")
    assert at.error[0].value.replace("\\", "").endswith("Compute it again.")

    def unforeseen(*_: Any, **__: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(scores, "resolve", unforeseen)
    at = opened("attribution")
    assert "not foreseen" in at.error[0].value
    assert "surprise" not in at.error[0].value


def test_a_similarity_is_a_row_too_and_clip_is_not_faked(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    from dtrak_core.methods import embeddings

    monkeypatch.setattr(embeddings, "available", lambda model: "" if model == "efficientnet-lite0" else "No weights.")
    at = opened("attribution", methods=["Raw pixels, cosine", "CLIP, cosine", "EfficientNet-Lite0, cosine"])  # type: ignore[arg-type]
    shown = galleries(at)["figure"]
    assert [row["title"] for row in shown["rows"]] == [
        "CLIP, cosine",
        "EfficientNet-Lite0, cosine",
        "Raw pixels, cosine",
    ]
    assert shown["rows"][2]["parts"][0]["items"]
    assert "CLIP, cosine is left out" in at.warning[0].value.replace("\\", "")
    text = " ".join(m.value for m in at.markdown).replace("\\", "")
    assert "EfficientNet-Lite0, cosine** looks at all" in text


def test_patches_show_which_parts_of_the_target_they_explain(small: Small) -> None:
    dataset, checkpoint = small
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "targets": ("seed:0",)}
    work.run(ScoreJob(methods=("nda",), **where), quiet)
    best = results.proponents(expected(small, "nda"), 1)[0].index
    at = opened("attribution", methods=["Patches (NDA)"], example=str(best))  # type: ignore[arg-type]
    assert [row["title"] for row in galleries(at)["figure"]["rows"]] == ["Patches (NDA)"]
    captions = [caption for image in at.get("image") for caption in image.captions]
    assert any("its patches explain of" in caption for caption in captions)


def test_a_method_that_cannot_answer_says_why(small: Small) -> None:
    at = opened("attribution", sample="held-out:0", methods=["Journey TRAK", "D-TRAK, 4 models"])  # type: ignore[arg-type]
    assert not any("Gradients, plain" in m.value for m in at.markdown), "the list costs nothing until it is opened"
    at.session_state["choice-of-methods"] = True
    at.run()
    lines = "\n".join(m.value for m in at.markdown).replace("\\", "")
    assert re.search(r"\*\*Journey TRAK\*\* · left out: .*Choose a generated one", lines)
    assert re.search(r"\*\*D-TRAK\*\* · not yet: \d+ ", lines)
    assert re.search(r"\*\*Raw pixels, cosine\*\* · ready", lines)
    said = " ".join(info.value.replace("\\", "") for info in at.info)
    assert "Choose a generated one" in said
    assert "Model 1 of 4 of the ensemble is not trained yet" in said


def test_an_lds_stands_only_beside_the_method_that_it_is_of(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "ask": types.SimpleNamespace(dataset=small[0], checkpoint=small[1]), "kinds": ["generated"], "find": "found",
        "explains": True, "evaluated": types.SimpleNamespace(mean=0.5, low=None, high=None),
    }  # fmt: skip
    for name, answer in known.items():
        monkeypatch.setattr(questions, name, lambda *_, answer=answer: answer)

    def told(**asked: str) -> dict[str, bool]:
        at = opened("attribution", **asked)
        at.session_state["choice-of-methods"] = True
        at.run()
        lines = re.findall(r"^- \*\*(.+?)\*\* · (.*)$", "\n".join(m.value for m in at.markdown), re.MULTILINE)
        return {name.replace("\\", ""): said.startswith("LDS 0.50") for name, said in lines}

    assert set(told().values()) == {True}
    changed = told(output="loss")
    assert {name for name, has in changed.items() if not has} == {
        f"{one.label} on loss" for one in METHODS.values() if one.model_output not in (None, "loss")
    }
    changed = told(timesteps="10")
    assert {name for name, has in changed.items() if not has} == {
        one.label for one in METHODS.values() if one.model_output is not None
    }


def test_methods_of_several_checkpoints_are_one_job(small: Small) -> None:
    at = opened("attribution", methods=["TracInCP", "GAS", "DAS"])  # type: ignore[arg-type]
    next(b for b in at.button if b.label == "Compute").click().run()
    (job,) = [j for j in jobs.listing() if j.kind == "attribute"]
    asked = jobs.job_of(job.key)
    assert isinstance(asked, AttributeJob)
    assert {one.normalise for one in asked.features} == {"none", "timestep"}
    assert len({one.checkpoint for one in asked.features}) == 4
    assert asked.pictures_of == small[1].digest


def stored() -> set[Path]:
    return {file.parent for file in store.root().glob(f"*/*/{store.MANIFEST}")}


def test_certainty_that_was_never_measured_is_offered_and_follows(
    small: Small, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A cache from before: a job has ended with features in parts stored, but no certainty."""
    before = stored()
    request.addfinalizer(lambda: [shutil.rmtree(path) for path in stored() - before])
    plain = jobs_base(small, "squared-output").model_copy(update={"num_timesteps": 10})
    work.run(build(AttributeJob, features=(plain,), targets=("seed:0",)), quiet)
    at = opened("attribution", methods="d-trak", timesteps="10")
    button = next(b for b in at.button if b.label == "Measure certainty")
    assert any("TRAK" in m.value and "once for this model" in m.value for m in at.markdown), "its cost is told"
    button.click().run()
    assert not at.exception
    (asked,) = jobs.listing()
    job = jobs.job_of(asked.key)
    assert [features.parts for features in job.features] == ["faders"]  # type: ignore[union-attr]
    made = work.run(job, quiet)
    measured = [artifact for artifact in made if artifact.kind in ("repeats", "certainties")]
    assert len(measured) == 2
    for artifact in measured:
        shutil.rmtree(artifact.path)
    kept = [[artifact.kind, artifact.key] for artifact in made if artifact not in measured]
    running(monkeypatch, asked.key, state="done", finished=1.0, artifacts=kept)
    at = opened("attribution", methods="d-trak", timesteps="10")
    assert "Certainty not measured." in galleries(at)["figure"]["rows"][0]["note"]
    next(b for b in at.button if b.label == "Measure certainty").click().run()
    assert jobs.state(asked.key).going, "the ended job was asked for again"
    work.run(job, quiet)
    at = opened("attribution", methods="d-trak", timesteps="10")
    assert "Repeatability" in galleries(at)["figure"]["rows"][0]["note"]
    assert not [b for b in at.button if b.label == "Measure certainty"]


def test_a_picture_that_is_too_large_is_named_as_long_as_it_lies_there(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading.taken, "__defaults__", (uploading.ENDINGS, 1))
    at = opened("attribution")
    at.segmented_control(key="source").set_value("own").run()
    at.file_uploader[0].set_value(("large.png", bytes(2**20 + 1), "image/png")).run()
    for _ in range(2):
        assert ["is too large: at most 1 MB are taken" in one.value for one in at.error] == [True]
        at.run()


def test_without_contributors_the_way_to_name_them_is_one_link_away(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in small[0].train.rows:
        monkeypatch.setitem(row, "contributor", "")
    monkeypatch.setattr(catalogue, "by_name", lambda name: small[0])
    at = opened("attribution")
    assert any("These pictures name no contributors." in one.value for one in at.info)
    assert "Add pictures that name them" in [link.proto.label for link in at.main.get("page_link")]
