"""Training indices as they are typed on the command line: 0-7,12."""

from __future__ import annotations

from dtrak_core.amounts import numbers_of
from dtrak_core.datasets import subsets
from dtrak_core.errors import SettingsError


def indices_of(only: str, without: str, count: int) -> tuple[int, ...] | None:
    """Return the training indices to train on, None for all of the `count`.

    Raises:
        SettingsError: If one is not there, or none is left.
    """
    if not only and not without:
        return None
    left_out = numbers_of(without, "training indices", count) if without else []
    kept = subsets.complement(count, left_out).tolist()
    if only:
        wanted = numbers_of(only, "training indices", count)
        if max(wanted) >= count:
            raise SettingsError(f"There is no training picture {max(wanted)}: there are {count:,}, numbered from 0.")
        kept = sorted(set(wanted) - set(left_out))
    if not kept:
        raise SettingsError("No training picture is left to train on. Leave fewer out.")
    return tuple(kept)
