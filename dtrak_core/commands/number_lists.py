"""Numbers and ranges as they are typed on the command line: 0-7,12."""

from __future__ import annotations

from dtrak_core.datasets import subsets
from dtrak_core.errors import SettingsError


def indices_of(only: str, without: str, count: int) -> tuple[int, ...] | None:
    """Return the training indices to train on, None for all of the `count`.

    Those outside are refused: of `without` here, of `only` by the training.
    """
    if not only and not without:
        return None
    left_out = numbers_of(without, "training indices", count) if without else []
    kept = tuple(subsets.complement(count, left_out).tolist())
    return tuple(sorted(set(numbers_of(only, "training indices", count)) - set(left_out))) if only else kept


def numbers_of(text: str, what: str, most: int) -> list[int]:
    """Return the numbers that a list of numbers and ranges names: `0-2,7` is 0, 1, 2, 7."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise SettingsError(f"'{text}' is not a list of {what}. Write numbers and ranges, like 0-15 or 3,7,20-23.")
        if len(found) > most or (dash and int(last) - int(first) >= most):
            raise SettingsError(f"'{text}' names more than {most:,} {what}. Take fewer at once.")
        found += range(int(first), int(last if dash else first) + 1)
    return list(dict.fromkeys(found))
