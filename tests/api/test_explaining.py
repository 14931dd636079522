"""Scores of the library against plain autograd and a solve in float64; functions of one's own; what is refused."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dtrak_core import api, store
from dtrak_core.api import explaining
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError, StudioError
from dtrak_core.features import draws
from dtrak_core.methods import scores
from dtrak_core.models import networks, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import SampleSettings
from dtrak_core.models.targets import publish_sample

T = 4
PLAIN = {"num_timesteps": T, "projection": "none"}


def cubed(prediction: Tensor, noise: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    return (prediction * noise * (1 + t / 1000).view(-1, 1, 1, 1) + 0.1 * prediction**3 * x0).flatten(1).mean(1)


def squares(prediction: Tensor, noise: Tensor, x0: Tensor, t: Tensor) -> Tensor:
    return prediction.flatten(1).square().mean(1)


def by_hand(checkpoint: Checkpoint, images: np.ndarray, ids: list[str], output: Any) -> np.ndarray:
    """Gradients (n, P) of the mean output over the draws, one backward pass a picture, in float64."""
    denoiser = networks.load_denoiser(checkpoint)
    network, grid = denoiser.network.double(), draws.timesteps("uniform", T)
    rows = []
    for image, name in zip(images, ids, strict=True):
        x0 = denoiser.encode(image[None]).double().expand(T, -1, -1, -1)
        noise, t = torch.from_numpy(draws.noise(0, name, grid, denoiser.shape)).double(), torch.from_numpy(grid)
        kept = denoiser.process.alphas_cumprod.double()[t].view(-1, 1, 1, 1)
        prediction = network(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, t, return_dict=False)[0]
        found = torch.autograd.grad(output(prediction, noise, x0, t).mean(), list(network.parameters()))
        rows.append(torch.cat([one.flatten() for one in found]).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("method", "output"), [("d-trak", None), ("d-trak", cubed), ("gradient-cosine", cubed)])
def test_scores_are_those_of_plain_gradients(
    pictures: Dataset, checkpoint: Checkpoint, method: str, output: Any
) -> None:
    damped = {"damping": 3.0} if method == "d-trak" else {}
    wanted = ["held-out:0", "held-out:5"]
    found = api.explain(pictures, checkpoint, wanted, method, output, features=PLAIN, progress=False, **damped)
    own = output or squares
    phi = by_hand(checkpoint, pictures.train.images, [f"train:{i}" for i in range(24)], own)
    targets = by_hand(checkpoint, pictures.held_out.images[[0, 5]], wanted, own)
    if method == "d-trak":
        # Φ (ΦᵀΦ + λ)⁻¹ φ(z), solved on the smaller side
        expected = np.linalg.solve(phi @ phi.T + 3.0 * np.eye(24), phi @ targets.T).T
    else:
        expected = targets @ phi.T / np.outer(np.linalg.norm(targets, axis=1), np.linalg.norm(phi, axis=1))
    np.testing.assert_allclose(found.scores, expected, rtol=2e-3, atol=1e-5 * np.abs(expected).max())
    assert found.scores.shape == (2, 24)
    assert (np.sort(found.ranks, axis=1) == np.arange(1, 25)).all()
    assert found.ranks[1, found.scores[1].argmax()] == 1
    assert found.proponents(1, 1)[0].index == found.scores[1].argmax()
    lowest = found.opponents(0, 1)
    assert not lowest or lowest[0].index == found.scores[0].argmin()


def test_d_trak_written_as_a_function_is_d_trak(pictures: Dataset, checkpoint: Checkpoint) -> None:
    wide = {
        "num_timesteps": 50,
        "proj_dim": 64,
    }  # for a picture to find itself by either half of draws that are its own
    own = api.explain(pictures, checkpoint, [0, "train:3"], output=squares, features=wide, progress=False)
    same = api.explain(pictures, checkpoint, [0, "train:3"], features=wide, progress=False)
    np.testing.assert_allclose(own.scores, same.scores, rtol=1e-3, atol=1e-5 * np.abs(same.scores).max())
    assert own.effective_rank == pytest.approx(same.effective_rank)
    assert own.label == "D-TRAK of squares"
    # Both halves' scores stand in a rank correlation, and picture 3 is what explains itself in both.
    assert (np.abs(own.repeatability) <= 1).all()
    assert own.steady[1] is not None
    assert own.steady[1][3]
    assert np.isnan(same.repeatability).all()  # which features in parts would tell
    one = api.explain(pictures, checkpoint, 0, output=squares, features=wide | {"num_timesteps": 1}, progress=False)
    assert np.isnan(one.repeatability).all()


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"output": lambda e, n, x, t: 3.0}, "returned a float"),
        ({"output": lambda e, n, x, t: e.mean()}, r"returned float32\[\] for 2 draws"),
        ({"output": lambda e, n, x, t: e.square()}, "one real value a draw"),
        ({"output": lambda e, n, x, t: n.flatten(1).mean(1)}, "do not depend on the prediction"),
        ({"output": lambda e, n, x, t: e.flatten(1).mean(1) / 0}, "not finite"),
        ({"output": lambda e, n, x, t: e.flatten(1).mean(1) * e.mean()}, "together and"),
        ({"output": lambda e, n, x, t: e.flatten(1).mean(1) * torch.rand(1)}, "on nothing random"),
        ({"output": "squared"}, "output is of type str"),
        ({"output": squares, "method": "raw-pixel-cosine"}, "cannot be put into Raw pixels, cosine"),
        ({"output": squares, "method": "tracin-cp"}, "cannot be put into TracInCP"),
        ({"output": squares, "engine": True}, "engine cannot be handed a function"),
        ({"damping": 1.0, "rank_share": 0.1}, "were both given"),
        ({"damping": 0.0}, "damping is 0.0"),
        ({"damping": float("nan")}, "damping is nan"),
        ({"rank_share": 1.5}, "rank_share is 1.5"),
        ({"method": "gradient-dot", "damping": 1.0}, "has no damping"),
        ({"method": "nothing"}, "'nothing' is not a method"),
        ({"method": ["d-trak"]}, r"\['d-trak'\] is not a method"),
        ({"method": None}, "None is not a method"),
        ({"dataset": None}, "The dataset is of type NoneType; expected one of api.dataset, or its name"),
        ({"checkpoint": 3}, "The checkpoint is of type int; expected one of api.checkpoint, or its name"),
        ({"targets": b"seed:0"}, "b'seed:0' is not a target. Give a seed"),
        ({"targets": {0: 1}}, "{0: 1} is not a target"),
        ({"targets": {0, 1}}, "{0, 1} is not a target"),
        ({"targets": 2**31}, "'seed:2147483648' is not a target"),
        ({"features": {"eta": 0.5}}, "'eta' is set by"),
        ({"features": {"steps": 5}}, "'steps' does not exist"),
        ({"features": {"num_timesteps": 7}}, "does not divide"),
        ({"method": "journey-trak", "targets": "held-out:0"}, "Choose a generated one"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_computed(
    cache: Any, checkpoint: Checkpoint, told: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(StudioError, match=sentence):
        api.explain(**{"dataset": "discs", "checkpoint": "small", "targets": "held-out:0", "progress": False} | told)
    assert not list(cache.glob("features/*"))


def test_a_checkpoint_of_another_dataset_is_refused(pictures: Dataset, checkpoint: Checkpoint) -> None:
    other = api.dataset(pictures.train.images[:10], name="other")
    with pytest.raises(SettingsError, match="learned from the dataset with digest"):
        api.explain(other, checkpoint, 0)
    with pytest.raises(NotFoundError, match="does not exist for this dataset"):
        api.explain(other, "small", 0)


def test_a_picture_of_another_model_is_not_taken_for_this_ones_of_its_seed(
    pictures: Dataset, checkpoint: Checkpoint
) -> None:
    foreign, own = pictures.train.images[:2]
    given = targets.publish_sample(SampleSettings(checkpoint="0" * 16, seed=0), foreign)
    targets.publish_sample(SampleSettings(checkpoint=checkpoint.digest, seed=0), own)
    few: dict[str, Any] = {"features": {"num_timesteps": 2, "proj_dim": 16}, "progress": False}
    with pytest.raises(SettingsError, match=re.escape("seed:0 is another picture here than the one given")):
        api.explain(pictures, checkpoint, given, **few)
    assert not store.listing("features"), "nothing is computed for it"
    assert api.explain(pictures, checkpoint, given.image, **few).targets[0].pixels == given.pixels


def test_an_answer_draws_itself(pictures: Dataset, checkpoint: Checkpoint) -> None:
    found = api.explain(pictures, checkpoint, "held-out:0", "raw-pixel-dot", progress=False)
    drawn = found._repr_html_()
    first = found.proponents(0)[0]
    assert f'alt="Rank 1: training picture {first.index}, ' in html.unescape(drawn)
    alts = re.findall(r'<img src="data:image/png;base64,[^"]+" alt="([^"]+)"', drawn)
    assert len(alts) == drawn.count("<img") == 1 + len(found.proponents()) + len(found.opponents(0, 4))


def test_pictures_of_several_prompts_are_one_job(
    pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [
        publish_sample(
            SampleSettings(checkpoint=checkpoint.digest, seed=seed, prompts=(f"disc {seed}",)),
            pictures.train.images[seed],
        )
        for seed in range(3)
    ]
    asked: list[Any] = []
    monkeypatch.setattr(explaining, "done", lambda job, *about: asked.append(job))
    plan = scores.resolve("ek-fac", pictures, checkpoint.digest, [*drawn, drawn[0]])
    explaining.compute(plan, None, False, False)
    assert [job.targets for job in asked] == [("seed:0", "seed:1", "seed:2")]
