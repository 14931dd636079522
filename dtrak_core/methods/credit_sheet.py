"""The credits of a set of generated pictures as a file: who, with how much and how sure, from what, made how.

JSON holds everything, CSV a line a group, each with the settings that made it; the printable page is credit_page.py.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dtrak_core import store
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.methods import crediting, report, set_words, spreadsheet
from dtrak_core.methods.plans import Scores
from dtrak_core.methods.set_credit import Group, SetCredit
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target

EXAMPLES = 8  # training pictures that are named for each group, the strongest first


@dataclass(frozen=True, eq=False)
class Sheet:
    """Credit with what it is of: `label` is the method's name, `checked` what leaving groups out has shown."""

    credit: SetCredit
    label: str
    scores: Scores
    dataset: Dataset
    checkpoint: Checkpoint
    explained: tuple[Target, ...]
    checked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentences(self) -> list[str]:
        """Return what it says, in words."""
        return set_words.sentences(self.credit, self.label)

    @property
    def terms(self) -> str:
        """Return the line that whoever shows the training pictures has to give with them."""
        return crediting.terms(self.dataset)


def document(sheet: Sheet, date: str = "") -> dict[str, Any]:
    """Return a sheet as plain JSON values; the date is today's where none is given."""
    credit, scores, dataset, checkpoint = sheet.credit, sheet.scores, sheet.dataset, sheet.checkpoint
    return {
        "date": date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        "sentences": sheet.sentences,
        "protocol": set_words.protocol(credit),
        "licence": sheet.terms,
        "dataset": {
            "name": dataset.name,
            "digest": dataset.digest,
            "facts": dataset.facts,
            "pictures": credit.pictures,
        },
        "checkpoint": {"name": checkpoint.name, "digest": checkpoint.digest},
        "method": {
            "id": scores.method,
            "label": sheet.label,
            "damping": scores.damping,
            "effective_rank": scores.effective_rank,
        },
        "by": credit.by,
        "effective_pictures": credit.sources,
        "effective_groups": credit.group_sources,
        "repeated_by": credit.repeated,
        "groups": [_facts(group) | {"examples": examples(group, sheet)} for group in credit.groups],
        "targets": [
            {"id": t.id, "pixels": t.pixels} | ({"prompt": t.prompt} if t.prompt else {}) for t in sheet.explained
        ],
        "checked": dict(sheet.checked),
        "provenance": dict(scores.provenance),
        "versions": store.versions(),
    }


def to_json(sheet: Sheet, date: str = "") -> bytes:
    """Return a sheet as JSON."""
    return report.to_json(document(sheet, date))


def to_csv(sheet: Sheet, date: str = "") -> bytes:
    """Return a line for each group, largest share first; each says where it comes from."""
    told = document(sheet, date)
    columns = ["share", "pictures", "share_of_pictures", "lift", "lift_low", "lift_high", "p", "verdict", "summed"]
    method, made = told["method"], json.dumps(told["provenance"].get("feature_settings", {}), sort_keys=True)
    tail = {
        "targets": " ".join(target["id"] for target in told["targets"]),
        "dataset": told["dataset"]["name"],
        "dataset_digest": told["dataset"]["digest"],
        "checkpoint": told["checkpoint"]["name"],
        "checkpoint_digest": told["checkpoint"]["digest"],
        "method": method["id"],
        "damping": method["damping"],
        "effective_rank": method["effective_rank"],
        "settings": made,
        "date": told["date"],
        "licence": told["licence"],
    }
    lines = [
        [group["name"], *(group[name] for name in columns), "; ".join(map(_source, group["examples"])), *tail.values()]
        for group in told["groups"]
    ]
    return spreadsheet.to_csv([told["by"], *columns, "first_pictures", *tail], lines)


def examples(group: Group, sheet: Sheet) -> list[dict[str, Any]]:
    """Return the training pictures of a group that helped most: index, name, whose, source, share of the credit."""
    means = sheet.credit.means
    total = float(means[means > 0].sum()) or 1.0
    rows = sheet.dataset.train.rows
    return [
        {"index": int(i), "share": float(means[i]) / total}
        | {key: str(rows[i].get(key) or "") for key in ("name", "label", "contributor")}
        | {"source": str(rows[i].get("origin") or "")}
        for i in group.members[:EXAMPLES]
        if means[i] > 0
    ]


def _facts(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "share": group.share,
        "pictures": len(group.members),
        "share_of_pictures": group.set_share,
        "supporting_pictures": group.supporting,
        "lift": group.lift,
        "lift_low": group.low,
        "lift_high": group.high,
        "lifts_again": list(group.repeats),
        "p": group.p,
        "verdict": set_words.VERDICTS[group.verdict],
        "summed": group.summed,
    }


def _source(example: Mapping[str, Any]) -> str:
    named = example["name"] or example["label"] or f"number {example['index']}"
    return f"#{example['index']} {named}" + (f" ({example['source']})" if example["source"] else "")
