"""LDS against what it must be: 1 for true additive effects, 0 by chance, scipy's correlations, a known noise_floor."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from dtrak_core import statistics
from dtrak_core.errors import SettingsError
from dtrak_core.lds import bootstrap, lds

SUBSETS, EXAMPLES, TARGETS = 40, 60, 6


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true effects (M, N), masks (S, N) and the losses that follow from them."""
    random = np.random.default_rng(3)
    effects = random.standard_normal((TARGETS, EXAMPLES))
    masks = random.random((SUBSETS, EXAMPLES)) < 0.5
    return effects, masks, 7.0 - masks @ effects.T


def test_true_additive_effects_score_one_and_their_negation_minus_one(
    world: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    effects, masks, losses = world
    found = lds.evaluate(effects, masks, losses)
    np.testing.assert_allclose(found.per_target, 1.0)
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0) or found.low is None or np.isnan(found.low)
    assert lds.evaluate(-effects, masks, losses).mean == pytest.approx(-1.0)
    assert lds.evaluate(effects * 3 + 5 * 0, masks, losses).mean == pytest.approx(1.0), "scale does not matter"


def test_shuffled_effects_score_about_nothing(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    effects, masks, losses = world
    shuffled = np.random.default_rng(1).permuted(effects, axis=1)
    guess = lds.predicted(shuffled, masks)
    chance = lds.by_chance(guess, losses)
    assert 0.02 < chance.std < 0.2
    assert chance.low < lds.judge(guess, losses).mean < chance.high
    assert chance.p > 0.01
    assert lds.by_chance(lds.predicted(effects, masks), losses).p == 1 / lds.PERMUTATIONS


@given(hnp.arrays(np.int8, (5, 3), elements=st.integers(0, 6)), hnp.arrays(np.int8, (5, 3)))
def test_few_subsets_are_permuted_in_every_way(guess: np.ndarray, losses: np.ndarray) -> None:
    values = [statistics.spearman(guess[list(order)], losses).mean() for order in itertools.permutations(range(5))]
    found = lds.by_chance(guess, losses)
    assert np.mean(values) == pytest.approx(0, abs=1e-12)
    assert found.std == pytest.approx(np.std(values), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=1e-12)
    assert found.p == pytest.approx(np.mean(np.array(values) >= statistics.spearman(guess, losses).mean() - 1e-9))


def test_chance_is_what_simulated_benchmarks_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that say nothing, whose targets are alike, as real ones are: p is uniform, the band holds 95 %.

    They are at right angles to the true effects: drawn freely, they would by luck tell a little of them.
    """
    monkeypatch.setattr(lds, "PERMUTATIONS", 1000)
    random = np.random.default_rng(7)
    values, found = [], []
    for _ in range(500):
        masks = random.random((16, 40)) < 0.5
        shared = random.standard_normal((2, 1, 40))  # what all targets have in common
        truth, scores = shared + 0.5 * random.standard_normal((2, 8, 40))
        basis = np.linalg.qr(truth.T)[0]
        scores -= scores @ basis @ basis.T
        losses = masks @ truth.T + random.standard_normal((16, 8))
        guess = lds.predicted(scores, masks)
        values.append(statistics.spearman(guess, losses).mean())
        found.append(lds.by_chance(guess, losses))
    assert stats.kstest([one.p for one in found], "uniform").pvalue > 0.05
    inside = [one.low <= value <= one.high for one, value in zip(found, values, strict=True)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)
    assert np.mean([one.std for one in found]) == pytest.approx(np.std(values), rel=0.1)
    alone = [
        statistics.spearman(lds.predicted(random.standard_normal((8, 40)), masks), losses).mean() for _ in range(200)
    ]
    assert np.std(alone) < 0.7 * np.std(values), "random scores would have given too narrow a band"


def test_below_six_targets_there_is_no_interval(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    effects, masks, losses = world
    noisy = losses + 4 * np.random.default_rng(5).standard_normal(losses.shape)
    assert lds.evaluate(effects, masks, noisy).low is not None
    few = lds.evaluate(effects[:5], masks, noisy[:, :5])
    assert (few.low, few.high, few.per_target.shape) == (None, None, (5,))


def test_is_scipys_correlation_with_an_interval_around_the_mean(
    world: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    effects, masks, losses = world
    random = np.random.default_rng(5)
    noisy = losses + 4 * random.standard_normal(losses.shape)
    found = lds.evaluate(effects, masks, noisy)
    guess = -(masks @ effects.T)
    expected = [stats.spearmanr(guess[:, m], noisy[:, m]).statistic for m in range(TARGETS)]
    np.testing.assert_allclose(found.per_target, expected)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.mean < found.high
    assert 0.02 < found.high - found.low < 0.4


@given(hnp.arrays(np.int8, (12, 3), elements=st.integers(0, 4)), hnp.arrays(np.int8, (12, 3)))
def test_ties_share_ranks_as_in_scipy(a: np.ndarray, b: np.ndarray) -> None:
    found = statistics.spearman(a, b)
    for m in range(3):
        constant = len(set(a[:, m])) == 1 or len(set(b[:, m])) == 1
        expected = 0.0 if constant else stats.spearmanr(a[:, m], b[:, m]).statistic
        assert found[m] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_noise_floor_is_what_the_truth_reaches(seeds: int, noise: float) -> None:
    random = np.random.default_rng(11)
    truth = random.standard_normal((400, 1, 30))
    losses = truth + noise * random.standard_normal((400, seeds, 30))
    reached = statistics.spearman(truth[:, 0], losses.mean(1)).mean()
    found = lds.noise_floor(losses)
    assert found is not None
    assert found.value == pytest.approx(reached, abs=0.03)
    assert found.low < found.value < found.high


def test_one_seed_or_too_few_pairs_have_no_noise_floor() -> None:
    random = np.random.default_rng(0)
    assert lds.noise_floor(random.standard_normal((10, 1, 4))) is None
    assert lds.noise_floor(np.ones((10, 2, 4))) == lds.Floor(0.0, 0.0, 0.0)
    losses = random.standard_normal((32, 1, 4)) + 0.1 * random.standard_normal((32, 2, 4))
    for pairs, told in ((lds.LEAST_PAIRS - 1, False), (lds.LEAST_PAIRS, True)):
        known = np.where((np.arange(32) < pairs)[:, None, None] | (np.arange(2) == 0)[:, None], losses, np.nan)
        assert (lds.noise_floor(known) is not None) is told
    same = np.repeat(losses[:, :1], 2, axis=1)
    assert lds.noise_floor(same) == lds.Floor(*[pytest.approx(1.0)] * 3), "two seeds that agree wholly"


def test_the_interval_of_the_noise_floor_leaves_out_one_pair_at_a_time() -> None:
    random = np.random.default_rng(2)
    losses = random.standard_normal((20, 1, 5)) + 0.6 * random.standard_normal((20, 2, 5))
    losses[8:, 1] = np.nan

    def agree(rows: list[int]) -> float:
        return float(np.mean([stats.spearmanr(*losses[rows, :, z].T).statistic for z in range(5)]))

    left_out = [agree([i for i in range(8) if i != one]) for one in range(8)]
    error = np.sqrt(7 / 8 * np.square(np.array(left_out) - np.mean(left_out)).sum())
    ends = agree(list(range(8))) + stats.t.ppf([0.5, 0.025, 0.975], 7) * error
    seeds = 28 / 20
    expected = [np.sqrt(seeds * r / (1 + (seeds - 1) * r)) for r in np.clip(ends, 0, 1)]
    found = lds.noise_floor(losses)
    assert found is not None
    assert [found.value, found.low, found.high] == pytest.approx(expected)


def test_the_interval_of_the_noise_floor_holds_what_the_truth_reaches() -> None:
    random = np.random.default_rng(4)

    def drawn(subsets: int) -> tuple[np.ndarray, np.ndarray]:
        parts = [random.standard_normal((subsets, 1)) + random.standard_normal((subsets, 20)) for _ in range(3)]
        return parts[0], np.stack([parts[0] + 0.6 * parts[1], parts[0] + 0.6 * parts[2]], axis=1)

    truth, losses = drawn(4000)
    reached = statistics.spearman(truth, losses.mean(1)).mean()
    held = []
    for _ in range(200):
        found = lds.noise_floor(drawn(lds.LEAST_PAIRS)[1])
        assert found is not None
        held.append(found.low <= reached <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (((5, 60), (40, 61), (40, 5)), "Take both from one dataset"),
        (((5, 60), (40, 60), (40, 6)), "equal targets"),
        (((5, 60), (2, 60), (2, 5)), "at least 3"),
    ],
)
def test_refuses_what_does_not_fit(shapes: tuple[tuple[int, int], ...], said: str) -> None:
    scores, masks, losses = (np.zeros(shape) for shape in shapes)
    with pytest.raises(SettingsError, match=said):
        lds.evaluate(scores, masks.astype(bool), losses)


def test_masks_hold_their_subsets() -> None:
    masks = lds.masks_of([np.array([2, 0]), np.array([1])], 4)
    assert masks.tolist() == [[True, False, True, False], [False, True, False, False]]


def test_agrees_with_dattri(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    metric = pytest.importorskip("dattri.metric", reason="dattri is not installed: pip install dattri")
    torch = pytest.importorskip("torch")
    effects, _, losses = world
    noisy = losses + 4 * np.random.default_rng(5).standard_normal(losses.shape)
    random = np.random.default_rng(2)
    chosen = np.stack([random.permutation(EXAMPLES)[: EXAMPLES // 2] for _ in range(SUBSETS)])
    own = lds.evaluate(effects, lds.masks_of(list(chosen), EXAMPLES), noisy).per_target
    # Its scores are (train, test) and add up to the loss itself, so the sign is turned.
    theirs = metric.lds(torch.from_numpy(-effects.T), (torch.from_numpy(noisy), torch.from_numpy(chosen)))[0]
    np.testing.assert_allclose(own, theirs.numpy(), atol=1e-6)


@given(st.integers(0, 10_000), st.booleans())
def test_resampled_correlations_are_those_of_the_drawn_ranks(seed: int, tied: bool) -> None:
    random = np.random.default_rng(seed)
    guess, losses = random.normal(size=(9, 4)), random.normal(size=(9, 4))
    if tied:
        guess = np.round(guess)
    x, y = (stats.rankdata(each, axis=0) for each in (guess, losses))
    drawn = np.stack([random.permutation(np.r_[0:9]), *random.integers(0, 9, size=(4, 9))])
    found = lds._of_weights(x, y, bootstrap.weights_of(drawn, 9))
    for one, value in zip(drawn, found, strict=True):
        each = [
            np.corrcoef(a, b)[0, 1] if np.ptp(a) and np.ptp(b) else 0 for a, b in zip(x[one].T, y[one].T, strict=True)
        ]
        assert value == pytest.approx(np.mean(each), abs=1e-9)
    assert found[0] == pytest.approx(statistics.spearman(guess, losses).mean()), "nothing drawn twice: Spearman's own"
