"""Below the table of methods: one target opened, and how methods agree."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dtrak_core import statistics
from dtrak_core.amounts import counted
from dtrak_core.lds import predictions, recipes, standings, subset_models
from dtrak_core.lds.recipes import Recipe
from dtrak_core.methods import agreement
from dtrak_core.methods.agreement import Rows
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import targets
from dtrak_core.ui import example, gallery, linked, panels, plotting, questions
from dtrak_core.ui.benchmark import benchmark_charts
from dtrak_core.ui.gallery import Picture
from dtrak_core.ui.questions import Question

LISTED = 12  # pictures in a row
TARGET = "benchmark-target"  # address parameter: the target that is opened
# On a telephone the matrix's numbers would be four pixels high: its colours, and the words below it, say enough.
NARROW = "<style>@media (max-width: 700px) { .st-key-agreement-matrix .heatmap-label { display: none } }</style>"


def one_target(question: Question) -> None:
    """Draw the choice of a target and a method, and predicted against measured losses."""
    kind = questions.kind(question, "target-kind")
    begins = f"{standings.KINDS[kind]}:"
    names = [name for name in question.measured.targets if name.startswith(begins) and question.known.counts(name)]
    found = _pictures(question)
    chosen = st.query_params.get(TARGET, names[0])
    chosen = chosen if chosen in names else names[0]
    for asked in linked.said(TARGET):
        if asked != chosen:
            linked.wrong("Target", asked, chosen)
    clicked = gallery.grid(
        "benchmark_targets",
        "Targets",
        [
            Picture(name, found[name], f"Target {targets.in_words(name)}", ())
            for name in gallery.page(names, f"benchmark-page-{kind}", names.index(chosen))
        ],
        chosen=chosen,
        cell=40,
        action="choose",
    )
    if clicked in names and clicked != chosen:
        st.query_params[TARGET] = clicked
        st.rerun()
    known = _there(question)
    if not known:
        _uncomputed("No method has been computed for these targets yet.")
        return
    method = _method("Method", list(known), "target-method")
    one = known[method]
    if chosen not in one.targets:
        label, only = METHODS[method].label, METHODS[method].generated_only
        st.info(
            panels.plain(f"{label} {'explains only generated pictures' if only else f'has no scores of {chosen}'}.")
        )
        return
    ranks = one.ranks[one.place][question.known.subsets, one.targets.index(chosen)]
    losses = question.known.mean[:, question.measured.targets.index(chosen)]
    correlation = float(statistics.spearman(ranks[:, None], losses[:, None])[0])
    picture, chart = st.columns([1, 3])
    with picture:
        words = targets.in_words(chosen)
        gallery.grid("benchmark_target", "Target", [Picture(chosen, found[chosen], words, (words,))], cell=140)
        told = f"Of predicted and measured ranks over {counted(len(losses), 'subset')}: 1 is best, 0 is chance."
        st.metric("Spearman correlation", f"{correlation:+.3f}".replace("-", "−"), help=told)
    with chart:
        alt = f"Predicted and measured loss of {chosen} by {METHODS[method].label}, correlation {correlation:.3f}"
        shown = benchmark_charts.scatter(ranks, losses, question.known.subsets)
        plotting.show(shown, key="target-scatter", alt=alt)
    st.caption(
        "Each point is a subset: its rank by the loss that the scores of its pictures predict, and the loss measured "
        "with the models trained on it."
    )
    questions.features([one.recipe])


def agreeing(question: Question) -> None:
    """Draw how methods agree for all targets, where two of them differ, and which pictures stand in many lists."""
    held = {method: stored for method in METHODS if (stored := _scores(method, question)) is not None}
    if len(held) < 2:
        _uncomputed("Agreement needs the scores of two methods, and they are not computed yet.")
        return
    kind = questions.kind(question, "agreement-kind")
    values: dict[str, Rows] = {}
    for method, (names, scores) in held.items():
        begins = f"{standings.KINDS[kind]}:"
        own = [i for i, name in enumerate(names) if name.startswith(begins) and question.known.counts(name)]
        values[method] = tuple(names[i] for i in own), scores[own]
    partners = {
        method: [m for m in values if m != method and set(values[m][0]) & set(values[method][0])] for method in values
    }
    values = {method: values[method] for method, others in partners.items() if others}
    if not values:
        _uncomputed(
            f"Agreement needs the scores of two methods for the same {kind} targets; they are not computed yet."
        )
        return
    top = agreement.top_of(len(question.dataset.train.rows))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = linked.bound(
            st.segmented_control,
            "Measure",
            ["rank correlation", f"shared of the first {top}"],
            default="rank correlation",
            key="agree-measure",
            required=True,
        )
        clean = linked.bound(
            st.toggle,
            "Remove what all targets share",
            key="agree-clean",
            help="Divides each target's scores by their spread and subtracts each training picture's mean over the "
            "targets. What is left is what it does for one target more than for the others.",
        )
    shared = measure != "rank correlation"
    # Features that become the usual ones bring other scores of the same method and targets.
    looked_at = {method: (_usual(method, question).model_dump_json(), names) for method, (names, _) in values.items()}
    matrix = _matrix(f"{question.key} {looked_at}", shared, clean, values)
    labels = [METHODS[method].label for method in values]
    alt = f"{measure} between {len(labels)} methods, mean over the {kind} targets of both"
    shown = benchmark_charts.matrix(labels, matrix, "share" if shared else "correlation")
    st.html(NARROW)
    plotting.show(shown, key="agreement-matrix", alt=alt)
    st.caption(panels.plain(f"{alt[:1].upper()}{alt[1:]}. {benchmark_charts.nearest_and_farthest(labels, matrix)}"))
    first, second = st.columns(2)
    with first:
        one = _method("One method", list(values), "agree-first")
    with second:
        other = _method("Another", partners[one], "agree-second")
    questions.features([_usual(method, question) for method in (one, other)])
    both = _compared(values[one], values[other], clean)
    above, below = agreement.disagreement(*both, LISTED)
    count = counted(len(both[0]), f"{kind} target")
    st.write(f"They differ most on these training pictures, over {count} that both explain.")
    clicked = _row("differ_above", f"Ranked higher by {METHODS[one].label}", above, question)
    clicked = _row("differ_below", f"Ranked higher by {METHODS[other].label}", below, question) or clicked
    mine = agreement.specific(values[one][1]) if clean else values[one][1]
    counts = agreement.hubs(mine, top)
    order = np.argsort(-counts, kind="stable")[:LISTED]
    total, examples = mine.shape
    st.markdown(
        f"**Usual suspects.** By {panels.plain(METHODS[one].label)}, one picture is among the first {top} for "
        f"{counts[order[0]]} of {total} targets; by chance it would be for "
        f"{top * total / examples:.1f}."
    )
    lines = [f"{counts[i]} of {total}" for i in order]
    clicked = _row("hubs", "In most targets' lists", order, question, lines) or clicked
    if clicked:
        st.query_params["example"] = clicked
    example.show(question.dataset, ())


def _method(label: str, options: list[str], key: str) -> str:
    chosen = linked.bound(st.selectbox, label, options, format_func=lambda method: METHODS[method].label, key=key)
    return str(chosen)


def _uncomputed(sentence: str) -> None:
    """Say what is not there yet, and lead to the tab that offers it: a link to the page itself would not open it."""
    st.info(sentence)
    to = {"part": "Methods"}
    st.button("Go to Methods", icon=":material/arrow_forward:", on_click=st.session_state.update, args=(to,))


def _there(question: Question) -> dict[str, predictions.Predictions]:
    usual = {method: _usual(method, question) for method in METHODS}
    return {method: found for method, one in usual.items() if (found := questions.find(one, question)) is not None}


def _scores(method: str, question: Question) -> tuple[tuple[str, ...], np.ndarray] | None:
    return predictions.stored_scores(_usual(method, question), question.measured)


def _usual(method: str, question: Question) -> Recipe:
    return recipes.usual(question.dataset, question.checkpoint, method)


@st.cache_data(max_entries=16, show_spinner=False)
def _matrix(key: str, shared: bool, clean: bool, _values: dict[str, Rows]) -> np.ndarray:
    """Return how methods agree two by two, each pair over the targets of both; NaN where these share none."""
    listed = list(_values.values())
    found = np.eye(len(listed))
    for i, first in enumerate(listed):
        for j, second in enumerate(listed[:i]):
            a, b = _compared(first, second, clean)
            each = agreement.overlap(a, b, agreement.top_of(a.shape[1])) if shared else agreement.rank_correlation(a, b)
            found[i, j] = found[j, i] = each.mean() if len(each) else np.nan
    return found


def _compared(first: Rows, second: Rows, clean: bool) -> tuple[np.ndarray, np.ndarray]:
    a, b = agreement.aligned(first, second)
    return (agreement.specific(a), agreement.specific(b)) if clean and len(a) else (a, b)


def _pictures(question: Question) -> dict[str, np.ndarray]:
    return _targets(question.dataset.key, question.key, question)


@st.cache_data(max_entries=4, show_spinner=False)
def _targets(dataset: str, key: str, _question: Question) -> dict[str, np.ndarray]:
    found = subset_models.pictures(_question.dataset, _question.measured)
    return {target.id: target.image for target in found}


def _row(key: str, label: str, indices: np.ndarray, question: Question, lines: list[str] | None = None) -> str | None:
    """Draw training pictures in a row; return the index of a clicked one."""
    split = question.dataset.train
    st.caption(panels.plain(label))
    shown = [
        Picture(
            str(index),
            split.images[index],
            f"Training picture {index}: {split.rows[index]['name'] or split.rows[index]['label']}",
            (f"#{index}", *([lines[place]] if lines else [])),
        )
        for place, index in enumerate(indices.tolist())
    ]
    return gallery.grid(key, label, shown, cell=56)
