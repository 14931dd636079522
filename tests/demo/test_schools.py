"""The text-to-image demo of four schools: what its pictures are drawn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from dtrak_core.datasets import emoji_schools
from dtrak_core.demo import schools


def test_pictures_are_of_subjects_that_both_schools_have_in_training_by_turns(cache: Path) -> None:
    dataset = schools.prepared()
    how = schools.drawing(dataset)
    rows = {row["caption"]: row for row in dataset.train.rows}
    drawn = [rows[how.prompt_of(seed)] for seed in range(schools.SEEDS)]
    assert [row["contributor"] for row in drawn] == [*emoji_schools.SCHOOLS] * (schools.SEEDS // 2)
    families = Counter(row["family"] for row in dataset.train.rows)
    assert {families[row["family"]] for row in drawn} == {2}
    assert len({row["family"] for row in drawn}) == schools.SEEDS, "no subject twice"
    assert schools.drawing(dataset, schools.COMPARED).prompts == how.prompts[: schools.COMPARED]
