"""TRAK's scores against those of the `traker` package: the same model, pictures and draws, each with its own matrix."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.engine import work
from dtrak_core.features import draws
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.jobs.jobs import AttributeJob
from dtrak_core.methods import scores
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints, networks
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.settings import ModelSettings, TrainSettings
from dtrak_core.models.targets import Target, resolve
from dtrak_core.progress import quiet
from dtrak_core.settings import build
from dtrak_core.training import training

trak = pytest.importorskip("trak", reason="traker is in tests/requirements.txt; install that to compare with it")
WIDTH, TIMESTEPS = 4096, 5


class DenoisingLoss(trak.modelout_functions.AbstractModelOutput):  # type: ignore[misc,name-defined]
    """The mean denoising loss of a picture over given noises: a task for traker."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def get_output(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], x0: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the loss of one picture, differentiable in the weights."""
        t = torch.from_numpy(draws.timesteps("uniform", TIMESTEPS))
        x_t = self.denoiser.process.noised(x0.unsqueeze(0).expand_as(noise), noise, t)
        arguments = {"return_dict": False}
        prediction = torch.func.functional_call(model, (weights, buffers), (x_t, t), arguments)[0]
        return (prediction - noise).square().mean()

    def get_out_to_loss_grad(
        self, model: nn.Module, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return 1: the output is the loss."""
        return torch.ones(len(batch[0]), 1)


def batch_of(denoiser: Denoiser, images: np.ndarray, ids: list[str]) -> tuple[Tensor, Tensor]:
    grid = draws.timesteps("uniform", TIMESTEPS)
    noise = torch.stack([torch.from_numpy(draws.noise(0, one, grid, denoiser.shape)) for one in ids])
    return denoiser.encode(images), noise


@pytest.fixture
def trained(pictures: Dataset, tiny: ModelSettings) -> Checkpoint:
    """Train until the mean gradient is small; before, all gradients point one way and projections blur them."""
    settings = TrainSettings(dataset=pictures.digest, model=tiny, epochs=60, batch_size=8)
    training.train(pictures, settings, "longer", quiet)
    return checkpoints.by_name("longer", pictures.digest)


def test_ranks_agree_with_traker(pictures: Dataset, trained: Checkpoint, tmp_path: Path) -> None:
    checkpoint = trained
    base = FeatureSettings(
        dataset=pictures.digest,
        checkpoint=checkpoint.digest,
        num_timesteps=TIMESTEPS,
        projection="gaussian",
        proj_dim=WIDTH,
    )
    names = [f"held-out:{i}" for i in range(6)]
    method = METHODS["trak"]
    settings = scores.feature_settings(method, pictures.digest, checkpoint.digest, base)
    work.run(build(AttributeJob, features=(settings,), targets=tuple(names)), quiet)
    targets: list[Target] = [resolve(pictures, checkpoint.digest, name) for name in names]
    ours = scores.score(scores.resolve(method, pictures, checkpoint.digest, targets, base))

    denoiser = networks.load_denoiser(checkpoints.by_digest(checkpoint.digest))
    count = sum(p.numel() for p in denoiser.network.parameters())
    projector = trak.projectors.BasicProjector(
        grad_dim=count, proj_dim=WIDTH, seed=1, proj_type="normal", device="cpu", block_size=256
    )
    assert ours.damping is not None
    theirs = trak.TRAKer(
        model=denoiser.network,
        task=DenoisingLoss(denoiser),
        train_set_size=24,
        save_dir=str(tmp_path / "traker"),
        device="cpu",
        projector=projector,
        proj_dim=WIDTH,
        use_half_precision=False,
        lambda_reg=ours.damping
        * WIDTH
        / count,  # its entries are N(0, 1), divided by the root of the gradient's length
        logging_level=logging.ERROR,
    )
    state = denoiser.network.state_dict()
    theirs.load_checkpoint(state, model_id=0)
    train = batch_of(denoiser, np.asarray(pictures.train.images), [f"train:{i}" for i in range(24)])
    theirs.featurize(batch=train, num_samples=24)
    theirs.finalize_features()
    theirs.start_scoring_checkpoint("held-out", state, model_id=0, num_targets=6)
    own = batch_of(denoiser, np.stack([t.image for t in targets]), names)
    theirs.score(batch=own, num_samples=6)
    found = np.asarray(theirs.finalize_scores("held-out")).T
    assert found.shape == ours.values.shape
    agreement = [stats.spearmanr(a, b).statistic for a, b in zip(found, ours.values, strict=True)]
    assert np.mean(agreement) > 0.95
    assert min(agreement) > 0.9
