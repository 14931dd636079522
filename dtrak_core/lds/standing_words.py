"""What the table of an LDS says, in sentences: the best, the reachable, and what is like chance. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SPOKEN_OF = ("d-trak", "trak")  # told of wherever they stand
Row = Mapping[str, Any]  # of `standings.rows`


def sentences(table: Sequence[Row], kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence or two for each kind of target.

    Args:
        table: Rows of `standings.rows` and `standings.retraining_rows`.
        kinds: What `standings.kinds` returns.
    """
    told = []
    for kind, facts in kinds.items():
        own = sorted((row for row in table if row["targets"] == kind), key=lambda row: -row["lds"])
        if own:
            best, count = _best(own, attainable(facts))
            told.append(f"{kind.capitalize()} targets: {best}. {_others(own, count)}".strip())
    return told


def value(row: Row) -> str:
    """Return an LDS with its interval: 0.41 (0.34 to 0.47)."""
    return _within(row["lds"], row["interval"])


def attainable(facts: Mapping[str, Any]) -> str:
    """Return what `standings.kinds` tells of a perfect attribution: 0.87 (0.80 to 0.93); nothing if it is not known."""
    return "" if facts["noise_floor"] is None else _within(facts["noise_floor"], facts["noise_floor_interval"])


def like_chance(row: Row) -> bool:
    """Say whether an LDS lies where 95 % of those of predictions that say nothing do, or below."""
    return row["by_chance"] is not None and row["lds"] <= row["by_chance"]["high"]


def _best(own: Sequence[Row], floor: str) -> tuple[str, int]:
    """Tell of the best, and of the next where it is known how far apart they are; return how many were told of too."""
    best, *others = own
    reachable = f", of a reachable {floor}" if floor else "; what is reachable is not known"
    if like_chance(best):
        return f"even the best here, {best['label']} with {value(best)}, is like chance{reachable}", 1
    told = f"best here is {best['label']} with {value(best)}{reachable}"
    if not others:
        return told, 1
    after = others[0]
    if best["interval"] is None or after["interval"] is None:
        return told, 1
    apart = after["lds"] < best["interval"][0] and best["lds"] > after["interval"][1]
    return f"{told}; {'beyond' if apart else 'not beyond'} the next, {after['label']} with {value(after)}", 2


def _others(own: Sequence[Row], count: int) -> str:
    """Tell of D-TRAK and TRAK where they are not among the first `count`, and of whatever else is like chance."""
    named = [row for row in own[count:] if row["method"] in SPOKEN_OF]
    told = [f"{row['label']}: {value(row)}{', like chance' if like_chance(row) else ''}." for row in named]
    rest = [row["label"] for row in own[1:] if like_chance(row) and row not in named]
    told += [f"Like chance{' too' if any(map(like_chance, named)) else ''}: {', '.join(rest)}."] if rest else []
    return " ".join(told)


def _within(of: float, interval: Sequence[float] | None) -> str:
    ends = "" if interval is None else f" ({_number(interval[0])} to {_number(interval[1])})"
    return f"{_number(of)}{ends}"


def _number(of: float) -> str:
    return f"{of:.2f}".replace("-0.00", "0.00").replace("-", "−")
