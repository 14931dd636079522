"""Credit over a set of pictures in sentences: names, numbers, and what is no more than chance. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dtrak_core.amounts import counted
from dtrak_core.methods.crediting import LEVEL, percent
from dtrak_core.methods.results import NOT_GIVEN
from dtrak_core.methods.set_credit import Group, SetCredit

ABOVE, BELOW, REST = 6, 3, 4  # groups that are named in sentences of their kind
PLURALS = {"contributor": "contributors", "label": "labels", "family": "families", "picture": "pictures"}
WHY = {"contributor": "who made them", "label": "their label", "family": "their family"}
VERDICTS = {
    "more": "above its share",
    "less": "below its share",
    "chance": "no more than chance",
    "unknown": "too few generated pictures",
}


def words(group: Group, quoted: Callable[[str], str] = str) -> str:
    """Return a group's credit in numbers: X: 23 % of the credit with 15 % of the pictures, 1.6 times (1.3 to 1.9)."""
    told = f"{percent(group.share)} of the credit with {percent(group.set_share)} of the pictures, {times(group)}"
    return f"{quoted(group.name)}: {told}"


def times(group: Group) -> str:
    """Return a group's lift with its interval; with two digits where one would not tell them from 1."""
    numbers = [group.lift, *(end for end in (group.low, group.high) if end is not None)]
    digits = 2 if any(abs(each - 1) < 0.1 for each in numbers) else 1
    lift, *ends = (f"{each:.{digits}f}" for each in numbers)
    return f"{lift} times ({ends[0]} to {ends[1]})" if ends else f"{lift} times"


def sentences(credit: SetCredit, label: str, quoted: Callable[[str], str] = str) -> list[str]:
    """Return what a method says of a set, the most important first.

    Args:
        credit: The credit.
        label: The method's name.
        quoted: What is done to a group's name before it stands in a sentence.
    """
    if not credit.sources:
        return [f"By {label}, no training picture has a positive mean score over these pictures: there is no credit."]
    told = [_spread(credit, label)]
    named = [group for group in credit.groups if group.name != NOT_GIVEN]
    if credit.reason:
        return [*told, *(f"{words(group, quoted)}." for group in named[:ABOVE]), f"{credit.reason}."]
    above = sorted((g for g in named if g.verdict == "more"), key=lambda g: (g.set_share - g.share, g.name))
    below = sorted((g for g in named if g.verdict == "less"), key=lambda g: (g.share - g.set_share, g.name))
    told += [f"{words(group, quoted)}." for group in above[:ABOVE]]
    told += _dealt(credit, [*above, *below], quoted)
    most = 0 if credit.by == "picture" else BELOW
    told += [f"{words(group, quoted)}." for group in below[:most]]
    for some, where in ((above[ABOVE:], "above"), (below[most:], "below")):
        if some:
            told.append(
                f"{_count(credit, len(some), 'more ')} {'lies' if len(some) == 1 else 'lie'} {where} the share."
            )
    if rest := [group for group in named if group.verdict == "chance"]:
        few = "; ".join(f"{quoted(group.name)}, {times(group)}" for group in rest[:REST])
        told.append(f"No more than chance: {few}{f'; and {len(rest) - REST:,} more' if len(rest) > REST else ''}.")
    if not credit.signed:
        told.append(f"{label} gives no negative mean score: every picture has some credit, and lifts lie near 1.")
    return told


def protocol(credit: SetCredit) -> str:
    """Return in sentences what credit, intervals and p are of."""
    told = (
        f"Credit: a group's part of the positive mean scores over {counted(credit.targets, 'generated picture')}. "
        "Times: that part over its part of the training pictures. Intervals: 95 %, over resampled generated pictures"
    )
    if credit.repeated:
        told += f"; where {credit.repeated} put a group on either side of 1, it is no more than chance too"
    told += "."
    if any(group.p is not None for group in credit.groups):
        apart = "" if credit.by == "family" else " (families stay together)"
        told += (
            f" p: how often, where the training pictures are dealt out at random{apart}, the farthest of all groups "
            "lies as far from its share."
        )
    return told


def _spread(credit: SetCredit, label: str) -> str:
    over = f"Over {counted(credit.targets, 'generated picture')}, {label} spreads the credit as over"
    told = f"{over} {credit.sources:,.0f} equal training pictures of {credit.pictures:,}"
    if credit.by == "picture":
        return f"{told}."
    return f"{told}, and as over {credit.group_sources:,.1f} equal {PLURALS[credit.by]} of {len(credit.groups):,}."


def _dealt(credit: SetCredit, some: Sequence[Group], quoted: Callable[[str], str]) -> list[str]:
    """Say who stands out from groups that hold pictures at random."""
    known = [group for group in some if group.p is not None]
    if not known:
        return []
    out = [f"{quoted(g.name)} (p = {g.p:.2g})" for g in known if g.p is not None and g.p <= LEVEL]
    if out:
        listed = f"{', '.join(out[:ABOVE])}{f' and {len(out) - ABOVE:,} more' if len(out) > ABOVE else ''}"
        return [f"Farther from the share than any of as many groups of random pictures: {listed}."]
    return [f"Groups of random pictures lie as far from their share: {WHY[credit.by]} need not be why."]


def _count(credit: SetCredit, number: int, before: str = "") -> str:
    return f"{number:,} {before}{PLURALS[credit.by] if number != 1 else credit.by}"
