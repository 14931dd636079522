"""What a comparison says, above its pictures: a sentence, a badge and numbers for each method, all of it in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from dtrak_core.counterfactual import badges, comparisons, contrasts, verdicts
from dtrak_core.counterfactual.badges import SHORT, Badge
from dtrak_core.counterfactual.comparisons import Comparison
from dtrak_core.counterfactual.contrasts import Contrast
from dtrak_core.counterfactual.entries import label
from dtrak_core.counterfactual.verdicts import DIGITS, LEVEL, Verdict
from dtrak_core.ui import panels

_LOOKS = {
    badges.BEYOND: ("green", ":material/check:"),
    badges.CHANCE: ("gray", ":material/remove:"),
    badges.TOO_FEW: ("orange", ":material/question_mark:"),
    badges.UNJUDGED: ("orange", ":material/question_mark:"),
}
_NARROW = 256  # in which a table of two methods has room
_WIDE = 384  # pixels in which a card has room for its table; on a telephone the page is narrower, and one card wide


def show(comparison: Comparison, size: int) -> None:
    """Draw the verdict for one number of removed pictures, or why there is none."""
    if why := comparisons.unjudged(comparison):
        st.info(f"No verdict: {why}.")
        if why in (verdicts.BEFORE, verdicts.UNFINISHED):
            return
    judged, found, between, told = _judged(comparison.key, len(comparison.entries), size, comparison)
    if not why:
        beyond = any(one.standing == badges.BEYOND for one in found.values())
        box = st.success if beyond else st.info
        box(f"**{badges.summary(found, panels.plain)}**", icon=_LOOKS[badges.BEYOND][1] if beyond else None)
    with st.grid(min_column_width=_WIDE):
        for method, one in found.items():
            with st.container(border=True):
                _card(method, one, {measure: each[method] for measure, each in judged.items()})
    if any(one.p is not None for one in found.values()):
        st.caption(
            "*Own*: mean change of the target that the pictures were named for; *others*: of the other targets; "
            "*random*: without as many random pictures. p: share of the models' permutations that show as much; "
            f"beyond chance: p times the number of measures below {LEVEL:g}."
        )
    if contrasts.judged(between):
        _contrasts(between)
    with st.expander("The verdict in full"):
        for measure, lines in told.items():
            st.markdown("\n".join([f"**{verdicts.NAMES[measure]}**\n", *(f"- {line}" for line in lines)]))
        count = sum(one.specific_p is not None for each in judged.values() for one in each.values())
        chance = f"; by chance {count * LEVEL:.1f} of the {count} here are below {LEVEL:g}" if count else ""
        st.caption(
            "Every model has drawn every target. *Specific*: the pictures named for a target change it more than those "
            "named for other targets; p is the share of the models' permutations that show as much"
            f"{chance}. *Random removal* takes as many pictures as the removal that it is compared with. Intervals "
            "resample models and targets."
        )


def _contrasts(found: Mapping[str, Sequence[Contrast]]) -> None:
    """Draw how much more one method's pictures change their targets than another's, for each two."""
    apart = contrasts.told_apart(found)
    with st.expander("Method against method"):
        st.markdown(contrasts.summary(found, panels.plain))
        with st.grid(min_column_width=_NARROW):  # a table a measure: all in one is wider than a telephone
            for measure, each in found.items():
                lines = [f"| {_small(SHORT[measure])} | {_small('difference')} | {_small('p')} |", "|:--|--:|--:|"]
                for one in each:
                    names = f"{panels.plain(label(one.method))} − {panels.plain(label(one.other))}"
                    p = "–" if one.p is None else f"{one.p:.2g}"
                    cells = [names, f"{one.difference:+{DIGITS[measure]}}".replace("-", "−"), p]
                    cells = [f"**{cell}**" for cell in cells] if one in apart[measure] else cells
                    lines.append(f"| {' | '.join(map(_small, cells))} |")
                st.markdown("\n".join(lines))
        st.caption(
            "Difference between what two methods' removals do to their own targets, as a mean over the targets that "
            "both were named for. p, two-sided: share of the signs of these differences that tell the two as far "
            f"apart; in bold where p times the number of comparisons here is below {LEVEL:g}. A smaller cosine is a "
            "larger change."
        )


def ahead(comparison: Comparison) -> None:
    """Compute what `show` first says."""
    if not comparisons.unjudged(comparison):
        _judged(comparison.key, len(comparison.entries), max(comparison.settings.remove), comparison)


@st.cache_data(max_entries=64, show_spinner=False)
def _judged(
    key: str, count: int, size: int, _comparison: Comparison
) -> tuple[dict[str, dict[str, Verdict]], dict[str, Badge], dict[str, list[Contrast]], dict[str, list[str]]]:
    """Return verdicts by measure and method, badges, contrasts and words, once for each number of finished pictures."""
    measures = comparisons.measures(_comparison)
    judged = {measure: comparisons.statistics(_comparison, size, measure) for measure in measures}
    told = {
        measure: [verdicts.sentence(method, one, measure, panels.plain) for method, one in each.items()]
        for measure, each in judged.items()
    }
    return judged, badges.of_verdicts(judged), contrasts.contrasts(_comparison, size), told


def _card(method: str, one: Badge, judged: Mapping[str, Verdict]) -> None:
    colour, icon = _LOOKS[one.standing]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{panels.plain(label(method))}**", width="content")
        st.badge(one.standing, icon=icon, color=colour)
    shared = all(each.others is None for each in judged.values())  # one removal, whatever the target
    heads = ["", *map(_small, ["own", *([] if shared else ["others"]), "random", *([] if one.p is None else ["p"])])]
    lines = [f"| {' | '.join(heads)} |", f"|:--|{'--:|' * (len(heads) - 1)}"]
    for measure, each in judged.items():
        numbers = [each.own, *([] if shared else [each.others]), each.random]
        cells = ["–" if number is None else f"{number:{DIGITS[measure]}}".replace("-", "−") for number in numbers]
        p = [] if one.p is None else ["–" if each.specific_p is None else f"{each.specific_p:.2g}"]
        name = _small(SHORT[measure].replace(" ", "\u00a0"))
        name = f"**{name}**" if measure in one.measures else name
        lines.append(f"| {name} | {' | '.join(map(_small, [*cells, *p]))} |")
    st.markdown("\n".join(lines))
    if one.standing == badges.UNJUDGED:
        st.caption(f"{one.reason[:1].upper()}{one.reason[1:]}.")


def _small(text: str) -> str:
    return f":small[{text}]"
