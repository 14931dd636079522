"""The table of an LDS in sentences: the best, the reachable, and what is like chance."""

from __future__ import annotations

from typing import Any

from dtrak_core.lds import standing_words
from dtrak_core.methods import method_groups
from dtrak_core.methods.methods import METHODS


def row(method: str, lds: float, width: float | None = 0.05, chance: float | None = 0.08) -> dict[str, Any]:
    ends = None if width is None else [lds - width, lds + width]
    by_chance = None if chance is None else {"low": -chance, "high": chance, "p": 0.5, "std": 0.04}
    shared = {"targets": "generated", "interval": ends, "by_chance": by_chance}
    return {"method": method, "label": METHODS[method].label, "lds": lds, **shared}


def told(*rows: dict[str, Any], floor: float | None = 0.87) -> str:
    known = {"noise_floor": floor, "noise_floor_interval": None if floor is None else [floor - 0.07, floor + 0.06]}
    unknown = {"noise_floor": None, "noise_floor_interval": None}
    (line,) = standing_words.sentences(rows, {"generated": known, "held-out": unknown})
    return line


def test_the_best_the_reachable_and_what_is_like_chance() -> None:
    every = [row("trak", 0.051), row("das", 0.58), row("d-trak", 0.405), row("gas", -0.02), row("nda", 0.42)]
    assert told(*every) == (
        "Generated targets: best here is DAS with 0.58 (0.53 to 0.63), of a reachable 0.87 (0.80 to 0.93); beyond "
        "the next, Patches (NDA) with 0.42 (0.37 to 0.47). D-TRAK: 0.41 (0.36 to 0.46). TRAK: 0.05 (0.00 to 0.10), "
        "like chance. Like chance too: GAS."
    )


def test_what_is_not_sure_is_not_said() -> None:
    assert "not beyond the next, DAS with 0.39" in told(row("d-trak", 0.41), row("das", 0.39))
    only = told(row("d-trak", 0.41, None), row("trak", 0.01, None), floor=None)
    assert only == (
        "Generated targets: best here is D-TRAK with 0.41; what is reachable is not known. TRAK: 0.01, like chance."
    )
    assert told(row("d-trak", 0.41, None), row("gas", 0.01, None)).endswith(
        " of a reachable 0.87 (0.80 to 0.93). Like chance: GAS."
    )
    assert "even the best here, TRAK with 0.05 (0.00 to 0.10), is like chance" in told(row("trak", 0.05))
    assert "chance" not in told(row("d-trak", 0.41), row("trak", 0.01, chance=None))


def test_the_two_methods_are_told_of_wherever_they_stand() -> None:
    without = [row("das", 0.5, None), row("d-trak", 0.41, None), row("trak", 0.01, None)]  # fewer than 8 subsets
    assert told(*without, floor=None) == (
        "Generated targets: best here is DAS with 0.50; what is reachable is not known. D-TRAK: 0.41. TRAK: 0.01, like "
        "chance."
    )
    assert told(row("das", 0.07), row("trak", 0.05), floor=None).endswith(" TRAK: 0.05 (0.00 to 0.10), like chance.")


def test_every_method_is_in_one_group() -> None:
    groups = method_groups.grouped(METHODS)
    assert sorted(name for members in groups.values() for name in members) == sorted(METHODS)
    assert set(groups) <= set(method_groups.GROUPS)
    assert groups["Influence"] == ["ek-fac"]
    assert "tracin-cp" in groups["Gradients, plain"]
    assert "journey-trak" in groups["Gradients, damped"]
