"""Generate: forms become the right jobs; costs and mistakes are told before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from page_helpers import galleries, opened, running
from small_store import MODEL

from dtrak_core import store
from dtrak_core.amounts import duration
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.datasets.thumbnails import png
from dtrak_core.jobs import job_files, jobs, launch
from dtrak_core.jobs.jobs import ProbeJob, SampleJob, TrainJob, key_of_job
from dtrak_core.methods import costs
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.precision import resolved
from dtrak_core.models.settings import ProbeSettings, Sampled
from dtrak_core.settings import Settings, key_of
from dtrak_core.training import growing, presets
from dtrak_core.ui import panels
from dtrak_core.ui.generate import drawing

Small = tuple[Dataset, Checkpoint]


def press(at: object, label: str) -> None:
    (button,) = [b for b in at.button if b.label == label]  # type: ignore[attr-defined]
    button.click().run()
    assert not at.exception  # type: ignore[attr-defined]


def test_the_form_starts_a_job_and_shows_its_steps(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened("generate")
    listed = galleries(at)["drawn"]["rows"][0]["parts"][0]["items"]
    assert [item["key"] for item in listed] == [f"seed:{i}" for i in range(5)]
    at.number_input(key="draw-count").set_value(4)
    at.number_input(key="draw-first").set_value(100)
    press(at, "Draw")
    (job,) = jobs.listing()
    asked = jobs.job_of(job.key)
    assert isinstance(asked, SampleJob)
    assert asked.seeds == (100, 101, 102, 103)
    assert (asked.sampler, asked.sampling_steps, asked.checkpoint) == ("ddim", 50, small[1].digest)
    running(monkeypatch, job.key, done=64, total=200, unit="sampling steps", message="Picture 2 of 4")
    at.run()
    assert at.get("progress")[0].proto.value == 32
    assert "64 of 200 sampling steps" in at.get("progress")[0].proto.text
    press(at, "Cancel")
    assert job_files.cancel_flag(job_files.folder() / job.key, 1).exists()


def test_the_cost_of_drawing_is_told_before_and_counts_only_what_is_not_stored(small: Small) -> None:
    at = opened("generate")

    def told(first: int, count: int, **more: int) -> str:
        at.number_input(key="draw-first").set_value(first)
        for name, value in more.items():
            at.number_input(key=f"draw-{name}").set_value(value)
        at.number_input(key="draw-count").set_value(count).run()
        return next(one.value for one in at.caption if "stored" in one.value or "on disk" in one.value)

    assert told(0, 5) == "All of it is stored: nothing has to be drawn."
    assert told(0, 1) == "All of it is stored: nothing has to be drawn."
    cost = costs.sentence(costs.drawing(small[1], 11, Sampled()))
    assert told(0, 16) == f"5 of 16 pictures are stored. The others: {cost}."
    assert told(100, 11) == f"11 pictures: {cost}."
    assert "11.0 kB on disk" in cost
    assert (
        told(0, 5, steps=10) == f"5 pictures: {costs.sentence(costs.drawing(small[1], 5, Sampled(sampling_steps=10)))}."
    )


def test_a_cache_that_cannot_be_written_to_still_shows_what_ships(
    small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STUDIO_DEMO", str(store.root()))
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path / "file"))
    at = opened("generate")
    assert len(galleries(at)["drawn"]["rows"][0]["parts"][0]["items"]) == 5
    press(at, "Draw")
    assert "Set STUDIO\\_CACHE to a writable folder" in at.error[0].value


def test_many_pictures_are_shown_a_page_at_a_time(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PER_PAGE", 2)

    def shown(at: object) -> list[str]:
        return [item["key"] for item in galleries(at)["drawn"]["rows"][0]["parts"][0]["items"]]  # type: ignore[arg-type]

    at = opened("generate")
    assert shown(at) == ["seed:0", "seed:1"]
    at.session_state["drawn-page"] = 3
    at.run()
    assert shown(at) == ["seed:4"]


def test_pictures_are_drawn_anew_only_when_there_are_more(
    small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Redrawn(BaseException):
        """The page is drawn anew."""

    def rerun() -> None:
        raise Redrawn

    looks: list[Callable[[], None]] = []
    drawn: list[Checkpoint] = []
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path))
    (tmp_path / "samples" / ("0" * 16)).mkdir(parents=True)
    monkeypatch.setattr(panels, "announce", lambda kinds, done: [])
    monkeypatch.setattr(panels, "newest", lambda kind, about: jobs.JobState("a" * 16, state="running"))
    monkeypatch.setattr(panels, "follow", lambda key, beside: looks.append(beside))
    monkeypatch.setattr(drawing, "_pictures", drawn.append)
    monkeypatch.setattr(drawing.st, "rerun", rerun)
    drawing.results(small[1])
    (tmp_path / "samples" / f"{'1' * 16}.partial").mkdir()
    looks[0]()
    looks[0]()
    assert len(drawn) == 1
    (tmp_path / "samples" / ("1" * 16)).mkdir()
    with pytest.raises(Redrawn):
        looks[0]()


def test_prompts_of_another_model_are_not_given_to_one_of_pixels(small: Small) -> None:
    at = opened("generate", prompt="a cat")
    at.session_state["draw-prompts"] = "a cat"
    press(at, "Draw")
    asked = jobs.job_of(jobs.listing()[0].key)
    assert isinstance(asked, SampleJob)
    assert asked.prompts == ()
    shown = opened("attribution", sample="seed:1", prompt="a cat")
    assert not shown.warning
    assert "seed 1" in str(galleries(shown)["figure"])


def test_another_sampler_has_no_pictures_yet(small: Small) -> None:
    at = opened("generate")
    at.selectbox(key="draw-sampler").set_value("ddpm")
    press(at, "Draw")
    assert "Nothing has been drawn with these settings" in at.info[0].value


def test_a_training_is_told_from_its_cost_to_its_first_pictures(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened("generate", tab="Train a model")
    assert "has not been measured" in at.info[0].value
    press(at, "Estimate the cost")
    probe = jobs.job_of(jobs.listing()[0].key)
    assert isinstance(probe, ProbeJob)

    class Probe(Settings):
        model: object
        resolution: int
        batch_size: int

    made = Probe(model=probe.model.model_dump(mode="json"), resolution=probe.resolution, batch_size=probe.batch_size)
    store.publish("probes", key_of("probes", made), made, seconds_per_picture_step=0.002)
    at = opened("generate", tab="Train a model")
    epochs, count = presets.train_settings("demo", small[0].digest).epochs, len(small[0].train.rows)
    assert f"{epochs:,} epochs of {count:,} pictures at 2.0 ms each. You" in at.info[0].value
    press(at, "Measure again")
    again = jobs.job_of(next(job.key for job in jobs.listing() if "probe" in job.kind and job.key != key_of_job(probe)))
    assert again == probe.model_copy(update={"number": 1})
    measured = ProbeSettings(**again.model_dump(exclude={"kind"}))
    timed = {"seconds_per_picture_step": 0.004, "seconds_between": [0.002, 0.05], "load": 1.6}
    facts = timed | {"parameters": 100_000}
    store.publish("probes", key_of("probes", measured), measured, **facts)
    at = opened("generate", tab="Train a model")
    busy = "Measured while other work kept 1.6 cores busy: measure again when it has ended."
    assert f"at 4.0 ms each. 1.6 MB on disk. {busy}" in at.info[0].value
    low, high = (duration(each * epochs * count) for each in (0.002, 0.05))
    assert at.info[0].value.startswith(f"{low} to {high}, the middle half of the steps measured, on this machine")
    press(at, "Train")
    asked = jobs.job_of(next(job.key for job in jobs.listing() if job.kind == "train"))
    assert isinstance(asked, TrainJob)
    assert (asked.name, asked.train.dataset, asked.train.epochs) == ("demo-42", small[0].digest, epochs)
    running(monkeypatch, key_of_job(asked), done=60, total=900, unit="training steps")
    at = opened("generate", tab="Train a model")
    assert not at.image, "no picture of it is there yet"
    folder = store.partial("checkpoints", key_of("checkpoints", asked.train))
    store.write_bytes(folder / "metrics.jsonl", b'{"step": 20, "loss": 1.5}\n{"step": 40, "loss": 0.5}\n')
    for step in (20, 40):
        store.write_bytes(folder / growing.FOLDER / f"{step:07d}.png", png(small[0].train.images[0]))
    at = opened("generate", tab="Train a model")
    assert len(at.image) == 3, "the newest large, and all in a row"
    assert at.get("plotly_chart")[0].proto.alt == "Training loss from 1.500 to 0.500 over 40 steps"
    assert any("One seed's picture after 40 training steps" in one.value for one in at.caption)


def test_a_taken_or_odd_name_is_refused(small: Small) -> None:
    at = opened("generate", tab="Train a model")
    at.text_input[0].set_value(MODEL).run()
    assert f"There is a checkpoint '{MODEL}' already" in at.error[0].value
    at.text_input[0].set_value("Über").run()
    assert "small letters" in at.error[0].value
    assert next(b for b in at.button if b.label == "Train").disabled


def test_what_the_network_predicts_can_be_chosen(small: Small) -> None:
    at = opened("generate", tab="Train a model")
    at.selectbox(key="train-prediction-demo").set_value("v").run()
    assert at.text_input[0].value == "demo-v-42"
    press(at, "Train")
    (job,) = jobs.listing()
    asked = jobs.job_of(job.key)
    assert isinstance(asked, TrainJob)
    format = resolved("auto")  # that of this machine
    assert asked.train == presets.train_settings("demo", small[0].digest, "", "v", precision=format, train_seed=42)
    at = opened("generate", tab="Train a model")
    at.selectbox(key="train-preset-" + small[0].settings.kind).set_value("picture").run()
    assert at.selectbox(key="train-prediction-picture").value == "sample"
    assert at.text_input[0].value == "picture-42"


def test_a_network_may_be_told_the_classes_of_its_pictures(small: Small) -> None:
    at = opened("generate", tab="Train a model")
    assert not [box for box in at.checkbox if box.label == "Grey"]  # the pictures have colours
    at.checkbox(key=f"train-classes-{small[0].digest}").check().run()
    assert at.text_input[0].value == "demo-classes-42"
    press(at, "Train")
    (job,) = jobs.listing()
    asked = jobs.job_of(job.key)
    assert isinstance(asked, TrainJob)
    assert asked.train.model.classes == small[0].classes  # type: ignore[union-attr]


def test_a_model_of_classes_is_asked_for_classes(
    cache: Path, trained_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "ensure", lambda: None)
    shutil.copytree(trained_classes, cache, dirs_exist_ok=True)
    at = opened("generate", dataset="discs", checkpoint="classes")
    chosen = next(box for box in at.multiselect if box.label == "Classes")
    assert chosen.value == ["red", "green", "blue"]
    assert not at.text_area
    chosen.set_value(["green"])
    next(box for box in at.number_input if box.label == "Guidance").set_value(3.0)
    press(at, "Draw")
    (job,) = jobs.listing()
    asked = jobs.job_of(job.key)
    assert isinstance(asked, SampleJob)
    assert (asked.prompts, asked.guidance) == (("green",), 3.0)
