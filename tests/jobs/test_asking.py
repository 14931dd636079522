"""Sets of targets as jobs name them: by ids and one way of drawing, which has to give each its own picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dtrak_core.jobs import asking
from dtrak_core.models import targets
from dtrak_core.models.settings import Sampled, SampleSettings
from dtrak_core.models.targets import Target

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
