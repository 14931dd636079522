"""Beside the choice of methods: what each is, its LDS for this model, and whether it is ready for this picture."""

from __future__ import annotations

import streamlit as st

from dtrak_core.amounts import duration
from dtrak_core.lds import recipes, standing_words
from dtrak_core.methods import costs, method_groups, scores
from dtrak_core.methods.families import family_of
from dtrak_core.methods.methods import METHODS
from dtrak_core.ui import answers, panels, questions
from dtrak_core.ui.answers import Question


def show(question: Question) -> None:
    """Draw the methods by group, a line or two each."""
    asked = questions.ask(question.dataset, question.checkpoint)
    kind = "generated" if question.target.id.startswith("seed:") else "held-out"
    for name, members in method_groups.grouped(METHODS).items():
        st.markdown(f"**{name}.** {method_groups.GROUPS[name]}")
        lines = []
        for method in members:
            one = question.method(method)
            told = [f"**{panels.plain(one.label)}**", _lds(asked, question, method, kind), _state(question, method)]
            lines.append(f"- {' · '.join(part for part in told if part)}  \n{one.summary}")
        st.markdown("\n".join(lines))
    if asked is not None:
        st.caption(
            f"LDS: how well a method predicts {kind} targets of this model by its usual model output, features and "
            "damping, with 95 % intervals; it is left out where others are chosen. See Benchmark."
        )


def _lds(asked: questions.Question | None, question: Question, method: str, kind: str) -> str:
    """Say how well a method predicts targets of a kind; nothing where it is asked for another way than that is of."""
    if asked is None or kind not in questions.kinds(asked):
        return ""
    recipe = recipes.usual(asked.dataset, asked.checkpoint, method)
    if recipe.features not in (None, question.base(method)):
        return ""
    found = questions.find(recipe, asked)
    if found is None or not questions.explains(found, asked, kind):
        return "LDS not measured"
    value = questions.evaluated(found, asked, kind)
    interval = None if value.low is None else (value.low, value.high)
    return f"LDS {standing_words.value({'lds': value.mean, 'interval': interval})}"


def _state(question: Question, method: str) -> str:
    plan = answers.resolve(question, method)
    reason = plan.refused or (family_of(plan.method).lacking(plan.method) if plan.missing else "")
    if reason:
        return f"left out: {panels.plain(reason)}"
    if not plan.missing:
        return "ready"
    cost: costs.Cost = scores.estimate(question.dataset, question.checkpoint, plan.missing, plan.targets)
    low, high = (duration(seconds) for seconds in cost.between)
    return f"not yet: {low}" if low == high else f"not yet: {low} to {high}"
