"""Models trained together are those of their settings trained alone."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import Cancelled
from dtrak_core.models import networks
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.progress import quiet
from dtrak_core.settings import key_of
from dtrak_core.training import retrained, together, training


def wanted(pictures: Dataset, tiny: ModelSettings, **changes: object) -> list[TrainSettings]:
    parts = [tuple(range(0, 20)), tuple(range(4, 24)), tuple(range(2, 22))]
    values = {"epochs": 6, "batch_size": 8, "flip": True, "ema_decay": 0.9, **changes}
    return [
        TrainSettings(dataset=pictures.digest, model=tiny, indices=part, train_seed=seed, **values)  # type: ignore[arg-type]
        for part, seed in zip(parts, (1, 2, 1), strict=True)
    ]


def weights(run: store.Artifact) -> dict[str, torch.Tensor]:
    return load_file(run.path / run.manifest["steps"][-1]["folder"] / "unet" / networks.WEIGHTS)


def alone(pictures: Dataset, settings: TrainSettings) -> tuple[dict[str, torch.Tensor], float]:
    run = training.train(pictures, settings, "alone", quiet, "retrained")
    found = weights(run), run.manifest["final_loss"]
    store.delete("retrained", run.key)
    return found


@pytest.mark.parametrize("prediction", ["noise", "sample"])
def test_models_trained_together_are_those_trained_alone(
    pictures: Dataset, tiny: ModelSettings, prediction: str
) -> None:
    each = wanted(pictures, tiny.model_copy(update={"prediction": prediction}))
    expected = [alone(pictures, one) for one in each]
    assert together.groups(pictures, each) == [each]
    said: list[int] = []
    found = together.train(pictures, each, lambda done, total, unit, message: said.append(done))
    assert said[-1] == 3 * 18
    for run, (own, loss) in zip(found, expected, strict=True):
        assert run.manifest["final_loss"] == pytest.approx(loss, rel=1e-4)
        for name, value in weights(run).items():
            torch.testing.assert_close(value, own[name], rtol=1e-3, atol=1e-4)
    assert together.groups(pictures, each) == []


def test_what_is_cancelled_goes_on_alone(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = wanted(pictures, tiny)
    expected = [alone(pictures, one) for one in each]
    monkeypatch.setattr(together, "SAID_EVERY", 5)

    def stop(done: int, total: int, unit: str, message: str) -> None:
        if done == 30:
            raise Cancelled("stopped by the test")

    with pytest.raises(Cancelled):
        together.train(pictures, each, stop)
    assert together.groups(pictures, each) == []
    steps: list[int] = []
    for one, (own, _) in zip(each, expected, strict=True):
        run = training.train(pictures, one, "", lambda done, *_: steps.append(done), "retrained")
        for name, value in weights(run).items():
            torch.testing.assert_close(value, own[name], rtol=1e-3, atol=1e-4)
    assert steps[0] == 11


def test_only_small_networks_of_one_size_are_trained_together(pictures: Dataset, tiny: ModelSettings) -> None:
    each = wanted(pictures, tiny)
    other = each[0].model_copy(update={"indices": tuple(range(5))})
    assert together.groups(pictures, [*each, other]) == [each]
    for change in ({"dropout": 0.1}, {"channels": (512, 512)}):
        assert together.groups(pictures, wanted(pictures, tiny.model_copy(update=change))) == []
    training.train(pictures, each[0], "", quiet, "retrained")
    assert together.groups(pictures, each) == [each[1:]]


def test_on_a_gpu_a_model_is_trained_with_those_wanted_next(
    pictures: Dataset, tiny: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "worthwhile", lambda: True)
    each = wanted(pictures, tiny, epochs=1)
    first = retrained.retrained(pictures, each[1], quiet, lambda: each)
    stored = [store.find("retrained", key_of("retrained", one)) for one in each]
    assert all(stored)
    own = weights(stored[1])  # type: ignore[arg-type]
    for name, value in first.network.state_dict().items():
        torch.testing.assert_close(value, own[name])
