"""Maps: neighbours stay neighbours, as scikit-learn judges; every picture keeps its place; settings are in the key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from dtrak_core import api, store
from dtrak_core.commands import cli
from dtrak_core.datasets import catalogue, memory
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import map_sheet, maps
from dtrak_core.methods.maps import MapSettings
from dtrak_core.progress import quiet

GROUPS = 4


def kept(order: np.ndarray, name: str) -> tuple[Dataset, np.ndarray]:
    """Store 60 pictures of four plain colours with noise, in this order; return them and the group of each."""
    random = np.random.default_rng(0)
    groups = np.arange(60) % GROUPS
    plain = np.array([[230, 30, 30], [30, 220, 40], [40, 40, 230], [230, 220, 60]])[groups][:, None, None]
    images = np.clip(plain + random.integers(-25, 25, (60, 8, 8, 3)), 0, 255).astype(np.uint8)[order]
    contributors = [f"artist {group}" for group in groups[order]]
    return catalogue.load(memory.keep(images, None, contributors, None, None, name)), groups[order]


def nearest(xy: np.ndarray) -> np.ndarray:
    away = np.linalg.norm(xy[:, None] - xy, axis=2) + np.diag(np.full(len(xy), np.inf))
    found: np.ndarray = away.argmin(1)
    return found


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, maps.Map]:
    """Lay out the four colours once, by pixels."""
    place = tmp_path_factory.mktemp("maps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place))
        patch.setenv("STUDIO_DEMO", str(place / "no-demo"))
        dataset, _ = kept(np.arange(60), "colours")
        said: list[tuple[int, int, str, str]] = []
        made = maps.compute(maps.settings_of("pixels", dataset, None), lambda *told: said.append(told))
    assert (50, 1000, "steps", "Laying out the map") in said, "t-SNE says how far it is"
    return place, dataset, maps.opened(made)


@pytest.fixture
def there(laid: tuple[Path, Dataset, maps.Map], monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, maps.Map]:
    monkeypatch.setenv("STUDIO_CACHE", str(laid[0]))
    monkeypatch.setenv("STUDIO_DEMO", str(laid[0] / "no-demo"))
    return laid[1], laid[2]


def test_trustworthiness_is_scikit_learns_and_chance_a_half(there: tuple[Dataset, maps.Map]) -> None:
    dataset, found = there
    pixels = dataset.train.images.reshape(60, -1) / 127.5 - 1
    assert found.trust == pytest.approx(trustworthiness(pixels, found.xy, n_neighbors=10), abs=1e-6)
    assert found.chance == pytest.approx(0.5, abs=0.1)
    assert found.perplexity == pytest.approx(59 / 3), "at most a third of the pictures"
    assert f"{found.trust:.2f}" in found.sentence


def test_a_seed_gives_one_map_and_another_one_another(there: tuple[Dataset, maps.Map], tmp_path: Path) -> None:
    dataset, found = there
    settings = maps.settings_of("pixels", dataset, None)
    reduced = maps._reduced(*blocks_of(dataset), quiet)
    again, _ = maps._laid(reduced, settings, quiet)
    np.testing.assert_array_equal(again, found.xy)
    other = settings.model_copy(update={"seed": 1, "perplexity": 5})
    assert maps.find(other) is None
    assert np.abs(maps._laid(reduced, other, quiet)[0] - found.xy).max() > 0.1


def blocks_of(dataset: Dataset) -> tuple[maps._Blocks, int, np.random.Generator]:
    count = len(dataset.train.rows)
    settings = maps.settings_of("pixels", dataset, None)
    return maps._blocks(dataset, settings, np.arange(count), quiet), count, np.random.default_rng([0, count])


def test_each_picture_keeps_its_place_whatever_the_order(there: tuple[Dataset, maps.Map]) -> None:
    _, first = there
    order = np.random.default_rng(3).permutation(60)
    shuffled, groups = kept(order, "shuffled")
    found = maps.opened(maps.compute(maps.settings_of("pixels", shuffled, None), quiet))
    assert (groups[nearest(found.xy)] == groups).all()
    own = np.arange(60) % GROUPS
    assert (own[nearest(first.xy)] == own).all()


def test_components_are_those_of_a_decomposition() -> None:
    random = np.random.default_rng(0)
    rows = (random.standard_normal((90, 70)) * 0.8 ** np.arange(70)).astype(np.float32)
    halves = [(np.arange(40), rows[:40]), (np.arange(40, 90), rows[40:])]
    found = maps._reduced(lambda: iter(halves), 90, random, quiet)
    left, lengths, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found[:, :20]), np.abs(left * lengths)[:, :20], atol=1e-4)
    assert found.shape == (90, 50)


def test_a_large_set_is_sampled_and_equal_pictures_are_laid(
    there: tuple[Dataset, maps.Map], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "MOST", 20)
    monkeypatch.setattr(maps, "JUDGED", 12)
    dataset, _ = kept(np.arange(60)[::-1], "sampled")
    found = maps.opened(maps.compute(maps.settings_of("pixels", dataset, None), quiet))
    assert len(found.rows) == len(set(found.rows.tolist())) == len(found.xy) == 20
    assert (np.diff(found.rows) > 0).all()
    assert "of 12 pictures" in found.sentence
    equal = catalogue.load(memory.keep(np.full((9, 8, 8, 3), 80, np.uint8), None, None, None, None, "equal"))
    assert np.isfinite(maps.opened(maps.compute(maps.settings_of("pixels", equal, None), quiet)).xy).all()


def test_gradients_are_of_a_model_and_wrong_settings_are_refused(there: tuple[Dataset, maps.Map]) -> None:
    dataset, _ = there
    with pytest.raises(SettingsError, match="none is chosen"):
        maps.settings_of("d-trak", dataset, None)
    with pytest.raises(SettingsError, match="'perplexity' is 1"):
        maps.settings_of("pixels", dataset, None, perplexity=1)
    with pytest.raises(ValueError, match="no other"):
        MapSettings(dataset=dataset.digest, space="d-trak")


def test_command_library_and_files_say_the_same(
    there: tuple[Dataset, maps.Map], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dataset, found = there
    told = api.picture_map(dataset, by="pixels", progress=False)
    np.testing.assert_array_equal(told.xy, found.xy)
    out = tmp_path / "map.csv"
    assert cli.main(["map", "--by", "pixels", "--dataset", "colours", "--json", "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == told.document() | {"date": said["date"]}
    assert said["pictures"][7] == {
        "index": 7, "x": round(float(found.xy[7, 0]), 5), "y": round(float(found.xy[7, 1]), 5),
        "name": "picture 7", "contributor": "artist 3", "label": "", "family": "",
    }  # fmt: skip
    assert len(out.read_text().splitlines()) == 61
    page = map_sheet.to_html(told.sheet).decode()
    assert page.count("<circle") == 60
    assert "artist 3" in page
    assert store.listing("maps")
    assert cli.main(["map", "--dataset", "colours", "--out", "map.png"]) == 1
