"""Sets of pictures to remove: drawn at random, whole groups, all that share a fact, or named one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtrak_core.amounts import counted, numbers_of, ranges_of
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.errors import NotFoundError, SettingsError
from dtrak_core.methods.results import Row
from dtrak_core.models import known_facts
from dtrak_core.models.known_facts import FACTS

CONTRIBUTOR, PICTURES = "contributor:", "pictures:"  # before whose pictures, or which: the same whatever the target
SAME = "same:"  # before a fact: all training pictures that share what is known of the target
_NAMED = 3  # pictures whose numbers stand in a label


def random_set(count: int, size: int, draw: int) -> tuple[int, ...]:
    """Return `size` of `count` training indices, drawn at random: the same for the same draw number."""
    drawn = np.random.Generator(np.random.PCG64(draw)).choice(count, size, replace=False)
    return ascending(drawn)


def grouped(order: np.ndarray, size: int, rows: Sequence[Row], group: str) -> tuple[int, ...]:
    """Return whole groups of the best-ranked pictures, in the order of their best, until `size` are reached.

    Args:
        order: The training indices that may be removed, from the highest score to the lowest, shape (N,).
        size: Number of pictures asked for; the last group may exceed it.
        rows: Facts of each training picture.
        group: The fact that groups them: family, contributor or label. Pictures without it stand alone.
    """
    members: dict[str, list[int]] = {}
    names = {i: str(rows[i].get(group) or f"alone {i}") for i in sorted(order.tolist())}
    for index, name in names.items():
        members.setdefault(name, []).append(index)
    taken: list[int] = []
    for name in dict.fromkeys(names[i] for i in order.tolist()):
        if len(taken) >= size:
            break
        taken += members[name]
    return ascending(taken)


def is_fixed(method: str) -> bool:
    """Say whether a comparison's removal is no method's: it needs no scores, and is as large as it is."""
    return method.startswith((CONTRIBUTOR, PICTURES, SAME))


def is_shared(method: str) -> bool:
    """Say whether a removal takes the same pictures for every target."""
    return method.startswith((CONTRIBUTOR, PICTURES))


def settled(method: str, count: int) -> str:
    """Return the one name of a fixed removal: of pictures, their numbers in ascending order.

    Args:
        method: `contributor:NAME`, `pictures:NUMBERS` or `same:FACT`.
        count: Number of training pictures.

    Raises:
        SettingsError: If the pictures are no list of training indices, or the fact is none.
    """
    if method.startswith(SAME) and (fact := method.removeprefix(SAME)) not in FACTS:
        raise SettingsError(f"'{fact}' is no fact of pictures. Give one of: {', '.join(FACTS)}.")
    if not method.startswith(PICTURES):
        return method
    numbers = numbers_of(method.removeprefix(PICTURES), "training pictures", count)
    if max(numbers) >= count:
        raise SettingsError(f"There is no training picture {max(numbers)}: there are {count:,}, numbered from 0.")
    return PICTURES + ranges_of(numbers)


def without(method: str) -> str:
    """Return in words what a fixed removal leaves out."""
    if method.startswith(CONTRIBUTOR):
        return f"Without {method.removeprefix(CONTRIBUTOR)}"
    if method.startswith(SAME):
        return f"Without the target's {method.removeprefix(SAME)}"
    numbers = numbers_of(method.removeprefix(PICTURES), "training pictures", 2**31)
    if len(numbers) <= _NAMED:
        return f"Without {', '.join(f'#{number}' for number in numbers)}"
    return f"Without {counted(len(numbers), 'picture')} (#{numbers[0]} to #{numbers[-1]})"


def taken(method: str, dataset: Dataset, learned: np.ndarray) -> tuple[int, ...]:
    """Return the training indices of a fixed removal, of those that the model has learned from."""
    if method.startswith(CONTRIBUTOR):
        return pictures_of(method.removeprefix(CONTRIBUTOR), dataset, learned)
    named = settled(method, len(dataset.train.rows)).removeprefix(PICTURES)
    found = np.intersect1d(numbers_of(named, "training pictures", len(dataset.train.rows)), learned)
    if not len(found):
        raise NotFoundError(f"The model has learned from none of the training pictures {named}. Name others.")
    return ascending(found)


def sharing(method: str, dataset: Dataset, learned: np.ndarray, target: str, prompt: str) -> tuple[int, ...]:
    """Return the training indices, of those learned from, that share a fact with what a target was drawn from.

    Raises:
        NotFoundError: If nothing is known of the prompt, or no picture shares it.
    """
    fact = method.removeprefix(SAME)
    known = known_facts.of_prompt(dataset, prompt).get(fact, "")
    found = [i for i in learned.tolist() if known and str(dataset.train.rows[i].get(fact, "")) == known]
    if not found:
        raise NotFoundError(
            f"The {fact} of {target} is not known, or no training picture has it: it was drawn from "
            f"{repr(prompt) if prompt else 'no prompt'}. Choose targets whose prompt is a training picture's caption."
        )
    return ascending(found)


def pictures_of(name: str, dataset: Dataset, learned: np.ndarray) -> tuple[int, ...]:
    """Return the training indices of a contributor's pictures."""
    found = [i for i in learned.tolist() if dataset.train.rows[i].get("contributor") == name]
    if not found:
        raise NotFoundError(f"No training picture is by '{name}'. Take a contributor's name as the dataset has it.")
    return tuple(found)


def ascending(indices: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    """Return indices as a removal set has them: plain numbers, each above the one before."""
    return tuple(sorted(int(i) for i in indices))
