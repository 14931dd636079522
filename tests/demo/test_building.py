"""Publishing a finished build of the demo: what ships, what is left out, what stays of the other demo."""

from __future__ import annotations

import json
from pathlib import Path

from dtrak_core.counterfactual import removals
from dtrak_core.counterfactual.settings import CounterfactualSettings
from dtrak_core.demo import portraits


def put(root: Path, *places: str) -> None:
    for place in places:
        (root / place).mkdir(parents=True)
        (root / place / "manifest.json").write_text(place)


def places(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root).parent) for path in root.rglob("manifest.json"))


def test_what_ships_takes_the_place_of_the_old_demo_and_the_other_demo_stays(tmp_path: Path) -> None:
    building, final = tmp_path / "demo.building", tmp_path / "demo"
    put(final, "datasets/old", "checkpoints/old", "datasets/roles", "bases/base")
    (final / portraits.TEXT_LISTED).write_text(json.dumps(["datasets/roles", "bases/base"]))
    put(building, "datasets/new", "features/kept", "features/sweep", "features/cut.partial", "retrained/half")
    (building / "features" / "kept.lock").touch()
    put(tmp_path / "demo.old", "datasets/of-an-attempt-that-was-stopped")
    portraits.publish(building, final, {("features", "sweep"), ("retrained", "half")})
    assert places(final) == ["bases/base", "datasets/new", "datasets/roles", "features/kept"]
    assert json.loads((final / portraits.TEXT_LISTED).read_bytes()) == ["datasets/roles", "bases/base"]
    assert (final / "datasets" / "new" / "manifest.json").read_text() == "datasets/new"
    assert places(building), "the build itself is left as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "demo.building"]


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
