"""How long work says how far it is, and how long it will still take.

Core functions call `on_progress(done, total, unit, message)` at least once a second or once a
batch. The caller may raise `Cancelled` from it; finished shards and checkpoints stay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[int, int, str, str], None]
Count = Callable[[int, int], None]  # done, total: where the caller names unit and message
WINDOW = 20.0  # seconds over which the rate of the work is taken
SILENT = 3.0  # seconds of work before its rate says something


def quiet(done: int, total: int, unit: str, message: str) -> None:
    """Say nothing: the progress of a caller who does not follow the work."""


def onward(on_progress: Progress) -> Progress:
    """Return progress that never goes back: of work whose parts may be done with an earlier one."""
    furthest = 0

    def say(done: int, total: int, unit: str, message: str) -> None:
        nonlocal furthest
        furthest = max(furthest, done)
        on_progress(furthest, total, unit, message)

    return say


@dataclass
class Pace:
    """The rate of the work over its recent past, from which the time left is told."""

    marks: deque[tuple[float, int]] = field(default_factory=deque)
    what: tuple[int, str] = (0, "")

    def add(self, now: float, done: int, total: int, unit: str) -> None:
        """Note how far the work is. Another unit or total begins anew."""
        if self.what != (total, unit):
            self.marks.clear()
            self.what = (total, unit)
        if not self.marks or done > self.marks[-1][1]:
            self.marks.append((now, done))
        while len(self.marks) > 3 and now - self.marks[1][0] > WINDOW:
            self.marks.popleft()

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds that the rest takes at the recent rate; None as long as there is no rate."""
        if len(self.marks) < 3 or self.marks[-1][0] - self.marks[0][0] < SILENT:
            return None
        (begin, first), (end, last) = self.marks[0], self.marks[-1]
        rate = (last - first) / (end - begin)
        return max(0.0, (self.what[0] - last) / rate - (now - end))
