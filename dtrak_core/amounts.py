"""Amounts in words, as pages and command line say them: counts, durations, sizes, moments."""

from __future__ import annotations

import datetime


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
