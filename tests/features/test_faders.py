"""Features in parts: their sums are plain gradients, their scores the dense formula, their halves two rankings."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from repeat_helpers import repeat_of

from dtrak_core import store
from dtrak_core.datasets import catalogue
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.errors import SettingsError
from dtrak_core.features import draws, faders, feature_store
from dtrak_core.features.fader_layout import BANDS, Faders, part_of, together
from dtrak_core.features.gradients import per_example_gradients
from dtrak_core.features.projection import Projector, project
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.jobs import AttributeJob, FaderJob, inputs
from dtrak_core.methods import fader_scores, turned
from dtrak_core.methods.fader_scores import RepeatSettings, score, steady, target_rows
from dtrak_core.methods.gradient_scores import RANK_SHARES
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, networks
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.targets import Target, resolve
from dtrak_core.progress import quiet
from dtrak_core.settings import build, key_of
from dtrak_core.store import Artifact

TARGETS = ("held-out:3", "held-out:4", "train:6")
HALVED = [Faders((1.0,) * 9, (1.0,) * 3, (half,)) for half in (0, 1)]


@pytest.fixture
def settings(pictures: Dataset, checkpoint: Checkpoint) -> FeatureSettings:
    return _settings(pictures, checkpoint)


def _settings(pictures: Dataset, checkpoint: Checkpoint) -> FeatureSettings:
    return FeatureSettings(
        dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=10, proj_dim=320, parts="faders"
    )


@pytest.fixture
def denoiser(checkpoint: Checkpoint) -> Denoiser:
    return networks.load_denoiser(checkpoints.by_digest(checkpoint.digest))


@pytest.fixture(scope="module")
def answered(trained_discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with what `computed` returns, computed once."""
    place = tmp_path_factory.mktemp("answered") / "cache"
    shutil.copytree(trained_discs, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(place))
        patch.setenv("STUDIO_DEMO", str(place.parent / "no-demo"))
        dataset = catalogue.by_name("discs")
        settings = _settings(dataset, checkpoints.by_name("small", dataset.digest))
        work.run(build(AttributeJob, features=(settings,), targets=TARGETS), quiet)
    return place


@pytest.fixture
def computed(
    pictures: Dataset, settings: FeatureSettings, cache: Path, answered: Path
) -> tuple[Artifact, list[Target]]:
    shutil.copytree(answered, cache, dirs_exist_ok=True)
    own = [resolve(pictures, settings.checkpoint, name) for name in TARGETS]
    return store.get("features", key_of("features", settings)), own


def test_groups_are_the_parts_of_the_network_in_order(denoiser: Denoiser) -> None:
    found = faders.groups(denoiser)
    assert list(found) == [
        "conv_in", "time_embedding", "down_blocks.0", "down_blocks.1", "up_blocks.0", "up_blocks.1", "mid_block",
        "conv_norm_out", "conv_out",
    ]  # fmt: skip
    ends = [where.stop for where in found.values()]
    assert [where.start for where in found.values()] == [0, *ends[:-1]]
    assert ends[-1] == sum(p.numel() for p in denoiser.network.parameters())


@pytest.mark.parametrize(("count", "length"), [(1, 1000), (4, 1000), (10, 1000), (50, 1000), (10, 40), (50, 4000)])
def test_every_draw_is_in_one_part(count: int, length: int) -> None:
    grid = draws.timesteps("uniform", count, length)
    parts = np.stack([part_of(grid, band, half, length) for band in range(len(BANDS)) for half in (0, 1)])
    assert (parts.sum(0) == 1).all()
    if count >= 10:  # a fifth of the schedule is fine noise, two fifths each are the others
        assert [int(parts[2 * band : 2 * band + 2].sum()) for band in range(3)] == [count // 5, *[2 * count // 5] * 2]


def test_parts_add_up_to_the_plain_gradient(
    pictures: Dataset, denoiser: Denoiser, settings: FeatureSettings, computed: tuple[Artifact, list[Target]]
) -> None:
    trained, _ = computed
    widths = trained.manifest["group_widths"]
    assert len(widths) == len(trained.manifest["groups"]) == 9
    rows = np.concatenate([rows for _, rows in feature_store.blocks(trained)])
    whole = together(rows, widths, Faders((1.0,) * 9, (1.0,) * 3))
    plain = settings.model_copy(update={"parts": "whole"})
    gradients = per_example_gradients(
        denoiser, denoiser.encode(np.asarray(pictures.train.images)), [f"train:{i}" for i in range(24)], plain
    )
    expected = np.concatenate(
        [
            project(
                Projector("sparse", width, 42 + number, where.stop - where.start), gradients[:, where].contiguous()
            ).numpy()
            for number, (where, width) in enumerate(zip(faders.groups(denoiser).values(), widths, strict=True))
        ],
        axis=1,
    )
    np.testing.assert_allclose(whole, expected, atol=1e-5 * np.abs(expected).max())
    halves = [together(rows, widths, Faders((1.0,) * 9, (1.0,) * 3, (half,))) for half in (0, 1)]
    np.testing.assert_allclose((halves[0] + halves[1]) / 2, whole, atol=1e-5 * np.abs(whole).max())
    start = sum(widths[:2])
    silent = together(rows, widths, Faders((1.0, 1.0, 0.0, *(1.0,) * 6), (1.0, 0.0, 1.0)))
    assert not silent[:, start : start + widths[2]].any()
    assert silent[:, :start].any()


@pytest.mark.parametrize("turned", [False, True])
def test_scores_are_the_dense_formula(
    computed: tuple[Artifact, list[Target]], settings: FeatureSettings, turned: bool
) -> None:
    trained, own = computed
    chosen = (
        Faders((2.0, 1.0, 0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 3.0), (1.0, 0.0, 2.0)) if turned else fader_scores.neutral(9)
    )
    values, damping, rank = score(METHODS["d-trak"], trained, target_rows(settings, own), chosen)
    widths = trained.manifest["group_widths"]
    rows = np.concatenate([rows for _, rows in feature_store.blocks(trained)]).astype(np.float64)
    phi, z = (together(x, widths, chosen).astype(np.float64) for x in (rows, target_rows(settings, own)))
    expected = phi @ np.linalg.solve(phi.T @ phi + damping * np.eye(phi.shape[1]), z.T)
    np.testing.assert_allclose(values, expected.T, atol=1e-5 * np.abs(expected).max())
    assert rank == pytest.approx(0.15 * 24, rel=1e-3)
    if not turned:  # with parts turned down, draws that share no noise with the picture's own are too few to name it
        assert values[2].argmax() == 6


def test_halves_say_how_far_a_ranking_repeats(
    computed: tuple[Artifact, list[Target]], settings: FeatureSettings
) -> None:
    _, own = computed
    found = repeat_of("d-trak", settings, own[0])
    assert found is not None
    assert found.halves.shape == (2, 24)
    assert -1 <= found.own_agreement <= 1
    first, second = (np.argsort(np.argsort(half)) for half in found.halves)
    assert found.own_agreement == pytest.approx(np.corrcoef(first, second)[0, 1], abs=0.02)
    assert fader_scores.mean_agreement("d-trak", settings) is None, "3 targets are too few"
    (stored, *_) = [a for a in store.listing("repeats") if a.settings["target"]["target"] == "held-out:3"]
    agreement, shared = np.asarray(stored.array("agreement.npy"))
    assert agreement[RANK_SHARES.index(0.15)] == pytest.approx(found.own_agreement, abs=1e-3)
    whole = [score(METHODS["d-trak"], computed[0], target_rows(settings, own), side)[0][0] for side in HALVED]
    both = [set(np.argsort(-half)[:10]) for half in whole]
    assert shared[RANK_SHARES.index(0.15)] == pytest.approx(len(both[0] & both[1]) / 10)
    for kept, half in zip(found.halves, whole, strict=True):
        np.testing.assert_allclose(kept, half / np.abs(half).max(), atol=0.5 / 127 + 1e-6)
    marks = steady(found, 0.25)
    first, second = found.halves
    tops = set(np.argsort(-first)[:6]) & set(np.argsort(-second)[:6])
    assert tops <= set(np.flatnonzero(marks))
    assert repeat_of("trak", settings, own[0]) is None
    wanted = RepeatSettings(method="d-trak", target=fader_scores.feature_target(settings, own[1], fader_scores.SIDE))
    assert store.find("repeats", key_of("repeats", wanted)) is not None


def test_the_damping_is_chosen_where_both_halves_share_most(
    computed: tuple[Artifact, list[Target]],
    settings: FeatureSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = tuple(f"held-out:{i}" for i in range(8))
    work.run(build(AttributeJob, features=(settings,), targets=names), quiet)
    found = [np.asarray(a.array("agreement.npy"))[1] for a in store.listing("repeats")]
    expected = RANK_SHARES[int(np.mean(found, axis=0).argmax())]
    monkeypatch.setattr(fader_scores, "LEAST_SHARED", np.mean(found, axis=0).max() - 1e-6)
    assert fader_scores.chosen_share("d-trak", settings) == expected
    monkeypatch.setattr(fader_scores, "LEAST_SHARED", np.mean(found, axis=0).max() + 1e-6)
    assert fader_scores.chosen_share("d-trak", settings) is None
    assert fader_scores.chosen_share("trak", settings) is None


def _agreed(features: FeatureSettings, targets: range, place: int, pixels: str = "a") -> None:
    """Store that the halves of these targets agree best at one of `RANK_SHARES`."""
    shared = np.zeros((2, len(RANK_SHARES)), np.float32)
    shared[1, place] = 0.9
    for number in targets:
        target = Target(f"held-out:{number}", np.empty(0, np.uint8), pixels * 16, "")
        one = RepeatSettings(method="d-trak", target=fader_scores.feature_target(features, target, fader_scores.SIDE))
        key = key_of("repeats", one)
        store.write_array(store.partial("repeats", key) / "agreement.npy", shared)
        store.publish("repeats", key, one)


def test_each_setting_of_features_chooses_its_own_damping(settings: FeatureSettings) -> None:
    longer = settings.model_copy(update={"num_timesteps": 50})
    _agreed(settings, range(4), 1)
    _agreed(longer, range(4), 6)
    assert fader_scores.chosen_share("d-trak", settings) is None, "4 targets at 10 timesteps and 4 at 50"
    _agreed(settings, range(4), 1, pixels="b")
    assert fader_scores.chosen_share("d-trak", settings) is None, "the same 4 targets, drawn in another way"
    _agreed(settings, range(4, 8), 1)
    _agreed(longer, range(4, 16), 6)
    assert fader_scores.chosen_share("d-trak", settings) == RANK_SHARES[1]
    assert fader_scores.chosen_share("d-trak", settings.model_copy(update={"parts": "whole"})) == RANK_SHARES[1]
    assert fader_scores.chosen_share("d-trak", longer) == RANK_SHARES[6]


def test_learned_weights_favour_the_group_that_speaks(
    computed: tuple[Artifact, list[Target]], settings: FeatureSettings
) -> None:
    trained, own = computed
    rows = target_rows(settings, own)
    assert rows is not None
    weights = fader_scores.learned_layers(trained, rows, METHODS["d-trak"], top=3)
    assert weights.sum() == pytest.approx(9)
    assert (weights > 0).all()

    def stands_out(layers: np.ndarray) -> float:
        values = score(METHODS["d-trak"], trained, rows, Faders(tuple(layers), (1.0,) * 3))[0]
        return float((np.sort(values, axis=1)[:, -3:].mean(1) / np.linalg.norm(values, axis=1)).mean())

    assert weights.max() > 1.05
    assert np.isfinite(stands_out(weights))


def test_a_group_without_gradients_keeps_its_weight_of_one(
    computed: tuple[Artifact, list[Target]], settings: FeatureSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, own = computed
    widths, real = trained.manifest["group_widths"], fader_scores.training_rows
    silent = slice(sum(widths[:3]), sum(widths[:4]))

    def without_the_fourth(artifact: Artifact, place: Faders) -> np.ndarray:
        rows = real(artifact, place)
        rows[:, silent] = 0
        return rows

    fader_scores._kernel.cache_clear()
    monkeypatch.setattr(fader_scores, "training_rows", without_the_fourth)
    try:
        rows = target_rows(settings, own)
        assert rows is not None
        weights = fader_scores.learned_layers(trained, rows, METHODS["d-trak"], top=3)
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(9)
        assert weights[3] == 1, "it says nothing, and any weight of it ranks alike"
        alone = Faders(tuple(float(number == 3) for number in range(9)), (1.0,) * 3)
        with pytest.raises(SettingsError, match="all training pictures are 0, so there is nothing to rank by"):
            score(METHODS["d-trak"], trained, rows, alone)
    finally:
        fader_scores._kernel.cache_clear()


def test_parts_need_a_projection(pictures: Dataset, denoiser: Denoiser, settings: FeatureSettings) -> None:
    with pytest.raises(SettingsError, match="group by group, and these have projection 'none'"):
        faders.width(denoiser, settings.model_copy(update={"projection": "none"}))


def test_a_turned_ranking_is_stored_and_found_again(
    pictures: Dataset, computed: tuple[Artifact, list[Target]], settings: FeatureSettings
) -> None:
    trained, own = computed
    assert turned.find(settings, own[1], fader_scores.neutral(9)) is not None, "it comes with the features"
    chosen = Faders((2.0, 1.0, 0.0, 1.0, 0.5, 1.0, 1.0, 1.0, 3.0), (1.0, 0.0, 2.0))
    assert turned.find(settings, own[1], chosen) is None
    job = build(FaderJob, features=settings, target="held-out:4", layers=chosen.layers, bands=chosen.bands)
    (made,) = work.run(job, quiet)
    assert inputs(job) >= {pictures.digest, settings.checkpoint, trained.key}
    found = turned.find(settings, own[1], chosen)
    values, damping, rank = score(METHODS["d-trak"], trained, target_rows(settings, own[1:2]), chosen)
    assert found is not None
    np.testing.assert_array_equal(found.values, values[0])
    assert (found.damping, found.effective_rank) == (damping, rank)
    assert work.run(job, quiet)[0].path == made.path
    assert turned.learned(settings, own[1]) is None
    work.run(build(FaderJob, features=settings, target="held-out:4"), quiet)
    expected = fader_scores.learned_layers(trained, target_rows(settings, own[1:2]), METHODS["d-trak"])
    np.testing.assert_array_equal(turned.learned(settings, own[1]), expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": (1.0,) * 8, "bands": (1.0,) * 3}, "9 were expected"),
        ({"layers": (1.0,) * 9, "bands": (1.0,)}, "3 were expected"),
        ({"layers": (0.0,) * 9, "bands": (1.0,) * 3}, "not all of them 0"),
        ({"layers": (1.0,) * 9, "bands": (1.0,) * 3, "target": "held-out:5"}, "held-out:5 are not stored"),
    ],
)
def test_faders_that_do_not_fit_are_refused_in_words(
    computed: tuple[Artifact, list[Target]], settings: FeatureSettings, changes: dict[str, object], said: str
) -> None:
    job = build(FaderJob, **{"features": settings, "target": "held-out:3"} | changes)
    with pytest.raises(SettingsError, match=said):
        work.run(job, quiet)
    assert not [path for path in (store.root() / "turned").iterdir() if path.name.endswith(".partial")]
