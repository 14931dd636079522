"""What a dataset is known by: nothing that leans on a corrected fact is returned, and each name answers for itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtrak_core import store
from dtrak_core.commands import answers, cli
from dtrak_core.counterfactual import comparisons, removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.content import content_digest
from dtrak_core.engine import parts, work
from dtrak_core.errors import NotFoundError
from dtrak_core.jobs.jobs import CounterfactualJob, key_of_job
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import training

WHO = {"contributor": "Ada", "family": "", "caption": "", "name": ""}


@pytest.fixture(autouse=True)
def without_engine(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "completed", lambda job, _: work.run(job, quiet))


def folder(place: Path, changes: dict[int, dict[str, str]] | None = None) -> Path:
    """Write 20 pictures and their metadata.csv: all by Ada but for the changes, which name a picture by its number."""
    place.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    lines = ["file_name,caption,contributor,family,name"]
    for i in range(20):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(place / f"{i:02d}.png")
        row = WHO | (changes or {}).get(i, {})
        lines.append(f"{i:02d}.png,{row['caption']},{row['contributor']},{row['family']},{row['name']}")
    (place / "metadata.csv").write_text("\n".join(lines))
    return place


def prepared(source: Path, name: str = "mine") -> Dataset:
    return catalogue.load(catalogue.prepare(catalogue.source_settings("folder", source, name, 8), source))


def by(dataset: Dataset, name: str) -> tuple[int, ...]:
    return tuple(i for i, row in enumerate(dataset.train.rows) if row["contributor"] == name)


@pytest.fixture
def wrong(tmp_path: Path) -> Dataset:
    return prepared(folder(tmp_path / "mine", {1: {"contributor": "Ben"}, 2: {"family": "red"}, 3: {"family": "red"}}))


@pytest.fixture
def trained(wrong: Dataset, tiny: ModelSettings) -> Checkpoint:
    settings = TrainSettings(dataset=wrong.digest, model=tiny.model_copy(update={"fold": 1}), epochs=1, batch_size=8)
    training.train(wrong, settings, "small", quiet)
    return checkpoints.by_name("small", wrong.digest)


def asked(dataset: Dataset, checkpoint: Checkpoint, *methods: str, group: str = "none") -> CounterfactualSettings:
    return removals.settings_for(
        dataset, checkpoint, methods, {"targets": ("seed:0",), "remove": (1,), "bottom": False, "group": group}
    )


def test_a_corrected_contributor_is_another_comparison_of_the_same_model(
    wrong: Dataset, trained: Checkpoint, tmp_path: Path
) -> None:
    right = prepared(folder(tmp_path / "mine", {1: {"contributor": "Ben"}, 4: {"contributor": "Ben"}}))
    assert (right.digest, right.name) == (wrong.digest, wrong.name), "nothing that training looks at has changed"
    assert right.facts != wrong.facts
    assert catalogue.by_name("mine").facts == right.facts
    before, after = asked(wrong, trained, "contributor:Ben"), asked(right, trained, "contributor:Ben")
    assert key_of("comparisons", before) != key_of("comparisons", after)
    jobs = [CounterfactualJob(settings=one) for one in (before, after)]
    assert key_of_job(jobs[0]) != key_of_job(jobs[1])
    answers.generated(trained, [0], before)
    removed = []
    for job in jobs:
        planned = parts.stage(job, 2)
        assert planned is not None
        removed.append({part.removed for part in planned if part.removed})
    assert by(wrong, "Ben") in removed[0]
    assert by(right, "Ben") in removed[1]
    assert by(right, "Ben") not in removed[0]
    assert len(by(right, "Ben")) > len(by(wrong, "Ben"))


def keep(settings: CounterfactualSettings, name: str) -> None:
    """Store a comparison without entries."""
    key = key_of("comparisons", settings)
    place = store.partial("comparisons", key)
    store.write_json(place / comparisons.ENTRIES, [])
    store.write_array(place / comparisons.IMAGES, np.zeros((0, 8, 8, 3), np.uint8))
    store.write_array(place / comparisons.ORIGINALS, np.zeros((1, 8, 8, 3), np.uint8))
    store.publish("comparisons", key, settings, name=name, encoder=settings.encoder)


def test_comparisons_are_listed_where_their_facts_hold(wrong: Dataset, trained: Checkpoint, tmp_path: Path) -> None:
    right = prepared(folder(tmp_path / "mine", {4: {"contributor": "Ben"}}))
    pixels = asked(wrong, trained, "raw-pixel-cosine")
    keep(pixels, "plain")
    keep(asked(wrong, trained, "raw-pixel-cosine", group="label"), "labels")
    keep(asked(wrong, trained, "contributor:Ben"), "wrong")
    keep(asked(right, trained, "contributor:Ben"), "right")
    keep(asked(right, trained, "raw-pixel-cosine", group="family"), "family")
    keep(asked(right, trained, "contributor:Ben").model_copy(update={"facts": ""}), "did not say")
    assert "facts" not in pixels.model_dump(), "what does not depend on them keeps its key"
    names = [{one.name for one in comparisons.listing(d, trained.digest)} for d in (wrong, right)]
    assert names == [{"plain", "labels", "wrong"}, {"plain", "labels", "right", "family"}]


def test_a_comparison_that_is_shown_by_name_says_that_its_table_has_changed(
    wrong: Dataset, trained: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(name: str) -> str:
        """Return what `--show` says of a change, the same in JSON as in text."""
        assert cli.main(["counterfactual", "--show", name, "--json"]) == 0
        told: str = json.loads(capsys.readouterr().out)["changed"]
        assert cli.main(["counterfactual", "--show", name]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"{told}\n\nMedians" if told else "Medians")
        return told

    def changes() -> list[bool]:
        return [bool(said(name)) for name in ("plain", "maker", "family")]

    keep(asked(wrong, trained, "raw-pixel-cosine"), "plain")
    keep(asked(wrong, trained, "contributor:Ben"), "maker")
    keep(asked(wrong, trained, "raw-pixel-cosine", group="family"), "family")
    keep(asked(wrong, trained, "contributor:Ben").model_copy(update={"facts": ""}), "did not say")
    assert changes() == [False, False, False]
    assert "kept which contributors and families" in said("did not say")
    prepared(folder(tmp_path / "mine", {4: {"contributor": "Ben"}}))
    assert changes() == [False, True, True]
    assert said("maker") == (
        "Contributors or families of 'mine' have changed since the comparison 'maker' was made: its removals are those "
        "of the table before. Compare again for today's."
    )
    held = comparisons.outdated(catalogue.by_name("mine"), trained.digest, "maker")
    assert held is not None
    assert held.name == "maker"
    assert comparisons.outdated(catalogue.by_name("mine"), trained.digest, "plain") is None
    twin = folder(tmp_path / "twin", {1: {"contributor": "Ben"}, 2: {"family": "red"}, 3: {"family": "red"}})
    prepared(twin, "twin")
    assert changes() == [False, False, False], "it holds for a dataset of another name"


def test_a_digest_with_facts_opens_that_table_and_no_other(wrong: Dataset, tmp_path: Path) -> None:
    other = prepared(folder(tmp_path / "mine", {1: {"contributor": "Cy"}}), "twin")
    assert other.digest == wrong.digest
    for each in (wrong, other):
        found = catalogue.by_digest(each.digest, each.facts)
        assert (found.name, found.key) == (each.name, each.key)
    store.delete("datasets", wrong.key)
    with pytest.raises(NotFoundError, match="stored with other contributors or families than were asked for"):
        catalogue.by_digest(wrong.digest, wrong.facts)
    assert catalogue.by_digest(wrong.digest).name == "twin"


def test_a_table_that_is_changed_back_is_meant_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = []
    for changes in ({}, {1: {"contributor": "Ben"}}, {}):
        folder(tmp_path / "mine", changes)
        words = ["dataset", "--name", "mine", "--source", str(tmp_path / "mine"), "--resolution", "8"]
        assert cli.main(words) == 0
        facts.append(catalogue.by_name("mine").facts)
    assert facts[0] == facts[2] != facts[1]
    assert len(store.listing("datasets")) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    "changes",
    [
        {5: {"caption": "a red disc"}},
        {5: {"caption": "disc", "name": "disc"}},  # a caption that tells no more than the name
        {i: {"caption": "only held out"} for i in (0, 17)},
    ],
)
def test_a_caption_is_part_of_what_is_trained_on(changes: dict[int, dict[str, str]], tmp_path: Path) -> None:
    first, second = prepared(folder(tmp_path / "mine")), prepared(folder(tmp_path / "mine", changes))
    assert first.train.prompts + first.held_out.prompts != second.train.prompts + second.held_out.prompts
    assert first.digest != second.digest


def test_each_name_answers_for_itself(wrong: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path / "mine", {i: {"contributor": "Eve"} for i in range(20)})
    twin = prepared(source, "twin")
    assert twin.digest == wrong.digest
    words = ["--epochs", "1", "--batch-size", "8", "--weights-dtype", "float32", "--json"]
    for name in ("mine", "twin"):
        assert cli.main(["train", "--name", f"of-{name}", "--dataset", name, "--preset", "demo", *words]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["dataset_name"] == name
        run = ["attribute", "--dataset", name, "--checkpoint", answer["name"], "--sample", "held-out:0"]
        assert cli.main([*run, "--method", "raw-pixel-cosine", "--out", str(tmp_path / name), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["target"]["dataset"] == name
        makers = {entry["contributor"] for entry in found["proponents"]}
        assert makers <= ({"Ada", "Ben"} if name == "mine" else {"Eve"})
        written = (tmp_path / name / "scores.csv").read_text()
        assert ("Eve" in written) == (name == "twin")
        assert f",{name}," in written


def aged(stored: Dataset, fact: bool | None) -> Dataset:
    """Make a dataset what one from before every caption counted is: without the fact, its digest without captions."""
    file = store.get("datasets", stored.key).path / store.MANIFEST
    told = json.loads(file.read_text()) | {"digest": content_digest(stored.train, stored.held_out, False)}
    told |= {"captioned": fact, "date": "2026-11-24T00:00:00+00:00"}
    if fact is None:
        del told["captioned"]
    file.write_text(json.dumps(told))
    return catalogue.load(store.get("datasets", stored.key))


@pytest.mark.parametrize("fact", [None, False])
def test_datasets_from_before_that_differ_in_captions_alone_are_told_apart(
    fact: bool | None, tmp_path: Path, tiny: ModelSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = prepared(folder(tmp_path / "bare"), "bare")
    sources = {
        word: folder(tmp_path / word, {i: {"caption": f"{word} {i}", "name": f"{word} {i}"} for i in range(20)})
        for word in ("disc", "ring")
    }
    new = {word: prepared(source, word) for word, source in sources.items()}
    old = {word: aged(one, fact) for word, one in new.items()}
    manifests = {store.get("datasets", one.key).manifest["digest"] for one in old.values()}
    assert manifests == {bare.digest}, "they had one digest, also that of the pictures without captions"
    assert aged(bare, fact).digest == bare.digest, "without captions nothing was ambiguous"
    assert {word: one.digest for word, one in old.items()} == {word: one.digest for word, one in new.items()}
    assert len({bare.digest, *(one.digest for one in old.values())}) == 3
    for word, one in old.items():
        assert catalogue.by_digest(one.digest).name == word
        assert [found.name for found in catalogue.newest_of(one.digest)] == [word]
        assert catalogue.identity(store.get("datasets", one.key)) == one.digest
    assert catalogue.by_digest(bare.digest).name == "bare"
    assert cli.main(["dataset", "list", "--json"]) == 0
    listed = {row["name"]: row["digest"] for row in json.loads(capsys.readouterr().out)}
    assert listed.items() >= {word: one.digest for word, one in old.items()}.items()
    settings = TrainSettings(dataset=bare.digest, model=tiny.model_copy(update={"fold": 1}), epochs=1, batch_size=8)
    training.train(bare, settings, "ambiguous", quiet)
    assert not checkpoints.listing(old["disc"].digest), "what leaned on the ambiguous digest is not taken for its own"
