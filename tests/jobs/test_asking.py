"""Sets of targets as jobs name them: by ids and one way of drawing, which has to give each its own picture."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_helpers

from dtrak_core import api, store
from dtrak_core.commands import answers, cli
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import JobError
from dtrak_core.jobs import asking, jobs
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import ModelSettings, Sampled, SampleSettings, TrainSettings
from dtrak_core.models.targets import Target
from dtrak_core.progress import quiet
from dtrak_core.training import presets, training

CHECKPOINT = "c" * 16


def test_pictures_of_any_prompts_and_guidance_fall_into_few_sets(cache: Path) -> None:
    told = [(0, "a cat", 4.0), (1, "a dog", 4.0), (0, "a dog", 4.0), (2, "a cow", 2.0), (5, "a cat", 4.0)]
    chosen = [
        targets.publish_sample(
            SampleSettings(checkpoint=CHECKPOINT, seed=seed, prompts=(prompt,), guidance=guidance),
            np.full((8, 8, 3), place, np.uint8),
        )
        for place, (seed, prompt, guidance) in enumerate(told)
    ]
    own = Target("train:3", np.zeros((8, 8, 3), np.uint8), "0" * 16, "")
    sets = asking.by_drawing([*chosen, own], Sampled())
    assert [[t.id for t in some] for _, some in sets] == [
        ["seed:0", "seed:1", "seed:5"],
        ["seed:0"],
        ["seed:2", "train:3"],
    ]
    for sampled, some in sets:
        for target in some:
            if target.id.startswith("seed:"):
                again = targets.sample_settings(CHECKPOINT, targets.seed_of(target.id), sampled)
                found = targets.find_sample(again)
                assert found is not None
                assert found.pixels == target.pixels
    assert asking.by_drawing([own], Sampled()) == [(Sampled(), [own])]
    assert asking.by_drawing([], Sampled()) == []


def model(kind: str, tiny: ModelSettings, place: Path, request: pytest.FixtureRequest) -> tuple[Dataset, Checkpoint]:
    """Train a small model of a kind, called `model`."""
    if kind == "text":
        return text_helpers.trained(place)
    pictures = request.getfixturevalue("pictures")
    sees: dict[str, Any] = presets.seen(pictures, classes=True, grey=False) if "classes" in kind else {}
    own = ModelSettings(**tiny.model_dump() | sees | ({"class_dropout": 0} if kind == "classes alone" else {}))
    indices = tuple(range(0, 24, 2)) if kind == "part" else None
    how = TrainSettings(dataset=pictures.digest, model=own, epochs=1, batch_size=8, indices=indices)
    training.train(pictures, how, "model", quiet)
    return pictures, checkpoints.by_name("model", pictures.digest)


@pytest.mark.parametrize("kind", ["pixels", "classes and none", "classes alone", "text", "part"])
def test_library_and_command_line_ask_for_the_same_jobs(
    cache: Path,
    kind: str,
    tiny: ModelSettings,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, checkpoint = model(kind, tiny, tmp_path, request)
    asked: list[tuple[str, jobs.Job]] = []
    run = work.run

    def begun(job: jobs.Job, *_: Any) -> Any:
        asked.append((jobs.key_of_job(job), job))
        if isinstance(job, jobs.SampleJob):
            return run(job, quiet)
        raise JobError("What it asks for is enough.")

    monkeypatch.setattr(work, "run", begun)
    monkeypatch.setattr(answers, "completed", lambda job, _: begun(job))

    def wanted(ask: Callable[[], object], drawn: bool = False) -> list[tuple[str, jobs.Job]]:
        asked.clear()
        for one in () if drawn else store.listing("samples"):
            store.delete("samples", one.key)
        with contextlib.suppress(JobError):
            ask()
        return [*asked]

    of: dict[str, Any] = {"dataset": dataset, "checkpoint": checkpoint, "progress": False}
    words = ["--dataset", dataset.name, "--checkpoint", checkpoint.name]
    ways = [({}, []), ({"guidance": 1.0}, ["--guidance", "1"])]
    if checkpoint.prompted:
        prompts = ("a red disc", "a blue disc") if kind == "text" else ("red", "blue")
        ways.append(({"prompts": prompts}, [word for prompt in prompts for word in ("--prompts", prompt)]))
    for said, typed in ways:
        how = {**of, "sampled": Sampled(sampling_steps=2, **said)}
        line = [*words, "--sampling-steps", "2", *typed]
        questions: list[tuple[int, Callable[[], object], list[str]]] = [
            (2, lambda how=how: api.explain(targets=1, method="d-trak", **how), ["attribute", "--sample", "seed:1"]),
            (2, lambda how=how: api.credit(targets=[0, 1, 2], **how), ["credit", "--seeds", "0-2"]),
            (
                1,
                lambda how=how: api.counterfactual(targets=1, methods="raw-pixel-cosine", **how),
                ["counterfactual", "--target", "seed:1", "--method", "raw-pixel-cosine"],
            ),
        ]
        for count, ask, begin in questions:
            mine, theirs = wanted(ask), wanted(lambda line=begin + line: cli.main(line))
            assert len(mine) == count
            assert [key for key, _ in mine] == [key for key, _ in theirs], (mine, theirs)
            if begin[0] == "counterfactual":
                learned = {"part": 12, "text": len(dataset.train.rows)}.get(kind, 24)
                assert mine[0][1].settings.remove == (round(0.2 * learned),)  # type: ignore[union-attr]
    usual = targets.way_of(checkpoint, dataset.train)
    for seed in range(6):
        image = dataset.train.images[seed]
        targets.publish_sample(targets.sample_settings(checkpoint.digest, seed, usual), image)
    mine = wanted(lambda: api.credit(targets=[0, 1], **of), drawn=True)
    assert mine == wanted(lambda: cli.main(["credit", *words, "--seeds", "0-1"]), drawn=True)
    assert len(mine) == 1
    mine = wanted(lambda: api.trial(removed=[2, 4], **of))
    assert mine == wanted(lambda: cli.main(["doctor", *words, "--check", "duplicates", "--without", "2,4"]))
    assert len(mine) == 1
