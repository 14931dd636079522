"""The emoji that ship: the same subjects as two schools draw them, their words, terms and origin."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dtrak_core.datasets import catalogue, emoji_schools, openmoji
from dtrak_core.errors import SettingsError


def test_each_subject_is_drawn_by_both_schools_and_known_by_its_words() -> None:
    rows = emoji_schools.facts()
    assert Counter(row["contributor"] for row in rows) == {"openmoji": 476, "fluent": 476}
    assert set(Counter(row["family"] for row in rows).values()) == {2}
    assert len({row["caption"] for row in rows}) == 952
    assert min(Counter(row["label"] for row in rows).values()) > 30, "random parts are drawn evenly among labels"
    assert {row["licence"] for row in rows if row["contributor"] == "fluent"} == {"MIT"}


@pytest.mark.parametrize(
    ("school", "name", "said"),
    [
        ("fluent", "fox", "a fluent emoji of a fox"),
        ("openmoji", "owl", "an openmoji emoji of an owl"),
        ("noto", "grinning face with big eyes", "a noto emoji of a grinning face with big eyes"),
        ("noto", "scissors", "a noto emoji of scissors"),
        ("twemoji", "bus", "a twemoji emoji of a bus"),
        ("twemoji", "VS button", "a twemoji emoji of VS button"),
        ("noto", "person: blond hair", "a noto emoji of a person: blond hair"),
    ],
)
def test_captions_name_school_and_subject(school: str, name: str, said: str) -> None:
    assert emoji_schools.caption(school, name) == said


def test_it_is_prepared_with_its_terms_and_at_its_size_alone(cache: Path) -> None:
    dataset = catalogue.load(catalogue.prepare(catalogue.DatasetSettings(kind="emoji-schools", name="emoji-schools",
                                                                         resolution=32)))  # fmt: skip
    assert (len(dataset.train.rows), len(dataset.held_out.rows)) == (856, 96)
    assert not dataset.equal.leaked
    assert "CC BY-SA 4.0" in dataset.licence
    assert "Microsoft" in dataset.credit
    assert "OpenMoji" in dataset.credit
    notices = emoji_schools.NOTICES.read_text(encoding="utf-8")
    assert openmoji.CREDIT in notices
    assert "Permission is hereby granted" in notices
    # OpenMoji's are those that the installed package gives.
    for place in [i for i, row in enumerate(dataset.train.rows) if row["contributor"] == "openmoji"][:3]:
        code = dataset.train.rows[place]["family"]
        assert np.array_equal(openmoji.draw(code, 32), dataset.train.images[place])
    with pytest.raises(SettingsError, match="comes at 32 pixels"):
        emoji_schools.load(64)
