"""Repeatability at every damping, against features put together and solved densely, and what older stores hold."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from repeat_helpers import repeat_of
from scipy import stats

from dtrak_core import store
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.features import feature_store
from dtrak_core.features.fader_layout import Faders, together
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.jobs import AttributeJob
from dtrak_core.methods import certainty, defaults, fader_scores, results
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target, resolve
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of

NAMES = ("held-out:3", "train:6")


@pytest.fixture
def settings(pictures: Dataset, checkpoint: Checkpoint) -> FeatureSettings:
    return FeatureSettings(
        dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=10, proj_dim=320, parts="faders"
    )


@pytest.fixture
def computed(pictures: Dataset, settings: FeatureSettings) -> list[Target]:
    work.run(build(AttributeJob, features=(settings,), targets=NAMES), quiet)
    return [resolve(pictures, settings.checkpoint, name) for name in NAMES]


def densely(settings: FeatureSettings, target: Target, percent: int) -> tuple[float, np.ndarray]:
    """Return repeatability and steady pictures from both halves' features and a dense solution."""
    trained = store.get("features", key_of("features", settings))
    widths = trained.manifest["group_widths"]
    rows = np.concatenate([rows for _, rows in feature_store.blocks(trained)])
    own = fader_scores.target_rows(settings, [target])
    assert own is not None
    halves = []
    for half in (0, 1):
        side = Faders((1.0,) * len(widths), (1.0,) * 3, (half,))
        phi, z = (together(x, widths, side).astype(np.float64) for x in (rows, own))
        gram = phi @ phi.T
        values = np.linalg.eigvalsh(gram)
        low, high = 1e-12 * values[-1], 1e6 * values[-1]
        for _ in range(200):  # the damping whose effective rank is asked for
            damping = np.sqrt(low * high)
            low, high = (damping, high) if (values / (values + damping)).sum() > percent / 100 * 24 else (low, damping)
        halves.append(np.linalg.solve(gram + damping * np.eye(24), phi @ z[0]))
    ends = [(set(np.argsort(-half)[:1]), set(np.argsort(half)[:1])) for half in halves]  # 5 % of 24 is 1
    steady = np.zeros(24, bool)
    steady[list((ends[0][0] & ends[1][0]) | (ends[0][1] & ends[1][1]))] = True
    return float(stats.spearmanr(*halves)[0]), steady


def test_number_and_marks_are_of_the_damping_asked_for(settings: FeatureSettings, computed: list[Target]) -> None:
    for target, percent in itertools.product(computed, (2, 10, 30, 33, 80)):
        found = certainty.find("d-trak", settings.model_copy(update={"parts": "whole"}), target, percent / 100)
        number, steady = densely(settings, target, percent)
        assert found is not None
        assert found.repeatability == pytest.approx(number, abs=1e-3)
        assert found.steady is not None
        assert found.steady.tolist() == steady.tolist()

    # What was not measured is unknown.
    assert certainty.find("d-trak", settings, computed[0], 0.97) is None
    assert certainty.find("d-trak", settings, computed[0], 0.001) is None
    assert certainty.find("trak", settings, computed[0], 0.15) is None
    other = settings.model_copy(update={"num_timesteps": 20})
    assert certainty.find("d-trak", other, computed[0], 0.15) is None


def test_older_stores_know_their_grid_and_marks_at_one_damping(
    settings: FeatureSettings, computed: list[Target]
) -> None:
    new = {percent: certainty.find("d-trak", settings, computed[0], percent / 100) for percent in (10, 15)}
    shutil.rmtree(store.root() / "certainties")
    for percent, known in new.items():
        old = certainty.find("d-trak", settings, computed[0], percent / 100)
        assert old is not None
        assert known is not None
        assert old.repeatability == pytest.approx(known.repeatability, abs=1e-5)
        assert (old.steady is None) == (percent != 15), "the halves are stored at 15 % alone"
    assert certainty.find("d-trak", settings, computed[0], 0.12) is None
    (made, _) = certainty.compute(settings, computed)  # the worker adds what lacks
    assert made.kind == "certainties"
    assert certainty.find("d-trak", settings, computed[0], 0.12) is not None
    # A ranking is marked at its own damping.
    ranking = results.ranking("d-trak", "D-TRAK", np.arange(24.0), 1.0, 0.3 * 24)
    found = certainty.marked(ranking, settings, computed[0])
    expected = certainty.find("d-trak", settings, computed[0], 0.30)
    assert expected is not None
    assert found.repeatability == expected.repeatability
    assert np.array_equal(found.steady, expected.steady)
    undamped = results.ranking("grad-dot", "Gradient", np.arange(24.0))
    assert certainty.marked(undamped, settings, computed[0]) is undamped


def test_the_demo_repeats_less_the_less_it_is_damped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path))
    monkeypatch.delenv("STUDIO_DEMO", raising=False)
    dataset = catalogue.by_name("openmoji-people")
    model = checkpoints.by_name("demo", dataset.digest)
    features = defaults.base_for(dataset.digest, model.digest, METHODS["d-trak"], {})
    target = resolve(dataset, model.digest, "seed:40")
    found = [certainty.find("d-trak", features, target, share) for share in (0.10, 0.15, 0.30)]
    repeated = [one.repeatability for one in found if one]
    assert len(repeated) == 3
    assert 1 > repeated[0] > repeated[1] > repeated[2] > 0
    marks = [set(np.flatnonzero(one.steady)) for one in found if one and one.steady is not None]
    assert len({frozenset(each) for each in marks}) == 3
    stored = repeat_of("d-trak", features, target)
    assert stored is not None
    assert len(marks[1] ^ set(np.flatnonzero(fader_scores.steady(stored)))) <= 4, "8 bits move a few at the edge"
