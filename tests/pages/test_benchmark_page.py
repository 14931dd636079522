"""The Benchmark page on a small store: the form, the table while models come, findings, one target, agreement."""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import re
import shutil
from typing import Any

import numpy as np
import pytest
from page_helpers import galleries, opened, running
from PIL import Image

from dtrak_core import __version__, api, store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.jobs import job_costs, jobs
from dtrak_core.jobs.jobs import BenchmarkJob, LdsJob
from dtrak_core.lds import (
    benchmark_files,
    benchmarking,
    bootstrap,
    frontier,
    predictions,
    recipes,
    standing_figure,
    standing_sheet,
    subset_losses,
    subset_models,
)
from dtrak_core.lds.frontier import FrontierSettings, Spent, Value
from dtrak_core.lds.standing_sheet import Sheet
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import embeddings, figure, method_groups
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.progress import quiet
from dtrak_core.settings import build
from dtrak_core.ui import gallery, questions
from dtrak_core.ui.benchmark import benchmark_charts, claims, detail, findings, known_table, methods_table


@pytest.fixture
def measured(small: tuple[Dataset, Checkpoint]) -> LdsSettings:
    """Measure 3 of 4 subsets for two generated and two held-out targets, and predict by four methods."""
    dataset, checkpoint = small
    targets = ("seed:0", "seed:1", "held-out:0", "held-out:1")
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "targets": targets}
    settings = build(LdsSettings, **where, num_subsets=4, num_timesteps=4)
    for one in subset_models.models(settings)[:3]:
        subset_losses.losses_of(dataset, checkpoint, one, quiet)
    known = subset_models.of_checkpoint(dataset.digest, checkpoint.digest)[0]
    methods = ("d-trak", "trak", "raw-pixel-cosine", "journey-trak")
    wanted = [recipes.usual(dataset, checkpoint, method) for method in methods]
    benchmarking.compute(dataset, known, wanted, True, quiet)
    return known


def test_without_known_answers_scores_are_one_link_away(
    small: tuple[Dataset, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_table, "_answers", lambda *_: ([], {}))
    at = opened("benchmark", part="Known answers")
    assert [link.proto.label for link in at.main.get("page_link")] == ["Compute scores of a picture"]


def forget_losses() -> None:
    for one in store.listing("subset-losses"):
        store.delete(one.kind, one.key)


def test_without_a_measurement_the_form_says_what_it_costs(small: tuple[Dataset, Checkpoint]) -> None:
    at = opened("benchmark")
    assert any("32 of 32 models remain to be trained" in caption.value for caption in at.caption)
    # Known answers need no retraining: of held-out pictures the label and contributor are known.
    table = at.dataframe[0].value
    assert at.segmented_control(key="known-fact-held-out").options == ["Label", "Contributor"]
    assert "Raw pixels, cosine" in set(table["Method"])
    assert at.dataframe[0].proto.alt.endswith(" as the target, held-out targets")
    assert "D-TRAK" not in set(table["Method"]), "it has no features of held-out pictures yet"
    next(b for b in at.button if b.label == "Train and measure").click().run()
    (job,) = [j for j in jobs.listing() if j.kind == "lds"]
    asked = jobs.job_of(job.key)
    assert isinstance(asked, LdsJob)
    assert asked.settings.num_subsets == 32
    assert "seed:0" in asked.settings.targets
    assert "held-out:0" in asked.settings.targets


def test_more_models_go_on_with_the_targets_and_numbers_that_were_measured(measured: LdsSettings) -> None:
    at = opened("benchmark")
    at.session_state["train-more"] = True
    at.run()
    shown = {one.label: (one.value, one.options) for one in at.segmented_control}
    assert shown["Targets of each kind"] == (2, ["2", "8"])
    assert shown["Subsets"] == (measured.num_subsets, [str(measured.num_subsets), "8", "16", "32", "64"])
    assert any("0 of 3 models remain to be trained." in caption.value for caption in at.caption)
    next(one for one in at.segmented_control if one.label == "Subsets").set_value(8).run()
    next(b for b in at.button if b.label == "Train and measure").click().run()
    (job,) = [j for j in jobs.listing() if j.kind == "lds"]
    asked = jobs.job_of(job.key)
    assert isinstance(asked, LdsJob)
    assert asked.settings == measured.model_copy(update={"num_subsets": 8})


def test_the_table_shows_what_is_there_and_offers_the_rest(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, checkpoint = small
    at = opened("benchmark")
    assert any("3 random parts" in caption.value for caption in at.caption)
    assert not at.dataframe, "its library is large"
    sentences = at.main.markdown[1].value.replace("\\", "")
    assert sentences.startswith("- Generated targets: ")
    assert "what is reachable is not known" in sentences
    listed = next(one.proto.body for one in at.get("html") if "<table" in one.proto.body)
    assert [listed.count(f"<b>{name}.</b>") for name in method_groups.GROUPS] == [1, 1, 1, 1, 0, 0]
    assert len(re.findall(r"<tr><th scope=.row.>", listed)) == len(METHODS)
    assert len(re.findall(r"not yet: \d+ s", listed)) > 5, "how long each takes that is missing"
    at.session_state[methods_table.NUMBERS] = True
    again: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "interval", lambda *given: again.append(given))
        patch.setattr(job_costs, "of_recipes", lambda *given: again.append(given))
        at.run()
    assert not at.exception
    assert not again, "intervals and costs are worked out anew only where something was stored"
    table = at.dataframe[0].value
    assert set(table["Method"]) == {"D-TRAK", "TRAK", "Raw pixels, cosine", "Journey TRAK"}
    assert set(table[table["Method"] == "Journey TRAK"]["Targets"]) == {"generated"}
    recipe = recipes.usual(dataset, checkpoint, "d-trak")
    found = predictions.find(recipe, measured)
    assert found is not None
    expected = predictions.evaluated(found, subset_models.read(dataset, measured), measured, "seed").mean
    own = table[(table["Method"] == "D-TRAK") & (table["Targets"] == "generated")]
    assert own["LDS"].item() == pytest.approx(expected)
    next(b for b in at.button if b.label == "Compute the missing methods").click().run()
    (job,) = [j for j in jobs.listing() if j.kind == "benchmark"]
    asked = jobs.job_of(job.key)
    assert isinstance(asked, BenchmarkJob)
    assert {one.method for one in asked.recipes} >= {"das", "nda", "ek-fac", "tracin-cp", "d-trak-ensemble"}
    assert asked.keep_scores


def test_what_cannot_be_had_is_not_asked_for(measured: LdsSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "available", lambda model: "No weights." if model == "clip-vit-b-32" else "")
    at = opened("benchmark")
    listed = next(one.proto.body for one in at.get("html") if "<table" in one.proto.body)
    assert listed.count("Left out: No weights.") == 2
    next(b for b in at.button if b.label == "Compute the missing methods").click().run()
    (job,) = [j for j in jobs.listing() if j.kind == "benchmark"]
    asked = jobs.job_of(job.key)
    assert isinstance(asked, BenchmarkJob)
    assert {one.method for one in asked.recipes}.isdisjoint({"clip-dot", "clip-cosine"})


def test_the_small_print_says_where_the_numbers_come_from(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings
) -> None:
    at = opened("benchmark")
    line = at.main.caption[-1].value.replace("\\", "")
    for fact in (
        small[0].digest,
        small[1].digest,
        "2 generated and 2 held-out",
        "4 timesteps, 1 noise each",
        "lds-val",
        "1 training seed a subset",
        f"with version {__version__}",
    ):
        assert fact in line
    first = recipes.features_of(recipes.usual(*small, "d-trak"))
    assert first is not None
    (made,) = [c.value.replace("\\", "") for c in at.caption if c.value.startswith("model output")]
    assert made.startswith("model output squared-output (D-TRAK); loss (TRAK and Journey TRAK) · ")
    assert f"timesteps {first.num_timesteps} (uniform)" in made
    assert f"projection {first.projection} to {first.proj_dim:,} · projection seed {first.proj_seed}" in made
    for part in ("Findings", "One target"):
        at = opened("benchmark", part=part)
        assert any("projection seed" in c.value for c in at.caption), part


def test_a_new_model_is_shown_while_the_job_runs(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, checkpoint = small
    wider = measured.model_copy(update={"num_subsets": 4})
    key, _ = jobs.submit(LdsJob(settings=wider), "LDS")
    running(monkeypatch, key, done=3, total=9, unit="training steps")
    at = opened("benchmark")
    assert at.get("progress")
    subset_losses.losses_of(dataset, checkpoint, subset_models.lacking(wider)[0], quiet)
    at.run()
    assert any("4 random parts" in caption.value for caption in at.caption)


def test_losses_are_read_again_though_there_are_as_many(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings, request: pytest.FixtureRequest
) -> None:
    dataset, checkpoint = small
    before = questions.ask(dataset, checkpoint)
    assert before is not None
    other = measured.model_copy(update={"targets": ("seed:2",), "num_subsets": 3})
    kept = subset_losses.losses_of(dataset, checkpoint, subset_models.models(other)[0], quiet)
    request.addfinalizer(lambda: shutil.rmtree(kept.path))
    shutil.rmtree(subset_models.stored(measured)[0].path)
    after = questions.ask(dataset, checkpoint)
    assert after is None or after.known.done == before.known.done - 1


@pytest.mark.parametrize(
    "finding", ["functions", "eta", "timesteps", "checkpoints", "dimension", "mixtures", "weights"]
)
def test_a_finding_offers_its_missing_points(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if finding == "weights":  # is not offered where the training has none
        options = opened("benchmark", part="Findings").selectbox(key="finding").options
        assert findings.FINDINGS["weights"].title not in options
        monkeypatch.setattr(checkpoints, "prediction_of", lambda _: "sample")
    at = opened("benchmark", part="Findings", finding=findings.FINDINGS[finding].title)
    button = next(b for b in at.button if b.label.startswith("Compute"))
    button.click().run()
    assert not at.exception
    (job,) = [j for j in jobs.listing() if j.kind == "benchmark"]
    asked = jobs.job_of(job.key)
    assert isinstance(asked, BenchmarkJob)
    every = [one for line in recipes.sweep(finding, *small).values() for one in line]  # type: ignore[arg-type]
    assert asked.recipes == tuple(one for one in every if predictions.find(one, measured) is None)
    assert not asked.keep_scores


def test_the_damping_finding_says_what_not_looking_costs(measured: LdsSettings) -> None:
    at = opened("benchmark", part="Findings", finding="Damping")
    told = next(m.value for m in at.markdown if "choosing without it costs" in m.value)
    assert "D-TRAK" in told
    assert "TRAK" in told


def test_what_a_better_answer_costs(small: tuple[Dataset, Checkpoint], measured: LdsSettings) -> None:
    """Over gradients what is stored of the sweep; over seconds what was measured beside the authors' way."""
    at = opened("benchmark", part="Findings", finding=findings.FINDINGS["cost"].title)
    (chart,) = at.get("plotly_chart")
    assert [line["name"] for line in json.loads(chart.proto.spec)["data"]] == ["D-TRAK", "TRAK"]
    assert any(b.label.startswith("Compute 10 missing points") for b in at.button)
    value = Value(0.4, 0.3, 0.5)
    points = [
        Spent("d-trak", theirs, "uniform", 10, 1, 130, 200.0 if theirs else 2.0, {"generated": value})
        for theirs in (False, True)
    ]
    settings = FrontierSettings(dataset=small[0].digest, checkpoint=small[1].digest)
    frontier.publish(settings, points, {"how": "On two cores."})
    at.run()
    (chart,) = at.get("plotly_chart")
    ours, theirs = json.loads(chart.proto.spec)["data"]
    assert (ours["x"], theirs["x"], theirs["name"]) == ([2.0], [200.0], "D-TRAK, the authors' way")
    assert ours["error_y"]["array"] == pytest.approx([0.1])
    assert ours["line"]["color"] == theirs["line"]["color"]
    assert (ours["showlegend"], theirs["showlegend"]) == (True, False), "a legend of two names leaves a phone its chart"
    assert any("dotted, open: the authors' way" in c.value for c in at.caption)
    assert any("a 100th of the time" in m.value for m in at.markdown)
    assert any("On two cores" in c.value for c in at.caption)


def test_functions_move_with_damping(small: tuple[Dataset, Checkpoint], measured: LdsSettings) -> None:
    dataset, checkpoint = small
    wanted = recipes.sweep("functions", dataset, checkpoint)[""]
    few = [recipes.build_recipe(one, features=recipes.usual(dataset, checkpoint, "d-trak").features) for one in wanted]
    assert [one.model_output for one in few] == list(recipes.OUTPUTS)
    work.run(build(BenchmarkJob, settings=measured, recipes=(wanted[0], wanted[2])), quiet)
    at = opened("benchmark", part="Findings", finding="Model output function")
    (chart,) = at.get("plotly_chart")
    assert "loss (TRAK)" in json.loads(chart.proto.spec)["data"][0]["x"]
    table = next(one.proto.body for one in at.get("html") if "told" in one.proto.body)
    assert table.count("not computed yet") == len(claims.CLAIMS) - 1
    assert re.search(r"0.26 with 100 against 0.16 with 100 timesteps.*against.*; 10 timesteps.*not clear", table)
    at.select_slider(key="finding-damping").set_value("best by LDS").run()
    assert not at.exception


def test_a_point_on_the_way_to_trak_is_at_the_charts_damping(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings
) -> None:
    wanted, *_ = recipes.sweep("eta", *small).values()
    work.run(build(BenchmarkJob, settings=measured, recipes=(wanted[0],)), quiet)
    at = opened("benchmark", part="Findings", finding=findings.FINDINGS["eta"].title)
    shown = {}
    for damping in at.select_slider(key="finding-damping").options:
        at.select_slider(key="finding-damping").set_value(damping).run()
        (chart,) = at.get("plotly_chart")
        (first, *_) = json.loads(chart.proto.spec)["data"][0]["y"]
        shown[damping] = at.metric[0].value
        assert shown[damping] == f"{first:.3f}", damping
    assert at.metric[0].proto.help.startswith("Mean over 2 targets: 1 is best, 0 is chance.")
    assert len(set(shown.values())) > 1, "no damping changes anything here"


def test_the_way_to_trak_is_shown_without_its_first_point(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, *_ = reversed(list(recipes.sweep("eta", *small).values()))
    work.run(build(BenchmarkJob, settings=measured, recipes=(last[5], last[-1])), quiet)
    find = predictions.find
    for there in ((last[5], last[-1]), (last[-1],)):
        monkeypatch.setattr(
            questions, "find", lambda recipe, of, kept=there: find(recipe, of.measured) if recipe in kept else None
        )
        at = opened("benchmark", part="Findings", finding=findings.FINDINGS["eta"].title)
        assert at.metric[0].label.startswith(f"LDS at η = {there[0].eta:g}, ")
        assert [slider.options for slider in at.select_slider if slider.key == "eta-slider"] == (
            [[str(one.eta) for one in there]] if len(there) > 1 else []
        )
        assert any(re.match(r"Compute \d+ missing points", button.label) for button in at.button)


def test_one_target_is_opened(measured: LdsSettings) -> None:
    at = opened("benchmark", part="One target")
    items = galleries(at)["benchmark_targets"]["rows"][0]["parts"][0]["items"]
    assert [item["key"] for item in items] == ["seed:0", "seed:1"]
    assert [m.label for m in at.metric] == ["Spearman correlation"]
    assert re.fullmatch(r"Of predicted .* over \d subsets: 1 is best, 0 is chance\.", at.metric[0].proto.help)
    at.selectbox(key="target-method").set_value("journey-trak").run()
    at.segmented_control(key="target-kind").set_value("held-out").run()
    assert any("explains only generated" in info.value for info in at.info)


def test_every_target_can_be_opened(measured: LdsSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "page", functools.partial(gallery.page, most=1))
    at = opened("benchmark", part="One target")
    for number, name in ((1, "seed:0"), (2, "seed:1")):
        at.session_state["benchmark-page-generated"] = number
        at.run()
        (item,) = galleries(at)["benchmark_targets"]["rows"][0]["parts"][0]["items"]
        assert item["key"] == name


def test_agreement_compares_methods_and_names_usual_suspects(measured: LdsSettings) -> None:
    at = opened("benchmark", part="Agreement")
    assert any("Usual suspects" in m.value for m in at.markdown)
    shown = galleries(at)
    assert len(shown["hubs"]["rows"][0]["parts"][0]["items"]) == 12
    (told,) = [c.value.replace("\\", "") for c in at.caption if "agrees most with" in c.value]
    assert re.fullmatch(
        r"Rank correlation between \d+ methods, mean over the generated targets of both\. D-TRAK agrees most with .+ "
        r"\((−?\d\.\d\d)\), least with .+ \((−?\d\.\d\d)\)\.",
        told,
    )
    at.toggle(key="agree-clean").set_value(True).run()
    assert not at.exception
    assert galleries(at)["differ_above"] != shown["differ_above"] or galleries(at)["hubs"] != shown["hubs"]


def test_agreement_follows_the_features_that_become_the_usual_ones(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agreements() -> list[float]:
        (chart,) = opened("benchmark", part="Agreement").get("plotly_chart")
        heat = json.loads(chart.proto.spec)["data"][0]
        return list(_decoded(heat["z"])[list(heat["y"]).index("D-TRAK")])

    before, usual = agreements(), recipes.usual
    other = recipes.with_timesteps(usual(*small, "d-trak"), 1)
    benchmarking.compute(small[0], measured, [other], True, quiet)
    monkeypatch.setattr(
        recipes, "usual", lambda *given, **told: other if given[2] == "d-trak" else usual(*given, **told)
    )
    assert agreements() != before


def test_agreement_is_said_in_words() -> None:
    values = np.array([[1.0, -0.5, np.nan], [-0.5, 1.0, 0.2], [np.nan, 0.2, 1.0]])
    say = benchmark_charts.nearest_and_farthest
    assert say(["A", "B", "C"], values) == "A agrees most with B (−0.50)."
    values[0, 2] = 0.25
    assert say(["A", "B", "C"], values) == "A agrees most with C (0.25), least with B (−0.50)."
    assert say(["A"], values[:1, :1]) == ""


def test_known_answers_stand_beside_chance(measured: LdsSettings) -> None:
    at = opened("benchmark", part="Known answers")
    table = at.dataframe[0].value
    assert list(table["Method"])[-2:] == ["At most", "By chance"]
    assert {"D-TRAK", "Raw pixels, cosine"} <= set(table["Method"])
    assert any("Likeness is not influence" in caption.value for caption in at.caption)
    assert " known --dataset discs --checkpoint tiny --method das" in at.code[0].value


def test_known_answers_and_agreement_of_eight_pictures(small: tuple[Dataset, Checkpoint]) -> None:
    """The first ten would be more than there are, the first eight all of them."""
    images = np.random.default_rng(9).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    few = api.dataset(images, held_out=images[:2], name="eight")
    found, _ = known_table._answers(few.key, small[1].digest, ("few",), None, few, small[1])
    share = {row["method"]: row["share"] for row in found[0]["rows"]}
    assert share["raw-pixel-cosine"] == 1 / 4, "of the first four, each of the two finds its equal"
    scores = np.stack([np.arange(8.0), -np.arange(8.0)])
    rows = ("held-out:0", "held-out:1"), scores
    for other, shared in ((scores, 1), (-scores, 0)):
        matrix = detail._matrix(f"{shared}", True, False, {"a": rows, "b": (rows[0], other)})
        np.testing.assert_array_equal(matrix, [[1, shared], [shared, 1]])


def test_known_answers_have_own_scores_once_they_are_added(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings
) -> None:
    def listed() -> set[str]:
        at = opened("benchmark", part="Known answers")
        at.segmented_control(key="known-kind").set_value("held-out").run()
        return set(at.dataframe[0].value["Method"])

    before, rows = listed(), np.random.default_rng(0).normal(size=(2, len(small[0].train.rows)))
    api.add_scores("late", rows, ["held-out:0", "held-out:1"], small[0])
    assert listed() - before == {"late (own scores)"}


def test_every_number_taken_along_says_what_it_is_of_and_how_it_was_measured(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings
) -> None:
    dataset, checkpoint = small
    features = recipes.features_of(recipes.usual(dataset, checkpoint, "das"))
    assert features is not None
    assert (features.model_output, features.normalise) == ("mean-output", "timestep"), "the method's own"
    row = {
        "method": "d-trak", "label": "D-TRAK", "squared": False, "targets": "generated", "count": 2, "timesteps": 10,
        "lds": 0.257, "interval": [0.254, 0.265], "effective_rank": 0.15, "gradients": 100, "seconds": 2.0,
        "by_chance": {"std": 0.03, "low": -0.05, "high": 0.06, "p": 0.01},
        "feature_settings": features.model_dump(mode="json"),
    }  # fmt: skip
    held = {**row, "targets": "held-out", "lds": 0.3374, "interval": None, "by_chance": None, "feature_settings": None}
    known = subset_models.read(dataset, measured)

    def of(*rows: dict[str, Any]) -> Sheet:
        return Sheet(dataset, checkpoint, measured, known, rows, {"trak": "It has not been computed."})

    sheet = of(row, held)
    text = standing_sheet.to_csv(sheet, "2026-01-02").decode()
    begin = ",".join(standing_sheet.COLUMNS)
    assert text.splitlines()[0].startswith(begin)
    assert text.splitlines()[1].startswith(
        "d-trak,D-TRAK,generated,10,0.257,0.254,0.265,0.15,100,2.0,2,-0.05,0.06,0.01"
    )
    first, second = csv.DictReader(io.StringIO(text))
    assert (second["lds"], second["low"], second["chance_low"], second["settings"]) == ("0.3374", "", "", "")
    assert json.loads(first["settings"]) == row["feature_settings"]
    assert json.loads(first["sampling"])["sampling_steps"] == measured.sampling_steps
    for line in (first, second):
        assert {
            "dataset": dataset.name, "dataset_digest": dataset.digest, "checkpoint": checkpoint.name,
            "checkpoint_digest": checkpoint.digest, "subsets": str(len(known.subsets)), "share": "0.5",
            "models": str(known.done), "train_seeds": "1", "loss_timesteps": "4", "noise_seeds": "1",
            "draws": "lds-val", "version": __version__, "date": "2026-01-02",
        }.items() <= line.items()  # fmt: skip
    said = standing_sheet.to_latex(sheet, "2026-01-02").decode()
    assert "D-TRAK & 10 & 25.7 [25.4, 26.5] & 33.7 \\\\" in said
    comments = [line for line in said.splitlines() if line.startswith("% ")]
    assert said.startswith("\n".join(comments))
    for fact in (dataset.digest, checkpoint.digest, "4 timesteps", "1 training seed", __version__, "2026-01-02"):
        assert any(fact in line for line in comments)
    for name, printed in (
        ("a_b (own scores)", "a\\_b (own scores)"),
        ("R&D, 5 % #1 {$x$}", "R\\&D, 5 \\% \\#1 \\{\\$x\\$\\}"),
        ("~^\\", "\\textasciitilde{}\\textasciicircum{}\\textbackslash{}"),
    ):
        assert f"\n{printed} & 10 & " in standing_sheet.to_latex(of(row | {"label": name})).decode()
    shown = Image.open(io.BytesIO(standing_figure.to_png(sheet, "2026-01-02")))
    told = json.loads(shown.info["provenance"])
    assert told == json.loads(standing_sheet.to_json(sheet, "2026-01-02"))
    assert (told["protocol"]["train_seeds"], told["date"]) == (1, "2026-01-02")
    assert told["left_out"] == {"trak": "It has not been computed."}
    # The first mark lies as far along the axis as the LDS does: right of zero, in the colour of generated targets.
    purple = np.argwhere((np.asarray(shown)[standing_figure.HEAD :] == standing_figure.COLOURS["generated"]).all(2))
    grey = np.argwhere((np.asarray(shown)[standing_figure.HEAD] == figure.RULE).all(1))
    ticks = np.argwhere((np.asarray(shown)[standing_figure.HEAD] == standing_figure.CHANCE).all(1))
    place = (purple[:, 1].min() + purple[:, 1].max()) / 2 - grey.mean()
    assert place / (ticks.max() - grey.mean()) == pytest.approx(0.257 / 0.35, abs=0.02)


def test_the_files_are_named_after_the_model(small: tuple[Dataset, Checkpoint], measured: LdsSettings) -> None:
    at = opened("benchmark")
    buttons = {one.proto.label: one.proto for one in at.get("download_button")}
    assert {"CSV", "LaTeX", "JSON", "PNG"} <= set(buttons)
    question = questions.ask(*small)
    assert question is not None
    assert Sheet(*small, question.measured, question.known, ()).name == f"lds-{small[1].name}"


def test_what_could_be_reached_has_its_interval_in_the_caption() -> None:
    known = {"noise_floor": 0.8717, "noise_floor_interval": [0.8245, 0.9149]}
    unknown = {"noise_floor": None, "noise_floor_interval": None}
    told = methods_table._floors({"generated": known, "held-out": unknown})
    assert "could reach about 0.87 (0.82 to 0.91) for generated targets: " in told
    assert methods_table._floors({"generated": unknown}).endswith("two training seeds for at least 8 subsets.")


def test_charts_hold_the_numbers() -> None:
    rows = [
        {"label": "A", "targets": "generated", "lds": 0.2, "interval": [0.1, 0.4], "by_chance": None},
        {"label": "B", "targets": "generated", "lds": 0.1, "interval": None, "by_chance": {"low": -0.2, "high": 0.3}},
    ]
    shown = benchmark_charts.standings(rows, {"generated": 0.8})
    chance, points, reachable = shown.data
    assert (list(chance.x)[:2], list(chance.y)[:2]) == ([-0.2, 0.3], [points.y[1]] * 2), "each method's own"
    assert list(points.x) == [0.2, 0.1]
    assert (list(reachable.x), reachable.name) == ([0.8, 0.8], "reachable, generated")
    assert list(points.error_x.array) == pytest.approx([0.2, 0.0])
    assert list(points.error_x.arrayminus) == pytest.approx([0.1, 0.0])
    assert shown.layout.yaxis.ticktext == ("B", "A")


def test_a_benchmark_is_taken_along_and_its_scores_come_back(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings
) -> None:
    of = benchmark_files.of_checkpoint(*small)
    buffer = io.BytesIO()
    np.savez(buffer, scores=np.random.default_rng(0).normal(size=(4, len(small[0].train.rows))), benchmark=of.digest)
    at = opened("benchmark")
    at.session_state["own-scores"] = True
    at.run()
    assert "Benchmark" in [one.proto.label for one in at.get("download_button")]
    at.text_input(key="own-scores-name").set_value("Mine!").run()
    at.file_uploader[0].set_value(("back.npz", buffer.getvalue(), "application/octet-stream")).run()
    assert "take lower" in at.error[0].value
    at.text_input(key="own-scores-name").set_value("mine").run()
    assert not at.exception
    assert "4 targets taken as own" in at.success[0].value
    assert any("mine (own scores)" in one.proto.body for one in at.get("html")), "the table has one method more"


def test_methods_agree_over_the_targets_of_both(small: tuple[Dataset, Checkpoint], measured: LdsSettings) -> None:
    dataset, checkpoint = small
    kept = predictions.stored_scores(recipes.usual(dataset, checkpoint, "d-trak"), measured)
    assert kept is not None
    rows, pictures = dict(zip(*kept, strict=True)), {t.id: t for t in subset_models.pictures(dataset, measured)}
    own = {}
    for name, ids in {"one": ["seed:1"], "two": ["held-out:1", "held-out:0"]}.items():
        own[name] = api.add_scores(name, np.stack([rows[i] for i in ids]), [pictures[i] for i in ids], dataset)
    wanted = [recipes.usual(dataset, checkpoint, method) for method in own.values()]
    benchmarking.compute(dataset, measured, wanted, True, quiet)

    at = opened("benchmark", part="Agreement")
    for kind, mine in (("generated", "one (own scores)"), ("held-out", "two (own scores)")):
        at.segmented_control(key="agreement-kind").set_value(kind).run()
        at.selectbox(key="agree-second").set_value(mine).run()
        assert not at.exception
        heat = json.loads(at.get("plotly_chart")[0].proto.spec)["data"][0]
        place = {name: number for number, name in enumerate(heat["y"])}
        values = np.array(_decoded(heat["z"]))
        assert values[place["D-TRAK"], place[mine]] == pytest.approx(1)
        assert ("Journey TRAK" in place) == (kind == "generated")
        assert any(f"over {len(rows) // 2 if mine[0] == 't' else 1} {kind} target" in m.value for m in at.markdown)

    at.query_params["part"] = "One target"
    at = opened("benchmark", part="One target")
    at.selectbox(key="target-method").set_value(own["one"]).run()
    assert any("one (own scores) has no scores of seed:0" in info.value.replace("\\", "") for info in at.info)


def test_an_lds_of_held_out_targets_alone_leaves_out_what_explains_generated_ones(
    small: tuple[Dataset, Checkpoint],
) -> None:
    dataset, checkpoint = small
    forget_losses()  # of other tests: the page shows the LDS of the most models
    where = {"dataset": dataset.digest, "checkpoint": checkpoint.digest, "targets": ("held-out:0", "held-out:1")}
    settings = build(LdsSettings, **where, num_subsets=3, num_timesteps=4)
    subset_losses.compute(dataset, checkpoint, settings, quiet)
    benchmarking.compute(dataset, settings, [recipes.usual(dataset, checkpoint, "raw-pixel-cosine")], True, quiet)
    at = opened("benchmark")
    assert not at.exception
    listed = next(one.proto.body for one in at.get("html") if "<table" in one.proto.body)
    assert "It explains none of these targets." in listed
    next(b for b in at.button if b.label == "Compute the missing methods").click().run()
    (job,) = [j for j in jobs.listing() if j.kind == "benchmark"]
    asked = jobs.job_of(job.key)
    assert isinstance(asked, BenchmarkJob)
    assert "journey-trak" not in {one.method for one in asked.recipes}
    for part in ("One target", "Agreement"):
        assert not opened("benchmark", part=part).exception
    forget_losses()


def test_agreement_says_where_one_method_alone_explains_a_kind(
    small: tuple[Dataset, Checkpoint], measured: LdsSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = predictions.stored_scores
    able = {recipes.usual(*small, method) for method in ("raw-pixel-cosine", "journey-trak")}
    monkeypatch.setattr(predictions, "stored_scores", lambda recipe, of: stored(recipe, of) if recipe in able else None)
    at = opened("benchmark", part="Agreement")
    assert any("Usual suspects" in m.value for m in at.markdown)
    at.segmented_control(key="agreement-kind").set_value("held-out").run()
    assert not at.exception
    assert any("two methods for the same held-out targets" in info.value for info in at.info)
    next(b for b in at.button if b.label == "Go to Methods").click().run()
    assert at.session_state["part"] == "Methods"


def _decoded(values: dict[str, str]) -> np.ndarray:
    """Return an array as plotly sends it."""
    found = np.frombuffer(base64.b64decode(values["bdata"]), np.dtype(values["dtype"]))
    return found.reshape([int(size) for size in values["shape"].split(",")])


def test_choices_of_the_address_that_cannot_be_are_named(measured: LdsSettings) -> None:
    at = opened("benchmark", **{"table-timesteps": "9999", "table-squared": "maybe"})
    assert sorted(one.value for one in at.warning) == [
        "'Square scores first' cannot be 'maybe', as the address says; showing 'false'.",
        "'Timesteps' cannot be '9999', as the address says; showing '2'.",
    ]
    assert not opened("benchmark", **{"table-squared": "true", "part": "Findings", "finding": "Damping"}).warning


def test_the_address_holds_what_is_chosen(measured: LdsSettings) -> None:
    target = {"target-kind": "held-out", "benchmark-target": "held-out:1", "target-method": "TRAK"}
    at = opened("benchmark", part="One target", **target)
    assert at.segmented_control(key="target-kind").value == "held-out"
    assert at.selectbox(key="target-method").value == "trak"
    assert galleries(at)["benchmark_target"]["rows"][0]["parts"][0]["items"][0]["key"] == "held-out:1"
    agreement = {"agreement-kind": "held-out", "agree-first": "TRAK", "agree-second": "D-TRAK", "agree-clean": "true"}
    at = opened("benchmark", part="Agreement", **agreement, **{"agree-measure": "shared of the first 10"})
    assert at.segmented_control(key="agreement-kind").value == "held-out"
    assert at.segmented_control(key="agree-measure").value == "shared of the first 10"
    assert (at.selectbox(key="agree-first").value, at.selectbox(key="agree-second").value) == ("trak", "d-trak")
    assert at.toggle(key="agree-clean").value
    finding = {"finding": "Model output function", "finding-targets": "held-out", "finding-damping": "best by LDS"}
    at = opened("benchmark", part="Findings", **finding)
    assert at.segmented_control(key="finding-targets").value == "held-out"
    assert at.select_slider(key="finding-damping").value == "best by LDS"
    at = opened("benchmark", part="Known answers", **{"known-kind": "held-out", "known-fact-held-out": "Contributor"})
    assert at.segmented_control(key="known-fact-held-out").value == "contributor"
    assert not at.warning
    at = opened("benchmark", part="One target", **{"benchmark-target": "seed:99"})
    assert [one.value for one in at.warning] == [
        "'Target' cannot be 'seed\\:99', as the address says; showing 'seed\\:0'."
    ]
