"""What a better answer costs: LDS over time, ours and the authors' way; over gradients where no time was measured."""

from __future__ import annotations

import streamlit as st

from dtrak_core.amounts import counted
from dtrak_core.lds import frontier, recipes
from dtrak_core.lds.frontier import Frontier, Spent
from dtrak_core.methods.methods import METHODS
from dtrak_core.ui import panels, plotting, questions
from dtrak_core.ui.benchmark import benchmark_charts, finding_words
from dtrak_core.ui.benchmark.finding_words import Point
from dtrak_core.ui.questions import Question

AUTHORS = ", the authors' way"
SPREAD = {"uniform": "", "low": ", low noise levels"}


def show(question: Question, kind: str) -> None:
    """Draw LDS over what was spent, and say what the chart shows."""
    measured = frontier.find(question.dataset.digest, question.checkpoint.digest)
    if measured is not None:
        _measured(measured, kind)
    else:
        _stored(question, kind)


def _measured(found: Frontier, kind: str) -> None:
    lines: dict[str, list[tuple[float, Point]]] = {}
    for point in found.points:
        if (value := point.lds.get(kind)) is not None:
            place = f"{_draws(point)}, {counted(point.gradients, 'gradient')}"
            lines.setdefault(_name(point), []).append((point.seconds, Point(place, value.lds, value.low, value.high)))
    _drawn(lines, "seconds for the training set and one target")
    theirs = {name: line for name, line in lines.items() if name.endswith(AUTHORS)}
    if theirs:
        st.markdown(panels.plain(finding_words.cheaper(theirs, {n: v for n, v in lines.items() if n not in theirs})))
    st.caption(panels.plain(found.facts["how"]))


def _name(point: Spent) -> str:
    return METHODS[point.method].label + (AUTHORS if point.authors else SPREAD[point.strategy])


def _draws(point: Spent) -> str:
    noises = "" if point.noises == 1 else f", {point.noises} noises of the target"
    return counted(point.timesteps, "timestep") + noises


def _stored(question: Question, kind: str) -> None:
    """Draw what is stored of recipes that differ in their timesteps alone."""
    lines: dict[str, list[tuple[float, Point]]] = {}
    lacking = []
    for method, line in recipes.sweep("timesteps", question.dataset, question.checkpoint).items():
        for recipe in line:
            assert recipe.features is not None  # the sweep is of gradient methods
            if (found := questions.find(recipe, question)) is None:
                lacking.append(recipe)
                continue
            value = questions.evaluated(found, question, kind)
            point = Point(counted(recipe.features.num_timesteps, "timestep"), value.mean, value.low, value.high)
            lines.setdefault(METHODS[method].label, []).append((found.gradients, point))
    if lines:
        _drawn(lines, "gradients, of training pictures and targets")
        told = (finding_words.trend(name, [point for _, point in line]) for name, line in lines.items())
        st.markdown(panels.plain(f"Here, {kind} targets: {'; '.join(told)}."))
    if lacking:
        questions.offer(question, lacking, counted(len(lacking), "missing point"))


def _drawn(lines: dict[str, list[tuple[float, Point]]], axis: str) -> None:
    told = "; ".join(
        f"{name}: {', '.join(f'{point.value:.3f} for {spent:,.0f}' for spent, point in line)}"
        for name, line in lines.items()
    )
    plotting.show(benchmark_charts.costs(lines, axis), key="finding-cost", alt=f"LDS over {axis}: {told}")
    styles = {AUTHORS: "dotted, open", SPREAD["low"]: "dashed"}
    named = [f"{style}: {end[2:]}" for end, style in styles.items() if any(name.endswith(end) for name in lines)]
    if named:
        st.caption(f"Solid: our usual way; {'; '.join(named)}. Lines are 95 % intervals over subsets.")
