"""LDS over damping, beside how far both halves of the draws agree, which needs no retraining to choose one."""

from __future__ import annotations

import streamlit as st

from dtrak_core.lds import paper, predictions, recipes, standings
from dtrak_core.methods import fader_scores
from dtrak_core.methods.agreement import top_of
from dtrak_core.methods.gradient_scores import RANK_SHARES
from dtrak_core.methods.methods import METHODS
from dtrak_core.ui import plotting, questions
from dtrak_core.ui.benchmark import benchmark_charts
from dtrak_core.ui.benchmark.benchmark_charts import Line
from dtrak_core.ui.questions import Question

AXIS = "effective rank, share of the training pictures"


def show(question: Question, kind: str) -> None:
    """Draw LDS and the halves' agreement over effective rank, and what each choice would cost."""
    turned: dict[str, Line] = {}
    costs, drawn, agreements = [], [], {}
    top = top_of(len(question.dataset.train.rows))
    for method in recipes.ENDS:
        recipe = recipes.usual(question.dataset, question.checkpoint, method)
        found = questions.find(recipe, question)
        if found is None or recipe.features is None:
            continue
        drawn.append(recipe)
        heights = predictions.curve(found, question.known, question.measured, standings.KINDS[kind])
        label = METHODS[method].label
        turned[label] = (list(found.shares), [float(height) for height in heights])
        agreement = fader_scores.mean_agreement(method, recipe.features)
        chosen = fader_scores.chosen_share(method, recipe.features)
        place, how = found.place, "at its own"
        if chosen is not None:
            place, how = found.shares.index(chosen), "where both halves of the draws agree best, at"
        elif agreement is not None:
            most = agreement[1].max()
            how = f"both halves share {most:.0%} of their first {top} at best, too few to choose by; at its own"
        if agreement is not None:
            agreements[label] = (list(RANK_SHARES), [float(value) for value in agreement[1]])
        here, best = float(heights[place]), int(heights.argmax())
        costs.append(
            f"**{label}**: {how} {found.shares[place]:.0%}, the LDS is {here:.3f}; LDS itself would have chosen "
            f"{found.shares[best]:.0%}, with {heights[best]:.3f}: choosing without it costs {heights[best] - here:.3f}."
        )
    if not turned:
        questions.offer(
            question,
            [recipes.usual(question.dataset, question.checkpoint, method) for method in recipes.ENDS],
            "both methods",
        )
        return
    told = "; ".join(f"{name}: {', '.join(f'{value:.3f}' for value in line)}" for name, (_, line) in turned.items())
    plotting.show(benchmark_charts.lines(turned, AXIS), key="finding-damping", alt=f"Damping, LDS: {told}")
    st.markdown("\n\n".join(costs))
    questions.features(drawn)
    if agreements:
        shown = benchmark_charts.lines(agreements, AXIS)
        shown.update_yaxes(title=f"shared of the first {top}")
        plotting.show(shown, key="agreement-curve", alt=f"Part of the first {top} that both halves of the draws name")
        st.caption(
            f"Which part of the first {top} pictures both halves of the draws name, mean over all targets with these "
            "features for which it is stored. It needs no training; where it is highest is the damping that "
            "Attribution starts with."
        )
    theirs: dict[str, Line] = {}
    for method, by_kind in paper.DAMPING.items():
        points = by_kind["generated" if kind == "generated" else "held-out"]
        theirs[METHODS[method].label] = ([place for place, _ in points], [value for _, value in points])
    with st.expander("The paper's own curves"):
        shown = benchmark_charts.lines(theirs, "damping on the paper's scale").update_xaxes(type="log")
        plotting.show(shown, key="paper-damping", alt="LDS over damping in the paper, CIFAR-2, 100 timesteps")
        st.caption(f"{paper.SETTING}, 100 timesteps.")
