"""The table of an LDS as a file: every number with what it is of, how it was measured, and with which version.

JSON holds everything, CSV a line a method and kind of target, LaTeX the table of a paper, its protocol as comments; the
picture is standing_figure.py.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dtrak_core import store
from dtrak_core.amounts import counted
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.lds import standing_words, standings, subset_models
from dtrak_core.lds.subset_models import LdsSettings, Losses
from dtrak_core.methods import report, spreadsheet
from dtrak_core.models.checkpoints import Checkpoint

COLUMNS = (
    "method", "label", "targets", "timesteps", "lds", "low", "high", "effective_rank", "gradients", "seconds", "count",
    "chance_low", "chance_high", "p",
)  # fmt: skip
_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "\\": "\\textbackslash{}"}
)  # what a label holds that LaTeX would not print


@dataclass(frozen=True, eq=False)
class Sheet:
    """An LDS with what it is of.

    `rows` are those of `standings.rows` and `standings.retraining_rows`; `left_out` says of each method that has none
    why that is.
    """

    dataset: Dataset
    checkpoint: Checkpoint
    settings: LdsSettings
    known: Losses
    rows: Sequence[Mapping[str, Any]]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def kinds(self) -> dict[str, dict[str, Any]]:
        """Return what is known of each kind of target (`standings.kinds`)."""
        return standings.kinds(self.known, self.settings)

    @property
    def facts(self) -> dict[str, str]:
        """Return what was measured and how, in words, see `facts`."""
        return facts(self.dataset, self.checkpoint, self.settings, self.known, self.kinds)

    @property
    def name(self) -> str:
        """Return what its files are called, without an ending."""
        return f"lds-{self.checkpoint.name}".replace("@", "-")


def facts(
    dataset: Dataset,
    checkpoint: Checkpoint,
    settings: LdsSettings,
    known: Losses,
    kinds: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """Return of what an LDS is, and how its losses were measured, by what is told, in words.

    Args:
        dataset: The training set.
        checkpoint: The model whose retraining is predicted.
        settings: What was measured.
        known: The losses that are stored.
        kinds: What `standings.kinds` returns.
    """
    made = [one.manifest for one in subset_models.stored(settings)]
    drawn = f"{settings.sampler.upper()}, {counted(settings.sampling_steps, 'step')}" if "generated" in kinds else ""
    subsets = f"{len(known.subsets)} of the first {settings.num_subsets} of lds-val"
    told = {
        "Dataset": f"{dataset.name} ({dataset.digest})",
        "checkpoint": f"{checkpoint.name} ({checkpoint.digest})",
        "targets": " and ".join(f"{one['count']} {words}" for words, one in kinds.items()),
        "drawn by": drawn,
        "subsets": f"{subsets}, {100 * settings.share:.0f} % of the training set each",
        "models": f"{known.done} of {known.expected}, {counted(settings.train_seeds, 'training seed')} a subset",
        "losses at": f"{counted(settings.num_timesteps, 'timestep')}, {counted(settings.noise_seeds, 'noise')} each",
        "models made": max((one["date"][:10] for one in made), default=""),
        "with version": ", ".join(sorted({one["versions"]["dtrak-studio"] for one in made})),
    }
    return {name: words for name, words in told.items() if words}


def document(sheet: Sheet, date: str = "") -> dict[str, Any]:
    """Return LDS of all methods by kind of target, each with its chance, and the noise floor, as JSON values.

    Of one method alone, its `lds`, `interval`, `by_chance` and `noise_floor` are told by themselves too, of generated
    targets where there are some. The date is today's where none is given; `models_made` is when the last of the losses
    was measured, `versions` are those of the program that writes this.
    """
    known, kinds, rows = sheet.known, sheet.kinds, [dict(row) for row in sheet.rows]
    made = [one.manifest["date"] for one in subset_models.stored(sheet.settings)]
    told: dict[str, Any] = {
        "date": date or datetime.datetime.now(datetime.UTC).date().isoformat(),
        "dataset": {"name": sheet.dataset.name, "digest": sheet.dataset.digest},
        "checkpoint": {"name": sheet.checkpoint.name, "digest": sheet.checkpoint.digest},
        "models": {"finished": known.done, "expected": known.expected},
        "models_made": max(made, default=None),
        "protocol": standings.protocol(known, sheet.settings),
        "targets": kinds,
        "leak": standings.leak(known, sheet.settings),
        "sentences": standing_words.sentences(rows, kinds),
        "rows": rows,
        "left_out": dict(sheet.left_out),
        "settings": sheet.settings.model_dump(mode="json"),
        "versions": store.versions(),
    }
    if len({row["label"] for row in rows}) == 1:
        own = next((row for row in rows if row["targets"] == "generated"), rows[0])
        told |= {"lds": own["lds"], "interval": own["interval"], "by_chance": own["by_chance"]}
        told |= {name: kinds[own["targets"]][name] for name in ("noise_floor", "noise_floor_interval")}
    return told


def to_json(sheet: Sheet, date: str = "") -> bytes:
    """Return a sheet as JSON."""
    return report.to_json(document(sheet, date))


def to_csv(sheet: Sheet, date: str = "") -> bytes:
    """Return a row a method and kind of target; each says of what it is and how it was measured.

    `settings` are those of the method's features, as JSON; the losses' timesteps are `loss_timesteps`, and
    `noise_floor` is the LDS of a perfect attribution.
    """
    told = document(sheet, date)
    measured = {"loss_timesteps" if name == "timesteps" else name: value for name, value in told["protocol"].items()}
    tail = {
        "dataset": told["dataset"]["name"],
        "dataset_digest": told["dataset"]["digest"],
        "checkpoint": told["checkpoint"]["name"],
        "checkpoint_digest": told["checkpoint"]["digest"],
        **measured,
        "sampling": _json(sheet.settings.drawing()),
        "version": told["versions"]["dtrak-studio"],
        "date": told["date"],
    }
    lines = []
    for row in told["rows"]:
        low, high = row["interval"] or (None, None)
        chance = row["by_chance"] or {"low": None, "high": None, "p": None}
        ends = {"low": low, "high": high, "chance_low": chance["low"], "chance_high": chance["high"]}
        own = {**row, **ends, "p": chance["p"]}
        kind, features = told["targets"][row["targets"]], row["feature_settings"]
        floor = [kind["noise_floor"], *(kind["noise_floor_interval"] or (None, None))]
        made = None if features is None else _json(features)
        lines.append([*(own[name] for name in COLUMNS), *floor, made, *tail.values()])
    floors = ["noise_floor", "noise_floor_low", "noise_floor_high"]
    return spreadsheet.to_csv([*COLUMNS, *floors, "settings", *tail], lines)


def to_latex(sheet: Sheet, date: str = "") -> bytes:
    """Return the table as LaTeX (booktabs): a row a method, LDS in percent with its interval by kind of target.

    Comments before it say of what it is, how the losses were measured, and the settings of each method's features.
    """
    told = document(sheet, date)
    made = {row["label"]: _json(row["feature_settings"]) for row in told["rows"] if row["feature_settings"]}
    said = {"Linear datamodeling score": f"D-TRAK Studio {told['versions']['dtrak-studio']}, {told['date']}"}
    comments = [f"% {' '.join(f'{name}: {words}'.split())}" for name, words in (said | sheet.facts | made).items()]
    present = [words for words in standings.KINDS if any(row["targets"] == words for row in told["rows"])]
    lines = [
        "\\begin{tabular}{l" + "r" * (1 + len(present)) + "}",
        "\\toprule",
        " & ".join(["Method", "Timesteps", *(f"LDS, {words} (\\%)" for words in present)]) + " \\\\",
        "\\midrule",
    ]
    for key in dict.fromkeys((row["label"], row["timesteps"]) for row in told["rows"]):
        cells = [key[0].translate(_LATEX), "--" if key[1] is None else str(key[1])]
        for words in present:
            own = [row for row in told["rows"] if (row["label"], row["timesteps"], row["targets"]) == (*key, words)]
            cells.append(_percent(own[0]) if own else "--")
        lines.append(" & ".join(cells) + " \\\\")
    return "\n".join([*comments, *lines, "\\bottomrule", "\\end{tabular}", ""]).encode()


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=False)


def _percent(row: Mapping[str, Any]) -> str:
    value = f"{100 * row['lds']:.1f}"
    if row["interval"] is None:
        return value
    low, high = row["interval"]
    return f"{value} [{100 * low:.1f}, {100 * high:.1f}]"
