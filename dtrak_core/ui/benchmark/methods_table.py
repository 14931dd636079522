"""Methods on the Benchmark page: the best and the reachable in words, every LDS with its interval, and files."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dtrak_core.amounts import duration
from dtrak_core.lds import lds, paper, recipes, standing_figure, standing_words, standings
from dtrak_core.lds.predictions import Predictions
from dtrak_core.lds.recipes import Recipe
from dtrak_core.lds.standing_sheet import Sheet
from dtrak_core.methods.methods import METHODS
from dtrak_core.ui import keeping, linked, panels, plotting, questions
from dtrak_core.ui.benchmark import benchmark_charts, method_list, taking_along
from dtrak_core.ui.questions import Question

NUMBERS = "all-numbers"


def show(question: Question) -> None:
    """Draw sentences, chart, the methods by group, and files."""
    most = _most(question)
    sentences = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = [str(count) for count in dict.fromkeys((recipes.FEW, most))]
        count = linked.bound(
            st.segmented_control,
            "Timesteps",
            options,
            default=str(most),
            key="table-timesteps",
            required=True,
            help="Noise levels at which each gradient is taken. Methods without gradients have none.",
        )
        squared = linked.bound(
            st.toggle,
            "Square scores first",
            key="table-squared",
            help="Some authors square each score before adding up a subset. This squares all, for a fair comparison.",
        )
    looked, rows = _standing(question, squared, int(count or most))
    lacking = [recipe for recipe, found in looked if found is None]
    kinds = questions.kinds(question)
    if rows:
        told = standing_words.sentences(rows, kinds)
        sentences.markdown("\n".join(f"- {panels.plain(line)}" for line in told))
        rows = sorted(rows, key=lambda row: (-_first(rows, row["label"]), row["targets"]))
        floors = {kind: facts["noise_floor"] for kind, facts in kinds.items()}
        alt = "LDS by method: " + ", ".join(f"{r['label']} {r['targets']} {r['lds']:.3f}" for r in rows)
        short = [row | {"label": row["label"].removesuffix(recipes.SQUARED)} for row in rows]  # the toggle says it
        plotting.show(benchmark_charts.standings(short, floors), key="standings", alt=alt)
        st.caption(
            "Lines are 95 % intervals over subsets (BCa), which methods fitted on the losses have none of: resampled "
            "subsets would keep their fits. A method's grey bar is where 95 % of its values lie when "
            "subsets are permuted, so that its scores say nothing about them. " + _floors(kinds)
        )
        questions.features([recipe for recipe, found in looked if found is not None])
        if leak := standings.leak(question.known, question.measured):
            st.caption(leak)
    reasons = _reasons(question, lacking)
    method_list.show(question, rows, lacking, reasons)
    questions.offer(question, lacking, "the missing methods", keep_scores=not squared)
    if rows:
        _numbers(question, rows, reasons)
    taking_along.show(question)


def ahead(question: Question) -> None:
    """Compute what `show` first draws, and what it draws where scores are squared."""
    questions.kinds(question)
    for squared in (False, True):
        looked, _ = _standing(question, squared, _most(question))
        _reasons(question, [recipe for recipe, found in looked if found is None])


def _most(question: Question) -> int:
    """Return the usual number of timesteps, with which the page opens."""
    usual = recipes.usual(question.dataset, question.checkpoint, "d-trak")
    assert usual.features is not None  # D-TRAK is a gradient method
    return usual.features.num_timesteps


def _standing(
    question: Question, squared: bool, timesteps: int
) -> tuple[list[tuple[Recipe, Predictions | None]], list[dict[str, Any]]]:
    """Return each method's recipe with its predictions, None where they are lacking, and the rows of those known."""
    wanted = [
        recipes.with_timesteps(recipes.usual(question.dataset, question.checkpoint, method, squared), timesteps)
        for method in METHODS
    ]
    looked = [(recipe, questions.find(recipe, question)) for recipe in wanted]
    return looked, _rows(question, [found for _, found in looked if found is not None])


def _reasons(question: Question, lacking: list[Recipe]) -> dict[str, str]:
    """Return why each method that is lacking cannot be computed; of some, a hub is asked, which may take seconds."""
    return {recipe.method: questions.unusable(recipe.method, question.measured) for recipe in lacking}


def _numbers(question: Question, rows: list[dict[str, Any]], reasons: dict[str, str]) -> None:
    """Draw all numbers as a table, once it is asked for: what draws it is large; and offer them as files."""
    every = st.expander("All numbers", key=NUMBERS, on_change="rerun", icon=":material/table:")
    if every.open:
        alt = f"LDS of {question.checkpoint.name} by method and kind of target, with intervals and chance"
        every.dataframe([_cells(row) for row in rows], hide_index=True, column_config=_columns(), alt=alt)
    told = {"dataset": question.dataset, "checkpoint": question.checkpoint, "settings": question.measured}
    left_out = {method: reason or "It has not been computed." for method, reason in reasons.items()}
    sheet = Sheet(**told, known=question.known, rows=rows, left_out=left_out)
    keeping.files(sheet, standing_figure.WRITERS, sheet.name, "lds")


def _rows(question: Question, predicted: list[Predictions]) -> list[dict[str, Any]]:
    rows = _table(" ".join(one.recipe.model_dump_json() for one in predicted), question.key, predicted, question)
    return rows + _retrained(question.key, question) if rows else rows


@st.cache_data(max_entries=16, show_spinner=False)
def _table(names: str, key: str, _found: list[Predictions], _question: Question) -> list[dict[str, Any]]:
    return standings.rows(_found, _question.known, _question.measured)


@st.cache_data(max_entries=8, show_spinner=False)
def _retrained(key: str, _question: Question) -> list[dict[str, Any]]:
    """Return what neither timesteps nor squares change."""
    return standings.retraining_rows(_question.known, _question.measured)


def _first(rows: list[dict[str, Any]], label: str) -> float:
    """Return a method's LDS that rows are ordered by: that of generated targets where it has one."""
    return max((row["targets"] == "generated", row["lds"]) for row in rows if row["label"] == label)[1]


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    interval = row["interval"]
    theirs = paper.LDS.get(row["method"], {}).get(row["targets"], {})
    near = {0: theirs.get(0), 10: theirs.get(10)}.get(row["timesteps"] or 0, theirs.get(100))
    return {
        "Method": row["label"],
        "Targets": row["targets"],
        "LDS": row["lds"],
        "95 % interval": "" if interval is None else _span(*interval),
        "By chance": "" if row["by_chance"] is None else _span(row["by_chance"]["low"], row["by_chance"]["high"]),
        "Gradients": row["gradients"],
        "Time": duration(row["seconds"]) if row["seconds"] else "",
        "Paper": "" if near is None or row["squared"] else f"{near / 100:.3f}",
    }


def _span(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}".replace("-", "−")


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "LDS": number(format="%.3f", help="Mean Spearman correlation of predicted and measured losses over subsets."),
        "By chance": st.column_config.TextColumn(
            help="Where 95 % of this method's values lie when subsets are permuted. Methods that are fitted on the "
            "losses themselves are fitted anew each time.",
        ),
        "Gradients": number(format="localized", help="Gradients of one picture at one noise level."),
        "Time": st.column_config.TextColumn(help="How long the features took where they were computed."),
        "Paper": st.column_config.TextColumn(
            help=f"The paper's value: {paper.SETTING}, at 10 timesteps, or at 100 beside more than 10. "
            "It is of another dataset and a larger model: compare the order, not the size.",
        ),
    }


def _floors(kinds: dict[str, dict[str, Any]]) -> str:
    known = {kind: told for kind, facts in kinds.items() if (told := standing_words.attainable(facts))}
    if not known:
        return (
            "How high an LDS can be here is not known yet: that takes two training seeds for at least "
            f"{lds.LEAST_PAIRS} subsets."
        )
    told = ", ".join(f"{reached} for {kind} targets" for kind, reached in known.items())
    return f"A perfect attribution could reach about {told}: losses differ between training seeds too."
