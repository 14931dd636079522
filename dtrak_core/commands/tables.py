"""Answers for the terminal: JSON, tables, amounts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro

Json = Annotated[bool, tyro.conf.arg(name="json", help="Answer in JSON.")]
ValueT = TypeVar("ValueT")


def say(value: ValueT, as_json: bool, shown: Callable[[ValueT], str]) -> None:
    """Print an answer on stdout: as JSON, or as `shown` writes it."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) if as_json else shown(value))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as aligned columns under their names; numbers stand at the right. Empty without rows."""
    if not rows:
        return ""
    cells = [[_text(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    right = [all(isinstance(row.get(name), (int, float)) for row in rows) for name in columns]
    lines = [[name.replace("_", " ") for name in columns], ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def facts(values: Mapping[str, Any]) -> str:
    """Return names and values, one a line."""
    width = max((len(name) for name in values), default=0)
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {_text(value)}" for name, value in values.items())


def dataset(found: Mapping[str, Any], left_out: Mapping[str, tuple[int, Sequence[str]]]) -> str:
    """Return the answer of `dataset`: its facts, and below them which files were left out and why."""
    hidden = ("labels", "notes", "left_out", "skipped")
    labels = [label for label in found["labels"] if label]
    shown = {name: value for name, value in found.items() if name not in hidden}
    lines = [facts(shown | {"labels": f"{len(labels):,}: {few(labels, 20)}" if labels else "none"})]
    lines += found["notes"]
    for why, (count, files) in left_out.items():
        lines.append(f"Left out, {count:,} {'file' if count == 1 else 'files'}: {why}\n  {few(files, 50)}")
    return "\n".join(lines)


def printable(text: str) -> str:
    """Return a name or sentence without what a terminal would obey, or break its line at, in place of showing it."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)


def few(names: Sequence[str], most: int) -> str:
    """Return names in one line, at most so many of them, and how many more there are."""
    more = f" and {len(names) - most:,} more (all of them: --json)" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def checkpoint(run: Mapping[str, Any]) -> str:
    """Return the answer of `train`: the run, with its checkpoints in a table."""
    kept = table(run["checkpoints"], ("name", "step", "share", "digest"))
    return f"{facts({name: value for name, value in run.items() if name != 'checkpoints'})}\n\n{kept}"


def ranking(document: Mapping[str, Any]) -> str:
    """Return the answer of `attribute` as one table for each end of each method's ranking."""
    target = document["target"]
    parts = [f"{target['id']} of checkpoint '{target['checkpoint']}', dataset '{target['dataset']}'"]
    for found in document["methods"].values():
        rank = found["effective_rank"]
        damped = f", effective rank {rank:.0f} of {found['examples']:,}" if rank is not None else ""
        repeats = found["repeatability"]
        repeated = f", repeatability {repeats:.2f}" if repeats is not None else ""
        parts.append(f"{found['label']}{damped}{repeated}")
        for end in ("proponents", "opponents"):
            shown = [dict(entry) | {"share": f"{entry['share']:+.1%}"} for entry in found[end]]
            columns = COLUMNS if repeats is None else (*COLUMNS, "in_both_halves")
            parts.append(f"{end.capitalize()}\n{table(shown, columns) or 'none'}")
    return "\n\n".join([*parts, *filter(None, [document.get("note"), document["licence"]])])


COLUMNS = ("rank", "index", "score", "share", "name", "contributor", "label")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return "" if value is None else printable(str(value))
