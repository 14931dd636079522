"""What the pages and the command line say about scores: ranks, shares, credit, exports.

Scores of different methods or dampings have different scales, so nothing here compares
sizes across methods: inside one method a score is shown as its share of the positive total

    share_i = s_i / sum_j max(s_j, 0)

and across methods only ranks meet. An example is known by its training index, never by its
place in a list. Knows nothing of how scores are made, and imports neither torch nor Streamlit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dtrak_core.errors import SettingsError
from dtrak_core.methods import spreadsheet

Row = Mapping[str, Any]  # facts of a training example: name, label, contributor, family, ...
NOT_GIVEN = "not given"  # shown where a picture names no contributor
NOT_RANDOM = "nothing random in it"  # in place of a certainty, where nothing was drawn to make the scores
MARKS = {True: "yes", False: "no", None: "not measured"}  # whether an example stands at one end of both halves


@dataclass(frozen=True)
class Ranking:
    """Scores of one method for one target, with the order they give.

    `order` holds training indices from the highest score to the lowest, equal scores by
    index. `positive_total` is the sum of the positive scores (0 if there are none).
    `repeatability` is the correlation of the rankings from either half of the draws at this
    damping, and `steady`, bool (N,), says which examples stand at the same end of both
    (`fader_scores`); both are None where that was not measured, or nothing was drawn at `random`.
    """

    method: str
    label: str
    values: np.ndarray
    order: np.ndarray
    positive_total: float
    damping: float | None = None
    effective_rank: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    repeatability: float | None = None
    steady: np.ndarray | None = None
    random: bool = True


@dataclass(frozen=True)
class Entry:
    """One training example in a ranking: rank counts from 1 at its end of the ranking.

    `alike` counts the others of its family on the same side that it stands for; 0 where families are not folded.
    `steady` says whether it stands at the same end of both halves' rankings; None where that was not measured.
    """

    rank: int
    index: int
    score: float
    share: float
    alike: int = 0
    steady: bool | None = None


@dataclass(frozen=True)
class Credit:
    """What one contributor's pictures add up to.

    `share` is of the positive total (0 to 1), `count` the number of their training
    pictures, `supporting` how many of them score above zero, `set_share` count / N. `low` and `high`
    are the ends of the 95 % interval of the lift (`crediting.credits`), None where there is none; `p` says how often
    chance brings somebody as far from their share on the same side (`crediting.chance`), None where nobody asked.
    """

    contributor: str
    share: float
    count: int
    supporting: int
    set_share: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def lift(self) -> float:
        """Return share of the credit over share of the pictures: 1 is what their number alone would bring."""
        return self.share / self.set_share


def ranking(
    method: str,
    label: str,
    values: np.ndarray,
    damping: float | None = None,
    effective_rank: float | None = None,
    provenance: Mapping[str, Any] | None = None,
    random: bool = True,
) -> Ranking:
    """Order the scores of one method.

    Args:
        method: Id of the method, as in `methods.METHODS`.
        label: Its name for people.
        values: Scores, shape (N,). Larger means more supportive.
        damping: Damping used, in the units of the kernel's eigenvalues.
        effective_rank: What that damping means: directions kept, 0 to N.
        provenance: Settings and digests that made the scores.
        random: Whether anything was drawn to make them.

    Raises:
        SettingsError: If the scores are not one finite number an example.
    """
    flat = np.asarray(values, dtype=np.float64)
    if flat.ndim != 1 or not len(flat) or not np.isfinite(flat).all():
        raise SettingsError(
            f"Scores of '{method}' have shape {flat.shape} or values that are not finite; "
            "one finite number a training example was expected. Compute them again."
        )
    order = np.argsort(-flat, kind="stable")
    total = float(flat[flat > 0].sum())
    made = dict(provenance or {})
    return Ranking(method, label, flat, order, total, damping, effective_rank, made, random=random)


def share(ranking: Ranking, index: int) -> float:
    """Return an example's score over the positive total; 0 where no score is positive."""
    return float(ranking.values[index]) / ranking.positive_total if ranking.positive_total else 0.0


def rank(ranking: Ranking, index: int) -> int:
    """Return the rank of a training example, 1 for the highest score."""
    return int(np.flatnonzero(ranking.order == index)[0]) + 1


def proponents(ranking: Ranking, top: int, families: Sequence[str] | None = None) -> list[Entry]:
    """Return the examples with the highest scores, best first; only positive scores count.

    Args:
        ranking: Ranking over N examples.
        top: Number of entries.
        families: Family of each example, shape (N,), empty where it has none. Where given, only the
            first of each family is listed, with the number of others it stands for.
    """
    return _end(ranking, ranking.order[ranking.values[ranking.order] > 0], top, families)


def opponents(ranking: Ranking, top: int, families: Sequence[str] | None = None) -> list[Entry]:
    """Return the examples with the most negative scores, lowest first; empty if none is negative."""
    backwards = ranking.order[::-1]
    return _end(ranking, backwards[ranking.values[backwards] < 0], top, families)


def _end(ranking: Ranking, side: np.ndarray, top: int, families: Sequence[str] | None) -> list[Entry]:
    """List one end of a ranking from the indices of its side, strongest first."""
    if families is None:
        listed = [(rank, int(i), 0) for rank, i in enumerate(side[: max(top, 0)], 1)]
    else:
        names = [families[i] or f"#{i}" for i in side]
        counts, seen = Counter(names), set[str]()
        listed = []
        for rank, (i, name) in enumerate(zip(side, names, strict=True), 1):
            if name not in seen and len(listed) < top:
                listed.append((rank, int(i), counts[name] - 1))
            seen.add(name)
    return [entry(ranking, rank, i, alike) for rank, i, alike in listed]


def entry(ranking: Ranking, rank: int, index: int, alike: int = 0) -> Entry:
    """Return an example of a ranking as an entry of this rank."""
    return Entry(rank, index, float(ranking.values[index]), share(ranking, index), alike, steady_at(ranking, index))


def steady_at(ranking: Ranking, index: int) -> bool | None:
    """Return whether an example stands at the same end of both halves' rankings; None where that was not measured."""
    return None if ranking.steady is None else bool(ranking.steady[index])


def mark(ranking: Ranking, index: int) -> str:
    """Return the same in a word, or that nothing is random."""
    return MARKS[steady_at(ranking, index)] if ranking.random else NOT_RANDOM


def credit(ranking: Ranking, contributors: Sequence[str]) -> list[Credit]:
    """Add up the positive scores of each contributor, largest share first.

    Args:
        ranking: Ranking over N examples.
        contributors: One name for each training example, shape (N,); empty means unknown.

    Raises:
        SettingsError: If there is not one name a training example.
    """
    if len(contributors) != len(ranking.values):
        raise SettingsError(
            f"{len(contributors):,} contributors were given for {len(ranking.values):,} scores; "
            "give one for each training picture."
        )
    names, which = np.unique([name or NOT_GIVEN for name in contributors], return_inverse=True)
    positive = np.maximum(ranking.values, 0)
    sums = np.bincount(which, weights=positive, minlength=len(names))
    counts = np.bincount(which, minlength=len(names))
    supporting = np.bincount(which, weights=positive > 0, minlength=len(names)).astype(int)
    total = ranking.positive_total or 1.0
    shares = [
        Credit(str(name), float(part) / total, int(count), int(above), int(count) / len(which))
        for name, part, count, above in zip(names, sums, counts, supporting, strict=True)
    ]
    return sorted(shares, key=lambda c: (-c.share, c.contributor))


def family(rows: Sequence[Row], index: int) -> list[int]:
    """Return the training indices of the pictures in the same family, the asked one left out."""
    name = rows[index].get("family", "")
    return [i for i, row in enumerate(rows) if name and row.get("family") == name and i != index]


def document(
    target: Mapping[str, Any], rankings: Sequence[Ranking], rows: Sequence[Row], top: int, terms: str = ""
) -> dict[str, Any]:
    """Return both ends of every ranking, with provenance, as plain JSON values.

    Where the repeatability was measured, each entry says whether it stands at this end in both halves of the draws.

    Args:
        target: What identifies the target.
        rankings: One ranking a method.
        rows: Facts of the training pictures.
        top: Entries at either end.
        terms: The line that whoever shows the training pictures has to give with them.
    """

    def listed(entries: Sequence[Entry]) -> list[dict[str, Any]]:
        return [
            {"rank": e.rank, "index": e.index, "score": e.score, "share": e.share}
            | {key: str(rows[e.index].get(key, "")) for key in ("name", "contributor", "label")}
            | ({} if e.steady is None else {"in_both_halves": e.steady})
            for e in entries
        ]

    return {
        "target": dict(target),
        "licence": terms,
        "methods": {
            one.method: {
                "label": one.label,
                "proponents": listed(proponents(one, top)),
                "opponents": listed(opponents(one, top)),
                "damping": one.damping,
                "effective_rank": one.effective_rank,
                "repeatability": one.repeatability,
                "positive_total": one.positive_total,
                "examples": len(one.values),
            }
            for one in rankings
        },
        "provenance": {one.method: dict(one.provenance) for one in rankings},
    }


def to_json(target: Mapping[str, Any], rankings: Sequence[Ranking], rows: Sequence[Row], terms: str = "") -> bytes:
    """Return the whole ranking of every method as JSON, with provenance; arguments as of `document`."""
    top = max((len(one.values) for one in rankings), default=0)
    told = document(target, rankings, rows, top, terms)
    return json.dumps(told, indent=1, allow_nan=False, ensure_ascii=False).encode()


def to_csv(target: Mapping[str, Any], rankings: Sequence[Ranking], rows: Sequence[Row], terms: str = "") -> bytes:
    """Return one line for each method and training example, best first; each line says where it comes from."""
    columns = ["method", "rank", "index", "score", "share_of_positive", "name", "label", "contributor"]
    columns += ["target", "dataset", "checkpoint", "damping", "effective_rank", "settings"]
    lines: list[list[object]] = []
    for one in rankings:
        made = one.provenance
        settings = json.dumps(made.get("feature_settings", {}), sort_keys=True)
        tail = [target.get("id", ""), made.get("dataset", ""), made.get("checkpoint", "")]
        tail += [one.damping, one.effective_rank, settings]
        for place, index in enumerate(one.order.tolist(), 1):
            facts = [str(rows[index].get(key, "")) for key in ("name", "label", "contributor")]
            marks = [mark(one, index), one.repeatability, terms]
            score = float(one.values[index])
            lines.append([one.method, place, index, score, share(one, index), *facts, *tail, *marks])
    return spreadsheet.to_csv([*columns, "in_both_halves", "repeatability", "licence"], lines)


def credit_csv(ranking: Ranking, credits: Sequence[Credit], target: Mapping[str, Any], terms: str = "") -> bytes:
    """Return the credit table of one method as CSV; each line names method, target, checkpoint and damping."""
    columns = "contributor share_of_positive pictures supporting_pictures share_of_set method target checkpoint".split()
    made = [ranking.method, target.get("id", ""), ranking.provenance.get("checkpoint", "")]
    kept = [ranking.damping, terms]
    lines = [
        [c.contributor, c.share, c.count, c.supporting, c.set_share, *made, c.lift, *kept, c.low, c.high, c.p]
        for c in credits
    ]
    return spreadsheet.to_csv([*columns, "lift", "damping", "licence", "lift_low", "lift_high", "p"], lines)
