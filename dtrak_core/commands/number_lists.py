"""Training indices as they are typed on the command line: 0-7,12."""

from __future__ import annotations

from dtrak_core.amounts import numbers_of
from dtrak_core.datasets import subsets


def indices_of(only: str, without: str, count: int) -> tuple[int, ...] | None:
    """Return the training indices to train on, None for all of the `count`.

    Those outside are refused: of `without` here, of `only` by the training.
    """
    if not only and not without:
        return None
    left_out = numbers_of(without, "training indices", count) if without else []
    kept = tuple(subsets.complement(count, left_out).tolist())
    return tuple(sorted(set(numbers_of(only, "training indices", count)) - set(left_out))) if only else kept
