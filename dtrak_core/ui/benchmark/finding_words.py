"""What a curve of the Benchmark page shows, in a sentence computed from its numbers. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtrak_core.amounts import duration


@dataclass(frozen=True)
class Point:
    """A point of a curve: where it stands, in words, its LDS, and the ends of its 95 % interval where it has one."""

    place: str
    value: float
    low: float | None
    high: float | None


Costs = Sequence[tuple[float, Point]]  # what was spent, and what came of it


def beyond(one: Point, other: Point) -> bool:
    """Say whether two points differ by more than either's interval; without intervals nothing is beyond."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return not (one.low <= other.value <= one.high) and not (other.low <= one.value <= other.high)


def agrees(first: Point, second: Point) -> str:
    """Return whether the first of two points is the higher one, as the paper has it."""
    if first.low is None or second.low is None:
        return "not clear: the intervals are not known"
    if not beyond(first, second):
        return "not clear: within the intervals"
    return "yes" if first.value > second.value else "no, the other way round"


def spanned(point: Point) -> str:
    """Return a point's LDS with its interval."""
    ends = "" if point.low is None or point.high is None else f" ({point.low:.2f} to {point.high:.2f})"
    return f"{point.value:.2f}{ends}".replace("-0.00", "0.00").replace("-", "−")


def trend(label: str, points: Sequence[Point]) -> str:
    """Return whether a curve rises, falls, has a top or is flat within its intervals, from its first to its last point.

    Args:
        label: What the curve is of.
        points: From left to right, at least one.
    """
    first, last = points[0], points[-1]
    best = max(points, key=lambda point: point.value)
    if len(points) == 1:
        return f"{label}: {at(first)}"
    if beyond(first, best) and beyond(last, best):
        return f"{label} rises from {at(first)} to {at(best)}, then falls to {at(last)}"
    if beyond(first, last):
        return f"{label} {'rises' if last.value > first.value else 'falls'} from {at(first)} to {at(last)}"
    known = None not in (first.low, last.low)
    why = "no more than its interval" if known else "its interval is not known"
    return f"{label} goes from {at(first)} to {at(last)}, {why}"


def compare(points: Sequence[tuple[str, Point]]) -> str:
    """Return which of several bars is highest, and whether it lies beyond the next."""
    ordered = sorted(points, key=lambda one: -one[1].value)
    (best, top), *others = ordered
    if not others:
        return f"{best}: {top.value:.3f}"
    name, next_one = others[0]
    how = "beyond its interval" if beyond(top, next_one) else "within its interval"
    return f"highest is {best} with {top.value:.3f}, {how} above {name} with {next_one.value:.3f}"


def cheaper(theirs: Mapping[str, Costs], ours: Mapping[str, Costs]) -> str:
    """Return what the best of the authors' answers takes, and after what time ours are as good.

    Args:
        theirs: By name, seconds and points, at least one.
        ours: Likewise.
    """
    name, line = max(theirs.items(), key=lambda one: max(point.value for _, point in one[1]))
    spent, best = max(line, key=lambda one: one[1].value)
    told = []
    for own, points in ours.items():
        good = [(seconds, point) for seconds, point in points if point.value >= best.value]
        if not good:
            _, most = max(points, key=lambda one: one[1].value)
            told.append(f"{own} does not reach that ({most.value:.3f} at most)")
        else:
            seconds, point = min(good, key=lambda one: one[0])
            share = f", a {spent / seconds:.0f}th of the time" if spent / seconds >= 3.5 else ""
            told.append(f"{own} has {point.value:.3f} after {duration(seconds)}{share}")
    return f"{name}: {best.value:.3f} at best, after {duration(spent)}. Ours: {'; '.join(told)}."


def at(point: Point) -> str:
    """Return a point in words."""
    return f"{point.value:.3f} at {point.place}".replace("-", "−")
