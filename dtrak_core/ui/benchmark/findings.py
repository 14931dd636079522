"""The paper's findings as charts that a user drives, each beside the paper's own numbers where they are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.lds import paper, predictions, recipes, standings
from dtrak_core.lds.predictions import Predictions
from dtrak_core.lds.recipes import Recipe, Sweep
from dtrak_core.methods import making
from dtrak_core.methods.gradient_scores import RANK_SHARES
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import checkpoints
from dtrak_core.ui import linked, panels, plotting, questions
from dtrak_core.ui.benchmark import benchmark_charts, chart_places, claims, damping_curves, finding_words, spending
from dtrak_core.ui.benchmark.benchmark_charts import Line
from dtrak_core.ui.questions import Question

OWN, BEST = "method's own", "best by LDS"


@dataclass(frozen=True)
class Finding:
    """One chart: what is turned, and what the paper found."""

    title: str
    axis: str
    found: str


FINDINGS: Mapping[str, Finding] = {
    "functions": Finding(
        "Model output function",
        "",
        "The paper's main finding: there, gradients of the squared output (D-TRAK) predict the loss better than those "
        "of the loss itself (TRAK).",
    ),
    "eta": Finding(
        "From D-TRAK to TRAK",
        "η: 0 is the squared output, 1 is the loss",
        "In the paper (Figure 1) the LDS falls all the way from D-TRAK to TRAK.",
    ),
    "timesteps": Finding(
        "Number of timesteps",
        "timesteps a gradient is averaged over",
        "In the paper TRAK needs many timesteps; D-TRAK with 10 is already above TRAK with 100.",
    ),
    "checkpoints": Finding(
        "Checkpoint",
        "share of the training, %",
        "In the paper (Figure 2) the LDS rises with later checkpoints, and with more timesteps at each.",
    ),
    "dimension": Finding(
        "Projection dimension",
        "numbers kept of each gradient",
        "In the paper (Figure 5) the LDS rises with the dimension until the projection loses nothing that counts.",
    ),
    "damping": Finding(
        "Damping",
        "",
        "The paper took the damping that made each LDS highest. Agreement between both halves of the draws needs no "
        "retraining to choose one.",
    ),
    "mixtures": Finding(
        "A function for each side",
        "",
        "The paper's theory asks for one function on both sides; nothing forbids two.",
    ),
    "weights": Finding(
        "Function and weights",
        "",
        "This network predicts the clean picture, and its training weighs noise levels; the paper's predict the noise, "
        "every level alike. How much of a function's LDS is due to the weights?",
    ),
    "cost": Finding(
        "What a better answer costs",
        "",
        "Gradients are nearly all of the cost: training pictures times the noise levels that each is seen at.",
    ),
}
APART: Mapping[str, Callable[[Question, str], None]] = {"damping": damping_curves.show, "cost": spending.show}


def show(question: Question) -> None:
    """Draw the table of all findings, the choice of one, its controls and its chart."""
    table = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = linked.bound(
            st.selectbox,
            "Finding",
            _offered(question),
            format_func=lambda name: FINDINGS[name].title,
            key="finding",
            width=280,
        )
        kind = questions.kind(question, "finding-targets")
    with table:
        claims.show(question, kind)
    st.caption(FINDINGS[chosen].found)
    if chosen in APART:
        APART[chosen](question, kind)
        return
    damping = linked.bound(
        st.select_slider,
        "Damping",
        [OWN, *(f"{share:.0%}" for share in RANK_SHARES), BEST],
        value=OWN,
        key="finding-damping",
        help="As effective rank: the share of directions that still count. 'Best by LDS' looks at the answer.",
    )
    wanted = recipes.sweep(_sweep(chosen), question.dataset, question.checkpoint)
    found = {name: [(one, questions.find(one, question)) for one in line] for name, line in wanted.items()}
    lacking = [recipe for line in found.values() for recipe, one in line if one is None]
    heights = {
        name: [(recipe, _height(one, question, kind, damping)) for recipe, one in line if one is not None]
        for name, line in found.items()
    }
    if any(heights.values()):
        _chart(chosen, heights, question, kind, damping)
        _told(chosen, heights, question, kind, damping)
    if lacking:
        questions.offer(question, lacking, counted(len(lacking), "missing point"))


def _offered(question: Question) -> list[str]:
    """Return the findings that a model can have, of weights only where its training has some; the known ones first."""
    weighed = checkpoints.prediction_of(question.checkpoint) == "sample"
    return sorted(
        (name for name in FINDINGS if weighed or name != "weights"), key=lambda name: not _known(name, question)
    )


def _known(name: str, question: Question) -> bool:
    """Say whether a finding has a point that need not be computed."""
    if name in APART:
        return True
    lines = recipes.sweep(_sweep(name), question.dataset, question.checkpoint).values()
    return any(questions.find(recipe, question) is not None for line in lines for recipe in line)


def _sweep(name: str) -> Sweep:
    assert name in ("functions", "eta", "checkpoints", "timesteps", "dimension", "mixtures", "weights")
    return name  # type: ignore[return-value]  # narrowed by the assertion


def _height(predicted: Predictions, question: Question, kind: str, damping: str) -> float:
    """Return the LDS at the damping asked for."""
    heights = predictions.curve(predicted, question.known, question.measured, standings.KINDS[kind])
    if damping == OWN or not predicted.shares:
        return float(heights[predicted.place])
    if damping == BEST:
        return float(heights.max())
    return float(heights[[f"{share:.0%}" for share in predicted.shares].index(damping)])


def _chart(
    chosen: str, heights: Mapping[str, list[tuple[Recipe, float]]], question: Question, kind: str, damping: str
) -> None:
    finding = FINDINGS[chosen]
    if chosen in chart_places.COLUMNS:
        names: dict[str, None] = {}
        groups: dict[str, list[float]] = {}
        for train, line in heights.items():
            label = chart_places.line(chosen, train) or kind
            groups[label] = [height for _, height in line]
            for recipe, _ in line:
                output = recipe.target_output if chosen == "mixtures" else recipe.model_output
                names[chart_places.OUTPUT_NAMES[output or "loss"]] = None
        shown = benchmark_charts.columns(list(names), groups)
        _drawn(shown.update_xaxes(title="target's side" if chosen == "mixtures" else ""), chosen, groups)
        return
    turned: dict[str, Line] = {}
    for name, line in heights.items():
        label = METHODS[name].label if name in METHODS else name
        turned[label] = (
            [chart_places.place(chosen, recipe, question) for recipe, _ in line],
            [height for _, height in line],
        )
    shown = benchmark_charts.lines(turned, finding.axis, paper=_paper(kind) if chosen == "timesteps" else None)
    if chosen in ("timesteps", "dimension"):
        places = sorted({place for places, _ in turned.values() for place in places})
        shown.update_xaxes(type="log", tickvals=places, ticktext=[f"{place:,}" for place in places])
    _drawn(shown, chosen, {name: values for name, (_, values) in turned.items()})
    if chosen == "eta":
        _point(heights, question, damping)


def _told(
    chosen: str, heights: Mapping[str, list[tuple[Recipe, float]]], question: Question, kind: str, damping: str
) -> None:
    """Say what the chart shows, from its numbers, with the timesteps and the damping they were taken at."""
    lines, steps, made = [], set(), []
    for name, line in heights.items():
        points = []
        for recipe, height in line:
            found = questions.find(recipe, question)
            assert found is not None  # what has a height was found
            assert recipe.features is not None
            value = questions.evaluated(found, question, kind, _slot(found, question, kind, damping))
            points.append(
                (
                    recipe,
                    finding_words.Point(chart_places.where(chosen, recipe, question), height, value.low, value.high),
                )
            )
            steps.add(recipe.features.num_timesteps)
            made.append(making.of_features(recipes.features_of(recipe) or recipe.features))
        if chosen in chart_places.COLUMNS and points:
            side = f"{chart_places.line(chosen, name)}: " if name else ""
            lines.append(side + finding_words.compare([(point.place, point) for _, point in points]))
        elif points:
            label = METHODS[name].label if name in METHODS else name
            ordered = sorted(points, key=lambda one: chart_places.place(chosen, one[0], question))
            lines.append(finding_words.trend(label, [point for _, point in ordered]))
    counts = f"{min(steps)} to {max(steps)}" if len(steps) > 1 else str(*steps)
    st.markdown(panels.plain(f"Here, {kind} targets, {counts} timesteps, damping {damping}: {'; '.join(lines)}."))
    # What is the same for all points: the chart and the sentence tell the rest.
    first, *others = made
    panels.strip({name: told for name, told in first.items() if all(one.get(name) == told for one in others)})


def _slot(predicted: Predictions, question: Question, kind: str, damping: str) -> int | None:
    """Return the place of a damping among a recipe's, None for its own."""
    if damping == OWN or not predicted.shares:
        return None
    if damping == BEST:
        return int(predictions.curve(predicted, question.known, question.measured, standings.KINDS[kind]).argmax())
    return [f"{share:.0%}" for share in predicted.shares].index(damping)


def _point(heights: Mapping[str, list[tuple[Recipe, float]]], question: Question, damping: str) -> None:
    """Draw the slider of η over the points that are there, and the LDS at it with its interval, damped as the chart."""
    line = next((line for line in reversed(list(heights.values())) if line), [])
    if not line:
        return
    etas = [recipe.eta for recipe, _ in line]
    eta = linked.bound(st.select_slider, "η", etas, key="eta-slider") if len(etas) > 1 else etas[0]
    found = questions.find(next(recipe for recipe, _ in line if recipe.eta == eta), question)
    if found is None:
        return
    for column, words in zip(st.columns(2), questions.kinds(question), strict=False):
        value = questions.evaluated(found, question, words, _slot(found, question, words, damping))
        interval = "" if value.low is None else f"{value.low:+.3f} to {value.high:+.3f}".replace("-", "−")
        told = f"Mean over {counted(len(value.per_target), 'target')}: 1 is best, 0 is chance."
        told += " Below, the 95 % interval over subsets." if interval else ""
        name = f"LDS at η = {eta:g}, {words} targets"
        column.metric(name, f"{value.mean:.3f}", interval, delta_color="off", delta_arrow="off", help=told)


def _paper(kind: str) -> dict[str, Line]:
    found: dict[str, Line] = {}
    for method in recipes.ENDS:
        points = paper.LDS[method]["generated" if kind == "generated" else "held-out"]
        values = [value / 100 for value in points.values()]
        found[f"{METHODS[method].label}, the paper on CIFAR-2"] = (list(points), values)
    return found


def _drawn(shown: Any, key: str, values: Mapping[str, Sequence[float]]) -> None:
    told = "; ".join(f"{name}: {', '.join(f'{value:.3f}' for value in line)}" for name, line in values.items())
    plotting.show(shown, key=f"finding-{key}", alt=f"{FINDINGS[key].title}, LDS: {told}")
