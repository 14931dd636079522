"""The default dataset: facts, pixels, split, and the comparison with what is stored."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.datasets import catalogue, openmoji
from dtrak_core.datasets.data import build_openmoji_facts
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.errors import DataError, SettingsError
from dtrak_core.settings import build
from dtrak_core.store import Artifact


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("STUDIO_DEMO", str(tmp_path_factory.mktemp("demo")))
        return catalogue.prepare(DatasetSettings())


def test_table_of_facts() -> None:
    rows = openmoji.facts()
    assert len(rows) == 998
    assert Counter(row["label"] for row in rows) == {
        "person": 168,
        "person-role": 492,
        "person-gesture": 180,
        "person-fantasy": 158,
    }
    assert all(row["contributor"] and row["name"] and row["caption"] for row in rows)
    assert len({row["origin"] for row in rows}) == 998
    # A family is one picture in up to six skin tones, and its base is one of the portraits.
    assert {row["family"] for row in rows} <= {row["origin"] for row in rows}
    assert set(Counter(row["family"] for row in rows).values()) == {1, 6}
    astronaut = next(row for row in rows if row["origin"] == "1F468-1F3FF-200D-1F680")
    assert astronaut["name"] == "man astronaut: dark skin tone"
    assert (astronaut["skin_tone"], astronaut["family"]) == ("dark", "1F468-200D-1F680")


def test_stored_dataset(stored: Artifact) -> None:
    assert stored.manifest["credit"] == (
        "All emojis designed by OpenMoji – the open-source emoji and icon project. License: CC BY-SA 4.0"
    )
    assert stored.manifest["licence"] == "CC BY-SA 4.0"
    assert stored.manifest["counts"] == {"train": 900, "held_out": 98}
    train, held_out = stored.array("train.npy"), stored.array("held-out.npy")
    assert (train.shape, train.dtype) == ((900, 16, 16, 3), np.uint8)
    assert held_out.shape == (98, 16, 16, 3)
    rows = [row for name in ("train.json", "held-out.json") for row in json.loads(stored.file(name).read_bytes())]
    assert len({row["origin"] for row in rows}) == 998
    assert train[:, 0].mean() > 240 > train.mean()  # white above, somebody below


def test_the_same_pictures_at_another_resolution() -> None:
    small, large = openmoji.draw("1F468-200D-1F680", 16), openmoji.draw("1F468-200D-1F680", 128)
    means = large.reshape(16, 8, 16, 8, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() <= 0.5
    assert openmoji.draw("1F468-200D-1F680", 24).shape == (24, 24, 3)


def test_skin_tone_changes_the_face_only() -> None:
    light, dark = (openmoji.draw(f"1F468-{tone}-200D-1F680", 32).astype(int) for tone in ("1F3FB", "1F3FF"))
    assert 0.02 < (np.abs(light - dark).max(axis=2) > 30).mean() < 0.5


def changed(artifact: Artifact, folder: Path, name: str) -> Artifact:
    """Return the artifact as a copy in `folder`, whose file `name` the caller has written already."""
    for file in artifact.manifest["files"]:
        if file != name:
            (folder / file).write_bytes((artifact.path / file).read_bytes())
    files = {**artifact.manifest["files"], name: store._describe(folder / name)}
    return dataclasses.replace(artifact, path=folder, manifest={**artifact.manifest, "files": files})


def test_it_says_whether_the_package_still_draws_the_same(stored: Artifact, tmp_path: Path) -> None:
    assert openmoji.is_same_as_package(stored, every=25) == ""
    images = stored.array("train.npy").copy()
    images[50, 3, 3, 0] ^= 9
    np.save(tmp_path / "train.npy", images)
    difference = abs(int(images[50, 3, 3, 0]) - int(stored.array("train.npy")[50, 3, 3, 0]))
    other = changed(stored, tmp_path, "train.npy")
    assert openmoji.is_same_as_package(other, every=25).startswith(
        f"1 of 40 pictures of 'openmoji-people' come out differently on this machine (by up to {difference} of 255)"
    )


def test_it_says_whether_the_facts_are_the_same(stored: Artifact, tmp_path: Path) -> None:
    rows = json.loads(stored.file("held-out.json").read_bytes())
    rows[0]["label"] = "person-fanatsy"
    (tmp_path / "held-out.json").write_text(json.dumps(rows))
    says = openmoji.is_same_as_package(changed(stored, tmp_path, "held-out.json"), every=90)
    assert f"first for {rows[0]['origin']}" in says


def test_a_drawing_that_the_package_lacks() -> None:
    with pytest.raises(DataError, match="no drawing 0BAD"):
        openmoji.draw("0BAD", 16)


def test_equal_portraits_stand_there_once() -> None:
    content = openmoji.load(8, once=True)
    pixels = [image.tobytes() for split in (content.train, content.held_out) for image in split.images]
    assert len(set(pixels)) == len(pixels), "no picture twice, on whichever side"
    assert len(content.held_out.rows) == 94
    assert [len(split.images) == len(split.rows) for split in (content.train, content.held_out)] == [True, True]
    row = content.train.rows[7]
    np.testing.assert_array_equal(content.train.images[7], openmoji.draw(row["origin"], 8))
    assert "equal" not in DatasetSettings().model_dump(), "what was stored before keeps its key"
    with pytest.raises(SettingsError, match="equal 'once' is for openmoji-people"):
        build(DatasetSettings, kind="cifar2", name="cifar2", equal="once")


def test_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = openmoji.facts()[:100]
    monkeypatch.setattr(openmoji, "facts", lambda: rows)
    steps: list[tuple[int, int]] = []
    content = openmoji.load(8, lambda done, total: steps.append((done, total)))
    assert steps == [(i, 100) for i in range(1, 101)]
    assert (len(content.train.rows), len(content.held_out.rows)) == (2, 98)


def test_facts_are_built_from_openmojis_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emoji = {
        "hexcode": "1F9D2-1F3FB",
        "group": "people-body",
        "subgroups": "person",
        "annotation": "child: light skin tone",
        "skintone": 1,
        "skintone_base_hexcode": "1F9D2",
        "openmoji_author": "Johanna Wellnitz",
        "openmoji_date": "2018-04-18",
    }
    other = emoji | {"hexcode": "1F436", "group": "animals-nature", "subgroups": "animal-mammal"}
    role = emoji | {"hexcode": "1F468", "subgroups": "person-role"}
    (tmp_path / "openmoji.json").write_text(json.dumps([emoji, other, role]))
    monkeypatch.setattr(build_openmoji_facts, "PEOPLE", tmp_path / "table.csv")
    monkeypatch.setattr(build_openmoji_facts, "EXPECTED", {"person": 1, "person-role": 1})
    build_openmoji_facts.main(tmp_path / "openmoji.json")
    line = "1F9D2-1F3FB,child: light skin tone,person,light,1F9D2,Johanna Wellnitz,2018-04-18"
    assert (tmp_path / "table.csv").read_text().splitlines()[1] == line
    listed = [row.split(",")[0] for row in (tmp_path / "table.csv").read_text().splitlines()[1:]]
    assert listed == ["1F9D2-1F3FB", "1F468"], "portraits alone"
    assert line in openmoji.FACTS.read_text(encoding="utf-8").splitlines()
    monkeypatch.setattr(build_openmoji_facts, "EXPECTED", {"person": 2})
    with pytest.raises(SystemExit, match=r"Use openmoji 17\.0\.0"):
        build_openmoji_facts.main(tmp_path / "openmoji.json")


def test_importing_datasets_brings_no_torch() -> None:
    code = "import sys; from dtrak_core.datasets import catalogue, subsets"
    code += "; sys.exit(bool({'torch', 'sklearn'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
