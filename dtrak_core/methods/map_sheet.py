"""A map of the training pictures as a file: JSON, CSV, a page to print; and which colour a name has on a map."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal, get_args

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting, maps, report, set_credit, spreadsheet
from dtrak_core.methods.maps import Map
from dtrak_core.methods.results import NOT_GIVEN

Fact = Literal["contributor", "label", "family"]
FACTS: tuple[Fact, ...] = get_args(Fact)
# Of the charts' colours eight that are at least 12 apart, and from the grey, in CIELAB as all eyes see them.
COLOURS = ("#2478c4", "#d1495b", "#42a90d", "#8b27de", "#ea6b07", "#006b86", "#fb51b0", "#944861")
OTHER, OTHERS = "#7a7d85", "others"  # of all names that have no colour
_SIDE = 640  # pixels of the map on the page to print


@dataclass(frozen=True, eq=False)
class Sheet:
    """A map and the training set that it is of."""

    map: Map
    dataset: Dataset


def facts_of(dataset: Dataset) -> list[Fact]:
    """Return by which facts of its pictures a dataset can be coloured: those that are not the same for all."""
    return [fact for fact in FACTS if len({row.get(fact) or "" for row in dataset.train.rows}) > 1]


def coloured(dataset: Dataset, fact: Fact) -> tuple[list[str], dict[str, str]]:
    """Return each training picture's name by a fact, and the colours: of the eight largest names, of all others one.

    A family of one picture is among the others, as is what nobody has named.
    """
    given = [str(row.get(fact) or "") for row in dataset.train.rows]
    counts = Counter(name for name in given if name)
    large = sorted((name for name in counts if counts[name] > 1), key=lambda name: (-counts[name], name))
    colours = dict(zip(large, COLOURS, strict=False))
    names = [name if name in colours else OTHERS for name in given]
    return names, colours | ({OTHERS: OTHER} if OTHERS in names else {})


def document(told: Sheet, date: str = "") -> dict[str, Any]:
    """Return a map as plain JSON values; the date is today's where none is given."""
    found, dataset = told.map, told.dataset
    rows = dataset.train.rows
    return {
        "date": date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        "sentences": [found.sentence],
        "licence": crediting.terms(dataset),
        "dataset": {"name": dataset.name, "digest": dataset.digest, "pictures": len(rows)},
        "by": found.settings.space,
        "trustworthiness": found.trust,
        "trustworthiness_of_a_shuffled_map": found.chance,
        "judged": found.judged,
        "neighbours": found.neighbours,
        "perplexity": found.perplexity,
        "settings": found.settings.model_dump(mode="json"),
        "pictures": [
            {"index": index, "x": round(float(x), 5), "y": round(float(y), 5)}
            | {key: str(rows[index].get(key) or "") for key in ("name", *FACTS)}
            for index, (x, y) in zip(found.rows.tolist(), found.xy, strict=True)
        ],
        "versions": store.versions(),
    }


def to_json(told: Sheet, date: str = "") -> bytes:
    """Return a map as JSON."""
    return report.to_json(document(told, date))


def to_csv(told: Sheet, date: str = "") -> bytes:
    """Return a line for each picture; each says where it comes from."""
    one = document(told, date)
    columns = ("index", "x", "y", "name", *FACTS)
    tail = [one["by"], one["trustworthiness"], one["dataset"]["name"], one["dataset"]["digest"], one["date"]]
    lines = [[*(row[name] for name in columns), *tail, one["licence"]] for row in one["pictures"]]
    last = ("by", "trustworthiness", "dataset", "dataset_digest", "date", "licence")
    return spreadsheet.to_csv([*columns, *last], lines)


def to_html(told: Sheet, date: str = "") -> bytes:
    """Return a page to print or send, the map drawn once for each fact that the pictures have."""
    one, dataset = document(told, date), told.dataset
    parts = [
        report.section(f"By {fact}", "The largest eight have a colour.", drawn(told.map, dataset, fact))
        for fact in facts_of(dataset)
    ] or [report.section("All pictures", "They have no names, labels or families.", drawn(told.map, dataset, None))]
    facts = {
        "Licence": one["licence"],
        "Training set": f"{dataset.name}, digest {dataset.digest}",
        "By": maps.NAMES[told.map.settings.space],
        "Settings": ", ".join(f"{name} {value}" for name, value in one["settings"].items() if name != "features"),
        "Versions": ", ".join(f"{name} {value}" for name, value in one["versions"].items()),
        "Date": one["date"],
    }
    title = f"A map of the training pictures of {dataset.name}"
    return report.page(title, f"{len(told.map.rows):,} pictures", one["sentences"], "".join(parts), facts)


def drawn(found: Map, dataset: Dataset, fact: Fact | None) -> str:
    """Return the map as a drawing in HTML, and below it what its colours mean; without a fact all are grey."""
    names, colours = ([OTHERS] * len(dataset.train.rows), {}) if fact is None else coloured(dataset, fact)
    called = set_credit.names_of(dataset.train.rows, "picture")
    dots = "".join(
        f'<circle cx="{_at(x)}" cy="{_at(-y)}" r="4" fill="{colours.get(names[index], OTHER)}">'
        f"<title>{escape(called[index])}</title></circle>"
        for index, (x, y) in zip(found.rows.tolist(), found.xy.tolist(), strict=True)
    )
    legend = " ".join(f'<span style="color:{colour}">●</span> {escape(name)}' for name, colour in colours.items())
    svg = f'<svg viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="Map of the training pictures">{dots}</svg>'
    return f"{svg}<p><small>{legend}</small></p>"


def _at(place: float) -> str:
    return f"{(place * 0.97 + 1) * _SIDE / 2:.1f}"


WRITERS: dict[str, Callable[[Sheet], bytes]] = {".html": to_html, ".csv": to_csv, ".json": to_json}


def writer(path: Path) -> Callable[[Sheet], bytes]:
    """Return what writes a sheet into a file of this name, by its ending.

    Raises:
        SettingsError: If it has another ending.
    """
    return report.writer(path, WRITERS, "a map")


def within(dataset: Dataset, chosen: Sequence[int], fact: Fact, most: int = 3) -> str:
    """Return in words whose the chosen pictures are: the names that most of them have, with their numbers."""
    counts = Counter(str(dataset.train.rows[index].get(fact) or NOT_GIVEN) for index in chosen)
    told = [f"{count:,} {name}" for name, count in counts.most_common(most)]
    rest = len(counts) - most
    return ", ".join(told) + (f" and {rest:,} more" if rest > 0 else "")
