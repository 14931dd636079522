"""A planted truth, end to end: a picture that is in the training set twice is explained by both its copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dtrak_core.datasets import catalogue
from dtrak_core.datasets.settings import DatasetSettings
from dtrak_core.features import features, kernel
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.methods import scores
from dtrak_core.models import checkpoints, networks, targets
from dtrak_core.models.settings import ModelSettings, Prediction
from dtrak_core.progress import quiet
from dtrak_core.training import presets, training

ORIGINAL = 12


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_CACHE", str(tmp_path_factory.mktemp("portraits")))
        return np.array(catalogue.load(catalogue.prepare(DatasetSettings())).train.images[:300])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prediction", "classes", "count", "copy", "epochs"),
    [
        ("noise", 1, 160, 120, 30),
        ("sample", 1, 60, 40, 15),
        ("v", 1, 60, 40, 15),
        ("flow", 1, 60, 40, 15),
        ("noise", 4, 60, 40, 15),
    ],
)
def test_both_copies_of_a_planted_duplicate_are_among_the_first_three(
    cache: Path,
    tmp_path: Path,
    portraits: np.ndarray,
    prediction: Prediction,
    classes: int,
    count: int,
    copy: int,
    epochs: int,
) -> None:
    images = portraits[:count].copy()
    images[copy] = images[ORIGINAL]
    file = tmp_path / "planted.npz"
    labels = np.arange(count) % classes
    labels[copy] = labels[ORIGINAL]
    np.savez(file, x_train=images, y_train=labels, x_test=images[:8], y_test=np.zeros(8, int))
    dataset = catalogue.load(catalogue.prepare(catalogue.source_settings("npz", file, "planted", 16), file))
    assert len(dataset.train.images) == count

    # Fewer pictures and a narrower network: enough to tell copies from the rest, in a quarter of the time.
    settings = presets.train_settings("demo", dataset.digest, epochs=epochs)
    sees = presets.seen(dataset, classes > 1, grey=False)
    model = ModelSettings(channels=(16, 32), prediction=prediction, **sees)
    settings = settings.model_copy(update={"model": model})
    run = training.train(dataset, settings, "planted", quiet, kind="retrained")  # draws no grids of pictures
    (checkpoint,) = checkpoints.of_run(run)
    denoiser = networks.load_denoiser(checkpoint)
    base = FeatureSettings(dataset=dataset.digest, checkpoint=checkpoint.digest)
    kernel.compute_kernel(features.compute_features(dataset, denoiser, base, quiet), quiet)
    target = targets.resolve(dataset, checkpoint.digest, f"train:{ORIGINAL}")
    features.compute_target_features(denoiser, base, [target], quiet)
    found = scores.attribution_scores("d-trak", dataset, checkpoint.digest, target, base)
    first = np.argsort(-found.values)[:3].tolist()
    assert {ORIGINAL, copy} <= set(first), f"the first three are {first}"
