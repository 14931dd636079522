"""What a new comparison is of: targets by their pictures, and what a link has filled in."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from dtrak_core.amounts import counted, whole
from dtrak_core.errors import shortened
from dtrak_core.methods.methods import METHODS
from dtrak_core.models import descriptions, targets
from dtrak_core.models.checkpoints import Checkpoint
from dtrak_core.models.targets import Target
from dtrak_core.statistics import FEWEST
from dtrak_core.ui import gallery, named, panels, what_if

MOST = 16  # targets a comparison: more are for the command line
SHOWN = 96  # pictures a page of the choice
METHODS_KEY, REMOVE_KEY, OF_KEY = "cf-methods", "cf-remove", "_cf_targets_of"
_TARGETS, _ASKED = "cf-targets", "_cf_asked"


def drawn(checkpoint: Checkpoint) -> dict[str, Target]:
    """Return all pictures that can be compared with each other, of every prompt, by their mark.

    They are those that were drawn as the link's picture was; the usual ones where none was.
    """
    way = named.sampled(checkpoint).model_copy(update={"prompts": ()})
    found = targets.samples(checkpoint.digest, way) or targets.samples(checkpoint.digest)
    return {target.mark: target for target in found}


def asked(checkpoint: Checkpoint, known: Mapping[str, Target]) -> str:
    """Return the mark of the picture that the link names; empty where there is none of it."""
    alike = targets.samples(checkpoint.digest, named.sampled(checkpoint), list(known.values()))
    return next((target.mark for target in alike if target.id == named.target("")), "")


def fill(checkpoint: Checkpoint, known: Mapping[str, Target], count: int) -> None:
    """Let the form begin with what the link asks for, once: what is chosen then stays.

    Args:
        checkpoint: The model.
        known: The pictures that it drew.
        count: Number of training pictures.
    """
    state, found = st.session_state, asked(checkpoint, known)
    first = found or next(iter(known))
    of = (checkpoint.digest, descriptions.way(known[first].sampled, checkpoint))
    if state.get(OF_KEY) != of:  # pictures of another model, or drawn otherwise, have the same seeds
        state[OF_KEY], state[_TARGETS] = of, [first]
    state.setdefault(METHODS_KEY, ["d-trak"])
    state.setdefault(REMOVE_KEY, [max(1, count // 10)])
    _take(first, count)
    if not found and named.target("").startswith("seed:") and state[_TARGETS] == [first]:
        wanted = named.sampled(checkpoint)
        words = f" for '{shortened(wanted.prompts[0])}'" if wanted.prompts else ""
        st.warning(
            panels.plain(
                f"The picture of {shortened(named.target('').replace(':', ' '))}{words} that the address names has not "
                f"been drawn by {descriptions.way(wanted, checkpoint)}, so that it cannot be compared. Draw it so on "
                f"Generate; until then {known[first].caption} stands here."
            )
        )


def _take(first: str, count: int) -> None:
    """Take over once which methods and how many pictures the link names, with its target by mark."""
    state = st.session_state
    said = tuple(st.query_params.get(name, "") for name in (what_if.REMOVE, what_if.BY))
    if not any(said) or state.get(_ASKED) == (*said, first):
        return
    state[_ASKED] = (*said, first)
    state[_TARGETS] = [first]
    number, methods = said[0], [name for name in said[1].split(",") if name in METHODS]
    if removed := whole(number, count - 1):  # 0 is none
        state[REMOVE_KEY] = [removed]
    elif number:
        st.warning(f"The address asks to remove '{panels.plain(number)}' pictures; 1 to {count - 1:,} can be.")
    if methods:
        state[METHODS_KEY] = methods
    elif said[1]:
        st.warning(f"The address names a method '{panels.plain(said[1])}', which does not exist.")


def pictures(known: Mapping[str, Target]) -> list[Target]:
    """Draw the pictures to choose the targets from; a click takes one in or out. Return those chosen."""
    marks = list(known)
    chosen = [mark for mark in marks if mark in st.session_state[_TARGETS]]
    words = panels.plain(", ".join(known[mark].caption or known[mark].id for mark in chosen))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Targets**, at most {MOST}: {words or 'none yet'}")
        enough = min(len(marks), FEWEST + 2)
        if len(marks) >= FEWEST:
            st.button(
                f"Take the first {enough}",
                key="cf-first",
                on_click=lambda: st.session_state.update({_TARGETS: marks[:enough]}),
                help=f"A verdict needs {FEWEST} targets. Every model draws all of them, without further training.",
            )
    shown = [known[mark] for mark in gallery.page(marks, "cf-targets-page", most=SHOWN)]
    clicked = gallery.grid(
        "cf-choices",
        "Targets of the comparison; a click takes one in or out",
        [gallery.Picture(one.mark, one.image, f"Compare {one.caption or one.id}") for one in shown],
        chosen=chosen,
        cell=40,
        action="choose",
    )
    if clicked in known:
        st.session_state[_TARGETS] = [one for one in [*chosen, clicked] if one != clicked or clicked not in chosen]
        st.rerun()
    if len(chosen) > MOST:
        st.warning(f"{counted(len(chosen), 'target')} are chosen; a page's comparison has at most {MOST}.")
    return [known[mark] for mark in chosen]
