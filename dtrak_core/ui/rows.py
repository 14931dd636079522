"""From rankings to the rows of the figure: the same words under a picture wherever it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting, results
from dtrak_core.methods.results import NOT_RANDOM, Entry, Ranking
from dtrak_core.models.targets import Target
from dtrak_core.ui.gallery import UNKNOWN, UNSURE, Picture, Row

TARGET = "target"  # key of the target in the figure; the others are `method/index`


def row(
    ranking: Ranking,
    dataset: Dataset,
    counts: tuple[int, int],
    *,
    about: str = "",
    families: Sequence[str] | None = None,
) -> Row:
    """Return a method's row: first proponents and first opponents, one of each family where families are given.

    Under the title stands `about`, what the method does, and how far its ranking repeats; nothing where that is empty.
    Pictures that do not stand at this end in both halves of the draws are marked, those of which that is unknown, and
    those in whose ranking nothing is random.
    """
    count = len(ranking.values)
    kept = "" if ranking.effective_rank is None else f" Effective rank {ranking.effective_rank:,.0f} of {count:,}."
    if ranking.repeatability is not None:
        kept += f" Repeatability {ranking.repeatability:.2f}: how the ranks by the two halves of the draws correlate."
    else:
        kept += " Certainty not measured." if ranking.random else f" {NOT_RANDOM.capitalize()}: it always ranks so."
    first, last = results.proponents(ranking, counts[0], families), results.opponents(ranking, counts[1], families)
    return Row(
        ranking.label,
        about + kept if about else "",
        [picture(ranking, dataset, entry, "proponent") for entry in first],
        [picture(ranking, dataset, entry, "opponent") for entry in last],
        "No training picture has a positive score here.",
        "No training picture has a negative score here.",
    )


def waiting(label: str) -> Row:
    """Return the row of a method that cannot answer yet."""
    return Row(label, "Not computed for this picture yet.", ())


def target(shown: Target) -> Picture:
    """Return the target as a picture of the figure."""
    return Picture(TARGET, shown.image, f"The picture to explain: {shown.caption}", (shown.caption or shown.id,))


def parse(key: str, methods: Sequence[str]) -> tuple[str, int] | None:
    """Return method and training index of a clicked picture; None for the target or an unknown key."""
    method, _, index = key.partition("/")
    return (method, int(index)) if method in methods and index.isdecimal() else None


def picture(ranking: Ranking, dataset: Dataset, entry: Entry, side: str) -> Picture:
    """Return a training picture with its words; `side` says what its rank counts."""
    facts = dataset.train.rows[entry.index]
    name = facts["name"] or facts["label"]
    by = f", by {facts['contributor']}" if facts["contributor"] else ""
    spoken = (
        f"Training picture {entry.index}: {name}{by}. {ranking.label} {side} {entry.rank}, "
        f"{crediting.percent(entry.share)} of the positive total"
    )
    if entry.alike:
        spoken += f", and {entry.alike} more of its family"
    spoken += {True: "", False: f"; {UNSURE}", None: f"; {UNKNOWN if ranking.random else NOT_RANDOM}"}[entry.steady]
    alike = f"and {entry.alike} alike" if entry.alike else ""
    part = crediting.percent(entry.share).replace(" ", "\N{NO-BREAK SPACE}")  # where the line is full, it stays whole
    lines = (f"#{entry.index} {part}", name, facts["contributor"], alike)
    return Picture(
        f"{ranking.method}/{entry.index}",
        dataset.train.images[entry.index],
        spoken,
        lines,
        pale=entry.steady is False,
        unknown=entry.steady is None and ranking.random,
        fixed=not ranking.random,
    )
