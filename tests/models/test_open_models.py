"""The model that a process of the engine keeps open: the same numbers, one at a time, given back."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.features import features
from dtrak_core.features.settings import FeatureSettings
from dtrak_core.models import checkpoints, networks, open_models
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> list[open_models.Kept]:
    """Keep models as a process of the engine does; return what is kept."""
    kept: list[open_models.Kept] = []
    monkeypatch.setattr(open_models, "_KEPT", kept)
    monkeypatch.setattr(open_models, "_KEEPING", [])
    open_models.keep()
    return kept


def test_a_kept_model_gives_the_numbers_of_a_fresh_one(
    keeping: list[open_models.Kept], pictures: Dataset, checkpoint: Checkpoint
) -> None:
    settings = FeatureSettings(
        dataset=pictures.digest, checkpoint=checkpoint.digest, num_timesteps=4, proj_dim=64, model_output="loss"
    )
    images, ids = np.asarray(pictures.train.images[:2]), ["train:0", "train:1"]

    def of(denoiser: Denoiser) -> np.ndarray:
        return features.featurise(denoiser, images, ids, settings, lambda done: None)

    first = open_models.opened(checkpoint)
    of(first)  # what work leaves behind in a network must not change what comes next
    assert open_models.opened(checkpoint).network is first.network
    np.testing.assert_array_equal(of(open_models.opened(checkpoint)), of(networks.load_denoiser(checkpoint)))
    assert first.network.training is False
    assert all(parameter.requires_grad and parameter.grad is None for parameter in first.network.parameters())


def test_one_model_is_kept_while_work_reads_it_and_memory_is_there(
    keeping: list[open_models.Kept], pictures: Dataset, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_models.ahead(checkpoint)
    assert [one.checkpoint[0] for one in keeping] == [checkpoint.digest]
    open_models.release(but={pictures.digest, checkpoint.digest})
    assert len(keeping) == 1
    open_models.release(but={pictures.digest})
    assert keeping == [], "work that does not read it has the memory"

    earlier = checkpoints.of_run(checkpoint.run)[0]
    for one in (checkpoint, earlier):
        open_models.opened(one)
    assert [one.checkpoint[0] for one in keeping] == [earlier.digest]

    free = open_models.SHARE * open_models.size_of(earlier)
    for left, there in ((free, 1), (free - 1, 0)):
        monkeypatch.setattr(open_models.psutil, "virtual_memory", lambda left=left: SimpleNamespace(available=left))
        open_models.release(but={earlier.digest})
        assert len(keeping) == there
    open_models.ahead(earlier)
    open_models.opened(earlier)
    assert keeping == [], "too large to be kept"


def test_what_explains_a_picture_leaves_the_libraries_of_text_to_image_models_out(checkpoint: Checkpoint) -> None:
    code = (
        f"import sys; from dtrak_core.engine import child_main; child_main._prepare(1, '{checkpoint.digest}'); "
        "from dtrak_core.models import unets; "
        "heavy = ('transformers', 'peft', 'scipy.stats', 'torch._dynamo', *unets.AROUND, 'diffusers'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=store.PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['diffusers']", "nor does a package stand empty for whoever asks for it later"
