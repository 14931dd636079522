"""Below the figure: credit by contributor, the curve of all scores, files to keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dtrak_core.methods import crediting, figure, making, results
from dtrak_core.methods.results import Ranking
from dtrak_core.models import targets
from dtrak_core.ui import charts, linked, panels, plotting
from dtrak_core.ui.answers import Question
from dtrak_core.ui.attribution import credit_tab, fader_panel
from dtrak_core.ui.leads import FADERS

CREDIT, CURVE, KEEP = "Credit by contributor", "All scores", "Keep and share"


def tabs(
    question: Question, rankings: Sequence[Ranking], counts: tuple[int, int], families: Sequence[str] | None
) -> None:
    """Draw the details of the rankings, one tab at a time."""
    credit, curve, faders, keep = linked.bound(st.tabs, [CREDIT, CURVE, FADERS, KEEP], key="details", on_change="rerun")
    if credit.open:
        with credit:
            names = any(row["contributor"] for row in question.dataset.train.rows)
            credit_tab.show(question, _one(rankings, "credit-method") if names else None, _facts(question))
    if curve.open:
        with curve:
            _curve(question, rankings, counts, families)
    if faders.open:
        with faders:
            fader_panel.show(question, counts, families)
    if keep.open:
        with keep:
            _keep(question, rankings, counts, families)


def _one(rankings: Sequence[Ranking], key: str) -> Ranking:
    """Draw the choice of a method where there are several; return its ranking."""
    labels = {one.method: one.label for one in rankings}
    chosen = rankings[0].method
    if len(rankings) > 1:
        chosen = linked.bound(
            st.segmented_control, "Method", list(labels), default=chosen, format_func=labels.get, key=key, required=True
        )
    return next((one for one in rankings if one.method == chosen), rankings[0])


def _curve(
    question: Question, rankings: Sequence[Ranking], counts: tuple[int, int], families: Sequence[str] | None
) -> None:
    one = _one(rankings, "curve-method")
    names = [row["name"] or row["label"] for row in question.dataset.train.rows]
    first, last = results.proponents(one, counts[0], families), results.opponents(one, counts[1], families)
    positive = int((one.values > 0).sum())
    st.write(
        f"{positive:,} of {len(one.values):,} training pictures have a positive score. "
        f"The {len(first)} shown hold {crediting.percent(sum(e.share for e in first))} of it."
    )
    alt = f"{one.label} scores of {len(one.values):,} training pictures from highest to lowest, {positive:,} above zero"
    plotting.show(charts.score_curve(one, first, last, names), key="curve", alt=alt)
    st.caption("Every method and damping has its own scale of scores: compare ranks, not sizes.")


def _keep(
    question: Question, rankings: Sequence[Ranking], counts: tuple[int, int], families: Sequence[str] | None
) -> None:
    st.write(
        "The address of this page opens the same view again. The files hold every score with its settings, "
        "contributors and licence, and say which pictures are uncertain."
    )
    target, listed, name = _facts(question), question.dataset.train.rows, credit_tab.file_of(question)
    terms = crediting.terms(question.dataset)
    with st.container(horizontal=True):
        st.download_button(
            "Scores as CSV",
            lambda: results.to_csv(target, rankings, listed, terms),
            f"scores-{name}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="scores-csv",
        )
        st.download_button(
            "Scores as JSON",
            lambda: results.to_json(target, rankings, listed, terms),
            f"scores-{name}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
            key="scores-json",
        )
        st.download_button(
            "Figure as PNG",
            lambda: _png(question, rankings, counts, families),
            f"figure-{name}.png",
            "image/png",
            icon=":material/image:",
            on_click="ignore",
            key="figure-png",
        )


def _png(
    question: Question, rankings: Sequence[Ranking], counts: tuple[int, int], families: Sequence[str] | None
) -> bytes:
    shown = question.target
    made = {
        "target": _facts(question),
        "methods": {one.method: dict(one.provenance) for one in rankings},
    }
    split, terms, title = question.dataset.train, crediting.terms(question.dataset), shown.caption or shown.id
    return figure.draw(shown.image, title, rankings, split.images, counts, made, families, split.rows, terms)


def _facts(question: Question) -> dict[str, Any]:
    return targets.facts(question.target, question.dataset.name, question.checkpoint.name)


def provenance(question: Question, rankings: Sequence[Ranking]) -> None:
    """Show under which settings the rankings were made."""
    about = question.checkpoint
    facts: dict[str, Any] = {
        "Dataset": f"{question.dataset.name} ({question.dataset.digest})",
        "checkpoint": f"{about.name} ({about.digest})",
        "target": question.target.id,
    }
    for one in rankings:
        if one.damping is not None:
            facts[f"{one.label} damping"] = f"{one.damping:.3g}"
    panels.strip(facts | making.together({one.label: making.of_scores(one.provenance) for one in rankings}))
