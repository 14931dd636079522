"""What the credit of a set says: sentences first, a chart, then names, their pictures, and files to keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from dtrak_core import store
from dtrak_core.counterfactual import comparisons, credits
from dtrak_core.methods import credit_page, crediting, making, scores, set_words
from dtrak_core.methods.credit_sheet import Sheet
from dtrak_core.methods.plans import Plan
from dtrak_core.methods.set_credit import By, Group
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.ui import frame, gallery, keeping, linked, named, panels, plotting
from dtrak_core.ui.credit import credit_charts

BARS, LISTED = 12, 500  # groups in the chart, and in the table
MEMBERS, HELPED = 24, 8  # training pictures of a group, and generated ones that it helped most
_WHO, _CLICKED = "who", "_credit_clicked"


def sheet(plan: Plan, checkpoint: Checkpoint, share: float | None, by: By) -> Sheet:
    """Return the credit of a plan's pictures, from memory where it was added up before."""
    known = comparisons.listing(plan.dataset, checkpoint.digest)
    features = "" if plan.features is None else plan.features.model_dump_json()
    marks = tuple((target.id, target.pixels) for target in plan.targets)
    stamp = (*store.stamp(("repeats",)), *(one.key for one in known))
    about = (plan.dataset.key, checkpoint.digest, checkpoint.name, features, plan.encoder_weights or "")
    return _sheet(plan.method.id, share, by, about, marks, stamp, plan, checkpoint, known)


@st.cache_resource(max_entries=16, show_spinner=False)
def _sheet(
    method: str,
    share: float | None,
    by: By,
    about: tuple[str, ...],
    marks: tuple[tuple[str, str], ...],
    stamp: tuple[str, ...],
    _plan: Plan,
    _checkpoint: Checkpoint,
    _known: list[comparisons.Comparison],
) -> Sheet:
    found = scores.score(_plan, None, share if _plan.method.damped else None)
    return credits.sheet(_plan, found, _checkpoint, by, _known)


def sentences(sheet: Sheet) -> None:
    """Say what the credit says."""
    told = set_words.sentences(sheet.credit, panels.plain(sheet.label), lambda name: f"**{panels.plain(name)}**")
    st.markdown("\n".join(f"- {line}" for line in told))


def chart(sheet: Sheet) -> None:
    """Draw the largest shares; a click on a bar looks closer at its name."""
    groups = sheet.credit.groups[:BARS]
    alt = f"Share of {sheet.label}'s credit beside share of the training pictures: "
    alt += "; ".join(set_words.words(group) for group in groups)
    clicked = plotting.show(
        credit_charts.shares(groups), key="credit-shares", alt=alt, on_select="rerun", selection_mode="points"
    )
    points = clicked["selection"]["points"] if clicked else []
    _newly("chart", [str(np.ravel(point.get("customdata", ""))[0]) for point in points[:1]])
    if len(sheet.credit.groups) > BARS:
        st.caption(f"The {BARS} largest of {len(sheet.credit.groups):,}; the table and the files hold more.")


def closer(sheet: Sheet) -> None:
    """Draw the table of all groups, and the pictures of one of them."""
    listed = sheet.credit.groups[:LISTED]
    rows = [_cells(group, sheet.credit.by) for group in listed]
    chosen = st.dataframe(
        rows,
        hide_index=True,
        column_config=_columns(),
        key="credit-table",
        on_select="rerun",
        selection_mode="single-row",
        height=min(38 + 35 * len(rows), 430),
        alt=f"Share of {sheet.label}'s credit by {sheet.credit.by}, beside share of the training pictures",
    )
    places = chosen["selection"]["rows"] if chosen else []
    _newly("table", [listed[place].name for place in places[:1] if place < len(listed)])
    count = len(sheet.credit.groups)
    more = f" The {LISTED} largest of {count:,}; the files hold all." if count > LISTED else ""
    st.caption(f"{set_words.protocol(sheet.credit)}{more}")
    st.header("Look closer")
    names = [group.name for group in listed]
    if st.session_state.get(_WHO) not in names:  # of another grouping; the link may say who
        st.session_state.pop(_WHO, None)
    who = linked.bound(
        st.selectbox, "Whose pictures", names, key=_WHO, width=360, help="A click on a bar or a row chooses too."
    )
    place = names.index(who) if who in names else 0
    _pictures(sheet, listed[place])
    _helped(sheet, place)


def _pictures(sheet: Sheet, group: Group) -> None:
    means, rows = sheet.credit.means, sheet.dataset.train.rows
    total = float(means[means > 0].sum()) or 1.0
    st.markdown(f"{set_words.words(group, lambda name: f'**{panels.plain(name)}**')}. Strongest first:")
    pictures = []
    for i in group.members[:MEMBERS].tolist():
        named_so = rows[i]["name"] or rows[i]["label"] or f"number {i}"
        part = crediting.percent(max(means[i], 0) / total)
        spoken = f"Training picture {i}: {named_so}, {part} of the credit"
        pictures.append(gallery.Picture(str(i), sheet.dataset.train.images[i], spoken, (f"#{i} {part}", named_so)))
    clicked = gallery.grid("members", f"Training pictures of {group.name}", pictures, cell=72)
    if clicked is not None:
        st.query_params["example"] = clicked
    if len(group.members) > MEMBERS:
        st.caption(f"The first {MEMBERS} of {len(group.members):,}.")


def _helped(sheet: Sheet, place: int) -> None:
    """Show the generated pictures in whose own credit the group has the largest part; each leads to Attribution."""
    parts = sheet.credit.helped[:, place]
    order = np.argsort(-parts, kind="stable")[:HELPED]
    st.markdown("The generated pictures that these helped most, each with their part of its credit:")
    shown = [(sheet.explained[i], float(parts[i])) for i in order]
    pictures = [
        gallery.Picture(t.mark, t.image, f"Explain {t.caption or t.id}", (t.caption or t.id, crediting.percent(part)))
        for t, part in shown
    ]
    views = {t.mark: named.leading(frame.ATTRIBUTION, t) for t, _ in shown}
    gallery.grid(
        "helped",
        "Generated pictures helped most",
        pictures,
        cell=88,
        ways=gallery.Ways(frame.ATTRIBUTION, views),
    )


def keep(sheet: Sheet) -> None:
    """Offer the credits as files, and say what made them."""
    st.header("Credits to keep")
    st.write(
        "Names, sources, licence, method, settings, digests and date. The page can be printed, and needs no other file."
    )
    name = f"credits-{sheet.checkpoint.name}-{sheet.scores.method}".replace(":", "-").replace("@", "-")
    keeping.files(sheet, credit_page.WRITERS, name, "credit")
    made = sheet.scores
    facts: dict[str, Any] = {
        "Dataset": f"{sheet.dataset.name} ({sheet.dataset.digest})",
        "checkpoint": f"{sheet.checkpoint.name} ({sheet.checkpoint.digest})",
        "method": sheet.label,
        "damping": "" if made.damping is None else f"{made.damping:.3g}",
        "effective rank": "" if made.effective_rank is None else f"{made.effective_rank:,.0f}",
    }
    panels.strip(facts | making.of_scores(made.provenance))
    if sheet.terms:
        st.caption(panels.plain(sheet.terms))


def _newly(where: str, names: list[str]) -> None:
    """Look closer at a name that is newly selected: a selection stays, and the list may change it again."""
    before = st.session_state.setdefault(_CLICKED, {})
    if names != before.get(where, []):
        before[where] = names
        if names:
            st.session_state[_WHO] = names[0]


def _cells(group: Group, by: str) -> dict[str, Any]:
    return {
        by.capitalize(): group.name,
        "Credit": 100 * group.share,
        "Of the pictures": 100 * group.set_share,
        "Times": group.lift,
        "95 % interval": "" if group.low is None else f"{group.low:.2f} to {group.high:.2f}",
        "p": group.p,
        "": set_words.VERDICTS[group.verdict],
    }


def _columns() -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "Credit": number(format="%.1f %%"),
        "Of the pictures": number(format="%.1f %%"),
        "Times": number(
            format="%.2f", help="Share of the credit over share of the pictures: 1 is what their number brings."
        ),
        "p": number(format="%.2g", help="How often groups of random pictures lie as far from their share."),
    }
