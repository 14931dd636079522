"""Amounts in words, as pages and command line say them: counts, durations, sizes, moments, lists of numbers."""

from __future__ import annotations

import datetime
from collections.abc import Collection

from dtrak_core.errors import SettingsError, shortened

LARGEST = 2**31 - 1  # number that is taken from a text: no seed is above it, and no count is near it


def moment(timestamp: float) -> str:
    """Return a moment in local time, to the second."""
    return datetime.datetime.fromtimestamp(timestamp).isoformat(sep=" ", timespec="seconds")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 picture, 2 pictures."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """Return a duration in words: 40 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(number: float) -> str:
    """Return an amount of bytes in decimal units: 640 kB, 1.4 MB."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def whole(text: str, most: int = LARGEST) -> int | None:
    """Return the whole number that a text is, None where it is none, or not from 0 to `most`."""
    if not text.isdecimal() or len(text) > 18:  # Python refuses to read thousands of digits
        return None
    number = int(text)
    return number if number <= most else None


def numbers_of(text: str, what: str, most: int) -> list[int]:
    """Return the numbers that a list of numbers and ranges names: `0-2,7` is 0, 1, 2, 7.

    Raises:
        SettingsError: If it is no such list, or names more than `most` numbers, or one above `LARGEST`.
    """
    given, found = shortened(text), dict[int, None]()  # in order, each once
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = first, last if dash else first
        begin, end = map(whole, ends)
        if begin is None or end is None or end < begin:
            if all(one.isdecimal() for one in ends) and None in (begin, end):
                raise SettingsError(f"'{given}' names {what} above {LARGEST:,}. Take smaller numbers.")
            raise SettingsError(f"'{given}' is not a list of {what}. Write numbers and ranges, like 0-15 or 3,7,20-23.")
        if end - begin < most:
            found |= dict.fromkeys(range(begin, end + 1))
        if end - begin >= most or len(found) > most:
            raise SettingsError(f"'{given}' names more than {most:,} {what}. Take fewer at once.")
    return list(found)


def ranges_of(numbers: Collection[int]) -> str:
    """Return numbers as `numbers_of` reads them, in ascending order: 0, 1, 2, 7 is `0-2,7`."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)
