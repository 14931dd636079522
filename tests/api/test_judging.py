"""The LDS of the library is that of the Benchmark page and the command; what does not go together is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from dtrak_core import api
from dtrak_core.errors import NotFoundError, SettingsError, StudioError
from dtrak_core.lds import predictions, recipes, standings, subset_models

RANDOM = np.random.default_rng(0)
SCORES, MASKS = RANDOM.normal(size=(7, 30)), RANDOM.random((12, 30)) < 0.5
LOSSES = -(MASKS @ SCORES.T)[:, None] + RANDOM.normal(size=(12, 2, 7))

ONE_SEED = np.array([False, True])[:, None]  # the second is not trained


def test_the_lds_is_the_mean_rank_correlation_of_summed_scores() -> None:
    found = api.lds(SCORES, MASKS, LOSSES)
    each = [stats.spearmanr(-(MASKS @ row), LOSSES.mean(1)[:, z]).statistic for z, row in enumerate(SCORES)]
    np.testing.assert_allclose(found.per_target, each)
    assert found.value == pytest.approx(np.mean(each))
    assert found.low is not None
    assert found.low < found.value < (found.high or 0)
    assert found.chance.p < 0.01
    r = np.mean([stats.spearmanr(*LOSSES[:, :, z].T).statistic for z in range(7)])
    assert found.noise_floor == pytest.approx(np.sqrt(2 * r / (1 + r)))
    assert found.noise_floor_interval is not None
    assert found.noise_floor_interval[0] < found.noise_floor < found.noise_floor_interval[1]
    assert "{:.2f} ({:.2f} to {:.2f})".format(found.noise_floor, *found.noise_floor_interval) in found._repr_html_()
    one_seed = api.lds(SCORES, MASKS.astype(int), LOSSES[:, 0])
    assert (one_seed.noise_floor, one_seed.noise_floor_interval) == (None, None)
    assert f"{found.value:.3f}" in found._repr_html_()


@pytest.mark.usefixtures("demo_cache")
@pytest.mark.parametrize("kind", ["generated", "held-out"])
def test_the_shipped_benchmark_gives_the_numbers_of_page_and_command(kind: Any) -> None:
    known = api.benchmark("demo", targets=kind)
    recipe = recipes.usual(known.dataset, known.checkpoint, "raw-pixel-cosine")
    stored = predictions.find(recipe, known.settings)
    assert stored is not None
    losses = subset_models.read(known.dataset, known.settings)
    row = next(row for row in standings.rows([stored], losses, known.settings) if row["targets"] == kind)
    scores = api.explain(known.dataset, known.checkpoint, known.targets, "raw-pixel-cosine", progress=False).scores
    found = known.lds(scores)
    assert found.value == pytest.approx(row["lds"], abs=1e-12)
    assert [found.low, found.high] == pytest.approx(row["interval"])
    assert found.chance.p == pytest.approx(row["by_chance"]["p"])
    told = standings.kinds(losses, known.settings)[kind]
    assert found.noise_floor == told["noise_floor"]
    assert list(found.noise_floor_interval or ()) == told["noise_floor_interval"]
    trained = known.dataset.train.images
    assert known.masks.shape == (known.settings.num_subsets, len(trained))
    assert known.targets[0].image.shape == trained[0].shape


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ((SCORES[0], MASKS, LOSSES), r"have the shapes \(30,\)"),
        ((SCORES[:, :5], MASKS, LOSSES), "scores are of 5 training examples, masks of 30"),
        ((SCORES, MASKS[:4], LOSSES), r"losses have the shape \(12, 2, 7\); for 4 subsets and 7 targets"),
        ((SCORES[:3], MASKS, LOSSES), "for 12 subsets and 3 targets"),
        ((np.full_like(SCORES, np.inf), MASKS, LOSSES), "scores holds values that are not finite"),
        ((SCORES, MASKS * 0.3, LOSSES), "masks holds other values than 0 and 1"),
        ((SCORES, MASKS, np.full_like(LOSSES, np.nan)), "losses holds values that are not finite"),
        ((SCORES, MASKS, np.where(LOSSES[:, 0] > 0, np.nan, 0)), "losses holds values that are not finite"),
        (
            (SCORES, MASKS, np.where(np.arange(7) == 3, np.where(ONE_SEED, np.nan, LOSSES), LOSSES)),
            "NaN for some targets",
        ),
        ((SCORES.astype(str), MASKS, LOSSES), "scores is of type <U"),
        ((SCORES[:, :2], MASKS[:2, :2], LOSSES[:2]), "2 subsets are too few"),
        (([[1], [1, 2]], MASKS, LOSSES), "scores cannot be read as an array"),
        ((torch.tensor(SCORES).bfloat16(), MASKS, LOSSES), r"cannot be read as an array .* with scores\.float\(\)"),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(told: Any, sentence: str) -> None:
    with pytest.raises(StudioError, match=sentence):
        api.lds(*told)


def test_a_checkpoint_without_models_on_subsets_says_how_to_train_them(checkpoint: Any) -> None:
    with pytest.raises(NotFoundError, match=r"No models on subsets are stored for 'small'.*lds --checkpoint small"):
        api.benchmark("small")
    with pytest.raises(SettingsError, match="targets is 'all'"):
        api.benchmark("small", targets="all")  # type: ignore[arg-type]
