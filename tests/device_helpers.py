"""What the tests of devices and of a GPU share."""

from __future__ import annotations

import numpy as np

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import ekfac
from dtrak_core.methods.settings import InfluenceSettings
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser
from dtrak_core.models.targets import Target, of_split
from dtrak_core.progress import quiet

FEATURE_TOLERANCE = 2e-2  # of a feature's norm: TF32 keeps 10 bits of a product's factors


def scores_of(pictures: Dataset, checkpoint: Checkpoint, denoiser: Denoiser) -> np.ndarray:
    """Return EK-FAC's scores of a held-out picture, without the store."""
    layers = ekfac.curvature(denoiser, np.asarray(pictures.train.images), 0, quiet)
    target: Target = of_split(pictures.held_out, "held-out", 0)
    where = {"dataset": pictures.digest, "checkpoint": checkpoint.digest, "target": target.id, "pixels": target.pixels}
    settings = InfluenceSettings(**where, num_timesteps=2)
    return ekfac.influence(denoiser, pictures, [target], layers, settings, quiet)[0]
