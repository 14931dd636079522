"""What a network is told beside x_t and t: the text of a picture, its class, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Tensors by name, the first axis of each being the pictures: what a text encoder puts out, class numbers, sizes.

    Which names a network wants, its adapter knows. Without tensors it is what an unconditional network is told.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by its name."""
        return self.tensors[name]

    def rows(self, which: slice) -> Condition:
        """Return what some of the pictures are told."""
        return Condition({name: value[which] for name, value in self.tensors.items()})

    def repeated(self, times: int) -> Condition:
        """Return each picture's as often as it has draws, draw by draw."""
        return Condition({name: value.repeat_interleave(times, 0) for name, value in self.tensors.items()})

    def like(self, weight: Tensor) -> Condition:
        """Return it on a weight's device; numbers that are not whole in its format too."""
        return Condition(
            {
                name: value.to(weight) if value.is_floating_point() else value.to(weight.device)
                for name, value in self.tensors.items()
            }
        )


NOTHING = Condition()


def joined(first: Condition, second: Condition) -> Condition:
    """Return what the pictures of both are told, the first's before the second's."""
    return Condition({name: torch.cat([value, second[name]]) for name, value in first.tensors.items()})
