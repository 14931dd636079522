"""Known answers on the Benchmark page: how many of a method's first pictures share what is known of the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from dtrak_core import program, store
from dtrak_core.amounts import counted
from dtrak_core.datasets.catalogue import Dataset
from dtrak_core.jobs import asking
from dtrak_core.lds import known_answers, subset_models
from dtrak_core.lds.subset_models import LdsSettings
from dtrak_core.methods import agreement
from dtrak_core.methods.methods import METHODS, method_of
from dtrak_core.models import targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.ui import frame, linked, panels
from dtrak_core.ui.questions import Question

FIRST = "d-trak"  # whose targets are asked about where no LDS says which
MOST = 64  # targets of a kind
SCORES = ("scores", "features", "kernels", "target-features", "embeddings", "residuals", "patches", "ekfac")
MADE_OF = (*SCORES, "own-scores", "samples", "checkpoints", "retrained")  # what answers are read from, all of it
SHARE = "Share"
FACTS = {"family": "Family", "label": "Label", "contributor": "Contributor", "equal": "Pixels"}


def show(dataset: Dataset, checkpoint: Checkpoint, question: Question | None) -> None:
    """Draw the table of a fact and a kind of target, and what it does not show."""
    top = agreement.top_of(len(dataset.train.rows))
    st.write(
        f"Of a method's first {top} pictures for a target, how many share what is known of it? A "
        "held-out picture has a family, a label and a contributor of its own, a generated one those of its prompt."
    )
    found, unlisted = _answers(
        dataset.key, checkpoint.digest, store.stamp(MADE_OF), _measured(question), dataset, checkpoint
    )
    if not found:
        st.info(
            f"Either no method has scores yet for the pictures of '{panels.plain(checkpoint.name)}' or the held-out "
            "ones, or nothing is known of these that some training pictures share and others do not."
        )
        frame.link(frame.ATTRIBUTION, "Compute scores of a picture", ":material/account_tree:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kinds = list(dict.fromkeys(one["targets"] for one in found))
        kind = (
            linked.bound(st.segmented_control, "Targets", kinds, default=kinds[0], key="known-kind", required=True)
            or kinds[0]
        )
        facts = [one["fact"] for one in found if one["targets"] == kind]
        fact = linked.bound(
            st.segmented_control,
            "The same",
            facts,
            default=facts[0],
            format_func=lambda name: FACTS[name],
            key=f"known-fact-{kind}",
            required=True,
        )
    one = next(one for one in found if (one["targets"], one["fact"]) == (kind, fact or facts[0]))
    st.markdown(
        f"{one['words'].capitalize()} as the target, {counted(one['count'], f'{kind} target')}: by chance "
        f"{one['chance']:.3f}, at most {one['most']:.3f}."
    )
    share = st.column_config.NumberColumn(format="%.3f", help=f"Of the first {top}, mean over the targets.")
    alt = f"Share by method: {one['words']} as the target, {kind} targets"
    st.dataframe(_cells(one), hide_index=True, height="content", column_config={SHARE: share}, alt=alt)
    drawn = "Intervals (95 %, BCa) resample the targets, those that have it in common together."
    st.caption(f"{one['reason'] or drawn} {known_answers.WARNING}")
    for reason in dict.fromkeys(filter(None, unlisted.values())):
        labels = ", ".join(METHODS[name].label for name, why in unlisted.items() if why == reason)
        st.caption(f"Left out: {panels.plain(labels)}. {panels.plain(reason)}")
    if able := [name for name, reason in unlisted.items() if not reason]:
        st.caption(f"Not computed for these targets: {panels.plain(', '.join(METHODS[name].label for name in able))}.")
        asked = " ".join(f"--method {name}" for name in able[:3])
        st.code(
            program.command(f"known --dataset {dataset.name} --checkpoint {checkpoint.name} {asked}"), language=None
        )


def _measured(question: Question | None) -> LdsSettings | None:
    return None if question is None else question.measured


@st.cache_data(max_entries=8, show_spinner="Counting")
def _answers(
    dataset: str,
    checkpoint: str,
    stored: tuple[str, ...],
    measured: LdsSettings | None,
    _dataset: Dataset,
    _weights: Checkpoint,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the tables of `known_answers.tables`, and why methods that have no scores could have none, or nothing."""
    wanted = _targets(_dataset, _weights, measured)
    if not known_answers.known(_dataset, wanted):
        return [], {}
    held: dict[str, np.ndarray] = {}
    for name, method in METHODS.items():
        if (values := known_answers.stored(_dataset, _weights, method, wanted)) is not None:
            held[name] = values
    reasons = {}
    for name, method in METHODS.items():
        if name not in held and (able := known_answers.explained(method, wanted)):
            reason = asking.unusable(method, _dataset.digest, _weights.digest, train=False)
            reasons[name] = reason or known_answers.plan(_dataset, _weights, method, able).refused
    top = agreement.top_of(len(_dataset.train.rows))
    return (known_answers.tables(_dataset, wanted, held, top) if held else []), reasons


def _targets(dataset: Dataset, checkpoint: Checkpoint, measured: LdsSettings | None) -> Sequence[Target]:
    """Return the targets of the LDS; else the first that D-TRAK has scores for; else the first of all."""
    if measured is not None:
        return subset_models.pictures(dataset, measured)
    drawn = [target for target in targets.samples(checkpoint.digest) if target.prompt][:MOST]
    count = min(MOST, len(dataset.held_out.rows))
    every = [*drawn, *(targets.of_split(dataset.held_out, "held-out", number) for number in range(count))]
    method = method_of(FIRST)
    scored = [one for one in every if known_answers.stored(dataset, checkpoint, method, [one]) is not None]
    return scored or every


def _cells(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each method, the highest share first, and below them what there can be at most and by chance."""
    rows = [
        {"Method": row["label"], SHARE: row["share"], "95 % interval": _span(row["low"], row["high"])}
        for row in sorted(one["rows"], key=lambda row: -row["share"])
    ]
    ends = (("At most", one["most"]), ("By chance", one["chance"]))
    return [*rows, *({"Method": words, SHARE: share, "95 % interval": ""} for words, share in ends)]


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
