"""The methods by group: what each is, its LDS here, and whether it is ready, how long it takes, or why it is left out.

Drawn as a table of HTML, which a browser shows at once and a screen reader reads as a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from dtrak_core.amounts import duration
from dtrak_core.lds import datamodels, standing_words
from dtrak_core.lds.recipes import Recipe
from dtrak_core.methods import method_groups
from dtrak_core.methods.methods import METHODS
from dtrak_core.ui import questions
from dtrak_core.ui.questions import Question

RETRAINED = {
    "empirical-influence": "The mean loss of models without a picture, less that of models with it.",
    "datamodel": "A linear model of the loss, fitted by ridge regression.",
}
STYLE = """<style>
.methods { border-collapse: collapse; width: 100%; font-size: 0.875rem; line-height: 1.4; }
.methods caption { text-align: left; padding: 0.9rem 0 0.3rem; }
.methods th, .methods td { text-align: left; vertical-align: top; padding: 0.4rem 0.75rem 0.4rem 0; }
.methods tr { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
.methods .of { width: 9.5rem; }
.methods .state { width: 6rem; }
.methods p { margin: 0; font-size: inherit; font-weight: 400; }
.methods.told th, .methods.told td { min-width: 6rem; }
.methods .chance { display: block; font-style: italic; }
@media (max-width: 700px) {
  .methods thead { position: absolute; clip-path: inset(50%); }
  .methods tr, .methods th, .methods td { display: block; width: auto; }
  .methods th, .methods td { padding: 0.1rem 0; }
  .methods tr { padding: 0.4rem 0; }
  .methods td.of, .methods td.state { display: inline-block; padding-right: 0.75rem; }
  .methods td[data-of]::before { content: attr(data-of) ": "; }
}
</style>"""


def show(
    question: Question, rows: Sequence[Mapping[str, Any]], lacking: Sequence[Recipe], reasons: Mapping[str, str]
) -> None:
    """Draw all groups.

    Args:
        question: The LDS.
        rows: Rows of its table, in the order in which methods of a group are told.
        lacking: Recipes of the methods that have none.
        reasons: Why some of those cannot be computed, by method; empty where they can.
    """
    st.header("The methods")
    kinds = list(questions.kinds(question))
    order = list(dict.fromkeys(row["method"] for row in rows))
    times = {one.method: _time(question, one) for one in lacking if not reasons[one.method]}
    drawn = []
    for name, line in method_groups.GROUPS.items():
        if name == method_groups.RETRAINED:
            members = [method for method in order if method in datamodels.METHODS]
        else:
            members = method_groups.grouped(METHODS).get(name, [])
        members.sort(key=lambda method: order.index(method) if method in order else len(order))
        if members:
            lines = "".join(
                _line(method, rows, kinds, times.get(method, ""), reasons.get(method, "")) for method in members
            )
            drawn.append(_head(name, line, kinds) + f"<tbody>{lines}</tbody></table>")
    st.html(STYLE + "".join(drawn))


def _head(name: str, line: str, kinds: Sequence[str]) -> str:
    columns = "".join(f'<th scope="col" class="of">LDS, {kind}</th>' for kind in kinds)
    return (
        f'<table class="methods"><caption><b>{name}.</b> {line}</caption>'
        f'<thead><tr><th scope="col">Method</th>{columns}<th scope="col" class="state">Here</th></tr></thead>'
    )


def _line(method: str, rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], time: str, reason: str) -> str:
    own = {row["targets"]: row for row in rows if row["method"] == method}
    known = METHODS.get(method)
    label = known.label if known else next(iter(own.values()))["label"]
    what = known.summary if known else RETRAINED.get(method, "")
    cells = "".join(f'<td class="of" data-of="{kind}">{_value(own.get(kind))}</td>' for kind in kinds)
    why = f"<p>Left out: {escape(reason)}</p>" if reason else ""
    state = "left out" if reason else f"not yet: {time}" if time else "ready"
    return (
        f'<tr><th scope="row">{escape(label)}<p>{escape(what)}</p>{why}</th>{cells}<td class="state">{state}</td></tr>'
    )


def _value(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    chance = '<span class="chance">like chance</span>' if standing_words.like_chance(row) else ""
    return f"{standing_words.value(row)}{chance}"


def _time(question: Question, recipe: Recipe) -> str:
    found = questions.costing(question, [recipe])
    low, high = (duration(seconds) for seconds in found.between)
    return low if low == high else f"{low} to {high}"
