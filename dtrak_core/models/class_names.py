"""The classes that a class-conditional network draws: names by number, and what it is told of them. No torch on import.

The number after the last may stand for "no class" (Ho and Salimans 2022, section 3), which training puts in the place
of some labels; only then can a drawing be guided.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dtrak_core.errors import DataError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 12  # names in a sentence


@dataclass(frozen=True)
class Classes:
    """Names by number, and whether the number after the last stands for no class."""

    names: tuple[str, ...]
    null: bool

    def number_of(self, name: str) -> int:
        """Return the number of a class.

        Args:
            name: As it is listed, or one of the names that commas part there (ImageNet's "tench, Tinca tinca"), in
                large or small letters; "" stands for no class.

        Raises:
            SettingsError: If there is no such class.
        """
        if not name:
            if self.null:
                return len(self.names)
            raise SettingsError(
                "This model must be told the class of every picture, and there is one without. Choose a picture with "
                f"a label, of these: {listed(self.names)}."
            )
        found = number(self.names, name)
        if found is None:
            raise SettingsError(f"The model knows no class '{name}'. Choose of these: {listed(self.names)}.")
        return found

    def facts(self) -> dict[str, object]:
        """Return what a run's manifest says of them."""
        return {"classes": list(self.names), "guided": self.null}

    def among(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the classes that labels name, in their order; all where they name none."""
        return named_by(self.names, labels)

    def conditions(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what the network is told of pictures: `class`, whole numbers of shape (B,)."""
        import torch

        return {"class": torch.tensor([self.number_of(name) for name in names], dtype=torch.long)}


def named_by(names: Sequence[str], labels: Iterable[str]) -> tuple[str, ...]:
    """Return those of the names that labels mean, in their order; all where they mean none."""
    found = {number(names, label) for label in set(labels)}
    return tuple(name for i, name in enumerate(names) if i in found) or tuple(names)


def number(names: Sequence[str], name: str) -> int | None:
    """Return the number of a name among those of classes, or of one of its parts; None where there is none.

    Of several it is the last, as in diffusers' DiTPipeline: ImageNet has two kinds of crane.
    """
    exact, parts = _numbers(tuple(names))
    return exact.get(name, parts.get(name.strip().lower()))


@functools.lru_cache(maxsize=8)
def _numbers(names: tuple[str, ...]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of each name, and of each of its parts in small letters."""
    parts = {part.strip().lower(): i for i, name in enumerate(names) for part in name.split(",")}
    return {name: i for i, name in enumerate(names)}, parts


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence, the first of many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def stored(names: Sequence[str]) -> dict[str, Any]:
    """Return the entry of a config.json that names classes, as transformers and DiTPipeline write it; empty without."""
    return {"id2label": {str(i): name for i, name in enumerate(names)}} if names else {}


def of_files(config: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Return the names by number that a config's `id2label` gives; empty where it has none.

    Raises:
        DataError: If its numbers do not run from 0 on.
    """
    given = config.get("id2label") or {}
    try:
        by_number = {int(key): str(name) for key, name in given.items()}
    except (AttributeError, TypeError, ValueError):
        by_number = {-1: ""}
    names = tuple(by_number[i] for i in range(len(by_number)) if i in by_number)
    if len(names) < len(by_number) or not all(names):
        raise DataError(f"id2label of '{source}' does not name the classes 0, 1, 2, ... Correct it, or leave it out.")
    return names


def settled(
    count: int | None, named: Sequence[str], dataset: Sequence[str], source: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes of a network made elsewhere by number, and in words what was assumed.

    Args:
        count: Numbers that the network can be told; None where it takes any.
        named: Names by number from its own files; without them the dataset's are taken.
        dataset: Labels of the dataset by number (`Dataset.classes`).
        source: What the user calls the model.

    Raises:
        DataError: If there are not as many names as numbers, or one fewer, or a label of the dataset is no class.
    """
    names = tuple(named or dataset)
    if not names:
        raise DataError(
            f"'{source}' is drawn from class labels, and the dataset has none. Prepare it with its labels, or write "
            'the names into model_index.json, as "id2label": {"0": "cat", "1": "dog"}.'
        )
    if strange := [label for label in dataset if number(names, label) is None]:
        raise DataError(
            f"'{source}' knows the classes {listed(names)}; the dataset has the label '{strange[0]}' too. Give the "
            "dataset that it was trained on."
        )
    if count is not None and count not in (len(names), len(names) + 1):
        where = "its files name" if named else "the dataset has"
        raise DataError(
            f"'{source}' knows {count} classes, {where} {len(names)}: {listed(names)}. Give the dataset that it was "
            'trained on, or write the names by number into its model_index.json, as "id2label": {"0": "cat"}.'
        )
    assumed = [] if named else [f"its classes are the dataset's labels in this order: {listed(names)}"]
    assumed += ["its last class stands for none"] if count == len(names) + 1 and not named else []
    return names, tuple(assumed)
