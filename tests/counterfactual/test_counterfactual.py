"""Remove, retrain, regenerate, compare: removal sets, controls, resuming, what is read on the way."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dtrak_core import store
from dtrak_core.commands import removing
from dtrak_core.counterfactual import (
    comparison_document,
    comparison_figure,
    comparisons,
    counterfactual,
    removal_sets,
    removals,
)
from dtrak_core.counterfactual.settings import CounterfactualSettings, answers
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import Cancelled, NotFoundError, SettingsError
from dtrak_core.features import features, losses
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.files import crc32
from dtrak_core.jobs import job_costs, jobs
from dtrak_core.methods import costs, figure, scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, networks, sampling, speeds, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled, SampleSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of
from dtrak_core.training import ensembles, retrained, training


@pytest.fixture
def settings(pictures: Dataset, checkpoint: Checkpoint) -> CounterfactualSettings:
    """Two targets, one method that needs no features, three sizes of controls."""
    denoiser = networks.load_denoiser(checkpoint)
    for seed in (3, 4):
        image = sampling.generate(denoiser, [seed], "ddim", 5, 0.0)[0]
        targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=seed, sampling_steps=5), image)
    return build(
        CounterfactualSettings,
        dataset=pictures.digest,
        checkpoint=checkpoint.digest,
        targets=("seed:3", "seed:4"),
        methods=("raw-pixel-cosine",),
        remove=(6,),
        random_draws=2,
        sampling_steps=5,
    )


def trainings(wanted: Sequence[removals.Wanted], checkpoint: Checkpoint) -> set[removals.Model]:
    """Return the different trainings (removed, train_seed) of a plan; the original is none of them."""
    return {(one.removed, one.train_seed) for one in wanted} - {removals.original(checkpoint)}


def test_the_plan_holds_every_control(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    plan = removals.plan(pictures, checkpoint, settings)
    count = {m: sum(w.method == m for w in plan) for m in dict.fromkeys(w.method for w in plan)}
    # Two targets drawn by each of 1 + 2 + 1 + 2 + 2 models.
    assert count == {"identity": 2, "random": 4, "noise_floor": 2, "raw-pixel-cosine": 4, "bottom": 4}
    assert {len(w.removed) for w in plan if w.method in ("random", "bottom", "raw-pixel-cosine")} == {6}
    # Random and noise-floor models serve both targets.
    assert len(trainings(plan, checkpoint)) == 2 + 1 + 2 * 2 == removals.count_trainings(settings)
    target = targets.resolve(pictures, checkpoint.digest, "seed:3", Sampled(sampling_steps=5))
    values = scores.attribution_scores("raw-pixel-cosine", pictures, checkpoint.digest, target).values
    top = next(w for w in plan if w.method == "raw-pixel-cosine" and w.owner == "seed:3")
    low = next(w for w in plan if w.method == "bottom" and w.owner == "seed:3")
    assert min(values[list(top.removed)]) >= max(np.delete(values, list(top.removed)))
    assert max(values[list(low.removed)]) <= min(np.delete(values, list(low.removed)))


def test_a_retraining_keeps_everything_but_the_removed(pictures: Dataset, checkpoint: Checkpoint) -> None:
    original = checkpoints.training_of(checkpoint)
    changed = removals.retraining(pictures, checkpoint, (0, 5), 42)
    assert changed.indices == tuple(i for i in range(24) if i not in (0, 5))
    assert changed.model_dump(exclude={"indices"}) == original.model_dump(exclude={"indices"})
    assert removals.retraining(pictures, checkpoint, (), 43).indices is None


def test_named_pictures_are_one_removal_whatever_the_target(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    asked = {"targets": settings.targets, "remove": (1,), "sampling_steps": 5}
    one, other = (
        removals.settings_for(pictures, checkpoint, (name,), asked, "efficientnet-lite0")
        for name in ("pictures:7,3-5,4", "pictures:3-5,7")
    )
    assert one == other, "equal sets are one comparison"
    plan = removals.plan(pictures, checkpoint, one)
    named = [bar for bar in plan if bar.method == "pictures:3-5,7"]
    assert {(bar.removed, bar.owner) for bar in named} == {((3, 4, 5, 7), "")}
    assert {len(bar.removed) for bar in plan if bar.method == "random"} == {4}
    assert len(trainings(plan, checkpoint)) == removals.count_trainings(one) == 4
    assert removal_sets.without("pictures:3-5,7") == "Without 4 pictures (#3 to #7)"
    assert removal_sets.without("pictures:3,12") == "Without #3, #12"
    for wrong in ("pictures:24", "pictures:x", "pictures:0-23"):
        with pytest.raises(SettingsError):
            removals.settings_for(pictures, checkpoint, (wrong,), asked, "efficientnet-lite0")


def test_what_shares_a_fact_with_the_targets_prompt_is_removed_for_each_target(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    labels = sorted({row["label"] for row in pictures.train.rows})[:2]  # a class's name is a prompt of its pictures
    asked = {"targets": ("seed:3", "seed:4"), "remove": (1,), "prompts": tuple(labels), "random_draws": 1}
    found = removals.settings_for(pictures, checkpoint, ("same:label",), asked, "efficientnet-lite0")
    plan = removals.plan(pictures, checkpoint, found)
    named = {bar.owner: bar.removed for bar in plan if bar.method == "same:label"}
    for target, label in zip(("seed:3", "seed:4"), labels[::-1], strict=True):
        own = [i for i, row in enumerate(pictures.train.rows) if row["label"] == label]
        assert named[target] == tuple(own)
    sizes = {len(removed) for removed in named.values()}
    assert {len(bar.removed) for bar in plan if bar.method == "random"} == sizes
    assert len(trainings(plan, checkpoint)) == 1 + 2 + len(sizes) <= removals.count_trainings(found)
    assert removal_sets.without("same:label") == "Without the target's label"
    for wrong, prompts, error in (
        ("same:size", tuple(labels), "is no fact of pictures"),
        ("same:label", (), "was drawn from no prompt"),
        ("same:family", ("no caption",), "is not known"),
    ):
        with pytest.raises((SettingsError, NotFoundError), match=error):
            removals.settings_for(pictures, checkpoint, (wrong,), asked | {"prompts": prompts}, "efficientnet-lite0")


def test_every_arm_has_the_same_seeds_none_the_originals_and_draws_every_target(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    asked = settings.model_copy(update={"train_seeds": 3, "remove": (4, 6)})
    plan = removals.plan(pictures, checkpoint, asked)
    own = checkpoints.training_of(checkpoint).train_seed
    arms: dict[tuple[str, str, tuple[int, ...]], set[int]] = {}
    for bar in plan:
        arms.setdefault((bar.method, bar.owner, bar.removed), set()).add(bar.train_seed)
    identity = {seeds.pop() for (method, *_), seeds in arms.items() if method == "identity"}
    assert identity == {own}
    assert {tuple(sorted(seeds)) for (method, *_), seeds in arms.items() if method != "identity"} == {
        (own + 1, own + 2, own + 3)
    }
    assert len(trainings(plan, checkpoint)) == removals.count_trainings(asked) == 3 * (1 + 2 * 2 + 4 * 2)
    drawn: dict[removals.Model, set[str]] = {}
    for bar in plan:
        drawn.setdefault((bar.removed, bar.train_seed), set()).add(bar.target)
    assert all(names == set(settings.targets) for names in drawn.values()), "every model draws every target"
    # A bar is known by its target, owner, method, size and draw.
    assert len({(b.target, b.owner, b.method, b.asked, b.draw) for b in plan}) == len(plan)


def test_the_noise_floor_may_have_models_of_further_seeds(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    asked, own = settings.model_copy(update={"floor_models": 3}), checkpoints.training_of(checkpoint).train_seed
    plan = removals.plan(pictures, checkpoint, asked)
    seeds: dict[str, set[int]] = {}
    for bar in plan:
        seeds.setdefault(bar.method, set()).add(bar.train_seed)
    assert seeds.pop("identity") == {own}
    assert seeds.pop("noise_floor") == {own + 1, own + 2, own + 3}
    assert all(each == {own + 1} for each in seeds.values())
    assert len({(b.target, b.owner, b.method, b.asked, b.draw) for b in plan}) == len(plan)
    assert {b.target for b in plan if b.train_seed == own + 3} == set(settings.targets)
    assert len(trainings(plan, checkpoint)) == removals.count_trainings(asked)
    assert "floor_models" not in settings.model_dump(), "what was stored before keeps its key"
    several = settings.model_copy(update={"train_seeds": 3, "floor_models": 2})
    assert removals.count_trainings(several) == removals.count_trainings(several.model_copy(update={"floor_models": 1}))


def test_only_what_a_checkpoint_learned_is_removed(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = checkpoints.training_of(checkpoint).model_copy(update={"indices": tuple(range(0, 24, 2))})
    monkeypatch.setattr(checkpoints, "training_of", lambda _: half)
    for group in ("none", "label"):
        plan = removals.plan(pictures, checkpoint, settings.model_copy(update={"group": group, "remove": (3,)}))
        taking = [bar for bar in plan if bar.removed]
        assert taking
        for bar in taking:
            assert set(bar.removed) <= set(half.indices or ())
            left = removals.retraining(pictures, checkpoint, bar.removed, bar.train_seed).indices
            assert left is not None
            assert len(left) == 12 - len(bar.removed)
        named = {len(bar.removed) for bar in taking if bar.method != "random"}
        assert named == {len(bar.removed) for bar in taking if bar.method == "random"}
    with pytest.raises(SettingsError, match="12 of 12"):
        removals.plan(pictures, checkpoint, settings.model_copy(update={"remove": (12,)}))
    with pytest.raises(SettingsError, match="none of the 12 training pictures is left"):
        removals.plan(pictures, checkpoint, settings.model_copy(update={"group": "label", "remove": (9,)}))
    last = half.model_copy(update={"train_seed": 2**31 - 1})
    monkeypatch.setattr(checkpoints, "training_of", lambda _: last)
    assert removals.train_seeds(checkpoint, settings.model_copy(update={"train_seeds": 2})) == (0, 1)


def test_settings_from_before_name_the_seeds_of_the_noise_floor(settings: CounterfactualSettings) -> None:
    before = settings.model_dump(mode="json", exclude={"train_seeds"}) | {"floor_seeds": 3}
    read = build(CounterfactualSettings, **before)
    assert read.train_seeds == 3
    assert "floor_seeds" not in read.model_dump()
    with pytest.raises(SettingsError, match="train_seeds"):
        build(CounterfactualSettings, **settings.model_dump(exclude={"train_seeds"}), train_seeds=0)


def test_a_comparison_from_before_keeps_its_pictures_and_has_no_verdict(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    """As it was stored: neither owners nor training seeds, each model with its own target, and another key."""
    counterfactual.compare(pictures, checkpoint, settings, "new", quiet)
    artifact = store.get("comparisons", key_of("comparisons", settings))
    rows = json.loads(artifact.file(comparisons.ENTRIES).read_bytes())
    kept = [i for i, row in enumerate(rows) if row["owner"] in ("", row["target"])]
    before = settings.model_dump(mode="json", exclude={"train_seeds"}) | {"floor_seeds": 1}
    folder = artifact.path.with_name("0123456789abcdef")
    folder.mkdir()
    store.write_json(
        folder / comparisons.ENTRIES,
        [{name: value for name, value in rows[i].items() if name not in ("owner", "train_seed")} for i in kept],
    )
    store.write_array(folder / comparisons.IMAGES, np.asarray(artifact.array(comparisons.IMAGES))[kept])
    store.write_array(folder / comparisons.ORIGINALS, np.asarray(artifact.array(comparisons.ORIGINALS)))
    files = {
        path.name: {"bytes": path.stat().st_size, "crc32": crc32(path)}
        | ({"shape": list((a := np.load(path)).shape), "dtype": str(a.dtype)} if path.suffix == ".npy" else {})
        for path in folder.iterdir()
    }
    told = dict(artifact.manifest) | {"key": folder.name, "settings": before, "files": files, "name": "old"}
    store.write_json(folder / store.MANIFEST, told)
    old = comparisons.by_name("old")
    assert (old.key, old.crossed, old.finished) == ("0123456789abcdef", False, True)
    assert [e.image.tolist() for e in old.entries] == [
        e.image.tolist() for i, e in enumerate(comparisons.by_name("new").entries) if i in kept
    ]
    document = comparison_document.document(old)
    assert document["settings"] == before
    assert comparisons.medians(old) == comparisons.medians(comparisons.by_name("new"))
    for measure in comparisons.measures(old):
        for method in ("raw-pixel-cosine", "bottom"):
            found = document["statistics"][measure][method]
            assert (found["specific_p"], found["beyond_random"]) == (None, None)
            assert found["reason"] == "made before every model drew every target"
            assert (found["targets"], found["models"], found["random_models"]) == (2, 2, 2)
    assert {c.key for c in comparisons.listing(pictures, checkpoint.digest)} == {artifact.key, old.key}


def test_a_comparison_from_end_to_end(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    seen: list[tuple[int, int]] = []
    counterfactual.compare(pictures, checkpoint, settings, "try", lambda d, t, u, m: seen.append((d, t)))
    # Seven trainings see 24 pictures or 18, in batches of 8, twice: 3 steps an epoch either way.
    assert seen[-1] == (7 * 6, 7 * 6)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    found = comparisons.by_name("try")
    assert len(found.entries) == found.expected == 16
    for entry in found.entries:
        assert entry.l2 == pytest.approx(
            np.linalg.norm((entry.image.astype(float) - found.originals[entry.target]) / 127.5)
        )
        if entry.method == "identity":
            assert (entry.l2, entry.loss_change) == (0.0, 0.0)
            assert entry.cosine == pytest.approx(1.0, abs=1e-6)
        else:
            assert entry.l2 > 0
            assert entry.cosine < 1
    # One bar again by hand: the same training, the same seed, the same distance.
    entry = next(e for e in found.entries if (e.method, e.target, e.owner) == ("raw-pixel-cosine", "seed:4", "seed:3"))
    assert entry.train_seed == 43
    run = removals.retraining(pictures, checkpoint, entry.removed, 43)
    training.train(pictures, run, "by-hand", quiet)
    denoiser = networks.load_denoiser(checkpoints.by_name("by-hand", pictures.digest))
    np.testing.assert_array_equal(sampling.generate(denoiser, [4], "ddim", 5, 0.0)[0], entry.image)
    own = targets.resolve(pictures, checkpoint.digest, "seed:4", Sampled(sampling_steps=5))
    np.testing.assert_array_equal(found.originals["seed:4"], own.image)
    loss = losses.denoising_loss(denoiser, own, 50, 0)
    before = losses.denoising_loss(networks.load_denoiser(checkpoint), own, 50, 0)
    assert loss - before == pytest.approx(entry.loss_change, abs=1e-9)
    # The same models take over late, without another training, from what the original has drawn.
    late = settings.model_copy(update={"take_over": 500})
    steps: list[str] = []
    counterfactual.compare(pictures, checkpoint, late, "late", lambda d, t, u, m: steps.append(m))
    assert not any("Loss" in one for one in steps), "nothing was trained"
    one = next(
        e
        for e in comparisons.by_name("late").entries
        if (e.removed, e.target, e.owner) == (entry.removed, "seed:4", "seed:3")
    )
    first = sampling.Before(networks.load_denoiser(checkpoint), 500)
    np.testing.assert_array_equal(sampling.generate(denoiser, [4], "ddim", 5, 0.0, before=first)[0], one.image)
    assert not np.array_equal(one.image, entry.image)
    assert one.loss_change == entry.loss_change
    assert "take_over" not in settings.model_dump(), "what was stored before keeps its key"
    # Retrained models are no checkpoints to choose from.
    assert {c.run.manifest["name"] for c in checkpoints.listing()} == {"small", "by-hand"}


def test_six_targets_give_verdicts_that_follow_from_the_entries(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tuple(f"seed:{i}" for i in range(6))
    asked = settings.model_copy(update={"targets": names, "random_draws": 1, "bottom": False, "sampling_steps": 2})
    work.run(build(jobs.CounterfactualJob, settings=asked, name="six"), quiet)
    removing.counterfactual(show="six", json=True)
    told = json.loads(capsys.readouterr().out)
    drawn = {(e["method"], e["owner"], e["target"]): e for e in told["entries"]}
    assert len(drawn) == len(told["entries"]) == 6 * (1 + 1 + 1 + 6)
    seeds = {method: {e["train_seed"] for e in told["entries"] if e["method"] == method} for method, *_ in drawn}
    assert seeds == {"identity": {42}, "random": {43}, "noise_floor": {43}, "raw-pixel-cosine": {43}}
    for measure, sign in (("l2", 1), ("cosine", -1), ("loss_change", 1)):
        square = np.array([[drawn["raw-pixel-cosine", o, t][measure] for t in names] for o in names])
        sums = [sum(square[order[i], i] for i in range(6)) for order in itertools.permutations(range(6))]
        found = told["statistics"][measure]["raw-pixel-cosine"]
        assert found["specific_p"] == pytest.approx(np.mean(sign * (np.array(sums) - np.trace(square)) >= -1e-9))
        random = np.array([drawn["random", "", t][measure] for t in names])
        beyond = found["beyond_random"]
        assert beyond["difference"] == pytest.approx(np.mean(np.diag(square) - random))
        assert beyond["low"] < beyond["difference"] < beyond["high"]
        assert (found["targets"], found["models"], found["random_models"], found["reason"]) == (6, 6, 1, "")
    removing.counterfactual(show="six")
    shown = capsys.readouterr().out
    assert "Change of the loss\n  Raw pixels, cosine: " in shown
    assert "specific to the target (p = " in shown


def test_medians_and_tests_weigh_every_target_once(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    counterfactual.compare(pictures, checkpoint, settings, "try", quiet)
    found, by_name = comparisons.by_name("try"), settings.targets
    by_target = [np.mean([e.l2 for e in found.entries if e.method == "random" and e.target == t]) for t in by_name]
    assert comparisons.medians(found)["random"]["l2"] == pytest.approx(np.median(by_target))
    assert comparisons.medians(found)["random"]["n"] == 2
    assert comparisons.medians(found)["random"]["entries"] == 4
    ours = [next(e.l2 for e in found.entries if e.method == "bottom" and e.target == e.owner == t) for t in by_name]
    assert comparisons.medians(found)["bottom"]["l2"] == pytest.approx(np.median(ours))
    assert comparisons.medians(found)["bottom"]["n"] == comparisons.medians(found)["bottom"]["entries"] == 2
    assert comparisons.medians(found)["bottom"]["l2_interval"] is None  # of two targets
    judged = comparisons.statistics(found)["bottom"]
    assert judged.beyond is not None
    assert judged.beyond.difference == pytest.approx(np.mean(np.array(ours) - np.array(by_target)))
    assert (judged.specific_p, judged.beyond.low, judged.beyond.high) == (None, None, None)
    assert "too few targets: 2" in judged.reason
    document = comparison_document.document(found)
    assert document["finished"]
    assert document["medians"]["random"]["l2"] == comparisons.medians(found)["random"]["l2"]
    assert document["statistics"]["l2"]["bottom"]["beyond_random"]["difference"] == judged.beyond.difference
    lines = comparison_document.to_csv(found).decode().splitlines()
    assert len(lines) == 17
    assert lines[0].startswith("target,method,owner,draw,train_seed,size,removed_count,l2,cosine,loss_change,removed")


def test_exports_name_whose_pictures_were_removed_and_the_licence(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, tmp_path: Path
) -> None:
    made = [row | {"contributor": ("Ada", "Ben", "")[i % 3]} for i, row in enumerate(pictures.train.rows)]
    named = dataclasses.replace(pictures, train=dataclasses.replace(pictures.train, rows=made), credit="By Ada & Ben")
    counterfactual.compare(pictures, checkpoint, settings, "try", quiet)
    found = comparisons.read(settings)
    document = comparison_document.document(found, named)
    assert (document["dataset"], document["licence"]) == (pictures.name, "By Ada & Ben")
    lines = list(csv.DictReader(io.StringIO(comparison_document.to_csv(found, named).decode())))
    assert len(lines) == len(document["entries"]) == 16
    for entry, line in zip(document["entries"], lines, strict=True):
        by = [("Ada", "Ben", "not given")[i % 3] for i in entry["removed"]]
        assert entry["contributors"] == {name: by.count(name) for name in sorted(set(by))}
        told = [each.rsplit(": ", 1) for each in line["removed_contributors"].split("; ") if each]
        assert {name: int(count) for name, count in told} == entry["contributors"]
        assert [count for _, count in told] == sorted((count for _, count in told), reverse=True)
        assert line["licence"] == "By Ada & Ben"
        assert (line["dataset"], line["dataset_digest"]) == (pictures.name, pictures.digest)
        assert (line["checkpoint"], line["checkpoint_digest"]) == (checkpoint.name, checkpoint.digest)
        assert (line["comparison"], line["encoder"]) == (found.key, settings.encoder)
        assert (line["sampler"], line["sampling_steps"], line["take_over"]) == ("ddim", "5", "1000")
        assert (line["version"], line["date"]) == (found.facts["versions"]["dtrak-studio"], found.facts["date"][:10])
    picture = Image.open(io.BytesIO(comparison_figure.draw(found, 6, named)))
    bare = Image.open(io.BytesIO(comparison_figure.draw(found, 6)))
    assert picture.info["licence"] == "By Ada & Ben"
    assert "licence" not in bare.info
    below = np.asarray(picture.convert("L"))[-32 - figure.LINE :]
    assert picture.height == bare.height + figure.LINE
    assert (below < 200).any(), "the line is drawn"
    (first, *_) = json.loads(picture.info["credits"])
    entry = next(e for e in document["entries"] if e["method"] == first["method"] and e["target"] == first["target"])
    assert first["contributors"] == entry["contributors"]

    removing.counterfactual(show="try", out=tmp_path)  # by the command line, of the stored dataset
    written = json.loads((tmp_path / "comparison.json").read_bytes())
    assert written["licence"] == ""
    assert {sum(e["contributors"].values()) for e in written["entries"]} == {0, 6}
    for artifact in store.listing("datasets"):
        shutil.rmtree(artifact.path)
    gone = comparison_document.document(comparisons.by_name("try"))
    assert (gone["dataset"], gone["licence"], gone["entries"][-1]["contributors"]) == (None, None, None)


def test_an_interrupted_comparison_shows_what_it_has_and_goes_on(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    def stop(done: int, total: int, unit: str, message: str) -> None:
        if done >= 3 * 6 + 2:
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        counterfactual.compare(pictures, checkpoint, settings, "try", stop)
    half = comparisons.read(settings)
    (line, *_) = csv.DictReader(io.StringIO(comparison_document.to_csv(half).decode()))
    assert (line["version"], len(line["date"])) == (store.versions()["dtrak-studio"], 10), "of what is there today"
    assert half.expected == 16
    assert 2 < len(half.entries) < 16
    assert comparisons.unjudged(half) == "not every model has drawn every target yet"
    trained = {a.key for a in store.listing("retrained")}
    assert len(trained) == 3
    told = job_costs.of_comparison(pictures, checkpoint, settings)
    assert (told.trainings, told.stored) == (7, 3)
    each = (24 - 6) * checkpoints.training_of(checkpoint).epochs * speeds.training(checkpoint).seconds
    assert told.cost.by_name["training"] == pytest.approx(4 * each)
    counterfactual.compare(pictures, checkpoint, settings, "try", quiet)
    assert job_costs.of_comparison(pictures, checkpoint, settings) == job_costs.Removing(costs.Cost(), 7, 7)
    done = comparisons.read(settings)
    assert len(done.entries) == 16
    for entry in half.entries:
        where = (entry.target, entry.method, entry.owner, entry.draw)
        twin = next(e for e in done.entries if (e.target, e.method, e.owner, e.draw) == where)
        np.testing.assert_array_equal(entry.image, twin.image)


def test_more_controls_and_seeds_answer_the_same_question(settings: CounterfactualSettings) -> None:
    surer = {"random_draws": 5, "train_seeds": 2, "floor_models": 3, "targets": settings.targets[::-1]}
    assert answers(settings.model_copy(update=surer), settings)
    assert not answers(settings, settings.model_copy(update={"floor_models": 2}))
    for name, value in {"bottom": False, "take_over": 500, "remove": (5,), "targets": settings.targets[:1]}.items():
        assert not answers(settings.model_copy(update={name: value}), settings)


def test_the_job_computes_what_it_needs_first(pictures: Dataset, checkpoint: Checkpoint) -> None:
    settings = build(
        CounterfactualSettings,
        dataset=pictures.digest,
        checkpoint=checkpoint.digest,
        targets=("seed:7",),
        methods=("lite0-cosine",),
        remove=(4,),
        random_draws=1,
        bottom=False,
        sampling_steps=5,
    )
    assert comparisons.read(settings).expected == 0
    (made,) = work.run(jobs.CounterfactualJob(settings=settings, name="one"), quiet)
    assert made.key == key_of("comparisons", settings)
    assert [e.method for e in comparisons.read(settings).entries] == [
        "identity",
        "random",
        "noise_floor",
        "lite0-cosine",
    ]


def test_equal_questions_are_one_job_whatever_their_names(settings: CounterfactualSettings) -> None:
    first, second = (jobs.CounterfactualJob(settings=settings, name=name) for name in ("a", "b"))
    assert jobs.key_of_job(first) == jobs.key_of_job(second)


def test_groups_are_removed_whole() -> None:
    rows = [{"family": f} for f in ("a", "b", "a", "c", "b", "")]
    order = np.array([5, 1, 0, 2, 3, 4])
    assert removal_sets.grouped(order, 1, rows, "family") == (5,)
    assert removal_sets.grouped(order, 2, rows, "family") == (1, 4, 5)
    assert removal_sets.grouped(order, 4, rows, "family") == (0, 1, 2, 4, 5)
    assert removal_sets.grouped(order[[0, 1, 3]], 2, rows, "family") == (1, 5)  # of the learned 1, 2 and 5


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({}, 1 + 2 + 2 + 2),  # noise floor, random draws, one removal a target and its lowest
        ({"bottom": False, "random_draws": 1, "remove": (2, 6)}, 1 + 2 + 4),
        ({"group": "label"}, 1 + 2 * 3 + 4),  # each target's groups may have a size of their own
        ({"methods": ("contributor:a", "contributor:b")}, 1 + 2 * 2 + 2),
        ({"train_seeds": 3}, 3 * (1 + 2 + 2 + 2)),  # every arm with every seed
    ],
)
def test_trainings_are_counted_before_scores_are_known(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings, change: dict[str, Any], number: int
) -> None:
    asked = settings.model_copy(update=change)
    assert removals.count_trainings(asked) == number
    if not any(method.startswith("contributor") for method in asked.methods):
        planned = trainings(removals.plan(pictures, checkpoint, asked), checkpoint)
        assert len(planned) <= number


def test_a_contributor_is_removed_whole_and_an_unknown_one_is_refused(
    pictures: Dataset, checkpoint: Checkpoint, settings: CounterfactualSettings
) -> None:
    unknown = settings.model_copy(update={"methods": ("contributor:nobody",)})
    with pytest.raises(NotFoundError, match="nobody"):
        removals.plan(pictures, checkpoint, unknown)
    asked = {"targets": ("seed:3",), "remove": (1,)}
    with pytest.raises(NotFoundError, match="nobody"):  # before anything is computed
        removals.settings_for(pictures, checkpoint, ("raw-pixel-cosine", "contributor:nobody"), asked)
    with pytest.raises(SettingsError, match="24 of 24"):
        removals.settings_for(pictures, checkpoint, ("raw-pixel-cosine",), asked | {"remove": (24,)})


def test_random_sets_repeat_and_differ_by_draw() -> None:
    assert (
        removal_sets.random_set(900, 180, 0)
        == removal_sets.random_set(900, 180, 0)
        != removal_sets.random_set(900, 180, 1)
    )
    assert len(set(removal_sets.random_set(900, 180, 0))) == 180


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"remove": (24,)}, "Leave at least 1"),
        ({"methods": ("nonsense",)}, "not a method"),
    ],
)
def test_what_cannot_be_removed_is_refused(
    pictures: Dataset,
    checkpoint: Checkpoint,
    settings: CounterfactualSettings,
    change: dict[str, tuple[object, ...]],
    words: str,
) -> None:
    with pytest.raises((SettingsError, NotFoundError), match=words):
        removals.plan(pictures, checkpoint, settings.model_copy(update=change))


def test_an_earlier_state_cannot_be_retrained(pictures: Dataset, checkpoint: Checkpoint) -> None:
    with pytest.raises(SettingsError, match="finished one"):
        checkpoints.training_of(checkpoints.by_name("small@50", pictures.digest))


@pytest.mark.parametrize("change", [{"random_draws": 0}, {"targets": ("seed:1", "seed:1")}, {"targets": ("train:1",)}])
def test_settings_refuse_what_has_no_meaning(settings: CounterfactualSettings, change: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        build(CounterfactualSettings, **(settings.model_dump() | change))


def test_the_shown_comparison_must_exist(cache: Path) -> None:
    with pytest.raises(NotFoundError, match="none yet"):
        comparisons.by_name("demo")


@pytest.mark.parametrize("method", ["d-trak", "tracin-cp", "journey-trak", "das", "d-trak-ensemble", "nda", "ek-fac"])
def test_every_kind_of_method_ranks_removals(pictures: Dataset, checkpoint: Checkpoint, method: str) -> None:
    small = FeatureSettings(dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=2, proj_dim=32)
    features.compute_features(pictures, networks.load_denoiser(checkpoint), small, quiet)  # usual from here on
    if METHODS[method].models:
        with pytest.raises(NotFoundError, match="Model 1 of 4 of the ensemble is not trained yet"):
            removals.settings_for(pictures, checkpoint, (method,), {"targets": ("seed:3",), "remove": (6,)})
        for one in ensembles.member_trainings(checkpoint.digest, METHODS[method].models):
            retrained.retrained(pictures, one, quiet)
    asked = {"targets": ("seed:3",), "remove": (6,), "random_draws": 1, "bottom": False, "sampling_steps": 5}
    settings = removals.settings_for(pictures, checkpoint, (method,), asked)
    work.run(build(jobs.CounterfactualJob, settings=settings, name=method), quiet)
    (entry,) = (e for e in comparisons.by_name(method).entries if e.method == method)
    target = targets.resolve(pictures, checkpoint.digest, "seed:3", Sampled(sampling_steps=5))
    base = small.model_copy(update={"model_output": METHODS[method].model_output or "loss"})
    values = scores.attribution_scores(method, pictures, checkpoint.digest, target, base).values
    assert sorted(entry.removed) == sorted(np.argsort(-values, kind="stable")[:6])
    assert entry.l2 > 0
