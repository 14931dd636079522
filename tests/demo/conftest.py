"""What the tests of both shipped demos start from."""

from __future__ import annotations

import pytest

from dtrak_core.models import networks
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.denoiser import Denoiser


@pytest.fixture(scope="module")
def denoiser(checkpoint: Checkpoint) -> Denoiser:
    """Open the model that a module's tests are of."""
    return networks.load_denoiser(checkpoint)


@pytest.fixture
def only_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let nothing be stored but what ships."""
    monkeypatch.setenv("STUDIO_CACHE", str(tmp_path_factory.mktemp("empty")))
    monkeypatch.delenv("STUDIO_DEMO", raising=False)
