"""Credit by contributor for one target: a sentence, a chart, and the pictures of whoever is clicked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dtrak_core.methods import crediting, results, set_credit
from dtrak_core.methods.methods import method_of
from dtrak_core.methods.results import Credit, Ranking
from dtrak_core.ui import address, charts, example, frame, gallery, panels, plotting, rows
from dtrak_core.ui.answers import Question

LISTED = 12  # contributors in the chart
MEMBERS = 16  # training pictures of a contributor
_WHO, _BAR, _OF = "credit-who", "_credit_bar", "_credit_of"


def show(question: Question, ranking: Ranking | None, facts: Mapping[str, Any]) -> None:
    """Draw the tab; None where the pictures name no contributors."""
    if ranking is None:
        st.info("These pictures name no contributors. Add a column 'contributor' to metadata.csv to name them.")
        frame.link(frame.ADD_PICTURES, "Add pictures that name them", ":material/add_photo_alternate:")
        return
    if reason := set_credit.refusal(method_of(ranking.method)):
        st.info(panels.plain(reason), icon=":material/block:")
        return
    listed = question.dataset.train.rows
    credits = crediting.credits(ranking, listed)
    first = crediting.foremost(credits)
    st.write(crediting.sentence(panels.plain(ranking.label), credits, None if first is None else _bold(first)))
    shown = credits[:LISTED]
    alt = f"Share of the positive {ranking.label} score: {', '.join(crediting.words(one) for one in shown)}"
    clicked = plotting.show(
        charts.credit_bars(shown), key="credit", alt=alt, on_select="rerun", selection_mode="points"
    )
    st.caption(
        "Lines are 95 % intervals: how far a share would move had other pictures like these been learned from. A "
        "family counts as one, and who has fewer than six has no interval. No more than chance is whose interval holds "
        "the share of the pictures, or where the same scores, dealt out at random, bring somebody as far from it in "
        f"more than {crediting.LEVEL:.0%} of {crediting.DRAWS} draws.".replace("%", " %")
        + (f" The first {LISTED} of {len(credits)} contributors; the file holds all." if len(credits) > LISTED else "")
    )
    asked = (ranking.method, question.target.id, ranking.effective_rank)
    if st.session_state.get(_OF) != asked:  # another ranking begins with its own foremost, as its address does
        st.session_state[_OF] = asked
        st.session_state.pop(_WHO, None)
    _pictures(question, ranking, _chosen(shown, first, clicked))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download as CSV",
            lambda: results.credit_csv(ranking, credits, facts, crediting.terms(question.dataset)),
            f"credit-{ranking.method}-{file_of(question)}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            key="credit-csv",
        )
        st.page_link(
            frame.CREDIT,
            label="The same over all generated pictures",
            icon=":material/groups:",
            query_params=address.leading(frame.CREDIT),
        )


def file_of(question: Question) -> str:
    """Return what files of this question are called, without an ending."""
    return f"{question.checkpoint.name}-{question.target.id}".replace(":", "-").replace("@", "-")


def _chosen(shown: Sequence[Credit], first: Credit | None, clicked: Any) -> Credit:
    """Draw the names to choose from; a click on a bar chooses too. Return whose pictures are shown."""
    points = clicked["selection"]["points"] if clicked else []
    bar = [shown[int(point["customdata"])].contributor for point in points[:1]]
    if bar != st.session_state.get(_BAR, []):  # a selection stays, and the names may change it again
        st.session_state[_BAR] = bar
        if bar:
            st.session_state[_WHO] = bar[0]
    names = [one.contributor for one in shown]
    if st.session_state.get(_WHO) not in names:
        st.session_state[_WHO] = first.contributor if first is not None and first in shown else names[0]
    st.pills("Whose pictures", names, format_func=panels.plain, key=_WHO, required=True)
    return shown[names.index(st.session_state[_WHO])]


def _pictures(question: Question, ranking: Ranking, one: Credit) -> None:
    """Show a contributor's pictures, the strongest first; a click opens one."""
    dataset = question.dataset
    st.write(f"{crediting.words(one, _bold(one))}: {crediting.verdict(one)}. The strongest first:")
    entries = [
        results.entry(ranking, place, index)
        for place, index in enumerate(ranking.order.tolist(), 1)
        if (dataset.train.rows[index]["contributor"] or results.NOT_GIVEN) == one.contributor
    ]
    pictures = [rows.picture(ranking, dataset, entry, "rank") for entry in entries[:MEMBERS]]
    label = f"Training pictures by {one.contributor}"
    example.open_at(gallery.grid("contributed", label, pictures, cell=72), [ranking.method])
    if len(entries) > MEMBERS:
        st.caption(f"The first {MEMBERS} of {len(entries):,}.")


def _bold(one: Credit) -> str:
    return f"**{panels.plain(one.contributor)}**"
