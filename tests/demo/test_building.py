"""Publishing a finished build of the demo: what ships, what is left out, what stays of the other demo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.counterfactual import removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.datasets import catalogue
from dtrak_core.demo import portraits, schools, shipping
from dtrak_core.errors import NotFoundError
from dtrak_core.jobs import asking
from dtrak_core.methods import scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, networks, targets
from dtrak_core.models.checkpoints import Checkpoint


def put(root: Path, *places: str) -> None:
    for place in places:
        (root / place).mkdir(parents=True)
        store.write_json(root / place / "manifest.json", {"files": {}, "place": place})


def places(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root).parent) for path in root.rglob("manifest.json"))


def test_what_ships_takes_the_place_of_the_old_demo_and_the_other_demo_stays(tmp_path: Path) -> None:
    building, final = tmp_path / "demo.building", tmp_path / "demo"
    put(final, "datasets/old", "checkpoints/old", "datasets/roles", "bases/base")
    (final / portraits.TEXT_LISTED).write_text(json.dumps(["datasets/roles", "bases/base"]))
    put(building, "datasets/new", "features/kept", "features/sweep", "features/cut.partial", "retrained/half")
    (building / "features" / "kept.lock").touch()
    put(tmp_path / "demo.old", "datasets/of-an-attempt-that-was-stopped")
    shipping.publish(building, final, {("features", "sweep"), ("retrained", "half")}, portraits.TEXT_LISTED)
    assert places(final) == ["bases/base", "datasets/new", "datasets/roles", "features/kept"]
    assert json.loads((final / portraits.TEXT_LISTED).read_bytes()) == ["datasets/roles", "bases/base"]
    assert json.loads((final / "datasets" / "new" / "manifest.json").read_bytes())["place"] == "datasets/new"
    assert places(building), "the build itself is left as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "demo.building"]


def test_the_other_demo_takes_the_place_of_its_old_self_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    building, final = tmp_path / "building", tmp_path / "demo"
    put(building, "bases/new", "checkpoints/new", "retrained/half")
    schools.publish(building, final)
    assert places(final) == ["bases/new", "checkpoints/new"], "there may be no demo yet"
    put(final, "datasets/portraits")
    put(building, "samples/newer")
    shutil.rmtree(building / "checkpoints")

    def cut_off(*_: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shipping, "put", cut_off)
        with pytest.raises(KeyboardInterrupt):
            schools.publish(building, final)
    assert places(final) == ["bases/new", "checkpoints/new", "datasets/portraits"], "nothing half-written is seen"
    schools.publish(building, final)
    assert places(final) == ["bases/new", "datasets/portraits", "samples/newer"]
    assert schools.listed(final) == ["bases/new", "samples/newer"]


def test_a_build_that_was_stopped_between_two_renamings_has_lost_no_demo(tmp_path: Path) -> None:
    building, final = tmp_path / "building", tmp_path / "demo"
    put(tmp_path / "demo.old", "datasets/portraits", "bases/base")
    put(tmp_path / "demo.new", "datasets/portraits", "bases/unfinished")
    (tmp_path / "demo.old" / portraits.TEXT_LISTED).write_text(json.dumps(["bases/base"]))
    put(building, "datasets/newer")
    shipping.publish(building, final, set(), portraits.TEXT_LISTED)
    assert places(final) == ["bases/base", "datasets/newer"], "the other demo is still there"


def test_of_a_build_elsewhere_the_link_alone_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PROJECT", tmp_path)
    monkeypatch.setenv("STUDIO_DEMO", str(tmp_path / "cache" / "demo"))
    monkeypatch.setattr(schools.school_pictures, "write_shipped", lambda *_: None)
    monkeypatch.setattr(schools, "make", lambda place: put(place, "bases/new"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    link = tmp_path / "cache" / "demo-schools.building"
    link.symlink_to(tmp_path / "elsewhere")
    schools.build()
    assert not link.is_symlink()
    assert places(tmp_path / "elsewhere") == places(tmp_path / "cache" / "demo") == ["bases/new"]
    link.mkdir()
    shutil.rmtree(tmp_path / "cache" / "demo")
    schools.build()
    assert not link.exists()


def test_what_ships_is_small_and_reads_as_before(checkpoint: Checkpoint, tmp_path: Path) -> None:
    dataset = catalogue.by_digest(checkpoint.dataset)
    for kind in ("datasets", "checkpoints"):
        for artifact in store.listing(kind):
            shipping.ship(artifact.path, kind, tmp_path / "small" / kind / artifact.key)
    (weights,) = (tmp_path / "small" / "checkpoints").rglob("*.safetensors")
    assert weights.is_relative_to(tmp_path / "small" / checkpoint.folder.relative_to(store.root()))
    before = [one.digest for one in checkpoints.of_run(checkpoint.run)]
    with portraits.elsewhere(STUDIO_CACHE=str(tmp_path / "none"), STUDIO_DEMO=str(tmp_path / "small")):
        again = catalogue.by_name("discs")
        np.testing.assert_array_equal(again.train.images, dataset.train.images)
        assert (again.digest, again.train.rows) == (dataset.digest, dataset.train.rows)
        packed = store.get("datasets", again.key)
        packed.verify()
        assert packed.file("train.npy").stat().st_size < dataset.train.images.nbytes / 2
        (shipped,) = checkpoints.listing()
        assert shipped.digest == checkpoint.digest
        assert [one.digest for one in checkpoints.of_run(shipped.run)] == before, "what was computed finds its weights"
        shipped.run.verify()
        networks.load_denoiser(shipped)
        with pytest.raises(NotFoundError, match="The weights of 'small@50' do not ship"):
            networks.load_denoiser(checkpoints.of_run(shipped.run)[1])
        target = targets.of_split(again.held_out, "held-out", 0)
        refused = scores.resolve("tracin-cp", again, shipped.digest, [target]).refused
        assert "the weights of 'small@25', 'small@50', 'small@75' do not ship" in refused
        assert scores.resolve("d-trak", again, shipped.digest, [target]).refused == ""
        assert asking.unusable(METHODS["tracin-cp"], again.digest, shipped.digest, train=False) == refused
        assert asking.unusable(METHODS["d-trak"], again.digest, shipped.digest, train=False) == ""


def test_the_comparison_asks_for_67_trainings_and_the_lds_for_40() -> None:
    halves = {(count, seed) for most, seeds in portraits.LDS_MODELS for seed in range(seeds) for count in range(most)}
    assert len(halves) == 40
    settings = CounterfactualSettings(
        dataset="0" * 16,
        checkpoint="0" * 16,
        targets=portraits.COMPARED,
        methods=portraits.COMPARED_BY,
        remove=(portraits.REMOVED,),
        random_draws=portraits.RANDOM_MODELS,
        floor_models=portraits.FLOOR_MODELS,
    )
    assert removals.count_trainings(settings) == 12 * (4 + 1) + 4 + 3
