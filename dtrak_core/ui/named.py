"""The picture to explain, as the address names it: its id, and how it was drawn where that is not the usual way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import streamlit as st

from dtrak_core.amounts import whole
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.settings import Sampled
from dtrak_core.models.targets import Target
from dtrak_core.ui import address, linked

_NUMBERS = {"guidance": (1, 100), "eta": (0, 1)}  # numbers of a way of drawing that are no counts, and their bounds
_LABELS = {"sampler": "Sampler", "sampling_steps": "Sampling steps", "guidance": "Guidance", "eta": "Eta"}
FIRST = "seed:10"  # where it exists: a clear answer of the shipped demo, and among those that it compares


def usual(drawn: Sequence[str]) -> str:
    """Return the id of the target where none is named: of the pictures drawn (by seed), else a held-out one."""
    return FIRST if FIRST in drawn else next(iter(drawn), "held-out:0")


def target(default: str) -> str:
    """Return the id of the target picture: the view's, else the default."""
    return address.get("sample") or default


def choose(target: Target) -> None:
    """Make a picture the target, in the link too; an opened example is closed. The page is to be run again then."""
    st.query_params.pop(address.EXAMPLE, None)
    address.drop(*address.DRAWN)
    address.put(link_to(target))
    address.write()  # at once: the next run begins with the address of this moment


def link_to(target: Target) -> dict[str, str]:
    """Return the address parameters that name a picture, and how it was drawn where that is not the usual way."""
    drawn = target.sampled
    values = {"sampler": drawn.sampler, "sampling_steps": str(drawn.sampling_steps)}
    values |= {name: str(getattr(drawn, name)).removesuffix(".0") for name in _NUMBERS}
    own = targets.own_way(target.row["settings"]["checkpoint"]) if drawn.prompts else Sampled()
    usual = {"sampler": "ddim", "sampling_steps": str(own.sampling_steps), "guidance": "7.5", "eta": "0"}
    found = {name: value for name, value in values.items() if value != usual[name]}
    return {"sample": target.id} | found | ({"prompt": drawn.prompts[0]} if drawn.prompts else {})


def leading(page: str, target: Target) -> dict[str, str | list[str]]:
    """Return the parameters of a link to a page (by its file) with this target."""
    return {name: value for name, value in address.leading(page).items() if name not in address.DRAWN} | link_to(target)


def check(checkpoint: Checkpoint) -> None:
    """Name what the address newly and wrongly says of how its picture is drawn, and leave it out."""
    used = sampled(checkpoint)
    for name, label in _LABELS.items():
        asked, value = address.fresh(name), getattr(used, name)
        if asked and not _is(asked, value):
            linked.wrong(label, asked, str(value).removesuffix(".0"))
            address.drop(name)


def _is(asked: str, value: float | str) -> bool:
    try:
        return float(asked) == value
    except ValueError:
        return asked == value


def sampled(checkpoint: Checkpoint) -> Sampled:
    """Return how the link's picture is drawn; what it does not name properly is the usual way."""
    sampler, steps = address.get("sampler", "ddim"), address.get("sampling_steps", "")
    ways = ("ddim",) if checkpoints.process_of(checkpoint)[0] == "flow" else ("ddim", "ddpm")
    known, most = sampler if sampler in ways else "ddim", checkpoints.most_steps(checkpoint)
    own = targets.own_way(checkpoint.digest) if checkpoint.base else Sampled()
    found: dict[str, Any] = {"sampler": known, "sampling_steps": min(own.sampling_steps, most)}
    if said := whole(steps, most):  # 0 is none
        found["sampling_steps"] = said
    prompt = address.get("prompt")
    if prompt and checkpoint.prompted:  # the link may still name a prompt of another model
        found["prompts"] = (prompt,)
    for name, (low, high) in _NUMBERS.items():
        with contextlib.suppress(ValueError):
            number = float(address.get(name))
            found |= {name: number} if low <= number <= high else {}
    if ways == ("ddim",):  # Euler's steps have no noise to add
        found.pop("eta", None)
    return Sampled(**found)
