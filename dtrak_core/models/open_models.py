"""The model that a process opened last, kept open for what it does next. No torch on import.

A process of the engine (`keep`) holds one model until another is asked for, work comes that does not read it, memory is
short, or the process ends, which an idle one does. Anyone else who uses the core holds what it holds itself. A model is
known by the digest of its weights, so what is kept is what would be opened. What stands beside a text-to-image model's
denoiser (text_side.py) is never kept: it looks at what is stored, which may have changed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil

from dtrak_core.models import bases
from dtrak_core.models.checkpoints import Checkpoint

if TYPE_CHECKING:
    import torch

    from dtrak_core.models.denoiser import Denoiser

MOST = 2**29  # bytes of the files of a model that is kept
SHARE = 8  # a model is kept where its files take less than one in so many of the bytes of memory that are free


@dataclass(frozen=True)
class Kept:
    """A model, with what it was opened from and the bytes of its files."""

    checkpoint: tuple[str, ...]
    size: int
    denoiser: Denoiser


_KEPT: list[Kept] = []  # one at most
_KEEPING: list[bool] = []


def keep() -> None:
    """Let this process keep the model that it opened last."""
    _KEEPING[:] = [True]


def opened(checkpoint: Checkpoint) -> Denoiser:
    """Return the network of a checkpoint, as `networks.load_denoiser` opens it and with its errors.

    It may be asked for again, so leave its weights and its mode as they are.
    """
    from dtrak_core.models import devices, networks

    where = devices.device()
    name = (checkpoint.digest, checkpoint.run.key, str(checkpoint.folder), str(where))
    for one in _KEPT:
        if one.checkpoint == name:
            return _with_words(one.denoiser, checkpoint)
    _KEPT.clear()  # before the other is read: memory need not hold both
    found = networks.load_denoiser(checkpoint)
    size = size_of(checkpoint)
    if _KEEPING and _fits(size, where) and (found.text is None or found.text.stored is not None):
        _KEPT.append(Kept(name, size, replace(found, text=None)))
    return found


def ahead(checkpoint: Checkpoint) -> None:
    """Open a model before it is asked for, if it is one that is kept; the errors are those of `opened`."""
    from dtrak_core.models import devices

    if _fits(size_of(checkpoint), devices.device()):
        opened(checkpoint)


def release(but: Collection[str] = ()) -> None:
    """Give back the model that is kept, unless its digest is among these and memory is not short."""
    _KEPT[:] = [one for one in _KEPT if one.checkpoint[0] in but and _fits(one.size, one.denoiser.weight.device)]


def size_of(checkpoint: Checkpoint) -> int:
    """Return the bytes of a model's files; of LoRA weights with those of their base."""
    places = [checkpoint.folder] + ([bases.by_digest(checkpoint.base).folder] if checkpoint.base else [])
    return sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())


def _fits(size: int, where: torch.device) -> bool:
    import torch

    free = torch.cuda.mem_get_info(where)[0] if where.type == "cuda" else psutil.virtual_memory().available
    return size <= min(MOST, free // SHARE)


def _with_words(denoiser: Denoiser, checkpoint: Checkpoint) -> Denoiser:
    """Return a denoiser with a text side as the store now is, if it is told captions."""
    if not checkpoint.base:
        return denoiser
    from dtrak_core.models import base_parts

    return replace(denoiser, text=base_parts.text_side(bases.by_digest(checkpoint.base), checkpoint.dataset))
