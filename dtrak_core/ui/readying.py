"""What a user would wait for, begun while a first page is looked at: the engine, what others import and open with."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable

import streamlit as st

from dtrak_core import ui
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import StudioError
from dtrak_core.jobs import launch
from dtrak_core.models.checkpoints import Checkpoint

LATER = 0.5  # seconds after a page began: what it imports comes first
AHEAD = 3.0  # the same, for what other pages import
LAST = 5.0  # the same, for what they open with
FIRST = ("dtrak_core.ui.frame", "dtrak_core.ui.overview.showcase", "dtrak_core.ui.overview.browser")
BESIDES = ("pandas", "scipy.special", "huggingface_hub.file_download")  # for tables, intervals, encoders' weights


@st.cache_resource(max_entries=8, ttl=60, show_spinner=False)
def readied(checkpoint: str = "", _dataset: Dataset | None = None, _checkpoint: Checkpoint | None = None) -> None:
    """See to it, once a minute at most, that what is asked for begins at once; STUDIO_READY=0 leaves it until then.

    Under Streamlit's server alone: whatever else runs a page, a test, does not start processes by that.

    Args:
        checkpoint: Digest of the model whose pictures may be asked about, which is then open; empty for none yet.
            Its `_dataset` and `_checkpoint` say what pages open with.
    """
    if launch.readily() and "streamlit.web.bootstrap" in sys.modules:
        _after(LATER, _ready, checkpoint)
        _after(AHEAD, imported)
        if _dataset is not None and _checkpoint is not None:
            _looking(checkpoint, _dataset, _checkpoint)


@st.cache_resource(max_entries=8, show_spinner=False)
def _looking(checkpoint: str, _dataset: Dataset, _checkpoint: Checkpoint) -> None:
    """Have what pages open with computed, once for a model: what is new since, the page computes."""
    _after(LAST, looked, _dataset, _checkpoint)


def imported() -> None:
    """Import what the pages import, the start's first, and what they ask for only where it is needed."""
    for name in FIRST:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(ui.__path__, f"{ui.__name__}."):
        importlib.import_module(module.name)
    for name in BESIDES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def looked(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Compute what pages open with: those that have an `ahead` among their modules say what that is."""
    for module in pkgutil.walk_packages(ui.__path__, f"{ui.__name__}."):
        if module.name.endswith(".ahead"):
            with contextlib.suppress(StudioError, OSError):  # the page that asks for it says what is wrong
                importlib.import_module(module.name).look(dataset, checkpoint)


def _after(seconds: float, act: Callable[..., None], *given: object) -> None:
    waiting = threading.Timer(seconds, act, given)
    waiting.daemon = True
    waiting.start()


def _ready(checkpoint: str) -> None:
    with contextlib.suppress(StudioError, OSError):  # a cache that is only read still shows what is in it
        launch.ready(checkpoint)
