"""Is a work in the training set, and what has it helped to make? No torch here.

A work is looked for by its pixels, upright and mirrored, among all training pictures: it stands there where one is
equal or nearly so (alike.py). What it helped is a column of scores: with S the training pictures that are the work,

    help(z) = Σ_{i in S} s⁺(z, i) / Σ_i s⁺(z, i)

for each generated picture z, and over all of them its share of the credit, with lift, interval and p (set_credit.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dtrak_core.datasets import alike, images, thumbnails
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import SettingsError
from dtrak_core.methods import copies, set_credit
from dtrak_core.methods.copies import Copy
from dtrak_core.methods.plans import Plan, Scores
from dtrak_core.methods.set_credit import Group
from dtrak_core.models import checkpoints, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target

NAME = "this work"
MATCHES = 12
LIKE = 0.25  # root mean square of pixels in [-1, 1], up to which a match may be another version of the work


@dataclass(frozen=True)
class Match:
    """A training picture beside a work: distance in pixels, bits of their hashes apart, if the work is mirrored."""

    index: int
    distance: float
    bits: int
    mirrored: bool

    @property
    def is_it(self) -> bool:
        """Say whether it is the work: equal to it, or nearly so."""
        return self.distance <= alike.RMS and self.bits <= alike.BITS

    @property
    def looks_like_it(self) -> bool:
        """Say whether it may be the work in another version: alike in its outlines, and not far in pixels."""
        return self.distance <= LIKE and self.bits <= alike.BITS


@dataclass(frozen=True, eq=False)
class Work:
    """A work, its nearest training pictures, the closest first, and how close that is for a picture like others.

    `copy` compares it as it was brought, its p counted over `held_out` pictures; `matches` are mirrored too.
    `standing` are the training pictures that are the work, and all that nearly equal one of them, ascending.
    """

    target: Target
    copy: Copy
    held_out: int
    matches: tuple[Match, ...]
    standing: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Help:
    """What some training pictures helped: their credit over all generated pictures, and in each of these (M,)."""

    group: Group
    each: np.ndarray
    targets: tuple[Target, ...]
    method: str
    label: str


def taken_in(dataset: Dataset, data: bytes, name: str) -> Target:
    """Store a work, brought to the size of the training pictures as they were.

    One that is a small picture enlarged pixel by pixel, as pages show and export them, is reduced to that first.

    Raises:
        DataError: If it is not a picture, or a decompression bomb.
    """
    image, side = np.asarray(images.decoded(data, name, dataset.settings.resolution)), dataset.settings.resolution
    times = len(image) // side
    if times > 1 and image.shape[:2] == (times * side, times * side):
        small = image[::times, ::times]
        if (small.repeat(times, 0).repeat(times, 1) == image).all():
            return targets.keep_upload(dataset, thumbnails.png(small), name)
    return targets.keep_upload(dataset, data, name)


def find(dataset: Dataset, checkpoint: Checkpoint, work: Target) -> Work:
    """Look for a work among the training pictures.

    Raises:
        SettingsError: If the work has another size than the training pictures, or these are too few.
    """
    if work.image.shape != dataset.train.images.shape[1:]:
        raise SettingsError(f"The work has shape {work.image.shape}, the pictures {dataset.train.images.shape[1:]}.")
    compared = copies.find("pixels", dataset, checkpoint, [work])
    rows, own = copies.pixels_of(dataset), work.image
    both = alike.reduced([own, own[:, ::-1]])
    away = np.sqrt(np.stack([((rows - one) ** 2).mean(1) for one in both]))
    learned, same = checkpoints.learned(checkpoint), alike.of_dataset(dataset)[0]
    order = np.argsort(away.min(0), kind="stable")
    order = order if learned is None else order[np.isin(order, learned)]
    first = order[:MATCHES]
    codes, sides = alike.hashes(dataset.train.images[first]), alike.hashes([own, own[:, ::-1]])
    matches = []
    for index, code in zip(first.tolist(), codes, strict=True):
        side = int(away[:, index].argmin())
        matches.append(Match(index, float(away[side, index]), int(np.bitwise_count(code ^ sides[side])), side == 1))
    standing = order[np.isin(same[order], same[[one.index for one in matches if one.is_it]])]
    return Work(work, compared.found[0], len(compared.reference), tuple(matches), tuple(sorted(standing.tolist())))


def help_of(plan: Plan, found: Scores, checkpoint: Checkpoint, members: Sequence[int]) -> Help:
    """Return what training pictures helped over the targets of a plan.

    Args:
        plan: Method, dataset and generated pictures.
        found: Their scores (M, N).
        checkpoint: The model.
        members: The training pictures that are the work.

    Raises:
        SettingsError: If there are none, or none that the model has learned from.
    """
    if reason := set_credit.refusal(plan.method):
        raise SettingsError(reason)
    own = set(members)
    rows = [
        {"contributor": NAME if i in own else "", "family": row.get("family", "")}
        for i, row in enumerate(plan.dataset.train.rows)
    ]
    if not members:
        raise SettingsError("No training picture is said to be the work, so nothing can be credited to it.")
    credit = set_credit.over(found.values, rows, "contributor", checkpoints.learned(checkpoint))
    place = next((i for i, group in enumerate(credit.groups) if group.name == NAME), None)
    if place is None:
        raise SettingsError("The model has not learned from these pictures.")
    return Help(credit.groups[place], credit.helped[:, place], plan.targets, plan.method.id, plan.method.label)
