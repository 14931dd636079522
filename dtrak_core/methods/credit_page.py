"""The credits of a set as files: CSV, JSON, and one HTML page to print or send: no scripts, pictures inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from dtrak_core.amounts import counted
from dtrak_core.methods import credit_sheet, crediting, report
from dtrak_core.methods.credit_sheet import Sheet

TABLE, GALLERIES, TARGETS = 200, 40, 64  # groups in the table, groups with pictures, generated pictures


def to_html(sheet: Sheet, date: str = "") -> bytes:
    """Return the page; the date is today's where none is given."""
    told = credit_sheet.document(sheet, date)
    title = f"Credits for {counted(len(sheet.explained), 'picture')} by {sheet.checkpoint.name}"
    checked = (
        f"<h2>Checked by leaving out</h2><p>{escape(said)}</p>" if (said := told["checked"].get("sentence")) else ""
    )
    summed = f"{_table(told)}<p><small>{escape(told['protocol'])}</small></p>{checked}"
    body = f"{summed}{_galleries(told, sheet)}{_targets(sheet)}"
    under = f"Training set {sheet.dataset.name}, by {told['by']}, {sheet.label}, {told['date']}"
    return report.page(title, under, told["sentences"], body, _made(told))


def _table(told: Mapping[str, Any]) -> str:
    groups = told["groups"]
    most = max((group["share"] for group in groups), default=0.0) or 1.0
    names = (told["by"].capitalize(), "Credit", "Of the pictures", "Times", "95 % interval", "p", "")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(_line(group, 100 * group["share"] / most) for group in groups[:TABLE])
    left = f" The first {TABLE} of {len(groups):,}; CSV and JSON hold all." if len(groups) > TABLE else ""
    caption = f"Share of the credit beside share of {told['dataset']['pictures']:,} training pictures.{left}"
    return f'<div class="wide"><table><caption>{caption}</caption><tr>{head}</tr>{rows}</table></div>'


def _line(group: Mapping[str, Any], width: float) -> str:
    numbers = (
        crediting.percent(group["share"]),
        crediting.percent(group["share_of_pictures"]),
        f"{group['lift']:.2f}",
        _interval(group),
        _p(group["p"]),
        escape(group["verdict"]),
    )
    bar = f'<span class="bar" style="width:{width:.1f}%"></span>'
    return f"<tr><td>{escape(group['name'])}{bar}</td>{''.join(f'<td>{each}</td>' for each in numbers)}</tr>"


def _interval(group: Mapping[str, Any]) -> str:
    return "" if group["lift_low"] is None else f"{group['lift_low']:.2f} to {group['lift_high']:.2f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _galleries(told: Mapping[str, Any], sheet: Sheet) -> str:
    parts = []
    for group in told["groups"][:GALLERIES]:
        if group["examples"]:
            shown = report.pictures([_example(one, sheet) for one in group["examples"]])
            pictures = counted(group["pictures"], "training picture")
            title = f"{escape(group['name'])} <small>{crediting.percent(group['share'])}, {pictures}</small>"
            parts.append(f"<section><h3>{title}</h3>{shown}</section>")
    if not parts:
        return ""
    lead = "The training pictures of each that helped most, with their part of all credit and where they come from."
    return f"<h2>Whose pictures</h2><p>{lead}</p>{''.join(parts)}"


def _example(one: Mapping[str, Any], sheet: Sheet) -> tuple[np.ndarray, str, list[str]]:
    named = one["name"] or one["label"] or f"number {one['index']}"
    lines = [f"#{one['index']} {named}", one["contributor"], one["source"], crediting.percent(one["share"])]
    return sheet.dataset.train.images[one["index"]], f"Training picture {one['index']}: {named}", lines


def _targets(sheet: Sheet) -> str:
    shown = sheet.explained[:TARGETS]
    figures = report.pictures([(t.image, f"Generated picture {t.caption or t.id}", [t.caption or t.id]) for t in shown])
    left = f"<p>The first {TARGETS} of {len(sheet.explained):,}.</p>" if len(sheet.explained) > TARGETS else ""
    return f"<h2>The generated pictures</h2>{left}{figures}"


def _made(told: Mapping[str, Any]) -> dict[str, Any]:
    method, features = told["method"], told["provenance"].get("feature_settings", {})
    return {
        "Licence": told["licence"],
        "Training set": f"{told['dataset']['name']}, digest {told['dataset']['digest']}",
        "Checkpoint": f"{told['checkpoint']['name']}, digest {told['checkpoint']['digest']}",
        "Method": f"{method['label']} ({method['id']})",
        "Damping": "" if method["damping"] is None else f"{method['damping']:.4g}",
        "Effective rank": "" if method["effective_rank"] is None else f"{method['effective_rank']:,.0f}",
        "Features": ", ".join(f"{name} {value}" for name, value in sorted(features.items())),
        "Generated pictures": " ".join(f"{one['id']} ({one['pixels']})" for one in told["targets"]),
        "Versions": ", ".join(f"{name} {value}" for name, value in told["versions"].items()),
        "Date": told["date"],
    }


WRITERS: dict[str, Callable[[Sheet], bytes]] = {
    ".html": to_html,
    ".csv": credit_sheet.to_csv,
    ".json": credit_sheet.to_json,
}


def writer(path: Path) -> Callable[[Sheet], bytes]:
    """Return what writes a sheet into a file of this name, by its ending.

    Raises:
        SettingsError: If it has another ending.
    """
    return report.writer(path, WRITERS, "credits")
